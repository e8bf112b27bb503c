package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// errNotForHere marks entries that are well-formed and hidden on purpose.
var errNotForHere = errors.New("not for this machine")

// What is wrong with a line of a Type #1 entry.
var (
	ErrNotThere = errors.New("not on the file system of the entry")
	ErrNotRead  = errors.New("ignored by systemd-boot")
)

// EntryError says what is wrong with a line of a Type #1 entry, or with the file that the line
// names.
type EntryError struct {
	Line       int // from 1
	Key, Value string
	Err        error // wraps ErrNotThere, with fs.ErrNotExist, or ErrNotRead
	Fatal      bool  // the entry cannot boot
}

func (e *EntryError) Error() string {
	s := fmt.Sprintf("line %d: ", e.Line)
	if assignment := strings.TrimSpace(e.Key + " " + e.Value); assignment != "" {
		s += assignment + ": "
	}
	return s + e.Err.Error()
}

// Unwrap returns what is wrong.
func (e *EntryError) Unwrap() error { return e.Err }

// kindKeys are the keys that say what an entry starts.
var kindKeys = map[string]EntryType{"linux": EntryType1Linux, "efi": EntryType1EFI, "uki": EntryType1UKI, "uki-url": EntryType1URL}

// type1Keys are the keys that systemd-boot reads, with the first release that does; 0: all that are
// known. (systemd 262, src/boot/boot.c, boot_entry_add_type1; NEWS.)
var type1Keys = map[string]int{"title": 0, "sort-key": 0, "version": 0, "machine-id": 0, "architecture": 0, "linux": 0, "efi": 0, "devicetree": 0, "initrd": 0,
	"options": 0, "uki": 258, "uki-url": 258, "profile": 259, "extra": 261}

// readType1 reads a Type #1 entry with the files that it names, as systemd-boot does. The entry is
// nil if the loader leaves it out; the last finding then says why. The error is one of reading.
func readType1(fsys fs.FS, file string, b []byte, o MenuOptions, r Release) (e *Entry, findings []error, err error) {
	e, named, findings, err := parseType1(file, b, o, r)
	if err != nil {
		return nil, append(findings, err), nil
	}
	for _, l := range named {
		missing, err := e.name(fsys, l)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case missing == nil:
			continue
		case kindKeys[l.key] != 0 && errors.Is(missing, fs.ErrNotExist):
			return nil, append(findings, fmt.Errorf("the file to start is missing: %w", missing)), nil
		case missing.Fatal && e.Damage == "":
			e.Damage = missing.Error()
		}
		findings = append(findings, missing)
	}
	return e, findings, nil
}

// name looks for the file that a line names and notes its path.
func (e *Entry) name(fsys fs.FS, l line) (missing *EntryError, err error) {
	found, err := firmwarePath(fsys, l.value)
	wrong := &EntryError{Line: l.number, Key: l.key, Value: l.value, Fatal: l.key != "extra"}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		wrong.Err = fmt.Errorf("%w: %w", ErrNotThere, fs.ErrNotExist)
		first, _, two := strings.Cut(strings.ReplaceAll(l.value, "\t", " "), " ")
		if _, err := firmwarePath(fsys, first); two && err == nil {
			wrong.Err = fmt.Errorf("%w: systemd-boot reads the whole line as one path, so write one line per file: %w", ErrNotThere, fs.ErrNotExist)
		}
		found = slashed(l.value)
	case err != nil:
		return nil, err
	default:
		info, err := fs.Stat(fsys, found)
		if err != nil {
			return nil, err
		}
		wrong.Err = fmt.Errorf("%w: is a directory, want a file", ErrNotThere)
		if !info.IsDir() {
			wrong = nil
		}
	}
	if wrong == nil {
		e.Files = append(e.Files, found)
	}
	switch {
	case l.key == "initrd":
		e.Initrd = append(e.Initrd, found)
	case kindKeys[l.key] != 0:
		e.Loader = found
	}
	return wrong, nil
}

// parseType1 reads the text of a Type #1 entry (systemd 262, src/boot/boot.c,
// boot_entry_add_type1). named are the lines that count and name files; the error says why the
// loader leaves the entry out.
func parseType1(file string, b []byte, o MenuOptions, r Release) (e *Entry, named []line, findings []error, err error) {
	e = &Entry{rules: r.rules}
	last := map[string]line{} // of the keys of which only the last line counts
	var several []line
	note := func(l line, format string, args ...any) {
		findings = append(findings, &EntryError{Line: l.number, Key: l.key, Value: l.value, Err: fmt.Errorf("%w: "+format, append([]any{ErrNotRead}, args...)...)})
	}
	for _, l := range bareWords(b) {
		note(l, "there is no value")
	}
	var kind line
	for l := range lines(b, " \t", r.rules) {
		since, known := type1Keys[l.key]
		switch {
		case !known:
			note(l, "unknown key")
			continue
		case since > r.Number:
			note(l, "%d does not know the key, %d and later do", r.Number, since)
			continue
		}
		switch l.key {
		case "linux", "uki", "uki-url", "efi":
			if l.key == "uki-url" && strings.HasPrefix(l.value, ":") {
				return nil, nil, findings, fmt.Errorf("line %d: uki-url relative to a network boot: %w", l.number, errNotForHere)
			}
			if e.Type != 0 {
				if e.Type != kindKeys[l.key] && !r.rules.lastKind {
					return nil, nil, findings, fmt.Errorf("line %d: %s conflicts with another kind of entry in this file", l.number, l.key)
				}
				note(kind, "line %d counts in its place", l.number)
			}
			kind, e.Type, e.Loader = l, kindKeys[l.key], l.value
			if l.key == "efi" && o.Self != "" && equalFold(slashed(l.value), slashed(o.Self)) {
				return nil, nil, findings, fmt.Errorf("line %d: starts the loader itself: %w", l.number, errNotForHere)
			}
		case "architecture":
			if !equalFold(l.value, o.architecture()) {
				return nil, nil, findings, fmt.Errorf("line %d: architecture %s: %w", l.number, l.value, errNotForHere)
			}
		case "initrd", "extra":
			several = append(several, l)
		case "options":
			if l.value == "" && r.rules.emptyIsUnset {
				continue
			}
			if e.Options != "" {
				e.Options += " "
			}
			e.Options += l.value
		case "profile":
			n, err := strconv.ParseUint(l.value, 10, 32)
			if err != nil || n > math.MaxInt32 || l.value[0] == '+' {
				note(l, "want a number")
				continue
			}
			e.Profile = int(n)
			fallthrough
		default:
			if before, twice := last[l.key]; twice {
				note(before, "line %d counts in its place", l.number)
			}
			last[l.key] = l
		}
	}
	if e.Type == 0 {
		return nil, nil, findings, errors.New("no linux, uki, uki-url or efi line")
	}
	e.Title, e.Version, e.MachineID = last["title"].value, last["version"].value, last["machine-id"].value
	key, ok := last["sort-key"]
	e.SortKey, e.hasSortKey = key.value, ok && !(key.value == "" && r.rules.emptyIsUnset)
	e.setName(file, ".conf")
	if e.Type != EntryType1URL {
		named = append(named, kind)
	}
	if l, ok := last["devicetree"]; ok && e.Type == EntryType1URL {
		note(l, "not beside uki-url")
	} else if ok {
		named = append(named, l)
	}
	for _, l := range several {
		switch {
		case l.key == "initrd" && e.Type != EntryType1Linux:
			note(l, "only beside linux")
			e.Initrd = append(e.Initrd, slashed(l.value))
		case l.key == "extra" && e.Type != EntryType1UKI:
			note(l, "only beside uki")
		default:
			named = append(named, l)
		}
	}
	return e, named, findings, nil
}

// bareWords are the lines that are a key without a value, which [lines] leaves out.
func bareWords(b []byte) (list []line) {
	text, _, _ := strings.Cut(string(b), "\x00")
	number := 0
	for row := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		number++
		for word := range strings.SplitSeq(row, "\r") {
			if word = strings.Trim(word, " \t"); word != "" && word[0] != '#' && !strings.ContainsAny(word, " \t") {
				list = append(list, line{number: number, key: strings.ToValidUTF8(word, "\uFFFD")})
			}
		}
	}
	return list
}

// slashed is a path of an entry with slashes, and without those that it begins with.
func slashed(s string) string { return strings.TrimLeft(strings.ReplaceAll(s, `\`, "/"), "/") }

// firmwarePath finds a file by a path of an entry, as the FAT driver of firmware does, and returns
// it as it is spelled there: both kinds of slashes will do, names are found in any case, and a
// directory in front of ".." must be there. Above the root there is nothing. (Booted: edk2 of
// Debian 12.)
func firmwarePath(fsys fs.FS, name string) (string, error) {
	missing := &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	at, dir := ".", true
	for part := range strings.SplitSeq(slashed(name), "/") {
		switch {
		case part == "." || part == "" && dir:
			continue
		case part == ".." && at != ".":
			at, dir = path.Dir(at), true
			continue
		case part == "" || part == ".." || !dir:
			return "", missing
		}
		found, err := lookupIn(fsys, at, part)
		if errors.Is(err, fs.ErrNotExist) {
			return "", missing
		}
		if err != nil {
			return "", err
		}
		info, err := fs.Stat(fsys, found)
		if err != nil {
			return "", err
		}
		at, dir = found, info.IsDir()
	}
	return at, nil
}

// espPath turns a path of the EFI variable LoaderBootCountPath, with slashes or backslashes, into
// one of [io/fs].
func espPath(s string) string {
	s = strings.ReplaceAll(s, `\`, "/")
	p := strings.TrimPrefix(path.Clean("/"+s), "/")
	switch {
	case p == "":
		return "."
	case strings.HasSuffix(s, "/"): // for firmware, "file/" is no file: this is no path of io/fs
		return p + "/"
	}
	return p
}
