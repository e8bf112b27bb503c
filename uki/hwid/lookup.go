package hwid

import (
	"encoding/binary"

	"github.com/osmith-dev/osmith/internal/efi"
)

// stubCHIDOrder is the order in which a stub tries the types of hardware ids, from the most
// specific one. The ids with a display came with systemd 258 (systemd 257 and 262, src/boot/chid.c,
// chid_match).
var stubCHIDOrder = []int{17, 16, 15, 3, 6, 8, 10, 4, 5, 7, 9, 11}

func chidOrder(release int) []int {
	if release < 258 {
		return stubCHIDOrder[3:]
	}
	return stubCHIDOrder
}

// Match is the string of the record that a stub of that systemd release finds in a table, the
// content of a .hwids section, for a machine with that SMBIOS (nil: it has none) and display (of
// [PanelID]; "": unknown); false if it finds none or does not accept the table. Ids that the
// machine does not have are zero, and a record with a zero id matches those.
func Match(table []byte, kind Type, machine *SMBIOS, panel string, release int) (match string, ok bool) {
	if release < 258 && kind == TypeFirmware {
		return "", false
	}
	var records []rawRecord
	for at := 0; at+recordSize < len(table); at += recordSize {
		var r rawRecord
		if _, err := binary.Decode(table[at:], binary.LittleEndian, &r); err != nil || r.Descriptor == 0 {
			break
		}
		if release < 258 && r.Descriptor != uint32(TypeDeviceTree)<<typeShift|recordSize {
			return "", false // stubs of 257 refuse a table that has anything else
		}
		k := Type(r.Descriptor >> typeShift)
		if k != TypeDeviceTree && k != TypeFirmware {
			return "", false
		}
		for _, offset := range []uint32{r.Name, r.Match} {
			if _, err := bytesAt(table, offset); err != nil {
				return "", false
			}
		}
		if k == kind {
			records = append(records, r)
		}
	}
	if machine == nil {
		machine = new(SMBIOS)
	}
	ids := machine.stubCHIDs(panel)
	for _, t := range chidOrder(release) {
		for _, r := range records {
			if efi.GUID(r.CHID[:]) != ids[t] {
				continue
			}
			text, _ := bytesAt(table, r.Match)
			return string(text), r.Match != 0
		}
	}
	return "", false
}
