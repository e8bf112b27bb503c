package tpm

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/efi"
)

// maxText bounds the description of one event, in bytes before escaping.
const maxText = 160

// Describe is one line for people on what the event's data says: the name of a variable, the path of a program, a
// section, a text. It is made from what the firmware wrote, which nothing vouches for.
func (e *Event) Describe() string {
	switch e.Type {
	case EventNoAction:
		return describeNoAction(e)
	case EventSeparator:
		switch {
		case len(e.Data) != 4:
			return describeBytes(e.Data)
		case allByte(e.Data, 0), allByte(e.Data, 0xff):
			return "separator"
		}
		return "separator after an error: " + hex.EncodeToString(e.Data)
	case EventEFIVariableDriverConfig, EventEFIVariableBoot, EventEFIVariableBoot2, EventEFIVariableAuthority:
		if s, ok := describeVariable(e.Data); ok {
			return s
		}
	case EventEFIBootServicesApplication, EventEFIBootServicesDriver, EventEFIRuntimeServicesDriver:
		if s, ok := describeImage(e.Data); ok {
			return s
		}
	case EventEFIPlatformFirmwareBlob:
		if len(e.Data) == 16 {
			return fmt.Sprintf("firmware volume of %d bytes at 0x%x", binary.LittleEndian.Uint64(e.Data[8:]), binary.LittleEndian.Uint64(e.Data))
		}
	case EventEFIGPT, EventEFIGPT2:
		if s, ok := describeGPT(e.Data); ok {
			return s
		}
	case EventIPL:
		// The stub measures a section's name, then its data, and writes the name beside both.
		if s := describeText(e.Data); e.PCR == PCRKernel && strings.HasPrefix(s, ".") {
			if hashedAs(e, append([]byte(s), 0)) {
				return s + " (name)"
			}
			return s
		}
	case EventTag:
		if s, ok := describeTag(e.Data); ok {
			return s
		}
	}
	return describeText(e.Data)
}

func describeNoAction(e *Event) string {
	if n, ok := e.locality(); ok {
		return fmt.Sprintf("startup locality %d", n)
	}
	if isSpecID(e) {
		r := &logReader{log: &Log{}}
		if banks, err := r.specID(e.Data); err == nil {
			names := make([]string, 0, len(banks))
			for _, b := range banks {
				name := fmt.Sprintf("0x%04x", b.id)
				if a, ok := byID(b.id); ok {
					name = a.name
				}
				names = append(names, name)
			}
			return "TCG event log with " + strings.Join(names, ", ")
		}
	}
	return describeText(e.Data)
}

// describeVariable reads a UEFI_VARIABLE_DATA.
func describeVariable(b []byte) (string, bool) {
	vendor, name, data, ok := splitVariable(b)
	if !ok {
		return "", false
	}
	value := fmt.Sprintf("%d bytes", len(data))
	switch len(data) {
	case 0:
		value = "empty"
	case 1:
		value = fmt.Sprint(data[0])
	}
	if vendor != globalVariable && vendor != imageSecurityDatabase {
		name += "-" + vendor.String()
	}
	return fmt.Sprintf("%s = %s", name, value), true
}

func splitVariable(b []byte) (vendor efi.GUID, name string, data []byte, ok bool) {
	if len(b) < 32 {
		return vendor, "", nil, false
	}
	units, size := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	rest := b[32:]
	if units > uint64(len(rest)/2) || size > uint64(len(rest))-2*units {
		return vendor, "", nil, false
	}
	return efi.GUIDFromMixed(b), escape(efi.DecodeUTF16(rest[:2*units])), rest[2*units : 2*units+size], true
}

// describeImage reads a UEFI_IMAGE_LOAD_EVENT.
func describeImage(b []byte) (string, bool) {
	if len(b) < 32 {
		return "", false
	}
	size, pathLen := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[24:])
	if pathLen > uint64(len(b)-32) {
		return "", false
	}
	path := devicePath(b[32 : 32+pathLen])
	if path == "" {
		path = "image"
	}
	if size > 0 {
		path += fmt.Sprintf(" (%d bytes)", size)
	}
	return path, true
}

// devicePath is the file of a device path, or else the types of its nodes (UEFI 2.10, section 10.3).
func devicePath(b []byte) string {
	var file string
	var nodes []string
	for len(b) >= 4 {
		size := int(binary.LittleEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) || b[0] == 0x7f {
			break
		}
		data := b[4:size]
		switch {
		case b[0] == 4 && b[1] == 4:
			file += efi.DecodeUTF16(data)
		case b[0] == 4 && b[1] == 6 && len(data) >= 16, b[0] == 4 && b[1] == 7 && len(data) >= 16:
			nodes = append(nodes, efi.GUIDFromMixed(data).String())
		default:
			nodes = append(nodes, fmt.Sprintf("%d.%d", b[0], b[1]))
		}
		b = b[size:]
	}
	if file != "" {
		return escape(file)
	}
	return strings.Join(nodes, "/")
}

// describeGPT reads a UEFI_GPT_DATA: a header of 92 bytes, the number of used entries, the entries.
func describeGPT(b []byte) (string, bool) {
	if len(b) < 100 || string(b[:8]) != "EFI PART" {
		return "", false
	}
	return fmt.Sprintf("partition table %s with %d partitions", efi.GUIDFromMixed(b[56:]), binary.LittleEndian.Uint64(b[92:])), true
}

// tags are the events of Linux and systemd that carry an id (their event data is u32 id, u32 size, description).
var tags = map[uint32]string{
	0x8f3b22ec: "kernel: initrd",
	0x8f3b22ed: "kernel: load options",
	0xd5cb7cbc: "SMBIOS type 1",
	0xe0d47bc8: "SMBIOS type 2",
	0xc0b3bd23: "SMBIOS type 11",
	0xf5bc582a: "loader.conf",
	tagProfile: "profile",
	0x6c46f751: "device tree add-on",
	0xdac08e1a: "microcode add-on",
	0x49dffe0f: "initrd add-on",
}

func describeTag(b []byte) (string, bool) {
	if len(b) < 8 || uint64(binary.LittleEndian.Uint32(b[4:])) != uint64(len(b)-8) {
		return "", false
	}
	id := binary.LittleEndian.Uint32(b)
	name, ok := tags[id]
	if !ok {
		name = fmt.Sprintf("tag 0x%08x", id)
	}
	return name + ": " + describeText(b[8:]), true
}

// describeText is the data as text if it is text, in UTF-16 or in UTF-8, else as bytes.
func describeText(b []byte) string {
	if len(b) >= 4 && b[1] == 0 && b[0] != 0 {
		// Some writers (old systemd-boot) count one byte too many.
		if s := efi.DecodeUTF16(b); printable(s) && len(b)-2*efi.UTF16Len(s) <= 3 {
			return escape(s)
		}
	}
	if s := strings.TrimRight(string(b), "\x00"); s != "" && utf8.ValidString(s) && printable(s) {
		return escape(s)
	}
	return describeBytes(b)
}

func describeBytes(b []byte) string {
	const show = 16
	if len(b) > show {
		return fmt.Sprintf("%d bytes, %x…", len(b), b[:show])
	}
	return fmt.Sprintf("%d bytes, %x", len(b), b)
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t' }) < 0
}

// escape makes firmware's text safe to print and bounds its length.
func escape(s string) string {
	cut := len(s) > maxText
	if cut {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}

// String lists the log, one line per event: PCR, type, the start of a digest (of the strongest bank the event has up to
// sha256, else of any), and what the data says.
func (l *Log) String() string {
	var b strings.Builder
	for i := range l.Events {
		e := &l.Events[i]
		fmt.Fprintf(&b, "%3d  %-32s  %-17s  %s\n", e.PCR, e.Type, shortDigest(e), e.Describe())
	}
	return b.String()
}

// shortDigest is the start of the digest by which people know an event.
func shortDigest(e *Event) string {
	if !e.extends() {
		return "-"
	}
	for _, i := range []int{1, 0, 2, 3} { // sha256 first
		if d, ok := e.Digests[algorithms[i].hash]; ok && len(d) > 8 {
			return hex.EncodeToString(d[:8]) + "…"
		}
	}
	return "-"
}
