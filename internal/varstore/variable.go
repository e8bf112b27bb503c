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

// Headers of variables: u16 0x55aa, u8 state, u8, u32 attributes; with authentication u64 monotonic count, EFI_TIME, u32 index of the public
// key; then u32 size of the name with its NUL, u32 size of the data, GUID of the vendor; name, data; padding to 4 bytes (VariableFormat.h:
// VARIABLE_HEADER and AUTHENTICATED_VARIABLE_HEADER).
const (
	variableID       = 0x55aa
	plainHeader      = 32
	authHeader       = 60
	authFields       = authHeader - plainHeader
	attributesOffset = 4
	countOffset      = 8
	timeOffset       = 16
	keyOffset        = 32
	plainSizesOffset = 8
	unwritten        = 0xffffffff // in flash
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

	// Authenticated tells that the store has room for time stamps; without, no Secure Boot variables can be in it.
	Authenticated bool

	image      []byte
	start, end int
	used       int // by all copies, deleted ones too
}

// Parse reads the volume at the start of image. Errors are of type [*osmith.FormatError]. The result points into image.
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
	le := binary.LittleEndian
	header, sizes := plainHeader, plainSizesOffset
	if s.Authenticated {
		header, sizes = authHeader, plainSizesOffset+authFields
	}
	b := s.image[pos:s.end]
	if len(b) < header {
		return v, 0, 0, bad(pos, "variable", "%d bytes left in the store, its header has %d", len(b), header)
	}
	state = b[2]
	nameSize, dataSize := le.Uint32(b[sizes:]), le.Uint32(b[sizes+4:])
	if state == 0xff || nameSize == unwritten || dataSize == unwritten {
		// A write that was cut before the header was complete: the firmware takes the sizes as 0 and goes on behind the header.
		return v, 0xff, header, nil
	}
	if int64(nameSize)+int64(dataSize) > int64(len(b)-header) {
		return v, 0, 0, bad(pos+sizes, "sizes of a variable", "%d of the name and %d of the data, the store has %d bytes left", nameSize, dataSize, len(b)-header)
	}
	size = header + int(nameSize) + int(dataSize)
	if state != stateAdded && state != stateInTransition {
		return v, state, size, nil
	}
	name := b[header : header+int(nameSize)]
	v = Variable{
		Name:       efi.DecodeUTF16(name),
		Vendor:     efi.GUID(b[sizes+8:]),
		Attributes: le.Uint32(b[attributesOffset:]),
		Data:       b[header+int(nameSize) : size : size],
	}
	if v.Name == "" {
		return v, 0, 0, bad(pos+header, "name of a variable", "it is empty")
	}
	if again := append(efi.AppendUTF16(nil, v.Name), 0, 0); !bytes.Equal(again, name) {
		return v, 0, 0, bad(pos+header, "name of a variable", "%x is not UTF-16 with one NUL at its end", name[:min(len(name), 64)])
	}
	if s.Authenticated {
		v.count, v.key = le.Uint64(b[countOffset:]), le.Uint32(b[keyOffset:])
		v.Time = [16]byte(b[timeOffset:])
	}
	return v, state, size, nil
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

// Size is the number of bytes that variables with their headers may take, Used those taken, by deleted variables too: the firmware
// reclaims these when it needs them.
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

// Replace returns the volume with these variables and no deleted ones, as after a reclaim; everything outside the variables stays.
func (s *Store) Replace(variables []Variable) ([]byte, error) {
	le := binary.LittleEndian
	b := make([]byte, 0, s.end-s.start)
	for i, v := range variables {
		switch {
		case v.Name == "":
			return nil, fmt.Errorf("variable %d has no name", i)
		case s.size(v) > int64(cap(b)-len(b)):
			return nil, fmt.Errorf("variable %q: it needs %d bytes, %d are free", v.Name, s.size(v), cap(b)-len(b))
		case !s.Authenticated && v.Time != [16]byte{}:
			return nil, errors.New("variable " + v.Name + ": this store has no room for a time stamp")
		}
		b = append(b, 0xaa, 0x55, stateAdded, 0)
		b = le.AppendUint32(b, v.Attributes)
		if s.Authenticated {
			b = le.AppendUint64(b, v.count)
			b = append(b, v.Time[:]...)
			b = le.AppendUint32(b, v.key)
		}
		b = le.AppendUint32(b, uint32(2*efi.UTF16Len(v.Name)+2))
		b = le.AppendUint32(b, uint32(len(v.Data)))
		b = efi.AppendGUID(b, v.Vendor)
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
