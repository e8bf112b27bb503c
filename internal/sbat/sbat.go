package sbat

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
)

func bad(off int, field, format string, args ...any) error {
	return &osmith.FormatError{Offset: int64(off), Field: field, Err: fmt.Errorf(format, args...)}
}

// MaxSize bounds what is read, in bytes; real sections have some hundred. Shim has no bound.
const MaxSize = 64 << 10

// Columns of a line of a section: component, generation, vendor, package, version, URL. A level has
// the first two, and the date in its first line.
const (
	sectionColumns = 6
	levelColumns   = 3
	levelRequired  = 2
)

// An Entry is one line.
type Entry struct {
	Component  string
	Generation uint16
	// the columns that shim reads, at most six of a section and three of a level, Component first
	Fields []string
}

// Parse reads the .sbat section of an image, padding included, as shim does (parse_sbat_section). A
// line with fewer than six columns or with an empty one is an error: shim does not start such an
// image. A section without a line is none: shim starts the image, and cannot revoke it.
func Parse(section []byte) ([]Entry, error) {
	return parse(section, sectionColumns, sectionColumns)
}

// A Level is the least generation that shim accepts of each component.
type Level struct {
	Entries []Entry
}

// ParseLevel reads the content of shim's variable SbatLevel or SbatLevelRT (parse_sbat_var_data).
// It begins with "sbat,": shim replaces a variable that does not. Each line has a component and a
// generation; further columns are not looked at.
func ParseLevel(b []byte) (*Level, error) {
	if !bytes.HasPrefix(b, []byte("sbat,")) {
		return nil, bad(0, "SBAT level", "begins with %q, want a line for sbat", b[:min(len(b), 16)])
	}
	entries, err := parse(b, levelColumns, levelRequired)
	if err != nil {
		return nil, err
	}
	return &Level{Entries: entries}, nil
}

// Date is what the level says when it is from, such as 2024010900; empty if it does not.
func (l *Level) Date() string {
	if f := l.Entries[0].Fields; len(f) > levelRequired {
		return f[levelRequired]
	}
	return ""
}

// A Revocation is a component of an image that is too old.
type Revocation struct {
	Component  string
	Generation uint16 // that of the image
	Least      uint16 // that the level asks for
}

func (r *Revocation) String() string {
	return fmt.Sprintf("component %q is of generation %d, the level asks for %d", r.Component, r.Generation, r.Least)
}

// Revokes returns the first component of an image that the level refuses, nil if there is none
// (verify_sbat_helper): names are compared byte for byte, and of several lines of a level for one
// component the first counts.
func (l *Level) Revokes(section []Entry) *Revocation {
	for _, e := range section {
		for _, least := range l.Entries {
			if e.Component != least.Component {
				continue
			}
			if e.Generation < least.Generation {
				return &Revocation{e.Component, e.Generation, least.Generation}
			}
			break
		}
	}
	return nil
}

// parse is parse_csv_data of shim's csv.c: lines of comma-separated columns, with no quoting, up to
// columns of which are kept. Shim puts a NUL byte behind the data; a NUL ends the text in the
// middle of a line, and right behind a line break unless more line breaks were passed over to come
// there.
func parse(data []byte, columns, required int) (entries []Entry, err error) {
	if len(data) > MaxSize {
		return nil, bad(0, "SBAT data", "%d bytes, limit %d", len(data), MaxSize)
	}
	b := append(bytes.Clone(data), 0)
	last := len(b) - 1
	pos := 0
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) {
		pos = 3
	}
	for pos <= last && b[pos] != 0 {
		for b[pos] == '\r' || b[pos] == '\n' {
			pos++ // the NUL byte at the end stops it
		}
		end := pos + bytes.IndexAny(b[pos:], "\r\n\x00")
		if end == pos { // a NUL byte
			pos++
			continue
		}
		e, err := parseLine(b[pos:end], columns, required)
		if err != nil {
			return nil, &osmith.FormatError{Offset: int64(pos), Field: "SBAT line", Err: err}
		}
		entries = append(entries, e)
		if b[end] == 0 {
			break
		}
		pos = end + 1
	}
	return entries, nil
}

func parseLine(line []byte, columns, required int) (Entry, error) {
	fields := strings.Split(string(line), ",")
	if len(fields) < required {
		return Entry{}, fmt.Errorf("%q has %d columns, want %d", line, len(fields), required)
	}
	fields = fields[:min(len(fields), columns)]
	for i, f := range fields {
		if f == "" {
			return Entry{}, fmt.Errorf("%q: column %d is empty", line, i+1)
		}
	}
	return Entry{fields[0], generation(fields[1]), fields}, nil
}

// generation reads the number at the start of a column as shim does, whose atoi
// (AsciiStrDecimalToUintn of its Cryptlib) knows no signs, and which puts the result into 16 bits:
// 0 for what is not a number, and 0 again for 65536.
func generation(s string) (n uint16) {
	for _, c := range []byte(strings.TrimLeft(s, " \t")) {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint16(c-'0')
	}
	return n
}
