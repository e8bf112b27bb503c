package partition

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxRepartFile  = 1 << 20 // bytes; systemd-repart reads no longer line
	maxRepartFiles = 1024    // in one directory
)

// definitionNames lists the *.conf files of a directory in the order in which systemd-repart reads them: by bytes.
func definitionNames(fsys fs.FS, dir string) ([]string, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("definition files: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".conf") && !strings.HasPrefix(name, ".") {
			names = append(names, path.Join(dir, name))
		}
	}
	if len(names) > maxRepartFiles {
		return nil, fmt.Errorf("%d definition files, at most %d", len(names), maxRepartFiles)
	}
	slices.Sort(names)
	return names, nil
}

// definitionState says what is behind the name of a definition file.
type definitionState int

const (
	definitionThere definitionState = iota
	definitionEmpty                 // a file without content, which masks a definition
	definitionMask                  // a link to a device, mostly /dev/null, which masks one, too
	definitionNone                  // a directory
)

func readDefinition(fsys fs.FS, name string) (string, definitionState, error) {
	if target, err := fs.ReadLink(fsys, name); err == nil && path.Clean(target) == "/dev/null" {
		return "", definitionMask, nil // also where there is no such device
	}
	info, err := fs.Stat(fsys, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", 0, fmt.Errorf("is a link to nowhere, which systemd-repart passes over: remove it, or link it to /dev/null: %w", err)
	case err != nil:
		return "", 0, err
	case info.IsDir():
		return "", definitionNone, nil
	case info.Mode()&fs.ModeCharDevice != 0:
		return "", definitionMask, nil
	case info.Mode().IsRegular() && info.Size() == 0:
		return "", definitionEmpty, nil
	case !info.Mode().IsRegular() || info.Size() > maxRepartFile:
		return "", 0, fmt.Errorf("is no regular file of at most %d bytes", maxRepartFile)
	}
	b, err := fs.ReadFile(fsys, name)
	return string(b), definitionThere, err
}

// dropIns reads what changes a definition.
func (d *definition) dropIns(fsys fs.FS) error {
	dir := d.name + ".d"
	info, err := fs.Stat(fsys, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &RepartError{File: dir, Err: err}
	case !info.IsDir():
		d.warnings = append(d.warnings, &RepartError{File: dir, Err: errors.New("is no directory of drop-ins")})
		return nil
	}
	names, err := definitionNames(fsys, dir)
	if err != nil {
		return &RepartError{File: dir, Err: err}
	}
	for _, name := range names {
		text, state, err := readDefinition(fsys, name)
		switch {
		case err != nil:
			return &RepartError{File: name, Err: err}
		case state == definitionMask:
			return &RepartError{File: name, Err: errors.New("is a link to a device: systemd-repart 262 fails on a drop-in that is masked in this way")}
		case state != definitionThere:
			continue
		}
		d.rest.DropIns = append(d.rest.DropIns, name)
		if err := d.parse(name, text); err != nil {
			return err
		}
	}
	return nil
}

// parse reads one file, line by line, as systemd.syntax(7) has it and systemd-repart does it.
func (d *definition) parse(name, text string) error {
	section, first := "", true
	whole, from := "", 0 // a line that goes on, and the number of its first part
	lines := splitLines(text)
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(line, "\ufeff"); ok && first {
			line, first = rest, false
		}
		if s := strings.TrimLeft(line, whitespace); s != "" && (s[0] == '#' || s[0] == ';') {
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
		s, at := strings.Trim(whole, whitespace), from
		whole, from = "", 0
		fail := func(format string, args ...any) error {
			return &RepartError{File: name, Line: at, Err: fmt.Errorf(format, args...)}
		}
		switch {
		case !utf8.ValidString(s):
			return fail("%q is no UTF-8", printable(strings.ToValidUTF8(s, "?")))
		case s == "":
		case s[0] == '[':
			if s[len(s)-1] != ']' {
				return fail("%s is no section: want [Partition]", printable(s))
			}
			if section = s[1 : len(s)-1]; section != "Partition" && !strings.HasPrefix(section, "X-") {
				return fail("section %s: %w: want [Partition]", printable(s), ErrRepartKey)
			}
		case strings.HasPrefix(section, "X-"):
		default:
			if err := d.assign(name, at, section, s); err != nil {
				return err
			}
		}
	}
	return nil
}

const whitespace = " \t\n\r"

func (d *definition) assign(name string, line int, section, s string) error {
	at := func(err error) error { return &RepartError{File: name, Line: line, Err: err} }
	key, value, ok := strings.Cut(s, "=")
	key, value = strings.Trim(key, whitespace), strings.Trim(value, whitespace)
	switch {
	case !ok || key == "":
		return at(fmt.Errorf("%q is no assignment: want KEY=VALUE", printable(s)))
	case section == "":
		return at(errors.New("assignment outside of a section: want [Partition] first"))
	case strings.HasPrefix(key, "X-"):
		return nil
	}
	d.lines[key] = RepartError{File: name, Line: line}
	if err := d.set(key, value); err != nil {
		return at(fmt.Errorf("%s=%s: %w", printable(key), printable(value), err))
	}
	return nil
}

// fail is an error about a key, at the line where it was set last.
func (d *definition) fail(key string, err error) error {
	at, ok := d.lines[key]
	if !ok {
		return &RepartError{File: d.name, Err: err}
	}
	at.Err = fmt.Errorf("%s=: %w", key, err)
	return &at
}

// splitLines ends a line at a line feed, a carriage return, both, or a NUL byte.
func splitLines(text string) []string {
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
