package sdstub

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// CmdlineExtra begins the OEM string in SMBIOS with which a hypervisor adds to the kernel command
// line (systemd-stub(7)).
const CmdlineExtra = "io.systemd.stub.kernel-cmdline-extra="

// UTF16 converts the content of a .cmdline section in the stub's way: it ends at a NUL byte, and
// sequences that are no UTF-8 or stand for characters beyond U+FFFF are left out (systemd 262,
// src/boot/efi-string.c, xstrn8_to_16). Boots of 257 and 262.
func UTF16(b []byte) []uint16 {
	units := make([]uint16, 0, len(b))
	for len(b) > 0 && b[0] != 0 {
		c, n := decode(b)
		b = b[min(n, len(b)):]
		if c == 0 { // an overlong NUL ends the text as well
			break
		}
		if c > 0 && c <= 0xffff && !utf16.IsSurrogate(c) {
			units = append(units, uint16(c))
		}
	}
	return units
}

// decode reads one sequence by its first byte, of up to six bytes, with overlong forms taken; -1
// for what is none.
func decode(b []byte) (c rune, n int) {
	lead := b[0]
	switch {
	case lead < 0x80:
		return rune(lead), 1
	case lead&0xe0 == 0xc0:
		c, n = rune(lead&0x1f), 2
	case lead&0xf0 == 0xe0:
		c, n = rune(lead&0x0f), 3
	case lead&0xf8 == 0xf0:
		c, n = rune(lead&0x07), 4
	case lead&0xfc == 0xf8:
		c, n = rune(lead&0x03), 5
	case lead&0xfe == 0xfc:
		c, n = rune(lead&0x01), 6
	default:
		return -1, 1
	}
	if n > len(b) {
		return -1, n
	}
	for _, next := range b[1:n] {
		if next&0xc0 != 0x80 {
			return -1, n
		}
		c = c<<6 | rune(next&0x3f)
	}
	return c, n
}

// Mangle cleans a command line up as the stub does before it measures and passes it: since systemd
// 255 blanks and control characters become spaces, and none stay at either end; before, leading
// ones stayed, and so did DEL (src/boot/util.c, mangle_stub_cmdline of 252, 254, 255, 257, 262).
func Mangle(units []uint16, release int) []uint16 {
	full := release >= 255
	out := make([]uint16, len(units))
	end := 0
	start := -1
	for i, u := range units {
		if u <= 0x20 || u == 0x7f && full {
			out[i] = ' '
			continue
		}
		out[i] = u
		end = i + 1
		if start < 0 {
			start = i
		}
	}
	if start < 0 || !full {
		start = 0
	}
	return out[start:end]
}

// Text is a .cmdline section as the stub passes it, and as the loader shows it.
func Text(section []byte, release int) string {
	return string(utf16.Decode(Mangle(UTF16(section), release)))
}

// Join appends b behind a space, or as it is if there is nothing before.
func Join(a, b []uint16) []uint16 {
	if len(a) == 0 {
		return b
	}
	return append(append(a[:len(a):len(a)], ' '), b...)
}

// JoinAddons puts the command lines of add-ons one behind the other; since systemd 257 each is
// cleaned up first.
func JoinAddons(texts []string, release int) []uint16 {
	var all []uint16
	for _, text := range texts {
		units := UTF16([]byte(text))
		if release >= 257 {
			units = Mangle(units, release)
		}
		all = Join(all, units)
	}
	return all
}

// IsText says whether load options are taken for a command line: stubs look at the first character,
// and since 258 at all of them.
func IsText(units []uint16, release int) bool {
	if release < 258 && len(units) > 1 {
		units = units[:1]
	}
	for _, u := range units {
		if u <= 0x1f {
			return false
		}
	}
	return true
}

// HasConsole says whether a command line names a console, so that the stub adds none.
func HasConsole(units []uint16) bool {
	return strings.Contains(" "+string(utf16.Decode(units)), " console=")
}

// AppendUnits appends UTF-16LE.
func AppendUnits(b []byte, units []uint16) []byte {
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// Bytes are UTF-16LE with a NUL at the end: what is measured of a command line, and what the kernel
// gets.
func Bytes(units []uint16) []byte { return append(AppendUnits(nil, units), 0, 0) }
