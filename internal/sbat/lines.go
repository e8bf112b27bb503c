package sbat

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
)

// Lines are those of a text that may be written into a .sbat section, each without its line break.
// Lines end in LF or CR LF, the last one may have no end, empty ones are left out, and NUL bytes at
// the end are padding. Everything that shim would refuse, or would read in another way than it is
// written, is an error of type [*osmith.FormatError]: fewer than six columns, an empty one, a
// generation that is no decimal number from 1 to 65535 ([Generation]), a byte order mark, and
// control characters, NUL and CR inside a line among them.
func Lines(text []byte) (lines []string, err error) {
	if len(text) > MaxSize {
		return nil, bad(0, "SBAT data", "%d bytes, limit %d", len(text), MaxSize)
	}
	text = bytes.TrimRight(text, "\x00")
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return nil, bad(0, "SBAT data", "a byte order mark, want text that begins with the name of a component")
	}
	for pos := 0; pos < len(text); {
		line, _, _ := bytes.Cut(text[pos:], []byte("\n"))
		next := pos + len(line) + 1
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) > 0 {
			if err := checkLine(line); err != nil {
				return nil, &osmith.FormatError{Offset: int64(pos), Field: "SBAT line", Err: err}
			}
			lines = append(lines, string(line))
		}
		pos = next
	}
	return lines, nil
}

func checkLine(line []byte) error {
	if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%q: byte 0x%02x in column %d, want text", line, line[i], 1+bytes.Count(line[:i], []byte(",")))
	}
	e, err := parseLine(line, sectionColumns, sectionColumns)
	if err != nil {
		return err
	}
	if _, err := Generation(e.Fields[1]); err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	return nil
}

// Generation reads a generation as it has to be written: a decimal number from 1 to 65535, without
// sign, blanks or leading zeros. Shim compares 16 bits: it takes 65536 for 0.
func Generation(column string) (uint16, error) {
	n, err := strconv.ParseUint(column, 10, 16)
	if err != nil || n == 0 || column[0] == '0' {
		return 0, fmt.Errorf("generation %q, want a number from 1 to 65535", column)
	}
	return uint16(n), nil
}

// IsASCII reports whether a line has printable ASCII only, as SBAT.md asks for ("specifically ASCII
// encoded strings"). Shim does not look.
func IsASCII(line string) bool {
	return !strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' })
}
