package smbios

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
)

const (
	headerSize = 4 // u8 type, u8 length of the formatted area, u16 handle
	endOfTable = 127
	maxTable   = 16 << 20
)

// A Structure is one structure of a table. Its bytes are the table's.
type Structure struct {
	Type    byte
	Area    []byte   // formatted area, header included: at least 4 bytes
	Strings []string // in order; the first one has the number 1
	Raw     []byte   // area, strings and the NUL bytes that end them
}

// Text is the string whose number stands at an offset of the formatted area; "" if the number is 0,
// or there is no such string or offset.
func (s *Structure) Text(offset int) string {
	if offset >= len(s.Area) {
		return ""
	}
	if n := int(s.Area[offset]); n > 0 && n <= len(s.Strings) {
		return s.Strings[n-1]
	}
	return ""
}

// Parse splits a table, up to the end-of-table structure if there is one. A table that is cut off,
// or whose strings are, is a *osmith.FormatError.
func Parse(table []byte) ([]Structure, error) {
	if len(table) > maxTable {
		return nil, &osmith.FormatError{Field: "SMBIOS table", Err: fmt.Errorf("%d bytes are more than the limit of %d", len(table), maxTable)}
	}
	var out []Structure
	for at := 0; len(table)-at >= headerSize; {
		kind, length := table[at], int(table[at+1])
		if kind == endOfTable {
			break
		}
		if length < headerSize || length > len(table)-at {
			return nil, &osmith.FormatError{Offset: int64(at) + 1, Field: "SMBIOS structure length", Err: fmt.Errorf("%d, want %d to %d", length, headerSize, len(table)-at)}
		}
		texts, size, err := split(table[at+length:])
		if err != nil {
			return nil, &osmith.FormatError{Offset: int64(at + length), Field: fmt.Sprintf("SMBIOS strings of type %d", kind), Err: err}
		}
		end := at + length + size
		out = append(out, Structure{Type: kind, Area: table[at : at+length : at+length], Strings: texts, Raw: table[at:end:end]})
		at = end
	}
	if len(out) == 0 && 0 < len(table) && len(table) < headerSize {
		return nil, &osmith.FormatError{Field: "SMBIOS table", Err: fmt.Errorf("no structure in %d bytes", len(table))}
	}
	return out, nil
}

// split takes the strings behind a structure: each ends with a NUL byte, the set with another one;
// two NUL bytes stand for no strings.
func split(b []byte) (texts []string, size int, err error) {
	if bytes.HasPrefix(b, []byte{0, 0}) {
		return nil, 2, nil
	}
	for size < len(b) {
		n := bytes.IndexByte(b[size:], 0)
		if n < 0 {
			break
		}
		if n == 0 && size > 0 {
			return texts, size + 1, nil
		}
		texts = append(texts, string(b[size:size+n]))
		size += n + 1
	}
	return nil, 0, errors.New("no end")
}
