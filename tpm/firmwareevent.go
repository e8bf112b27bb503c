package tpm

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// FirmwareBlob is a UEFI_PLATFORM_FIRMWARE_BLOB or, with a Description, a UEFI_PLATFORM_FIRMWARE_BLOB2 (Firmware Profile
// 1.06, sections 10.2.4 and 10.2.5): a part of the firmware, which is what was measured.
type FirmwareBlob struct {
	Description  string
	Base, Length uint64 // address and bytes
}

func (f FirmwareBlob) String() string {
	s := fmt.Sprintf("firmware volume of %d bytes at 0x%x", f.Length, f.Base)
	if f.Description != "" {
		s += " (" + escape(f.Description) + ")"
	}
	return s
}

func readFirmwareBlob(b []byte) (FirmwareBlob, error) {
	if len(b) != 16 {
		return FirmwareBlob{}, dataError(0, "firmware blob", "%d bytes, want 16", len(b))
	}
	return FirmwareBlob{"", binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}

func readFirmwareBlob2(b []byte) (FirmwareBlob, error) {
	text, rest, err := readDescription(b)
	if err != nil {
		return FirmwareBlob{}, err
	}
	f, err := readFirmwareBlob(rest)
	f.Description = text
	return f, err
}

// readDescription takes a description from the start of b: a length in one byte, then text.
func readDescription(b []byte) (string, []byte, error) {
	if len(b) < 1 || int(b[0]) > len(b)-1 {
		return "", nil, dataError(0, "description", "%d bytes do not hold it", len(b))
	}
	n := 1 + int(b[0])
	return strings.TrimRight(string(b[1:n]), "\x00"), b[n:], nil
}

// HandoffTables is a UEFI_HANDOFF_TABLE_POINTERS or, with a Description, a UEFI_HANDOFF_TABLE_POINTERS2: the tables
// that were measured, ACPI and SMBIOS among them.
type HandoffTables struct {
	Description string
	Tables      []HandoffTable
}

// HandoffTable is one entry of the system's configuration table.
type HandoffTable struct {
	Vendor  osmith.GUID
	Address uint64
}

var tableNames = map[string]string{
	"eb9d2d30-2d88-11d3-9a16-0090273fc14d": "ACPI 1.0",
	"8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI 2.0",
	"eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS",
	"f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS 3",
}

func (h HandoffTables) String() string {
	names := make([]string, 0, min(len(h.Tables), 8))
	for _, t := range h.Tables[:min(len(h.Tables), 8)] {
		name := t.Vendor.String()
		if known, ok := tableNames[name]; ok {
			name = known
		}
		names = append(names, name)
	}
	s := "tables " + strings.Join(names, ", ")
	if h.Description != "" {
		s = escape(h.Description) + ": " + s
	}
	return s
}

// readHandoffTables reads the number of tables and the tables; at is where b starts in the event's data.
func readHandoffTables(b []byte, at int) (HandoffTables, error) {
	const each = 24
	if len(b) < 8 {
		return HandoffTables{}, dataError(at, "handoff tables", "%d bytes, want 8 or more", len(b))
	}
	count := binary.LittleEndian.Uint64(b)
	if count > uint64(len(b)-8)/each {
		return HandoffTables{}, dataError(at, "handoff tables", "%d tables, %d bytes left", count, len(b)-8)
	}
	var h HandoffTables
	for i := range count {
		e := b[8+i*each:]
		h.Tables = append(h.Tables, HandoffTable{efi.GUID(e), binary.LittleEndian.Uint64(e[16:])})
	}
	return h, nil
}

func readHandoffTables2(b []byte) (HandoffTables, error) {
	text, rest, err := readDescription(b)
	if err != nil {
		return HandoffTables{}, err
	}
	h, err := readHandoffTables(rest, len(b)-len(rest))
	h.Description = text
	return h, err
}

// DeviceSecurity is a DEVICE_SECURITY_EVENT_DATA (Firmware Profile 1.06, section 10.2.7): a measurement that a device
// gave of itself over SPDM, in version 1 or 2.
type DeviceSecurity struct {
	Version    uint16
	AuthState  byte   // version 2: how the device was authenticated
	DeviceType uint32 // 0 none, 1 PCI, 2 USB
	Path       DevicePath
	Block      []byte // SPDM measurement block and device context (version 2: sub-header and context)
}

func (d DeviceSecurity) String() string {
	return fmt.Sprintf("SPDM device of type %d at %s: %d bytes", d.DeviceType, d.Path, len(d.Block))
}

func readDeviceSecurity(b []byte) (DeviceSecurity, error) {
	le := binary.LittleEndian
	switch {
	case strings.HasPrefix(string(b), "SPDM Device Sec\x00") && len(b) >= 28:
		// signature, u16 version, u16 length, u32 hash algorithm, u32 device type
		if n := int(le.Uint16(b[18:])); n != len(b) {
			return DeviceSecurity{}, dataError(18, "device security event", "%d bytes, the event has %d", n, len(b))
		}
		return DeviceSecurity{Version: le.Uint16(b[16:]), DeviceType: le.Uint32(b[24:]), Block: b[28:]}, nil
	case strings.HasPrefix(string(b), "SPDM Device Sec2") && len(b) >= 52:
		// signature, u16 version, u8 auth state, u8 reserved, u32 length, u32 device type, u32 sub-header type,
		// u32 sub-header length, u64 sub-header UID, u64 path length
		n, path := uint64(le.Uint32(b[20:])), le.Uint64(b[44:])
		if n != uint64(len(b)) {
			return DeviceSecurity{}, dataError(20, "device security event", "%d bytes, the event has %d", n, len(b))
		}
		if path > uint64(len(b)-52) {
			return DeviceSecurity{}, dataError(44, "device path", "%d bytes, %d left", path, len(b)-52)
		}
		return DeviceSecurity{le.Uint16(b[16:]), b[18], le.Uint32(b[24:]), DevicePath(b[52 : 52+path : 52+path]), b[52+path:]}, nil
	}
	return DeviceSecurity{}, dataError(0, "device security event", "%d bytes without the signature of one", len(b))
}
