package varstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// A Variable is one that the firmware would find.
type Variable struct {
	Name       string
	Vendor     osmith.GUID
	Attributes uint32
	Time       [16]byte // EFI_TIME of the last authenticated write, zero if there was none
	Data       []byte

	count uint64 // monotonic count and key of the deprecated authentication by counter, kept
	key   uint32
}

// A variable begins with a variableStart; with authentication there is an authentication; then
// variableSizes, name, data, and padding to 4 bytes (edk2, VariableFormat.h: VARIABLE_HEADER and
// AUTHENTICATED_VARIABLE_HEADER).
type (
	variableStart struct {
		ID         uint16
		State, _   uint8
		Attributes uint32
	}
	authentication struct {
		Count uint64   // monotonic
		Time  [16]byte // EFI_TIME
		Key   uint32   // index of the public key
	}
	variableSizes struct {
		Name   uint32 // bytes with the NUL
		Data   uint32 // bytes
		Vendor [16]byte
	}
)

const (
	variableID  = 0x55aa
	plainHeader = 32
	authHeader  = 60
	unwritten   = 0xffffffff // in flash
)

// States of a variable; writing can only clear bits.
const (
	stateAdded        = 0x3f
	stateInTransition = 0x3e // about to be deleted, valid until its successor is
)

// A Store is the variables of a volume.
type Store struct {
	// Variables are those that count, in the order of the volume.
	Variables []Variable

	// Authenticated tells that the store has room for time stamps; without, no Secure Boot
	// variables can be in it.
	Authenticated bool

	image      []byte
	start, end int
	used       int // by all copies, deleted ones too
}

// Parse reads the volume at the start of image. Errors are of type [*osmith.FormatError]. The
// result points into image.
func Parse(image []byte) (*Store, error) {
	start, end, authenticated, err := findStore(image)
	if err != nil {
		return nil, err
	}
	s := &Store{Authenticated: authenticated, image: image, start: start, end: end}
	type id struct {
		name   string
		vendor osmith.GUID
	}
	found := map[id]int{} // place in s.Variables
	final := map[id]bool{}
	pos := start
	for pos+4 <= end && binary.LittleEndian.Uint16(image[pos:]) == variableID {
		v, state, size, err := s.parseVariable(pos)
		if err != nil {
			return nil, err
		}
		if state == stateAdded || state == stateInTransition {
			k := id{v.Name, v.Vendor}
			i, seen := found[k]
			switch {
			case !seen:
				found[k] = len(s.Variables)
				s.Variables = append(s.Variables, v)
			case !final[k]: // the first added copy, or else the last one in transition
				s.Variables[i] = v
			}
			final[k] = final[k] || state == stateAdded
		}
		pos = align(pos + size)
	}
	s.used = min(pos, end) - start
	return s, nil
}

func (s *Store) parseVariable(pos int) (v Variable, state byte, size int, err error) {
	var (
		start variableStart
		auth  authentication
		sizes variableSizes
	)
	parts, header := []any{&start, &sizes}, plainHeader
	if s.Authenticated {
		parts, header = []any{&start, &auth, &sizes}, authHeader
	}
	b := s.image[pos:s.end]
	if len(b) < header {
		return v, 0, 0, bad(pos, "variable", "%d bytes left in the store, its header has %d", len(b), header)
	}
	rest := b
	for _, p := range parts {
		n, err := binary.Decode(rest, binary.LittleEndian, p)
		if err != nil {
			return v, 0, 0, bad(pos, "variable", "%w", err)
		}
		rest = rest[n:]
	}
	if start.State == 0xff || sizes.Name == unwritten || sizes.Data == unwritten {
		// A write that was cut before the header was complete: the firmware takes the sizes as 0
		// and goes on behind the header.
		return v, 0xff, header, nil
	}
	if int64(sizes.Name)+int64(sizes.Data) > int64(len(rest)) {
		return v, 0, 0, bad(pos+header-binary.Size(sizes), "sizes of a variable", "%d of the name and %d of the data, the store has %d bytes left", sizes.Name, sizes.Data, len(rest))
	}
	size = header + int(sizes.Name) + int(sizes.Data)
	if start.State != stateAdded && start.State != stateInTransition {
		return v, start.State, size, nil
	}
	name := rest[:sizes.Name]
	v = Variable{
		Name:       efi.DecodeUTF16(name),
		Vendor:     efi.GUID(sizes.Vendor[:]),
		Attributes: start.Attributes,
		Time:       auth.Time,
		Data:       b[header+int(sizes.Name) : size : size],
		count:      auth.Count,
		key:        auth.Key,
	}
	if v.Name == "" {
		return v, 0, 0, bad(pos+header, "name of a variable", "the name is empty")
	}
	if again := append(efi.AppendUTF16(nil, v.Name), 0, 0); !bytes.Equal(again, name) {
		return v, 0, 0, bad(pos+header, "name of a variable", "%x is not UTF-16 with one NUL at its end", name[:min(len(name), 64)])
	}
	return v, start.State, size, nil
}

// Get returns a variable.
func (s *Store) Get(name string, vendor osmith.GUID) (Variable, bool) {
	for _, v := range s.Variables {
		if v.Name == name && v.Vendor == vendor {
			return v, true
		}
	}
	return Variable{}, false
}

// Size is the number of bytes that variables with their headers may take, Used those taken, by
// deleted variables too: the firmware reclaims these when it needs them.
func (s *Store) Size() int64 { return int64(s.end - s.start) }

// Used is documented with [Store.Size].
func (s *Store) Used() int64 { return int64(s.used) }

// Live is what [Store.Variables] take without deleted copies, in bytes.
func (s *Store) Live() int64 {
	var n int64
	for _, v := range s.Variables {
		n += s.size(v)
	}
	return n
}

func (s *Store) size(v Variable) int64 {
	n := int64(plainHeader)
	if s.Authenticated {
		n = authHeader
	}
	n += int64(2*efi.UTF16Len(v.Name)) + 2 + int64(len(v.Data))
	return (n + 3) &^ 3
}

// ErrNoRoom is returned by [Store.Replace] for variables that the store is too small for.
var ErrNoRoom = errors.New("no room")

// Replace returns the volume with these variables and no deleted ones, as after a reclaim;
// everything outside the variables stays.
func (s *Store) Replace(variables []Variable) ([]byte, error) {
	b := make([]byte, 0, s.end-s.start)
	for i, v := range variables {
		switch {
		case v.Name == "":
			return nil, fmt.Errorf("variable %d has no name", i)
		case s.size(v) > int64(cap(b)-len(b)):
			return nil, fmt.Errorf("variable %q: %w: it needs %d bytes, %d are free", v.Name, ErrNoRoom, s.size(v), cap(b)-len(b))
		case !s.Authenticated && v.Time != [16]byte{}:
			return nil, errors.New("variable " + v.Name + ": this store has no room for a time stamp")
		}
		parts := []any{variableStart{ID: variableID, State: stateAdded, Attributes: v.Attributes}}
		if s.Authenticated {
			parts = append(parts, authentication{v.count, v.Time, v.key})
		}
		parts = append(parts, variableSizes{uint32(2*efi.UTF16Len(v.Name) + 2), uint32(len(v.Data)), [16]byte(efi.AppendGUID(nil, v.Vendor))})
		for _, p := range parts {
			var err error
			if b, err = binary.Append(b, binary.LittleEndian, p); err != nil {
				return nil, err
			}
		}
		b = append(efi.AppendUTF16(b, v.Name), 0, 0)
		b = append(b, v.Data...)
		for len(b)%4 != 0 && len(b) < cap(b) {
			b = append(b, 0xff)
		}
	}
	for len(b) < cap(b) {
		b = append(b, 0xff)
	}
	image := bytes.Clone(s.image)
	copy(image[s.start:], b)
	return image, nil
}
