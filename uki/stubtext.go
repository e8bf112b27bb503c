package uki

import (
	"strings"
	"unicode/utf16"
)

// stubUTF16 converts text to UTF-16 in the stub's way: it ends at a NUL byte, and sequences that are no UTF-8 or stand
// for characters beyond U+FFFF are left out (systemd 262, src/boot/efi-string.c, xstrn8_to_16).
func stubUTF16(b []byte) []uint16 {
	units := make([]uint16, 0, len(b))
	for len(b) > 0 && b[0] != 0 {
		c, n := stubRune(b)
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

// stubRune decodes one sequence by its first byte, of up to six bytes, with overlong forms taken; -1 for what is none.
func stubRune(b []byte) (c rune, n int) {
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

// mangleCmdline cleans a command line up as the stub does before it measures and passes it: since systemd 255 blanks
// and control characters become spaces, and none stay at either end; before, leading ones stayed, and so did DEL
// (src/boot/util.c, mangle_stub_cmdline of 252, 254, 255, 257, 262).
func mangleCmdline(units []uint16, release int) []uint16 {
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

// joinCmdline appends b behind a space, or as it is if there is nothing before.
func joinCmdline(a, b []uint16) []uint16 {
	if len(a) == 0 {
		return b
	}
	return append(append(a[:len(a):len(a)], ' '), b...)
}

// SplitLoadOptions splits the text that a boot loader passes to a unified kernel image into the number of the profile,
// which a leading "@N" chooses since systemd 257, and the command line behind it.
func SplitLoadOptions(s string) (profile int, cmdline string) {
	rest, ok := strings.CutPrefix(s, "@")
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
		profile = min(profile*10+int(rest[digits-1]-'0'), 1<<20) // enough to be no profile's number
	}
	switch {
	case !ok || digits == 0 || profile == 1<<20:
		return 0, s
	case digits == len(rest):
		return profile, ""
	case rest[digits] == ' ':
		return profile, rest[digits+1:]
	}
	return 0, s
}
