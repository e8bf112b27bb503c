package osmith

import (
	"encoding/hex"
	"fmt"
)

// GUID is a 128-bit identifier with its bytes in text order: byte 0 holds the first two hexadecimal
// digits of the usual 8-4-4-4-12 form (RFC 9562, section 4). On disk and in EFI structures the
// first three groups are little-endian; the packages that read and write those convert.
type GUID [16]byte

// groups are the byte ranges between the hyphens of the text form.
var groups = [5][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}}

// ParseGUID reads the 36-character form in either case, without braces. Anything else is an error.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != 36 {
		return GUID{}, fmt.Errorf("GUID %q: %d characters, want 36", s, len(s))
	}
	pos := 0
	for i, r := range groups {
		if i > 0 {
			if s[pos] != '-' {
				return GUID{}, fmt.Errorf("GUID %q: no hyphen at character %d", s, pos)
			}
			pos++
		}
		n := 2 * (r[1] - r[0])
		if _, err := hex.Decode(g[r[0]:r[1]], []byte(s[pos:pos+n])); err != nil {
			return GUID{}, fmt.Errorf("GUID %q: %w", s, err)
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
	for i, r := range groups {
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
