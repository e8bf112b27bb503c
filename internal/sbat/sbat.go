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

// MaxSize bounds what is read; real sections have some hundred bytes.
const MaxSize = 64 << 10

// Columns of a line of a section: component, generation, vendor, package, version, URL. A level has the first two, and the date in its first line.
const (
	sectionColumns = 6
	levelColumns   = 2
)

// An Entry is one line.
type Entry struct {
	Component  string
	Generation uint16
	Fields     []string // all columns as they are, Component first
}

// Parse reads the .sbat section of an image, NUL padding included. A section without a line is an error, as is a line with fewer than six
// columns or an empty one: shim refuses such an image.
func Parse(b []byte) ([]Entry, error) {
	entries, err := parse(b, sectionColumns)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, bad(0, "SBAT section", "it has no line")
	}
	return entries, nil
}

// A Level is the least generation that shim accepts of each component.
type Level struct {
	Entries []Entry
}

// ParseLevel reads the content of shim's variable SbatLevel or SbatLevelRT. The first line has to be that of sbat itself, which also has
// the date of the level.
func ParseLevel(b []byte) (*Level, error) {
	entries, err := parse(b, levelColumns)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 || entries[0].Component != "sbat" {
		return nil, bad(0, "SBAT level", "it does not begin with a line for sbat")
	}
	return &Level{Entries: entries}, nil
}

// Date is what the level says when it is from, such as 2024010900; empty if it does not.
func (l *Level) Date() string {
	if f := l.Entries[0].Fields; len(f) > levelColumns {
		return f[levelColumns]
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

// Revokes returns the first component of an image that the level refuses, nil if there is none.
func (l *Level) Revokes(section []Entry) *Revocation {
	for _, e := range section {
		for _, least := range l.Entries {
			if e.Component == least.Component && e.Generation < least.Generation {
				return &Revocation{e.Component, e.Generation, least.Generation}
			}
		}
	}
	return nil
}

// parse reads lines of comma-separated columns. There is no quoting.
func parse(b []byte, columns int) (entries []Entry, err error) {
	if len(b) > MaxSize {
		return nil, bad(0, "SBAT data", "%d bytes, limit %d", len(b), MaxSize)
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		if j := len(bytes.TrimRight(b, "\x00")); j > i {
			return nil, bad(i, "SBAT data", "a NUL byte inside the text")
		}
		b = b[:i]
	}
	start := len(b) - len(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	for pos := start; pos < len(b); {
		end := len(b)
		if i := bytes.IndexAny(b[pos:], "\r\n"); i >= 0 {
			end = pos + i
		}
		if line := b[pos:end]; len(line) > 0 {
			for i, c := range line {
				if c < ' ' || c > '~' {
					return nil, bad(pos+i, "SBAT data", "byte 0x%02x, want printable ASCII", c)
				}
			}
			fields := strings.Split(string(line), ",")
			if len(fields) < columns {
				return nil, bad(pos, "SBAT line", "%q has %d columns, want %d", line, len(fields), columns)
			}
			for i, f := range fields {
				if f == "" {
					return nil, bad(pos, "SBAT line", "%q: column %d is empty", line, i+1)
				}
			}
			entries = append(entries, Entry{fields[0], generation(fields[1]), fields})
		}
		pos = end + 1
	}
	return entries, nil
}

// generation reads the number at the start of a column as shim does by atoi and a 16-bit variable: 0 for what is none.
func generation(s string) uint16 {
	s = strings.TrimLeft(s, " ")
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	var n int32 // overflow is undefined in C; it wraps here
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int32(c-'0')
	}
	if negative {
		n = -n
	}
	return uint16(n)
}
