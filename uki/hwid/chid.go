package hwid

import (
	"crypto/sha1"
	"fmt"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// CHIDTypes is the number of types of computer hardware ids: 0 to 14 are Microsoft's, 15 to 17
// systemd's own with the identifier of the display.
const CHIDTypes = 18

// A chidField is one value of which hardware ids are made, in the order in which they are joined.
type chidField uint16

const (
	chidManufacturer chidField = 1 << iota
	chidFamily
	chidProduct
	chidSKU
	chidBoardVendor
	chidBoard
	chidBIOSVendor
	chidBIOSVersion
	chidBIOSMajor
	chidBIOSMinor
	chidEnclosure
	chidPanel
	chidFieldsEnd
)

// chidFields are the fields of each type: Microsoft, "Specifying Hardware IDs for a Computer"
// (https://learn.microsoft.com/windows-hardware/drivers/install/specifying-hardware-ids-for-a-computer),
// and systemd 262, src/fundamental/chid.c, for the last three, which "are subject to change".
var chidFields = [CHIDTypes]chidField{
	0:  chidManufacturer | chidFamily | chidProduct | chidSKU | chidBIOSAll,
	1:  chidManufacturer | chidFamily | chidProduct | chidBIOSAll,
	2:  chidManufacturer | chidProduct | chidBIOSAll,
	3:  chidManufacturer | chidFamily | chidProduct | chidSKU | chidBoardVendor | chidBoard,
	4:  chidManufacturer | chidFamily | chidProduct | chidSKU,
	5:  chidManufacturer | chidFamily | chidProduct,
	6:  chidManufacturer | chidSKU | chidBoardVendor | chidBoard,
	7:  chidManufacturer | chidSKU,
	8:  chidManufacturer | chidProduct | chidBoardVendor | chidBoard,
	9:  chidManufacturer | chidProduct,
	10: chidManufacturer | chidFamily | chidBoardVendor | chidBoard,
	11: chidManufacturer | chidFamily,
	12: chidManufacturer | chidEnclosure,
	13: chidManufacturer | chidBoardVendor | chidBoard,
	14: chidManufacturer,
	15: chidManufacturer | chidFamily | chidProduct | chidPanel,
	16: chidManufacturer | chidFamily | chidPanel,
	17: chidManufacturer | chidSKU | chidPanel,
}

const chidBIOSAll = chidBIOSVendor | chidBIOSVersion | chidBIOSMajor | chidBIOSMinor

// chidNamespace is the namespace of the name-based UUIDs.
var chidNamespace = [16]byte{0x70, 0xff, 0xd8, 0x12, 0x4c, 0x7f, 0x4c, 0x7d}

// CHIDs computes the computer hardware ids of a machine by type, as fwupd and systemd-analyze do:
// an id stays zero if one of its fields is missing, or if a number is invalid. panel is that of
// [PanelID], "" for none. Leading spaces and zeros and trailing spaces of a value do not count.
//
// The stub computes the same ids from complete values, but hashes a missing SMBIOS string as an
// empty one; [Match] allows for that.
func (s *SMBIOS) CHIDs(panel string) [CHIDTypes]osmith.GUID {
	values := s.chidValues(panel)
	for f, text := range map[chidField]string{chidManufacturer: s.Manufacturer, chidFamily: s.Family, chidProduct: s.ProductName,
		chidSKU: s.SKU, chidBoardVendor: s.BoardVendor, chidBoard: s.BoardName, chidBIOSVendor: s.BIOSVendor, chidBIOSVersion: s.BIOSVersion} {
		if text == "" {
			delete(values, f)
		}
	}
	major, minor, _ := strings.Cut(s.BIOSRelease, ".")
	for f, text := range map[chidField]string{chidBIOSMajor: major, chidBIOSMinor: minor} {
		if n, err := strconv.ParseUint(text, 10, 8); err == nil {
			values[f] = fmt.Sprintf("%02x", n)
		}
	}
	if n, err := strconv.ParseUint(s.EnclosureType, 10, 8); err == nil {
		values[chidEnclosure] = strings.TrimPrefix(fmt.Sprintf("%x", n), "0") // "" for 0
	}
	return computeCHIDs(values)
}

// stubCHIDs are the ids that the stub computes. It knows neither BIOS nor enclosure, and the types
// that a stub matches do not need them (systemd 262, src/boot/chid.c).
func (s *SMBIOS) stubCHIDs(panel string) [CHIDTypes]osmith.GUID {
	values := s.chidValues(panel)
	delete(values, chidBIOSVendor)
	delete(values, chidBIOSVersion)
	return computeCHIDs(values)
}

func (s *SMBIOS) chidValues(panel string) map[chidField]string {
	values := map[chidField]string{
		chidManufacturer: chidText(s.Manufacturer),
		chidFamily:       chidText(s.Family),
		chidProduct:      chidText(s.ProductName),
		chidSKU:          chidText(s.SKU),
		chidBoardVendor:  chidText(s.BoardVendor),
		chidBoard:        chidText(s.BoardName),
		chidBIOSVendor:   chidText(s.BIOSVendor),
		chidBIOSVersion:  chidText(s.BIOSVersion),
	}
	if panel != "" {
		values[chidPanel] = panel
	}
	return values
}

func chidText(s string) string {
	return strings.TrimRight(strings.TrimLeft(strings.TrimLeft(s, " "), "0"), " ")
}

func computeCHIDs(values map[chidField]string) [CHIDTypes]osmith.GUID {
	var ids [CHIDTypes]osmith.GUID
	for t, fields := range chidFields {
		ids[t] = computeCHID(values, fields)
	}
	return ids
}

// computeCHID is the name-based UUID (RFC 9562, 5.5: SHA-1) of the fields, joined by "&" in
// UTF-16LE.
func computeCHID(values map[chidField]string, fields chidField) osmith.GUID {
	name := append([]byte(nil), chidNamespace[:]...)
	for f := chidManufacturer; f < chidFieldsEnd; f <<= 1 {
		if fields&f == 0 {
			continue
		}
		text, ok := values[f]
		if !ok {
			return osmith.GUID{}
		}
		if f != chidManufacturer {
			name = append(name, '&', 0)
		}
		name = sdstub.AppendUnits(name, sdstub.UTF16([]byte(text)))
	}
	sum := sha1.Sum(name)
	id := osmith.GUID(sum[:16])
	id[6] = id[6]&0x0f | 5<<4
	id[8] = id[8]&0x3f | 0x80
	return id
}
