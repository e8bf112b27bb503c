package efi

import (
	"encoding/hex"
	"fmt"
)

// GUID is a 128-bit identifier with its bytes in text order: byte 0 holds the first two hexadecimal digits of the usual
// 8-4-4-4-12 form. On disk and in EFI structures the first three groups are little-endian; only [GUID.AppendMixed] and
// [GUIDFromMixed] know that form (UEFI 2.10, appendix A; RFC 9562 section 4).
type GUID [16]byte

// textGroups are the byte ranges between the hyphens of the text form.
var textGroups = [5][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}}

// ParseGUID reads the 36-character form in either case, without braces. Anything else is an error.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != 36 {
		return GUID{}, fmt.Errorf("efi: GUID %q: %d characters, want 36", s, len(s))
	}
	pos := 0
	for i, r := range textGroups {
		if i > 0 {
			if s[pos] != '-' {
				return GUID{}, fmt.Errorf("efi: GUID %q: no hyphen at character %d", s, pos)
			}
			pos++
		}
		n := 2 * (r[1] - r[0])
		if _, err := hex.Decode(g[r[0]:r[1]], []byte(s[pos:pos+n])); err != nil {
			return GUID{}, fmt.Errorf("efi: GUID %q: %w", s, err)
		}
		pos += n
	}
	return g, nil
}

// MustParseGUID is [ParseGUID] for constants of a program; it panics on a malformed text.
func MustParseGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// String returns the lower-case text form.
func (g GUID) String() string {
	b := make([]byte, 0, 36)
	for i, r := range textGroups {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, g[r[0]:r[1]])
	}
	return string(b)
}

// IsZero reports whether all bits are zero, the type of an unused GPT entry.
func (g GUID) IsZero() bool { return g == GUID{} }

// MarshalText implements [encoding.TextMarshaler].
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (g *GUID) UnmarshalText(b []byte) error {
	v, err := ParseGUID(string(b))
	if err != nil {
		return err
	}
	*g = v
	return nil
}

// AppendMixed appends the 16 bytes of the on-disk form: 32-, 16- and 16-bit little-endian groups, then eight plain bytes.
func (g GUID) AppendMixed(b []byte) []byte {
	b = append(b, g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6])
	return append(b, g[8:]...)
}

// GUIDFromMixed reads the on-disk form from the first 16 bytes of b. It panics if b is shorter: the caller has checked
// the length of the structure that holds it.
func GUIDFromMixed(b []byte) GUID {
	var g GUID
	g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7] = b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]
	copy(g[8:], b[8:16])
	return g
}
