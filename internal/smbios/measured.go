package smbios

import (
	"bytes"
)

// field is a part of a structure's formatted area.
type field struct {
	offset, size int
	text         bool // it is the number of a string
}

// oem is the first type of structures that vendors define (DSP0134, section 6.2).
const oem = 128

// volatile are the fields that edk2 leaves out of its measurement, by type; no fields are the whole
// structure but its header (MdeModulePkg/Universal/SmbiosMeasurementDxe/SmbiosMeasurementDxe.c,
// edk2-stable202608: mSmbiosFilterStandardTableBlackList).
var volatile = map[byte][]field{
	1: {{7, 1, true}, {8, 16, false}, {0x18, 1, false}}, // serial number, UUID, wake-up type
	2: {{7, 1, true}, {0x0a, 1, true}},                  // serial number, location in chassis
	3: {{7, 1, true}, {8, 1, true}},                     // serial number, asset tag
	// serial, tag, part; cores, enabled, threads
	4: {{0x20, 1, true}, {0x21, 1, true}, {0x22, 1, true}, {0x23, 1, false}, {0x24, 1, false}, {0x25, 1, false},
		// the same as words; voltage, current speed
		{0x2a, 2, false}, {0x2c, 2, false}, {0x2e, 2, false}, {0x11, 1, false}, {0x16, 2, false}},
	11: nil, // OEM strings
	15: nil, // system event log
	// serial number, asset tag, part number
	17: {{0x18, 1, true}, {0x19, 1, true}, {0x1a, 1, true}},
	18: nil, // memory error
	// serial number, SBDS serial number, SBDS manufacture date
	22: {{7, 1, true}, {0x10, 2, false}, {0x12, 2, false}},
	23: {{9, 2, false}},    // reset count
	27: {{0x0c, 2, false}}, // nominal speed
	31: nil,                // boot integrity services
	33: nil,                // memory error
	// serial number, asset tag, part number
	39: {{8, 1, true}, {9, 1, true}, {0x0a, 1, true}},
}

// Measured is what edk2 hashes of a table into PCR 1, as EV_EFI_HANDOFF_TABLES or
// EV_EFI_HANDOFF_TABLES2: all of it, up to the end-of-table structure and with that, but what
// differs between machines of one kind: such fields are zero, and their strings blank. Firmware
// vendors may leave out others. The error is that of Parse.
func Measured(table []byte) ([]byte, error) {
	structures, err := Parse(table)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, s := range structures {
		out = append(out, s.measured()...)
	}
	if end := table[len(out):]; len(end) >= headerSize && end[0] == endOfTable && int(end[1]) >= headerSize && int(end[1]) <= len(end) {
		if _, size, err := split(end[end[1]:]); err == nil {
			out = append(out, end[:int(end[1])+size]...)
		}
	}
	return out, nil
}

func (s *Structure) measured() []byte {
	out := bytes.Clone(s.Raw)
	fields, some := volatile[s.Type]
	if s.Type >= oem || some && fields == nil {
		clear(out[headerSize:])
		return out
	}
	for _, f := range fields {
		if len(s.Area) < f.offset+f.size {
			continue
		}
		if f.text {
			s.blank(out, int(s.Area[f.offset]))
		}
		clear(out[f.offset : f.offset+f.size])
	}
	return out
}

// blank overwrites the string with that number. edk2 takes the last one where there are fewer.
func (s *Structure) blank(out []byte, number int) {
	at := len(s.Area)
	for i, text := range s.Strings {
		if i+1 == number || i+1 == len(s.Strings) && number > 0 {
			copy(out[at:at+len(text)], bytes.Repeat([]byte{' '}, len(text)))
			return
		}
		at += len(text) + 1
	}
}
