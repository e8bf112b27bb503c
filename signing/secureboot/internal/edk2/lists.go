package edk2

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ListHeaderSize is the size in bytes of EFI_SIGNATURE_LIST before its header and signatures (UEFI
// Specification 2.10, section 32.4.1).
const ListHeaderSize = 28

const ownerSize = 16 // of each signature

// A List is one EFI_SIGNATURE_LIST as firmware walks over it.
type List struct {
	Type           [16]byte // as in the file
	Size           int64    // of the whole list, in bytes
	Header, Each   int64    // sizes of the type's header, and of one signature with its owner
	raw            []byte   // the list itself, or what is left if Size is more
	headerComplete bool
}

// next reads the fields of a list; complete is false if the bytes end before they do.
func nextList(b []byte) List {
	l := List{Size: -1, raw: b}
	if len(b) >= 20 {
		l.Size = int64(binary.LittleEndian.Uint32(b[16:]))
	}
	if len(b) >= ListHeaderSize {
		copy(l.Type[:], b)
		l.Header, l.Each = int64(binary.LittleEndian.Uint32(b[20:])), int64(binary.LittleEndian.Uint32(b[24:]))
		l.headerComplete = true
	}
	if l.Size >= 0 && l.Size <= int64(len(b)) {
		l.raw = b[:l.Size]
	}
	return l
}

// stops reports whether a walk that only compares the size of the list with what is left ends here.
func (l *List) stops(left int) (bool, error) {
	switch {
	case l.Size < 0:
		return false, unknown("%d bytes after the last signature list: firmware reads a size beyond the end of the variable", left)
	case l.Size > int64(left):
		return true, nil
	case !l.headerComplete || l.Size < ListHeaderSize:
		return false, unknown("a signature list of %d bytes, which is less than its own header of %d", l.Size, ListHeaderSize)
	case l.Header > l.Size-ListHeaderSize:
		return false, unknown("a signature list of %d bytes with a header of %d", l.Size, l.Header)
	}
	return false, nil
}

// body is the signatures of a list that stops has let pass.
func (l *List) body() []byte { return l.raw[ListHeaderSize+l.Header:] }

// entries are the whole signatures of a list, which has to have a size for them.
func (l *List) entries() (all [][]byte) {
	for b := l.body(); int64(len(b)) >= l.Each; b = b[l.Each:] {
		all = append(all, b[:l.Each:l.Each])
	}
	return all
}

// Certificates are the X.509 certificates that firmware finds in PK or KEK, as far as they can be
// read. The error is an [UnknownError] if the walk goes where the model does not; certificates
// before that place are returned with it. Type is that of X.509 lists.
func Certificates(b []byte, typ [16]byte, o Options) (certs []*Certificate, err error) {
	for len(b) > 0 {
		l := nextList(b)
		if stop, err := l.stops(len(b)); stop || err != nil {
			return certs, err
		}
		if l.Type == typ {
			if l.Each == 0 {
				return certs, unknown("a signature list whose signatures have 0 bytes")
			}
			for _, e := range l.entries() {
				if len(e) < ownerSize {
					break
				}
				c, err := o.ParseCertificate(e[ownerSize:])
				if IsUnknown(err) {
					return certs, err
				}
				if err == nil {
					certs = append(certs, c)
				}
			}
		}
		b = b[l.Size:]
	}
	return certs, nil
}

// A ListType is what firmware wants of the lists of one type.
type ListType struct {
	Size        int64 // of the data of each signature without its owner, -1 for any
	Certificate bool
}

// ListTypes are the types that firmware knows, and how types and certificates are called in errors.
type ListTypes struct {
	Known   map[[16]byte]ListType
	Name    func([16]byte) string
	Subject func(*Certificate) string
}

// CheckLists is CheckSignatureListFormat (SecurityPkg, AuthService.c): the lists of an update have
// types that firmware knows, and whole signatures. It counts them. An error that is no
// [UnknownError] means that firmware refuses.
func CheckLists(b []byte, types ListTypes, o Options) (count int, err error) {
	for i := 0; len(b) > 0; i++ {
		fail := func(format string, args ...any) (int, error) {
			return 0, fmt.Errorf("signature list %d: %w", i, fmt.Errorf(format, args...))
		}
		l := nextList(b)
		stop, open := l.stops(len(b))
		if stop {
			return fail("it has a size of %d bytes, and %d are left: the file is cut off, or is no signature list", l.Size, len(b))
		}
		if !l.headerComplete {
			return fail("%w", open)
		}
		t, ok := types.Known[l.Type]
		switch {
		case !ok:
			return fail("edk2 has no lists of type %s: leave it out", types.Name(l.Type))
		case t.Size >= 0 && l.Each != ownerSize+t.Size:
			return fail("its signatures have %d bytes, those of type %s have %d", l.Each, types.Name(l.Type), ownerSize+t.Size)
		case l.Header != 0:
			return fail("it has a header of %d bytes, want none", l.Header)
		case l.Each < ownerSize:
			return fail("its signatures have %d bytes, want at least the %d of an owner", l.Each, ownerSize)
		case open != nil:
			return fail("%w", open)
		}
		if t.Certificate {
			if err := types.checkFirstCertificate(b[ListHeaderSize:], l.Each-ownerSize, o); err != nil {
				return fail("%w", err)
			}
		}
		if rest := int64(len(l.body())) % l.Each; rest != 0 {
			return fail("%d bytes are left behind its signatures of %d", rest, l.Each)
		}
		count += len(l.entries())
		b = b[l.Size:]
	}
	return count, nil
}

// checkFirstCertificate is RsaGetPublicKeyFromX509 for the place where the first signature of a
// list is, whether there is one or not.
func (t ListTypes) checkFirstCertificate(b []byte, size int64, o Options) error {
	if size == 0 {
		if o.NoEmptyCertificates {
			return errors.New("its certificates have no bytes, want a certificate with an RSA key")
		}
		return nil
	}
	if int64(len(b)) < ownerSize+size {
		return unknown("a list without certificates, where firmware reads a certificate beyond the end of the update")
	}
	c, err := o.ParseCertificate(b[ownerSize : ownerSize+size])
	if err != nil {
		return fmt.Errorf("its certificate cannot be read: %w", err)
	}
	if !c.key.isRSA {
		return fmt.Errorf("the certificate %q has no RSA key, and edk2 accepts no other in a variable: use a certificate with an RSA key", t.Subject(c))
	}
	return nil
}

// FilterLists is FilterSignatureList (SecurityPkg, AuthService.c): what of more firmware appends to
// a variable that has the lists of have. Since 4f475ba542 (June 2026) a malformed list on either
// side is a refusal, as soon as the search comes to it; before, the search ended there. An error
// that is no [UnknownError] means that firmware refuses.
func FilterLists(have, more []byte, o Options) (fresh []byte, err error) {
	old := indexOf(have, o)
	for i := 0; len(more) > 0; i++ {
		l := nextList(more)
		stop, err := l.walk(len(more), o)
		if err != nil {
			return nil, fmt.Errorf("signature list %d of the update: %w", i, err)
		}
		if stop {
			return fresh, nil
		}
		head := -1
		for _, e := range l.entries() {
			found, err := old.has(l.kind(), e)
			if err != nil {
				return nil, err
			}
			if found {
				continue
			}
			if head < 0 {
				head = len(fresh)
				fresh = append(fresh, l.raw[:ListHeaderSize+l.Header]...)
			}
			fresh = append(fresh, e...)
		}
		if head >= 0 {
			binary.LittleEndian.PutUint32(fresh[head+16:], uint32(len(fresh)-head))
		}
		more = more[l.Size:]
	}
	return fresh, nil
}

// walk tells whether the search goes into a list, ends before it, or fails there.
func (l *List) walk(left int, o Options) (stop bool, err error) {
	if o.LooseAppend {
		stop, err := l.stops(left)
		if err == nil && !stop && l.Each == 0 {
			err = unknown("signatures of 0 bytes, where firmware divides by their size")
		}
		return stop, err
	}
	switch {
	case left < ListHeaderSize:
		return false, fmt.Errorf("malformed: %d bytes, want at least %d", left, ListHeaderSize)
	case l.Size < ListHeaderSize || l.Size > int64(left):
		return false, fmt.Errorf("malformed: a size of %d bytes, want %d to the %d that are left", l.Size, ListHeaderSize, left)
	case l.Header > l.Size-ListHeaderSize:
		return false, fmt.Errorf("malformed: a header of %d bytes in a list of %d", l.Header, l.Size)
	case l.Each == 0 || int64(len(l.body()))%l.Each != 0:
		return false, fmt.Errorf("malformed: %d bytes of signatures, want a multiple of the size of each, %d", len(l.body()), l.Each)
	}
	return false, nil
}

// kind is type and size of a list's signatures: others are not compared with them.
type kind struct {
	typ  [16]byte
	each int64
}

func (l *List) kind() kind { return kind{l.Type, l.Each} }

// index is the content of a variable, for the search: what it finds before it ends.
type index struct {
	entries map[kind]map[string]bool
	failed  map[kind]error // by kind: a malformed list to which only the search for that kind comes
	end     error          // why the search fails where it ends
}

func indexOf(have []byte, o Options) *index {
	x := &index{entries: map[kind]map[string]bool{}, failed: map[kind]error{}}
	for i := 0; len(have) > 0; i++ {
		l := nextList(have)
		stop, err := l.walk(len(have), o)
		switch {
		case err != nil && o.LooseAppend && l.headerComplete && l.Size > 0 && l.Size <= int64(len(have)):
			// of lists that are not compared, only the size counts
			if x.failed[l.kind()] == nil {
				x.failed[l.kind()] = fmt.Errorf("signature list %d of the variable: %w", i, err)
			}
			have = have[l.Size:]
			continue
		case err != nil:
			x.end = fmt.Errorf("signature list %d of the variable: %w", i, err)
			return x
		case stop:
			return x
		}
		if k := l.kind(); x.failed[k] == nil {
			if x.entries[k] == nil {
				x.entries[k] = map[string]bool{}
			}
			for _, e := range l.entries() {
				x.entries[k][string(e)] = true
			}
		}
		have = have[l.Size:]
	}
	return x
}

// has looks for a signature.
func (x *index) has(k kind, e []byte) (bool, error) {
	switch {
	case x.entries[k][string(e)]:
		return true, nil
	case x.failed[k] != nil:
		return false, x.failed[k]
	}
	return false, x.end
}
