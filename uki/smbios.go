package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/smbios"
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

// Lengths that a structure must have for the stub to use it, and offsets below: DMTF DSP0134 3.7.0,
// 7.1 (BIOS information), 7.2 (system), 7.3 (baseboard), 7.4 (enclosure), 7.12 (OEM strings); systemd 262,
// src/boot/smbios.c.
const (
	smbiosMinBIOS    = 0x16
	smbiosMinSystem  = 0x1b
	smbiosMinBoard   = 0x08
	smbiosMinChassis = 0x06
	smbiosMinOEM     = 0x05
)

// ParseSMBIOS reads a structure table, the content of /sys/firmware/dmi/tables/DMI. As the stub does, it uses the first
// structure of each type, and only if it is long enough. A table that is cut off or whose strings are is a
// [*FormatError]; one without an end-of-table structure is not.
func ParseSMBIOS(table []byte) (*SMBIOS, error) {
	list, err := smbios.Parse(table)
	if err != nil {
		e, _ := errors.AsType[*smbios.FormatError](err)
		return nil, &FormatError{e.Offset, e.Field, e.Err}
	}
	s := new(SMBIOS)
	seen := make(map[byte]bool)
	for i := range list {
		if !seen[list[i].Type] {
			seen[list[i].Type] = true
			s.take(&list[i])
		}
	}
	return s, nil
}

func (s *SMBIOS) take(x *smbios.Structure) {
	switch area := x.Area; {
	case x.Type == 0 && len(area) >= smbiosMinBIOS:
		s.BIOSVendor, s.BIOSVersion = x.Text(0x04), x.Text(0x05)
		if area[0x14] != 0xff || area[0x15] != 0xff { // no release
			s.BIOSRelease = fmt.Sprintf("%d.%d", area[0x14], area[0x15])
		}
	case x.Type == 1 && len(area) >= smbiosMinSystem:
		s.Manufacturer, s.ProductName = x.Text(0x04), x.Text(0x05)
		s.SKU, s.Family = x.Text(0x19), x.Text(0x1a)
	case x.Type == 2 && len(area) >= smbiosMinBoard:
		s.BoardVendor, s.BoardName = x.Text(0x04), x.Text(0x05)
	case x.Type == 3 && len(area) >= smbiosMinChassis:
		s.EnclosureType = strconv.Itoa(int(area[0x05] & 0x7f)) // the other bit says that there is a lock
	case x.Type == 11 && len(area) >= smbiosMinOEM:
		s.OEMStrings = x.Strings
	}
}

// CmdlineExtra is what the first OEM string io.systemd.stub.kernel-cmdline-extra= gives, which stubs since systemd 254
// append to the kernel command line; false without such a string.
func (s *SMBIOS) CmdlineExtra() (string, bool) {
	for _, text := range s.OEMStrings {
		if extra, ok := strings.CutPrefix(text, sdstub.CmdlineExtra); ok {
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
