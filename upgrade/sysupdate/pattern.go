package sysupdate

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/unitfile"
)

// maxPattern is how many bytes a pattern may have: no file has a longer name, and no partition a
// longer label.
const maxPattern = 4096

// Fields are what the wildcards of a pattern stand for (sysupdate.d(5), "Match Patterns"). A nil
// pointer is a wildcard that the pattern does not have.
type Fields struct {
	Version string // @v: letters, digits and . _ + - ~ ^

	PartitionUUID  *osmith.GUID // @u
	PartitionFlags *uint64      // @f, hexadecimal
	NoAuto         *bool        // @a
	GrowFileSystem *bool        // @g
	ReadOnly       *bool        // @r
	ModTime        *uint64      // @t, in microseconds since 1970
	Mode           *uint32      // @m, octal, at most 0775 and not writable for others
	Size           *uint64      // @s, in bytes after decompression
	TriesDone      *uint64      // @d
	TriesLeft      *uint64      // @l
	SHA256         *[32]byte    // @h, of the compressed file
}

// A Pattern is the value of MatchPattern=: how a file, a directory or a partition of each version
// is called.
type Pattern struct {
	text      string
	recursive bool
	parts     []part
}

// part is a literal, or a wildcard if it has a letter.
type part struct {
	literal string
	letter  byte
}

const wildcards = "vufagrtmsdlh"

// ErrPattern: a pattern that systemd-sysupdate 262 refuses.
var ErrPattern = errors.New("no pattern")

// ParsePattern reads a pattern as systemd-sysupdate 262 does: "@" and a letter is a wildcard, "@@"
// an at sign. @v has to be there, no wildcard may be there twice, and between two of them there has
// to be something. "**/" at the start, which is for sources, means any directory.
func ParsePattern(text string) (p *Pattern, err error) {
	defer prefix.Add("sysupdate", &err)
	return parsePattern(text)
}

func parsePattern(text string) (*Pattern, error) {
	fail := func(at int, format string, args ...any) (*Pattern, error) {
		return nil, &osmith.FormatError{Offset: int64(at), Field: "pattern", Err: fmt.Errorf("%w: "+format, append([]any{ErrPattern}, args...)...)}
	}
	if len(text) > maxPattern {
		return fail(0, "%d bytes, at most %d", len(text), maxPattern)
	}
	p := &Pattern{text: text}
	rest := text
	if rest, p.recursive = strings.CutPrefix(rest, "**/"); p.recursive && strings.Contains(rest, "/") {
		return fail(3, "a slash behind **/: want the name of a file there")
	}
	base := len(text) - len(rest)
	var literal strings.Builder
	seen := ""
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c < ' ' || c == 0x7f || strings.IndexByte("*?[]", c) >= 0:
			return fail(base+i, "character %q: want none that stands for others, and no control character", c)
		case c != '@':
			literal.WriteByte(c)
			continue
		}
		if i++; i == len(rest) {
			return fail(base+i-1, "ends with a single @: want @@ for an at sign")
		}
		c := rest[i]
		switch {
		case c == '@':
			literal.WriteByte('@')
			continue
		case strings.IndexByte(wildcards, c) < 0:
			return fail(base+i-1, "@%c is no wildcard: want one of the letters %s, or @@ for an at sign", c, wildcards)
		case strings.IndexByte(seen, c) >= 0:
			return fail(base+i-1, "@%c is there twice", c)
		case literal.Len() == 0 && seen != "":
			return fail(base+i-1, "nothing between @%c and the wildcard before it, so that nothing says where one ends", c)
		}
		if seen += string(rune(c)); literal.Len() > 0 {
			p.parts = append(p.parts, part{literal: literal.String()})
			literal.Reset()
		}
		p.parts = append(p.parts, part{letter: c})
	}
	if literal.Len() > 0 {
		p.parts = append(p.parts, part{literal: literal.String()})
	}
	if !strings.Contains(seen, "v") {
		return fail(0, "@v is missing, which says where the version is")
	}
	return p, nil
}

// String is the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// Recursive says that the pattern began with "**/": it is one of names in any directory.
func (p *Pattern) Recursive() bool { return p.recursive }

// Has says whether the pattern has a wildcard, by its letter.
func (p *Pattern) Has(letter byte) bool {
	for _, part := range p.parts {
		if part.letter == letter && letter != 0 {
			return true
		}
	}
	return false
}

// slashes is how many directories a pattern goes down.
func (p *Pattern) slashes() int { return strings.Count(p.text, "/") }

// Match reads a name. A wildcard ends where what follows it in the pattern begins for the first
// time, as for systemd-sysupdate, which tries no other place: "a_@v_x" does not match "a_1_x_x".
func (p *Pattern) Match(name string) (f Fields, ok bool) {
	rest := name
	for i := 0; i < len(p.parts); i++ {
		part := p.parts[i]
		if part.letter == 0 {
			if rest, ok = strings.CutPrefix(rest, part.literal); !ok {
				return Fields{}, false
			}
			continue
		}
		value := rest
		if i+1 < len(p.parts) {
			if value, _, ok = strings.Cut(rest, p.parts[i+1].literal); !ok {
				return Fields{}, false
			}
		}
		if !f.set(part.letter, value) {
			return Fields{}, false
		}
		rest = rest[len(value):]
	}
	if rest != "" {
		return Fields{}, false
	}
	return f, true
}

// ValidVersion says whether systemd-sysupdate 262 takes a text for a version: letters, digits and .
// _ + - ~ ^, at least one.
func ValidVersion(version string) bool {
	for _, c := range []byte(version) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("._+-~^", c) >= 0) {
			return false
		}
	}
	return version != ""
}

// set reads what a wildcard stands for.
func (f *Fields) set(letter byte, value string) bool {
	switch letter {
	case 'v':
		f.Version = value
		return ValidVersion(value)
	case 'u':
		id, err := unitfile.UUID(value)
		f.PartitionUUID = &id
		return err == nil
	case 'f':
		n, err := hexadecimal(value)
		f.PartitionFlags = &n
		return err == nil
	case 'a', 'g', 'r':
		b, err := unitfile.Boolean(value)
		*map[byte]**bool{'a': &f.NoAuto, 'g': &f.GrowFileSystem, 'r': &f.ReadOnly}[letter] = &b
		return err == nil
	case 'm':
		n, err := octal(value)
		m := uint32(n)
		f.Mode = &m
		return err == nil && n&^0o775 == 0
	case 'h':
		b, err := hex.DecodeString(value)
		if err != nil || len(b) != 32 {
			return false
		}
		f.SHA256 = (*[32]byte)(b)
		return true
	}
	n, err := unitfile.Unsigned(strings.TrimLeft(value, blank))
	*f.numbers()[letter] = &n
	return err == nil && n != ^uint64(0) // which stands for none
}

func (f *Fields) numbers() map[byte]**uint64 {
	return map[byte]**uint64{'t': &f.ModTime, 's': &f.Size, 'd': &f.TriesDone, 'l': &f.TriesLeft}
}

// blank is what strtoull(3) passes over, and with it the numbers of systemd.
const blank = " \t\n\v\f\r"

func hexadecimal(value string) (uint64, error) {
	value = strings.TrimLeft(value, blank)
	if value == "-0" {
		return 0, nil
	}
	digits := strings.TrimPrefix(value, "+")
	if len(digits) > 1 && digits[0] == '0' && digits[1]|0x20 == 'x' {
		digits = digits[2:]
	}
	if digits == "" || strings.ContainsAny(digits, "+-_") {
		return 0, errors.New("want a hexadecimal number")
	}
	return strconv.ParseUint(digits, 16, 64)
}

func octal(value string) (uint64, error) {
	digits := strings.TrimLeft(value, blank)
	if digits == "-0" {
		return 0, nil
	}
	if digits == "" || strings.ContainsAny(digits, "+-_") {
		return 0, errors.New("want an octal number")
	}
	return strconv.ParseUint(digits, 8, 32)
}

// Format is the name of what has these fields: what [Pattern.Match] gives back for it. It is an
// error if a field is missing that the pattern has, or if nothing would read the name so.
func (p *Pattern) Format(f Fields) (name string, err error) {
	defer prefix.Add("sysupdate", &err)
	var out strings.Builder
	for _, part := range p.parts {
		if part.letter == 0 {
			out.WriteString(part.literal)
			continue
		}
		text, ok := f.text(part.letter)
		if !ok {
			return "", fmt.Errorf("pattern %q: there is nothing for @%c", p.text, part.letter)
		}
		out.WriteString(text)
	}
	name = out.String()
	back, ok := p.Match(name)
	if !ok || !back.same(f.only(p)) {
		return "", fmt.Errorf("pattern %q: the name %q would be read as a different version or not at all", p.text, name)
	}
	return name, nil
}

// only are the fields that a pattern has.
func (f Fields) only(p *Pattern) Fields {
	g := Fields{Version: f.Version}
	for _, part := range p.parts {
		switch part.letter {
		case 'u':
			g.PartitionUUID = f.PartitionUUID
		case 'f':
			g.PartitionFlags = f.PartitionFlags
		case 'a':
			g.NoAuto = f.NoAuto
		case 'g':
			g.GrowFileSystem = f.GrowFileSystem
		case 'r':
			g.ReadOnly = f.ReadOnly
		case 'm':
			g.Mode = f.Mode
		case 'h':
			g.SHA256 = f.SHA256
		case 't', 's', 'd', 'l':
			*g.numbers()[part.letter] = *f.numbers()[part.letter]
		}
	}
	return g
}

// same compares what the pointers point to.
func (f Fields) same(g Fields) bool {
	return f.Version == g.Version && equal(f.PartitionUUID, g.PartitionUUID) && equal(f.PartitionFlags, g.PartitionFlags) && equal(f.NoAuto, g.NoAuto) &&
		equal(f.GrowFileSystem, g.GrowFileSystem) && equal(f.ReadOnly, g.ReadOnly) && equal(f.ModTime, g.ModTime) && equal(f.Mode, g.Mode) && equal(f.Size, g.Size) &&
		equal(f.TriesDone, g.TriesDone) && equal(f.TriesLeft, g.TriesLeft) && equal(f.SHA256, g.SHA256)
}

func equal[T comparable](a, b *T) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// text is what stands for a wildcard.
func (f *Fields) text(letter byte) (string, bool) {
	switch letter {
	case 'v':
		return f.Version, ValidVersion(f.Version)
	case 'u':
		if f.PartitionUUID != nil {
			return f.PartitionUUID.String(), true
		}
	case 'f':
		if f.PartitionFlags != nil {
			return strconv.FormatUint(*f.PartitionFlags, 16), true
		}
	case 'a', 'g', 'r':
		if b := map[byte]*bool{'a': f.NoAuto, 'g': f.GrowFileSystem, 'r': f.ReadOnly}[letter]; b != nil {
			return map[bool]string{false: "0", true: "1"}[*b], true
		}
	case 'm':
		if f.Mode != nil {
			return strconv.FormatUint(uint64(*f.Mode), 8), true
		}
	case 'h':
		if f.SHA256 != nil {
			return hex.EncodeToString(f.SHA256[:]), true
		}
	default:
		if n := *f.numbers()[letter]; n != nil {
			return strconv.FormatUint(*n, 10), true
		}
	}
	return "", false
}
