package hwid

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Type says what a hardware id leads to.
type Type uint8

// The types that stubs know: device trees since systemd 257, firmware since 258.
const (
	TypeDeviceTree Type = 1
	TypeFirmware   Type = 2
)

func (t Type) String() string {
	switch t {
	case TypeDeviceTree:
		return "devicetree"
	case TypeFirmware:
		return "uefi-fw"
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}

// Record is one record of .hwids: a machine that has this computer hardware id gets the .dtbauto or
// .efifw section that says Match.
type Record struct {
	CHID  osmith.GUID
	Type  Type
	Name  string // of the device, for people
	Match string // first compatible string of the device tree, or id of the firmware
}

// rawRecord is a record of .hwids, little-endian (systemd 262, src/boot/chid.h, Device). Offsets
// count from the start of the section, 0 for none. A descriptor of 0 ends the table; strings
// follow.
type rawRecord struct {
	Descriptor uint32   // type << 28 | size of the record
	CHID       [16]byte // EFI_GUID
	Name       uint32   // offset
	Match      uint32   // offset of the compatible string or firmware id
}

const (
	recordSize = 28
	typeShift  = 28
	sizeMask   = 1<<typeShift - 1
)

// MaxTable is the largest size of a .hwids section, in bytes; all devices that systemd 262 ships
// take 30 KiB.
const MaxTable = 16 << 20

// Encode writes the content of a .hwids section: the records in the order given (the first that
// matches wins), their strings sorted. For the records of [Read] the bytes are those of ukify 262.
func Encode(ids []Record) (table []byte, err error) {
	defer prefix.Add("hwid", &err)
	offsets := make(map[string]uint32)
	for i, id := range ids {
		if id.Type != TypeDeviceTree && id.Type != TypeFirmware {
			return nil, fmt.Errorf("record %d (%q): type %d, want %d or %d", i, id.Name, uint8(id.Type), TypeDeviceTree, TypeFirmware)
		}
		for _, s := range []string{id.Name, id.Match} {
			if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
				return nil, fmt.Errorf("record %d: string %q holds a NUL byte or is not UTF-8", i, firstRunes(s, 40))
			}
			offsets[s] = 0
		}
	}
	sorted := make([]string, 0, len(offsets))
	for s := range offsets {
		sorted = append(sorted, s)
	}
	sort.Strings(sorted)
	size := int64(len(ids)+1) * recordSize
	for _, s := range sorted {
		if size > math.MaxUint32 {
			break
		}
		offsets[s] = uint32(size)
		size += int64(len(s)) + 1
	}
	if size > MaxTable {
		return nil, fmt.Errorf("section .hwids of %d bytes: want %d or fewer", size, MaxTable)
	}
	out := make([]byte, 0, size)
	for _, id := range ids {
		raw := rawRecord{uint32(id.Type)<<typeShift | recordSize, [16]byte(efi.AppendGUID(nil, id.CHID)), offsets[id.Name], offsets[id.Match]}
		if out, err = binary.Append(out, binary.LittleEndian, raw); err != nil {
			return nil, err
		}
	}
	out = append(out, make([]byte, recordSize)...)
	for _, s := range sorted {
		out = append(out, s...)
		out = append(out, 0)
	}
	return out, nil
}

// Parse reads the content of a .hwids section, by the rules of the stub: a table that the stub
// would not use is a [*osmith.FormatError]. So is a record without a compatible string or firmware
// id, which could match nothing.
func Parse(b []byte) ([]Record, error) {
	ids := []Record{}
	bad := func(at int, field, format string, args ...any) ([]Record, error) {
		return nil, prefix.Error("hwid", &osmith.FormatError{Offset: int64(at), Field: ".hwids " + field, Err: fmt.Errorf(format, args...)})
	}
	if len(b) > MaxTable {
		return bad(0, "size", "%d bytes are more than the limit of %d", len(b), MaxTable)
	}
	// The stub reads a record only where a further byte follows it: the terminator, or the strings.
	for at := 0; at+recordSize < len(b); at += recordSize {
		var raw rawRecord
		if _, err := binary.Decode(b[at:], binary.LittleEndian, &raw); err != nil {
			return bad(at, "record", "%w", err)
		}
		if raw.Descriptor == 0 {
			return ids, nil
		}
		id := Record{Type: Type(raw.Descriptor >> typeShift), CHID: efi.GUID(raw.CHID[:])}
		if raw.Descriptor&sizeMask != recordSize || id.Type != TypeDeviceTree && id.Type != TypeFirmware {
			return bad(at, "descriptor", "%#x is neither a device tree (%#x) nor firmware (%#x)", raw.Descriptor, 1<<typeShift|recordSize, 2<<typeShift|recordSize)
		}
		var err error
		if id.Name, err = stringAt(b, raw.Name); err != nil {
			return bad(at+20, "name offset", "%w", err)
		}
		if id.Match, err = stringAt(b, raw.Match); err != nil {
			return bad(at+24, "string offset", "%w", err)
		}
		if raw.Match == 0 {
			return bad(at+24, "string offset", "%w", ErrMissing)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// stringAt is the NUL-terminated string at an offset; offset 0 is no string.
func stringAt(b []byte, offset uint32) (string, error) {
	s, err := bytesAt(b, offset)
	if err == nil && !utf8.Valid(s) {
		err = fmt.Errorf("string %q is not UTF-8", firstRunes(string(s), 40))
	}
	return string(s), err
}

func bytesAt(b []byte, offset uint32) ([]byte, error) {
	if offset == 0 {
		return nil, nil
	}
	if int64(offset) >= int64(len(b)) {
		return nil, fmt.Errorf("%d lies beyond the section's %d bytes", offset, len(b))
	}
	s, _, ok := bytes.Cut(b[offset:], []byte{0})
	if !ok {
		return nil, errors.New("string without a NUL byte")
	}
	return s, nil
}

// firstRunes is the beginning of a text for a message.
func firstRunes(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}
