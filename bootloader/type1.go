package bootloader

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// errNotForHere marks entries that are well-formed and hidden on purpose.
var errNotForHere = errors.New("not for this machine")

// parseType1 reads a Type #1 entry as systemd-boot 262 does (src/boot/boot.c, boot_entry_add_type1).
func parseType1(file string, b []byte, o MenuOptions) (*Entry, error) {
	e := new(Entry)
	for l := range lines(b, " \t") {
		switch l.key {
		case "title":
			e.Title = l.value
		case "sort-key":
			e.SortKey, e.hasSortKey = l.value, true
		case "version":
			e.Version = l.value
		case "machine-id":
			e.MachineID = l.value
		case "profile":
			if n, err := strconv.ParseUint(l.value, 10, 32); err == nil && n <= math.MaxInt32 && l.value[0] != '+' {
				e.Profile = int(n)
			}
		case "linux":
			if !e.start(EntryType1Linux, espPath(l.value)) {
				return nil, fmt.Errorf("line %d: linux beside another kind of entry", l.number)
			}
		case "uki":
			if !e.start(EntryType1UKI, espPath(l.value)) {
				return nil, fmt.Errorf("line %d: uki beside another kind of entry", l.number)
			}
		case "uki-url":
			if strings.HasPrefix(l.value, ":") {
				return nil, fmt.Errorf("line %d: uki-url relative to a network boot: %w", l.number, errNotForHere)
			}
			if !e.start(EntryType1URL, l.value) {
				return nil, fmt.Errorf("line %d: uki-url beside another kind of entry", l.number)
			}
		case "efi":
			if !e.start(EntryType1EFI, espPath(l.value)) {
				return nil, fmt.Errorf("line %d: efi beside another kind of entry", l.number)
			}
			if o.Self != "" && equalFold(e.Loader, espPath(o.Self)) {
				return nil, fmt.Errorf("line %d: it is the loader itself: %w", l.number, errNotForHere)
			}
		case "architecture":
			if !equalFold(l.value, o.architecture()) {
				return nil, fmt.Errorf("line %d: architecture %s: %w", l.number, l.value, errNotForHere)
			}
		case "initrd":
			e.Initrd = append(e.Initrd, espPath(l.value))
		case "options":
			if e.Options != "" {
				e.Options += " "
			}
			e.Options += l.value
		}
	}
	if e.Type == 0 {
		return nil, errors.New("no linux, uki, uki-url or efi")
	}
	e.setName(file, ".conf")
	return e, nil
}

// start notes what the entry starts; false if it has started something of another kind before.
func (e *Entry) start(t EntryType, loader string) bool {
	if e.Type != 0 && e.Type != t {
		return false
	}
	e.Type, e.Loader = t, loader
	return true
}

// espPath turns a path of an entry, with slashes or backslashes, into one of [io/fs].
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
