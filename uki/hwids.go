package uki

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
)

// HWIDType says what a hardware id leads to.
type HWIDType uint8

// The types that stubs know: device trees since systemd 257, firmware since 258.
const (
	HWIDDeviceTree HWIDType = 1
	HWIDFirmware   HWIDType = 2
)

func (t HWIDType) String() string {
	switch t {
	case HWIDDeviceTree:
		return "devicetree"
	case HWIDFirmware:
		return "uefi-fw"
	}
	return fmt.Sprintf("HWIDType(%d)", uint8(t))
}

// HWID is one record of .hwids: a machine that has this computer hardware id gets the .dtbauto or .efifw section that
// says Match.
type HWID struct {
	CHID  osmith.GUID
	Type  HWIDType
	Name  string // of the device, for people
	Match string // first compatible string of the device tree, or id of the firmware
}

// A record of .hwids (systemd 262, src/boot/chid.h, Device): u32 descriptor = type << 28 | 28, EFI_GUID chid, u32
// offset of the name, u32 offset of the compatible string or firmware id, both from the start of the section, 0 for
// none. A descriptor of 0 ends the table; strings follow.
const (
	hwidRecord    = 28
	hwidTypeShift = 28
	hwidSizeMask  = 1<<hwidTypeShift - 1
	maxHWIDs      = 16 << 20 // bytes of a section; all devices that systemd 262 ships take 30 KiB
)

// EncodeHWIDs writes the content of a .hwids section: the records in the order given (the first that matches wins),
// their strings sorted. For the records of [ReadHWIDs] the bytes are those of ukify 262.
func EncodeHWIDs(ids []HWID) ([]byte, error) {
	offsets := make(map[string]uint32)
	for i, id := range ids {
		if id.Type != HWIDDeviceTree && id.Type != HWIDFirmware {
			return nil, partError("HWIDs", "record %d (%q): type %d, want %d or %d", i, id.Name, uint8(id.Type), HWIDDeviceTree, HWIDFirmware)
		}
		for _, s := range []string{id.Name, id.Match} {
			if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
				return nil, partError("HWIDs", "record %d: string %q holds a NUL byte or is not UTF-8", i, firstRunes(s, 40))
			}
			offsets[s] = 0
		}
	}
	table := int64(len(ids)+1) * hwidRecord
	sorted := make([]string, 0, len(offsets))
	for s := range offsets {
		sorted = append(sorted, s)
	}
	sort.Strings(sorted)
	size := table
	for _, s := range sorted {
		if size > math.MaxUint32 {
			break
		}
		offsets[s] = uint32(size)
		size += int64(len(s)) + 1
	}
	if size > maxHWIDs {
		return nil, &SpaceError{"section .hwids", size, maxHWIDs}
	}
	out := make([]byte, 0, size)
	for _, id := range ids {
		out = binary.LittleEndian.AppendUint32(out, uint32(id.Type)<<hwidTypeShift|hwidRecord)
		out = efi.AppendGUID(out, id.CHID)
		out = binary.LittleEndian.AppendUint32(out, offsets[id.Name])
		out = binary.LittleEndian.AppendUint32(out, offsets[id.Match])
	}
	out = append(out, make([]byte, hwidRecord)...)
	for _, s := range sorted {
		out = append(out, s...)
		out = append(out, 0)
	}
	return out, nil
}

// ParseHWIDs reads the content of a .hwids section, by the rules of the stub: a table that the stub would not use is a
// [*FormatError]. So is a record without a compatible string or firmware id, which could match nothing.
func ParseHWIDs(b []byte) ([]HWID, error) {
	ids := []HWID{}
	bad := func(at int, field, format string, args ...any) ([]HWID, error) {
		return nil, &FormatError{int64(at), ".hwids " + field, fmt.Errorf(format, args...)}
	}
	if len(b) > maxHWIDs {
		return bad(0, "size", "%d bytes are more than the limit of %d", len(b), maxHWIDs)
	}
	// The stub reads a record only where a further byte follows it: the terminator, or the strings.
	for at := 0; at+hwidRecord < len(b); at += hwidRecord {
		r := b[at : at+hwidRecord]
		descriptor := binary.LittleEndian.Uint32(r)
		if descriptor == 0 {
			return ids, nil
		}
		id := HWID{Type: HWIDType(descriptor >> hwidTypeShift), CHID: efi.GUID(r[4:])}
		if descriptor&hwidSizeMask != hwidRecord || id.Type != HWIDDeviceTree && id.Type != HWIDFirmware {
			return bad(at, "descriptor", "%#x is neither a device tree (%#x) nor firmware (%#x)", descriptor, 1<<hwidTypeShift|hwidRecord, 2<<hwidTypeShift|hwidRecord)
		}
		var err error
		if id.Name, err = hwidString(b, binary.LittleEndian.Uint32(r[20:])); err != nil {
			return bad(at+20, "name offset", "%w", err)
		}
		offset := binary.LittleEndian.Uint32(r[24:])
		if id.Match, err = hwidString(b, offset); err != nil {
			return bad(at+24, "string offset", "%w", err)
		}
		if offset == 0 {
			return bad(at+24, "string offset", "%w", ErrMissing)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// hwidString is the NUL-terminated string at an offset; offset 0 is no string.
func hwidString(b []byte, offset uint32) (string, error) {
	s, err := hwidBytes(b, offset)
	if err == nil && !utf8.Valid(s) {
		err = fmt.Errorf("string %q is not UTF-8", firstRunes(string(s), 40))
	}
	return string(s), err
}

func hwidBytes(b []byte, offset uint32) ([]byte, error) {
	if offset == 0 {
		return nil, nil
	}
	if int64(offset) >= int64(len(b)) {
		return nil, fmt.Errorf("%d lies behind the section's %d bytes", offset, len(b))
	}
	s, _, ok := bytes.Cut(b[offset:], []byte{0})
	if !ok {
		return nil, errors.New("string without a NUL byte")
	}
	return s, nil
}
