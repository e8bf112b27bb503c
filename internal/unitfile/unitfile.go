// Package unitfile reads the syntax that the configuration files of systemd's programs share
// (systemd.syntax(7); where it says nothing, as systemd 262 does it): lines, values that mean the
// same for every key, and files that are not to be read. Which keys exist is for the reader of a
// kind of file.
package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
)

// Space is what separates words, and does not count around them.
const Space = " \t\n\r"

// MaxFile is how many bytes a file may have; systemd reads no longer line.
const MaxFile = 1 << 20

// Lines are those of a text that say something, without space around them and joined where one goes
// on in the next, each with the number of its first part from 1. Comments and empty lines are left
// out.
func Lines(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		first := true
		whole, from := "", 0 // a line that goes on, and the number of its first part
		lines := split(text)
		for i, line := range lines {
			if rest, ok := strings.CutPrefix(line, "\ufeff"); ok && first {
				line, first = rest, false
			}
			if s := strings.TrimLeft(line, Space); s != "" && (s[0] == '#' || s[0] == ';') {
				if from == 0 || i < len(lines)-1 {
					continue
				}
				line = "" // the last part of a line that goes on
			}
			if from == 0 {
				from = i + 1
			}
			if whole += line; goesOn(line) {
				whole = whole[:len(whole)-1]
				if i < len(lines)-1 {
					whole += " "
					continue
				}
			}
			s, at := strings.Trim(whole, Space), from
			whole, from = "", 0
			if s != "" && !yield(at, s) {
				return
			}
		}
	}
}

// Assignment takes KEY=VALUE apart; false if a line is none.
func Assignment(line string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(line, "=")
	key, value = strings.Trim(key, Space), strings.Trim(value, Space)
	return key, value, ok && key != ""
}

// split ends a line at a line feed, a carriage return, both, or a NUL byte.
func split(text string) []string {
	var out []string
	for text != "" {
		i := strings.IndexAny(text, "\n\r\x00")
		if i < 0 {
			return append(out, text)
		}
		out = append(out, text[:i])
		if strings.HasPrefix(text[i:], "\r\n") {
			i++
		}
		text = text[i+1:]
	}
	return out
}

// goesOn says that a line ends with a backslash that no other backslash stands for.
func goesOn(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// State says what is behind the name of a file.
type State int

const (
	There State = iota
	Empty       // a file without content, which masks one of its name
	Mask        // a link to a device, mostly /dev/null, which masks one, too
	None        // a directory
)

// Read reads a file of at most [MaxFile] bytes. A link to nowhere is [fs.ErrNotExist].
func Read(fsys fs.FS, name string) (string, State, error) {
	if target, err := fs.ReadLink(fsys, name); err == nil && path.Clean(target) == "/dev/null" {
		return "", Mask, nil // also where there is no such device
	}
	info, err := fs.Stat(fsys, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", 0, fmt.Errorf("is a link to nowhere, which systemd passes over: remove it, or link it to /dev/null: %w", err)
	case err != nil:
		return "", 0, err
	case info.IsDir():
		return "", None, nil
	case info.Mode()&fs.ModeCharDevice != 0:
		return "", Mask, nil
	case info.Mode().IsRegular() && info.Size() == 0:
		return "", Empty, nil
	case !info.Mode().IsRegular() || info.Size() > MaxFile:
		return "", 0, fmt.Errorf("is not a regular file of at most %d bytes", MaxFile)
	}
	b, err := fs.ReadFile(fsys, name)
	return string(b), There, err
}

// Names are the paths of what a directory has whose names end with one of the suffixes, without
// those that begin with a dot, by bytes; at most max.
func Names(fsys fs.FS, dir string, max int, suffixes ...string) ([]string, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("definition files: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, ".") && slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) }) {
			names = append(names, path.Join(dir, name))
		}
	}
	if len(names) > max {
		return nil, fmt.Errorf("%d definition files, at most %d", len(names), max)
	}
	slices.Sort(names)
	return names, nil
}

// Boolean reads yes or no.
func Boolean(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, errors.New("want yes or no")
}

// OptionalBoolean is a boolean that may be left to a default: "".
func OptionalBoolean(value string) (*bool, error) {
	if value == "" {
		return nil, nil
	}
	v, err := Boolean(value)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// ErrNumber is what [Integer] cannot read.
var ErrNumber = errors.New("want a number: decimal, 0x and hexadecimal, 0 and octal, or 0b and binary")

// Integer reads a number as decimal, or as binary, octal or hexadecimal with the prefixes 0b, 0o or
// 0, and 0x.
func Integer(value string) (negative bool, n uint64, err error) {
	digits := value
	if s, ok := strings.CutPrefix(digits, "-"); ok {
		negative, digits = true, s
	} else {
		digits = strings.TrimPrefix(digits, "+")
	}
	base := 10
	if len(digits) > 1 && digits[0] == '0' {
		switch digits[1] | 0x20 {
		case 'x':
			base, digits = 16, digits[2:]
		case 'o':
			base, digits = 8, digits[2:]
		case 'b':
			base, digits = 2, digits[2:]
		default:
			base, digits = 8, digits[1:]
		}
	}
	if digits == "" || strings.ContainsAny(digits, "+-") {
		return false, 0, ErrNumber
	}
	if n, err = strconv.ParseUint(digits, base, 64); err != nil {
		return false, 0, ErrNumber
	}
	return negative, n, nil
}

// Unsigned is a number from 0 on, as [Integer] reads it.
func Unsigned(value string) (uint64, error) {
	negative, n, err := Integer(value)
	if err == nil && negative && n != 0 {
		err = ErrNumber
	}
	return n, err
}

// UUID is a UUID or another ID of 128 bits, with the usual dashes or with none.
func UUID(value string) (osmith.GUID, error) {
	if len(value) == 32 && !strings.Contains(value, "-") {
		value = value[:8] + "-" + value[8:12] + "-" + value[12:16] + "-" + value[16:20] + "-" + value[20:]
	}
	return osmith.ParseGUID(value)
}

// Expand replaces specifiers by what text says about a letter. A percent sign at the end stands for
// itself.
func Expand(value string, text func(letter byte) (string, error)) (string, error) {
	var out strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' || i == len(value)-1 {
			out.WriteByte(value[i])
			continue
		}
		i++
		s, err := "%", error(nil)
		if value[i] != '%' {
			s, err = text(value[i])
		}
		if err != nil {
			return "", err
		}
		out.WriteString(s)
	}
	return out.String(), nil
}
