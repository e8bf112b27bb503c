package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
)

// maxDepth bounds the nesting of a document, and maxKey a key, in bytes as it is written.
const (
	maxDepth = 64
	maxKey   = 64 << 10
)

// kind is the kind of a JSON value, as a text names it.
type kind string

const (
	object  kind = "an object"
	array   kind = "an array"
	text    kind = "a string"
	number  kind = "a number"
	boolean kind = "true or false"
	null    kind = "null"
)

// A value is one value of a document, from b[start] to b[end].
type value struct {
	kind       kind
	key        string // of a member of an object
	start, end int
	parts      []value // members of an object, elements of an array
}

// scanner reads by the grammar of RFC 8259.
type scanner struct {
	b    []byte
	pos  int
	same func(key string) string // equal for keys that must not be in one object
	keep int                     // levels of which the parts are kept; 0: all
	path []string                // to what is being read
}

func scan(b []byte, same func(key string) string) (value, error) {
	return scanLevels(b, same, 0)
}

// scanLevels checks all of a document and keeps the values of its outer levels only, for documents
// that are large.
func scanLevels(b []byte, same func(key string) string, keep int) (value, error) {
	s := scanner{b: b, same: same, keep: keep}
	v, err := s.value()
	if err == nil {
		s.space()
		if s.pos < len(b) {
			err = errors.New("data after the JSON value")
		}
	}
	if err != nil {
		field := "JSON"
		if len(s.path) > 0 {
			field = strings.TrimPrefix(strings.Join(s.path, ""), ".")
		}
		return value{}, &osmith.FormatError{Offset: int64(s.pos), Field: field, Err: err}
	}
	return v, nil
}

func exact(key string) string { return key }

// fold makes equal what encoding/json takes for the same field.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, key)
}

func (s *scanner) space() {
	for s.pos < len(s.b) && strings.IndexByte(" \t\r\n", s.b[s.pos]) >= 0 {
		s.pos++
	}
}

// next skips white space and takes c, if that is what comes.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.pos < len(s.b) && s.b[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// unexpected is the error for what comes here instead of what is wanted.
func (s *scanner) unexpected(want string) error {
	if s.pos >= len(s.b) {
		return errEnd
	}
	r, size := utf8.DecodeRune(s.b[s.pos:])
	if r == utf8.RuneError && size <= 1 {
		return fmt.Errorf("byte %#02x, want %s", s.b[s.pos], want)
	}
	return fmt.Errorf("%q, want %s", r, want)
}

func (s *scanner) value() (v value, err error) {
	s.space()
	if len(s.path) > maxDepth {
		return v, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	v.start = s.pos
	switch rest := s.b[s.pos:]; {
	case len(rest) == 0:
		return v, errEnd
	case rest[0] == '{':
		v.kind = object
		err = s.object(&v)
	case rest[0] == '[':
		v.kind = array
		err = s.array(&v)
	case rest[0] == '"':
		v.kind = text
		err = s.text()
	case rest[0] == '-' || digit(rest[0]):
		v.kind = number
		err = s.number()
	default:
		err = s.word(&v)
	}
	v.end = s.pos
	return v, err
}

func (s *scanner) word(v *value) error {
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.b[s.pos:], []byte(word)) {
			s.pos += len(word)
			v.kind = boolean
			if word == "null" {
				v.kind = null
			}
			return nil
		}
		if rest := s.b[s.pos:]; len(rest) < len(word) && strings.HasPrefix(word, string(rest)) {
			s.pos = len(s.b)
		}
	}
	return s.unexpected("a JSON value")
}

func (s *scanner) object(v *value) error {
	s.pos++
	seen := map[string]string{}
	for n := 0; !s.next('}'); n++ {
		if n > 0 && !s.next(',') {
			return s.unexpected("a comma or }")
		}
		s.space()
		if s.pos >= len(s.b) || s.b[s.pos] != '"' {
			return s.unexpected("a key in quotes")
		}
		at := s.pos
		key, err := s.key()
		if err != nil {
			return err
		}
		folded := s.same(key)
		if other, twice := seen[folded]; twice {
			s.pos = at
			if other == key {
				return fmt.Errorf("key %q appears twice", key)
			}
			return fmt.Errorf("keys %q and %q differ in letter case only", other, key)
		}
		seen[folded] = key
		if !s.next(':') {
			return s.unexpected("a colon")
		}
		s.path = append(s.path, "."+key)
		member, err := s.value()
		if err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
		member.key = key
		s.part(v, member)
	}
	return nil
}

func (s *scanner) array(v *value) error {
	s.pos++
	for n := 0; !s.next(']'); n++ {
		if n > 0 && !s.next(',') {
			return s.unexpected("a comma or ]")
		}
		s.path = append(s.path, fmt.Sprintf("[%d]", n))
		element, err := s.value()
		if err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
		s.part(v, element)
	}
	return nil
}

// part keeps a part of a value, if its level is one to keep.
func (s *scanner) part(v *value, part value) {
	if s.keep == 0 || len(s.path) < s.keep {
		v.parts = append(v.parts, part)
	}
}

// key reads a string and returns what it means.
func (s *scanner) key() (out string, err error) {
	start := s.pos
	if err := s.text(); err != nil {
		return "", err
	}
	if n := s.pos - start; n > maxKey {
		s.pos = start
		return "", fmt.Errorf("a key of %d bytes, at most %d are allowed", n, maxKey)
	}
	err = json.Unmarshal(s.b[start:s.pos], &out)
	return out, err
}

// text reads a string. Between the quotes is Unicode: UTF-8, and escapes that together are whole
// characters.
func (s *scanner) text() error {
	for s.pos++; s.pos < len(s.b); {
		c := s.b[s.pos]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			s.pos++
			continue
		}
		switch r, size := utf8.DecodeRune(s.b[s.pos:]); {
		case c == '"':
			s.pos++
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < 0x20:
			return fmt.Errorf("byte %#02x in a string: want it escaped", c)
		case r == utf8.RuneError && size <= 1:
			return fmt.Errorf("byte %#02x in a string: want UTF-8", c)
		default:
			s.pos += size
		}
	}
	return errEnd
}

func (s *scanner) escape() error {
	rest := s.b[s.pos:]
	switch {
	case len(rest) < 2:
		s.pos = len(s.b)
		return errEnd
	case strings.IndexByte(`"\/bfnrt`, rest[1]) >= 0:
		s.pos += 2
		return nil
	}
	r, ok := unit(rest)
	if !ok && cut(rest) {
		s.pos = len(s.b)
		return errEnd
	}
	if !ok {
		return fmt.Errorf("%.6q in a string: want a known escape", rest)
	}
	s.pos += 6
	if utf16.IsSurrogate(r) {
		low, ok := unit(rest[6:])
		if !ok && cut(rest[6:]) {
			s.pos = len(s.b)
			return errEnd
		}
		if !ok || utf16.DecodeRune(r, low) == unicode.ReplacementChar {
			s.pos -= 6
			return fmt.Errorf("%s in a string: half a surrogate pair", rest[:6])
		}
		s.pos += 6
	}
	return nil
}

// unit is the UTF-16 code unit of an escape such as \u00e9.
func unit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		n := strings.IndexByte("0123456789abcdef", c|0x20)
		if n < 0 || c < '0' {
			return 0, false
		}
		r = r<<4 | rune(n)
	}
	return r, true
}

// cut reports whether the document ends inside of what may be an escape.
func cut(b []byte) bool { return len(b) < 6 && bytes.IndexByte(b, '"') < 0 }

func digit(c byte) bool { return c >= '0' && c <= '9' }

func (s *scanner) number() error {
	if s.b[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.b) && s.b[s.pos] == '0' {
		s.pos++
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.pos < len(s.b) && s.b[s.pos] == '.' {
		s.pos++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if s.pos < len(s.b) && s.b[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.b) && (s.b[s.pos] == '+' || s.b[s.pos] == '-') {
			s.pos++
		}
		return s.digits()
	}
	return nil
}

func (s *scanner) digits() error {
	start := s.pos
	for s.pos < len(s.b) && digit(s.b[s.pos]) {
		s.pos++
	}
	if s.pos == start {
		return s.unexpected("a digit")
	}
	return nil
}
