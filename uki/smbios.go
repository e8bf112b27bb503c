package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// SMBIOS holds what the firmware says about a machine, as far as hardware ids and the stub go by it. An empty string is
// one that the firmware does not give.
type SMBIOS struct {
	Manufacturer  string // type 1
	Family        string
	ProductName   string
	SKU           string
	BoardVendor   string // type 2
	BoardName     string
	BIOSVendor    string // type 0
	BIOSVersion   string
	BIOSRelease   string // "1.59": major and minor number, decimal
	EnclosureType string // type 3, decimal: "10" is a notebook

	OEMStrings []string // of the first structure of type 11
}

// Offsets into structures, and the length that a structure must have for the stub to use it: DMTF DSP0134 3.7.0,
// 7.1 (BIOS information), 7.2 (system), 7.3 (baseboard), 7.4 (enclosure), 7.12 (OEM strings); systemd 262,
// src/boot/smbios.c.
const (
	smbiosHeader     = 4 // u8 type, u8 length of the formatted area, u16 handle
	smbiosEndOfTable = 127
	smbiosMinBIOS    = 0x16
	smbiosMinSystem  = 0x1b
	smbiosMinBoard   = 0x08
	smbiosMinChassis = 0x06
	smbiosMinOEM     = 0x05
	maxSMBIOS        = 16 << 20
)

// ParseSMBIOS reads a structure table, the content of /sys/firmware/dmi/tables/DMI. As the stub does, it uses the first
// structure of each type, and only if it is long enough. A table that is cut off or whose strings are is a
// [*FormatError]; one without an end-of-table structure is not.
func ParseSMBIOS(table []byte) (*SMBIOS, error) {
	if len(table) > maxSMBIOS {
		return nil, &FormatError{0, "SMBIOS table", fmt.Errorf("%d bytes are more than the limit of %d", len(table), maxSMBIOS)}
	}
	s := new(SMBIOS)
	seen := make(map[byte]bool)
	for at := 0; len(table)-at >= smbiosHeader; {
		kind, length := table[at], int(table[at+1])
		if kind == smbiosEndOfTable {
			break
		}
		if length < smbiosHeader || length > len(table)-at {
			return nil, &FormatError{int64(at) + 1, "SMBIOS structure length", fmt.Errorf("%d, want %d to %d", length, smbiosHeader, len(table)-at)}
		}
		texts, size, err := smbiosStrings(table[at+length:])
		if err != nil {
			return nil, &FormatError{int64(at + length), fmt.Sprintf("SMBIOS strings of type %d", kind), err}
		}
		if !seen[kind] {
			seen[kind] = true
			s.take(table[at:at+length], texts)
		}
		at += length + size
	}
	return s, nil
}

// smbiosStrings splits the strings behind a structure: each ends with a NUL byte, the set with another one; two NUL
// bytes stand for no strings.
func smbiosStrings(b []byte) (texts []string, size int, err error) {
	if bytes.HasPrefix(b, []byte{0, 0}) {
		return nil, 2, nil
	}
	for size < len(b) {
		n := bytes.IndexByte(b[size:], 0)
		if n < 0 {
			break
		}
		if n == 0 && size > 0 {
			return texts, size + 1, nil
		}
		texts = append(texts, string(b[size:size+n]))
		size += n + 1
	}
	return nil, 0, errors.New("no end")
}

func (s *SMBIOS) take(area []byte, texts []string) {
	text := func(offset int) string {
		if n := int(area[offset]); n > 0 && n <= len(texts) {
			return texts[n-1]
		}
		return ""
	}
	switch kind := area[0]; {
	case kind == 0 && len(area) >= smbiosMinBIOS:
		s.BIOSVendor, s.BIOSVersion = text(0x04), text(0x05)
		if area[0x14] != 0xff || area[0x15] != 0xff { // no release
			s.BIOSRelease = fmt.Sprintf("%d.%d", area[0x14], area[0x15])
		}
	case kind == 1 && len(area) >= smbiosMinSystem:
		s.Manufacturer, s.ProductName = text(0x04), text(0x05)
		s.SKU, s.Family = text(0x19), text(0x1a)
	case kind == 2 && len(area) >= smbiosMinBoard:
		s.BoardVendor, s.BoardName = text(0x04), text(0x05)
	case kind == 3 && len(area) >= smbiosMinChassis:
		s.EnclosureType = strconv.Itoa(int(area[0x05] & 0x7f)) // the other bit says that there is a lock
	case kind == 11 && len(area) >= smbiosMinOEM:
		s.OEMStrings = texts
	}
}

// stubCmdlineExtra is the OEM string with which a hypervisor adds to the kernel command line (systemd-stub(7)).
const stubCmdlineExtra = "io.systemd.stub.kernel-cmdline-extra="

// CmdlineExtra is what the first OEM string io.systemd.stub.kernel-cmdline-extra= gives, which stubs since systemd 254
// append to the kernel command line; false without such a string.
func (s *SMBIOS) CmdlineExtra() (string, bool) {
	for _, text := range s.OEMStrings {
		if extra, ok := strings.CutPrefix(text, stubCmdlineExtra); ok {
			return extra, true
		}
	}
	return "", false
}

// PanelID is the identifier of a display that systemd's own hardware ids contain: three letters of its manufacturer and
// its product code, such as "LGD05a1". edid is the display's EDID, of at least 128 bytes.
func PanelID(edid []byte) (string, error) {
	bad := func(at int64, format string, args ...any) (string, error) {
		return "", &FormatError{at, "EDID", fmt.Errorf(format, args...)}
	}
	// VESA E-EDID 1.4, 3.3 and 3.4: header, then the id of the manufacturer as three five-bit letters, big-endian, and
	// the product code, little-endian.
	if len(edid) < 128 {
		return bad(0, "%d bytes, want 128 or more", len(edid))
	}
	if header := []byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}; !bytes.HasPrefix(edid, header) {
		return bad(0, "starts with %x, want %x", edid[:8], header)
	}
	vendor := binary.BigEndian.Uint16(edid[8:])
	var id [3]byte
	for i := range id {
		letter := byte(vendor>>(10-5*i)) & 0x1f
		if letter > 26 {
			return bad(8, "manufacturer %#x: letter %d is none", vendor, letter)
		}
		id[i] = 'A' + letter - 1
	}
	return fmt.Sprintf("%s%04x", id[:], binary.LittleEndian.Uint16(edid[10:])), nil
}
