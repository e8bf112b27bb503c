package secureboot

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// A Signature is one EFI_SIGNATURE_DATA: who added it, and a certificate or digest (UEFI Specification 2.10, section 32.4.1).
type Signature struct {
	Owner osmith.GUID
	Data  []byte
}

// AppendBinary appends EFI_SIGNATURE_DATA: the owner in its mixed-endian form, then the data. This is what firmware measures into PCR 7
// for the entry of db by which it accepted an image.
func (s Signature) AppendBinary(b []byte) ([]byte, error) {
	return append(efi.AppendGUID(b, s.Owner), s.Data...), nil
}

// A SignatureList is one EFI_SIGNATURE_LIST: signatures of one type and one size. A certificate has a list of its own, as a rule;
// digests of one kind share one.
type SignatureList struct {
	Type       osmith.GUID
	Header     []byte // empty for all types in use
	Signatures []Signature
}

// EFI_SIGNATURE_LIST: GUID type, u32 size of the list, u32 size of the header, u32 size of one signature with its owner, header,
// signatures (UEFI Specification 2.10, section 32.4.1).
const (
	listHeaderSize = 28
	ownerSize      = 16
)

// ParseSignatureLists reads the content of PK, KEK, db, dbx and the like, or an .esl file: any number of lists. Bytes from efivarfs
// have four attribute bytes in front, which do not belong here. Types that are not known are kept; a known type with a wrong
// size, a list without signatures, and sizes that do not add up are errors of type [*FormatError]. The result points into data.
func ParseSignatureLists(data []byte) ([]SignatureList, error) {
	lists := []SignatureList{}
	for pos := 0; pos < len(data); {
		l, n, err := parseList(data[pos:], pos)
		if err != nil {
			return nil, err
		}
		lists = append(lists, l)
		pos += n
	}
	return lists, nil
}

func parseList(b []byte, pos int) (l SignatureList, size int, err error) {
	le := binary.LittleEndian
	if len(b) < listHeaderSize {
		return l, 0, bad(pos, "signature list", "%d bytes left, its header has %d", len(b), listHeaderSize)
	}
	total, header, each := int64(le.Uint32(b[16:])), int64(le.Uint32(b[20:])), int64(le.Uint32(b[24:]))
	if total > int64(len(b)) || total < listHeaderSize {
		return l, 0, bad(pos+16, "size of a signature list", "%d, want %d to the %d bytes left", total, listHeaderSize, len(b))
	}
	body := total - listHeaderSize
	if header > body {
		return l, 0, bad(pos+20, "header size of a signature list", "%d, the list has %d bytes left", header, body)
	}
	body -= header
	if each <= ownerSize || each > body || body%each != 0 {
		return l, 0, bad(pos+24, "signature size", "%d, want more than %d and a divisor of the %d bytes of signatures", each, ownerSize, body)
	}
	l.Type = efi.GUID(b)
	if want, ok := sizes[l.Type]; ok && each != int64(ownerSize+want) {
		return l, 0, bad(pos+24, "signature size", "%d, a list of type %v has %d", each, l.Type, ownerSize+want)
	}
	first := listHeaderSize + int(header)
	l.Header = b[listHeaderSize:first:first]
	l.Signatures = make([]Signature, 0, body/each)
	for rest := b[first:total]; len(rest) > 0; rest = rest[each:] {
		l.Signatures = append(l.Signatures, Signature{Owner: efi.GUID(rest), Data: rest[ownerSize:each:each]})
	}
	return l, int(total), nil
}

// AppendSignatureLists appends the binary form of lists. All signatures of a list must have the same size.
func AppendSignatureLists(b []byte, lists ...SignatureList) ([]byte, error) {
	le := binary.LittleEndian
	for i, l := range lists {
		if len(l.Signatures) == 0 {
			return nil, fmt.Errorf("secureboot: signature list %d has no signatures", i)
		}
		n := len(l.Signatures[0].Data)
		if want, ok := sizes[l.Type]; n == 0 || (ok && n != want) {
			return nil, fmt.Errorf("secureboot: signature list %d: %d bytes of data do not suit its type %v", i, n, l.Type)
		}
		each := int64(ownerSize + n)
		total := listHeaderSize + int64(len(l.Header)) + each*int64(len(l.Signatures))
		if total > math.MaxInt32 {
			return nil, fmt.Errorf("secureboot: signature list %d: %d bytes are too many", i, total)
		}
		b = efi.AppendGUID(b, l.Type)
		b = le.AppendUint32(b, uint32(total))
		b = le.AppendUint32(b, uint32(len(l.Header)))
		b = le.AppendUint32(b, uint32(each))
		b = append(b, l.Header...)
		for j, s := range l.Signatures {
			if len(s.Data) != n {
				return nil, fmt.Errorf("secureboot: signature list %d: signature %d has %d bytes, the first %d: put it into a list of its own", i, j, len(s.Data), n)
			}
			b = append(efi.AppendGUID(b, s.Owner), s.Data...)
		}
	}
	return b, nil
}

// CertificateList is the list for one certificate.
func CertificateList(owner osmith.GUID, cert *x509.Certificate) SignatureList {
	return SignatureList{Type: TypeX509, Signatures: []Signature{{Owner: owner, Data: cert.Raw}}}
}

// HashList is the list of the SHA-256 Authenticode digests of images, in the order given.
func HashList(owner osmith.GUID, digests ...[32]byte) SignatureList {
	l := SignatureList{Type: TypeSHA256}
	for _, d := range digests {
		l.Signatures = append(l.Signatures, Signature{Owner: owner, Data: append([]byte(nil), d[:]...)})
	}
	return l
}

// Certificates returns the certificates of all lists of type X.509, in order.
func Certificates(lists []SignatureList) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, l := range lists {
		if l.Type != TypeX509 {
			continue
		}
		for _, s := range l.Signatures {
			c, err := x509.ParseCertificate(s.Data)
			if err != nil {
				return nil, fmt.Errorf("secureboot: certificate owned by %v: %w", s.Owner, err)
			}
			certs = append(certs, c)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("secureboot: the signature lists hold no certificate")
	}
	return certs, nil
}
