package efi

import "unicode/utf16"

// AppendUTF16 appends s as UTF-16LE without a terminating NUL, the form of EFI strings and GPT
// names. Characters above U+FFFF become surrogate pairs.
func AppendUTF16(b []byte, s string) []byte {
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

// UTF16Len is the number of 16-bit units that [AppendUTF16] writes for s.
func UTF16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// DecodeUTF16 reads UTF-16LE up to the first NUL unit or the end of b. Unpaired surrogates become
// U+FFFD, so the result is for people and for comparison, not for writing back. An odd last byte is
// ignored.
func DecodeUTF16(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u := uint16(b[0]) | uint16(b[1])<<8
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
