package partition

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/unitfile"
)

// maxRepartFiles is how many definition files there may be in one directory.
const maxRepartFiles = 1024

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
		d.warnings = append(d.warnings, &RepartError{File: dir, Err: errors.New("is not a directory of drop-ins")})
		return nil
	}
	names, err := unitfile.Names(fsys, dir, maxRepartFiles, ".conf")
	if err != nil {
		return &RepartError{File: dir, Err: err}
	}
	for _, name := range names {
		text, state, err := unitfile.Read(fsys, name)
		switch {
		case err != nil:
			return &RepartError{File: name, Err: err}
		case state == unitfile.Mask:
			return &RepartError{File: name, Err: errors.New("is a link to a device: systemd-repart 262 fails on a drop-in that is masked in this way")}
		case state != unitfile.There:
			continue
		}
		d.rest.DropIns = append(d.rest.DropIns, name)
		if err := d.parse(name, text); err != nil {
			return err
		}
	}
	return nil
}

// parse reads one file, line by line.
func (d *definition) parse(name, text string) error {
	section := ""
	for at, s := range unitfile.Lines(text) {
		fail := func(format string, args ...any) error {
			return &RepartError{File: name, Line: at, Err: fmt.Errorf(format, args...)}
		}
		switch {
		case !utf8.ValidString(s):
			return fail("%q is no UTF-8", printable(strings.ToValidUTF8(s, "?")))
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

func (d *definition) assign(name string, line int, section, s string) error {
	at := func(err error) error { return &RepartError{File: name, Line: line, Err: err} }
	key, value, ok := unitfile.Assignment(s)
	switch {
	case !ok:
		return at(fmt.Errorf("%q: want KEY=VALUE", printable(s)))
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
