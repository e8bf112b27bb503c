package secureboot

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// Attributes of the key variables (UEFI Specification 2.10, section 8.2.1): non-volatile, boot services, runtime, time-based
// authentication; and append.
const (
	attributes      = 0x00000027
	attributeAppend = 0x00000040
)

// VendorGUID returns the vendor of a Secure Boot key variable: PK, KEK, db, dbx, dbt or dbr. The name is case-sensitive, as in firmware.
func VendorGUID(name string) (osmith.GUID, error) {
	switch name {
	case "PK", "KEK":
		return GlobalVariable, nil
	case "db", "dbx", "dbt", "dbr":
		return ImageSecurityDatabase, nil
	}
	return osmith.GUID{}, fmt.Errorf("secureboot: variable %q: want PK, KEK, db, dbx, dbt or dbr", name)
}

// timeSize is that of EFI_TIME (UEFI Specification 2.10, section 8.3.1): u16 year, u8 month, day, hour, minute, second, pad, u32
// nanosecond, s16 time zone, u8 daylight, pad. All after the second are zero in a variable's time stamp (section 8.2.2).
const timeSize = 16

func appendTime(b []byte, t time.Time) ([]byte, error) {
	t = t.UTC()
	if y := t.Year(); y < 1900 || y > 9999 {
		return nil, fmt.Errorf("secureboot: time %v: the year is not one of 1900 to 9999", t)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(t.Year()))
	b = append(b, byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()))
	return append(b, make([]byte, timeSize-7)...), nil
}

// appendOptionalTime is [appendTime], with zero bytes for no time.
func appendOptionalTime(b []byte, t time.Time) ([]byte, error) {
	if t.IsZero() {
		return append(b, make([]byte, timeSize)...), nil
	}
	return appendTime(b, t)
}

func parseTime(b []byte) (time.Time, error) {
	for i, x := range b[7:timeSize] {
		if x != 0 {
			return time.Time{}, bad(7+i, "time stamp", "byte 0x%02x after the seconds, want zero", x)
		}
	}
	year := binary.LittleEndian.Uint16(b)
	t := time.Date(int(year), time.Month(b[2]), int(b[3]), int(b[4]), int(b[5]), int(b[6]), 0, time.UTC)
	again, err := appendTime(nil, t)
	if err != nil || string(again) != string(b[:timeSize]) {
		return time.Time{}, bad(0, "time stamp", "%d-%d-%d %d:%d:%d is no date and time from 1900 on", year, b[2], b[3], b[4], b[5], b[6])
	}
	return t, nil
}

// signedBytes is what the signature of an update covers (UEFI Specification 2.10, section 8.2.2): name in UTF-16LE without NUL, vendor,
// attributes, time stamp, new content.
func signedBytes(name string, payload []byte, stamp []byte, appendWrite bool) ([]byte, error) {
	vendor, err := VendorGUID(name)
	if err != nil {
		return nil, err
	}
	attrs := uint32(attributes)
	if appendWrite {
		attrs |= attributeAppend
	}
	b := efi.AppendGUID(efi.AppendUTF16(nil, name), vendor)
	b = binary.LittleEndian.AppendUint32(b, attrs)
	b = append(b, stamp...)
	return append(b, payload...), nil
}
