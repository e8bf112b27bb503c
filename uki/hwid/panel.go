package hwid

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// PanelID is the identifier of a display that systemd's own hardware ids contain: three letters of
// its manufacturer and its product code, such as "LGD05a1". edid is the display's EDID, of at least
// 128 bytes.
func PanelID(edid []byte) (string, error) {
	bad := func(at int64, format string, args ...any) (string, error) {
		return "", prefix.Error("hwid", &osmith.FormatError{Offset: at, Field: "EDID", Err: fmt.Errorf(format, args...)})
	}
	// VESA E-EDID 1.4, 3.3 and 3.4: header, then the id of the manufacturer as three five-bit
	// letters, big-endian, and the product code, little-endian.
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
