package hwid

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/smbios"
)

// SMBIOS holds what the firmware says about a machine, as far as hardware ids and the stub use it.
// An empty string is one that the firmware does not set.
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
// 7.1 (BIOS information), 7.2 (system), 7.3 (baseboard), 7.4 (enclosure), 7.12 (OEM strings);
// systemd 262, src/boot/smbios.c.
const (
	smbiosMinBIOS    = 0x16
	smbiosMinSystem  = 0x1b
	smbiosMinBoard   = 0x08
	smbiosMinChassis = 0x06
	smbiosMinOEM     = 0x05
)

// ParseSMBIOS reads a structure table, the content of /sys/firmware/dmi/tables/DMI. As the stub
// does, it uses the first structure of each type, and only if it is long enough. A truncated table
// or string is a [*osmith.FormatError]; a missing end-of-table structure is not an error.
func ParseSMBIOS(table []byte) (*SMBIOS, error) {
	list, err := smbios.Parse(table)
	if err != nil {
		return nil, prefix.Error("hwid", err)
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
		// the other bit says that there is a lock
		s.EnclosureType = strconv.Itoa(int(area[0x05] & 0x7f))
	case x.Type == 11 && len(area) >= smbiosMinOEM:
		s.OEMStrings = x.Strings
	}
}

// CmdlineExtra is what the first OEM string io.systemd.stub.kernel-cmdline-extra= gives, which
// stubs since systemd 254 append to the kernel command line; false without such a string.
func (s *SMBIOS) CmdlineExtra() (string, bool) {
	for _, text := range s.OEMStrings {
		if extra, ok := strings.CutPrefix(text, sdstub.CmdlineExtra); ok {
			return extra, true
		}
	}
	return "", false
}
