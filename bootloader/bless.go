package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Status is what is known about a counted boot.
type Status uint8

const (
	Indeterminate Status = iota // booted, not yet decided
	Good
	Bad
	Dirty // booted although it had no tries left, and still so
)

func (s Status) String() string {
	switch s {
	case Indeterminate:
		return "indeterminate"
	case Good:
		return "good"
	case Bad:
		return "bad"
	case Dirty:
		return "dirty"
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// bootNames are the paths that the entry of one boot can have after it.
type bootNames struct {
	booted, good, bad string
	badPlain          string // bad without leading zeros, as systemd-bless-boot writes it
	counter           Counter
}

// parseBootCountPath reads the content of LoaderBootCountPath, `\EFI\Linux\os+2-1.efi`; slashes will do too.
func parseBootCountPath(s string) (bootNames, error) {
	if s == "" {
		return bootNames{}, fmt.Errorf("LoaderBootCountPath is not set: %w", ErrNotCounted)
	}
	p := espPath(s)
	dir, file := path.Split(p)
	suffix := strings.ToLower(path.Ext(file))
	if suffix != ".efi" && suffix != ".conf" || !fs.ValidPath(p) {
		return bootNames{}, fmt.Errorf("LoaderBootCountPath %q: %w", s, ErrName)
	}
	stem, c, ok := ParseName(file, suffix)
	if !ok {
		return bootNames{}, fmt.Errorf("LoaderBootCountPath %q has no counter: %w", s, ErrNotCounted)
	}
	suffix = file[len(file)-len(suffix):]
	bad := c.spent()
	plain := Counter{TriesDone: bad.TriesDone}
	return bootNames{p, dir + stem + suffix, dir + stem + bad.String() + suffix, dir + stem + plain.String() + suffix, c}, nil
}

// BootStatus is what has been decided about the current boot, as `systemd-bless-boot status` says. bootCountPath is the
// content of the EFI variable LoaderBootCountPath; a boot without it was not counted ([ErrNotCounted]). The file system
// is the one the entry is on, ESP or XBOOTLDR; [ErrNoEntry] if it is not on this one.
func BootStatus(fsys fs.FS, bootCountPath string) (s Status, err error) {
	defer prefix.Add("bootloader", &err)
	n, err := parseBootCountPath(bootCountPath)
	if err != nil {
		return 0, err
	}
	for _, c := range []struct {
		path   string
		status Status
	}{{n.booted, Indeterminate}, {n.good, Good}, {n.bad, Bad}, {n.badPlain, Bad}} {
		switch found, err := exists(fsys, c.path); {
		case err != nil:
			return 0, err
		case found && c.path == n.booted && n.counter.TriesLeft == 0:
			return Dirty, nil
		case found:
			return c.status, nil
		}
	}
	return 0, fmt.Errorf("%s: %w", n.booted, ErrNoEntry)
}

// Bless is the rename that gives the current boot a status: Good takes the counter off, Bad sets it to no tries left,
// Indeterminate undoes either. The two paths are equal if it has that status already. The caller makes the rename,
// without replacing, and has it written to the disk before it relies on it.
//
// A name that is there already, so that the rename would replace a file, is [ErrTwinExists]; undoing for an entry that
// was bad before this boot is [ErrAlreadyBad]; further errors as for [BootStatus].
//
// The counter keeps the width of its numbers, as the Boot Loader Specification asks since 2026; for numbers of one digit
// that is what systemd-bless-boot writes too.
func Bless(fsys fs.FS, bootCountPath string, to Status) (from, target string, err error) {
	defer prefix.Add("bootloader", &err)
	n, err := parseBootCountPath(bootCountPath)
	if err != nil {
		return "", "", err
	}
	var sources []string
	switch to {
	case Good:
		target, sources = n.good, []string{n.booted, n.bad, n.badPlain}
	case Bad:
		target, sources = n.bad, []string{n.booted, n.good}
	case Indeterminate:
		if n.counter.TriesLeft == 0 {
			return "", "", fmt.Errorf("%s: %w", n.booted, ErrAlreadyBad)
		}
		target, sources = n.booted, []string{n.good, n.bad, n.badPlain}
	default:
		return "", "", fmt.Errorf("a boot cannot be declared %v", to)
	}
	there, err := exists(fsys, target)
	if err != nil {
		return "", "", err
	}
	for _, from := range sources {
		found, err := exists(fsys, from)
		switch {
		case err != nil:
			return "", "", err
		case !found || from == target:
		case there:
			return "", "", fmt.Errorf("%s and %s: %w", from, target, ErrTwinExists)
		default:
			return from, target, nil
		}
	}
	if there {
		return target, target, nil
	}
	return "", "", fmt.Errorf("%s: %w", n.booted, ErrNoEntry)
}

func exists(fsys fs.FS, name string) (bool, error) {
	switch _, err := fs.Stat(fsys, name); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}
