package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Counter is the boot counter in an entry's file name: NAME+LEFT.efi or NAME+LEFT-DONE.efi (UAPI.1,
// "Boot counting"). The widths are kept, so that parsing and formatting give the same text.
type Counter struct {
	TriesLeft int // boots that remain; 0: the entry is bad
	TriesDone int // boots after which the entry was not declared good

	LeftWidth int // digits of LEFT, with leading zeros; 0: as many as needed
	DoneWidth int // digits of DONE; 0 with TriesDone 0: left out
}

// ParseName splits the file name of an entry into stem, counter and suffix. Suffix is ".efi" or
// ".conf"; its case in the name does not matter. ok is false if the name has no counter by the rule
// of systemd-boot: the last "+" must be followed by digits, or two runs of digits joined by "-",
// and then the suffix.
func ParseName(name, suffix string) (stem string, c Counter, ok bool) {
	plus := strings.LastIndexByte(name, '+')
	if plus < 0 || len(name)-len(suffix) < plus || !equalFold(name[len(name)-len(suffix):], suffix) {
		return "", Counter{}, false
	}
	left, done, two := strings.Cut(name[plus+1:len(name)-len(suffix)], "-")
	if c.TriesLeft, ok = parseTries(left); !ok {
		return "", Counter{}, false
	}
	c.LeftWidth = len(left)
	if two {
		if c.TriesDone, ok = parseTries(done); !ok {
			return "", Counter{}, false
		}
		c.DoneWidth = len(done)
	}
	return name[:plus], c, true
}

// parseTries reads digits only, up to the largest number that systemd-boot accepts.
func parseTries(s string) (int, bool) {
	for _, c := range []byte(s) {
		if !isDigit(c) {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > math.MaxInt32 {
		return 0, false
	}
	return int(n), true
}

// String is the counter as it is written in a name: "+3", "+2-1", "+09-01".
func (c Counter) String() string {
	s := fmt.Sprintf("+%0*d", c.LeftWidth, c.TriesLeft)
	if c.DoneWidth > 0 || c.TriesDone > 0 {
		s += fmt.Sprintf("-%0*d", c.DoneWidth, c.TriesDone)
	}
	return s
}

// Next is the counter after one more boot as the Boot Loader Specification of 2026 asks: one try
// less, one more done, widths kept, and a number of done tries that would need one more digit stays
// at all nines. (systemd-boot 262 writes both numbers without leading zeros; see [Entry.Boot].)
func (c Counter) Next() Counter {
	c.TriesLeft = max(c.TriesLeft-1, 0)
	if most := allNines(c.DoneWidth); c.TriesDone < most {
		c.TriesDone++
	}
	return c
}

// spent is the counter of an entry that has been declared bad.
func (c Counter) spent() Counter {
	c.TriesLeft = 0
	if c.TriesDone == 0 && c.DoneWidth < 2 {
		c.DoneWidth = 0 // "+0", as systemd writes it
	}
	return c
}

// allNines is the largest number of that many digits; width 0 is no limit but the loader's own.
func allNines(width int) int {
	if width <= 0 || width > 9 {
		return math.MaxInt32
	}
	n := 1
	for range width {
		n *= 10
	}
	return n - 1
}

// CountedName is the file name, in EFI/Linux, of a new Unified Kernel Image with the given number
// of tries: "STEM+3.efi". Stems that systemd-boot would skip or misinterpret are refused.
// Characters that systemd's programs do not accept in the name of an entry are refused too,
// although the loader accepts them, because bootctl would not show the entry. "~" is accepted
// nevertheless, since versions have it (UAPI.10: "2~rc1" comes before "2") and systemd-sysupdate
// writes it.
func CountedName(stem string, tries int) (name string, err error) {
	defer prefix.Add("bootloader", &err)
	if tries < 1 || tries > math.MaxInt32 {
		return "", fmt.Errorf("%d tries for %q: %w", tries, stem, ErrName)
	}
	if err := checkStem(stem, ".efi"); err != nil {
		return "", err
	}
	return stem + Counter{TriesLeft: tries}.String() + ".efi", nil
}

// checkStem refuses stems whose uncounted name would not come back as the entry it is.
func checkStem(stem, suffix string) error {
	name := stem + suffix
	bad := func(why string) error {
		return fmt.Errorf("stem %q: %s: %w", stem, why, ErrName)
	}
	if stem == "" || stem[0] == '.' || hasPrefixFold(name, "auto-") {
		return bad("systemd-boot skips such files")
	}
	if _, _, ok := ParseName(name, suffix); ok {
		return bad("ends with a boot counter itself")
	}
	for _, c := range []byte(stem) {
		if !isDigit(c) && !isAlpha(c) && strings.IndexByte("+-_.@~", c) < 0 {
			return bad(fmt.Sprintf("%q is none of the letters, digits and +-_.@~ that systemd allows in the name of an entry or writes there", c))
		}
	}
	// Longest counter: +2147483647-2147483647.
	if len(name)+22 > 255 {
		return bad("too long")
	}
	return nil
}

// Status is what is known about a counted boot.
type Status uint8

const (
	StatusIndeterminate Status = iota // booted, not yet decided
	StatusGood
	StatusBad
	StatusDirty // booted although it had no tries left, and it still has none
)

func (s Status) String() string {
	switch s {
	case StatusIndeterminate:
		return "indeterminate"
	case StatusGood:
		return "good"
	case StatusBad:
		return "bad"
	case StatusDirty:
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

// parseBootCountPath reads the content of LoaderBootCountPath, `\EFI\Linux\os+2-1.efi`; slashes
// will do too.
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

// BootStatus is what has been decided about the current boot, as `systemd-bless-boot status` says.
// bootCountPath is the content of the EFI variable LoaderBootCountPath; a boot without it was not
// counted ([ErrNotCounted]). The file system must be the one with the entry, ESP or XBOOTLDR;
// otherwise the error is [ErrNoEntry].
func BootStatus(fsys fs.FS, bootCountPath string) (s Status, err error) {
	defer prefix.Add("bootloader", &err)
	n, err := parseBootCountPath(bootCountPath)
	if err != nil {
		return 0, err
	}
	for _, c := range []struct {
		path   string
		status Status
	}{{n.booted, StatusIndeterminate}, {n.good, StatusGood}, {n.bad, StatusBad}, {n.badPlain, StatusBad}} {
		switch found, err := exists(fsys, c.path); {
		case err != nil:
			return 0, err
		case found && c.path == n.booted && n.counter.TriesLeft == 0:
			return StatusDirty, nil
		case found:
			return c.status, nil
		}
	}
	return 0, fmt.Errorf("%s: %w", n.booted, ErrNoEntry)
}

// Bless is the rename that gives the current boot a status: StatusGood removes the counter,
// StatusBad sets it to no tries left, StatusIndeterminate undoes either. The two paths are equal if
// it has that status already. The caller makes the rename, without replacing a file, and syncs it
// to the disk before relying on it.
//
// If the new name exists already, so that the rename would replace a file, the error is
// [ErrTwinExists]; if the entry to be undone was bad before this boot, [ErrAlreadyBad]; other
// errors are those of [BootStatus].
//
// The counter keeps the width of its numbers, as the Boot Loader Specification asks since 2026; for
// numbers of one digit that is what systemd-bless-boot writes too.
func Bless(fsys fs.FS, bootCountPath string, to Status) (from, target string, err error) {
	defer prefix.Add("bootloader", &err)
	n, err := parseBootCountPath(bootCountPath)
	if err != nil {
		return "", "", err
	}
	var sources []string
	switch to {
	case StatusGood:
		target, sources = n.good, []string{n.booted, n.bad, n.badPlain}
	case StatusBad:
		target, sources = n.bad, []string{n.booted, n.good}
	case StatusIndeterminate:
		if n.counter.TriesLeft == 0 {
			return "", "", fmt.Errorf("%s: %w", n.booted, ErrAlreadyBad)
		}
		target, sources = n.booted, []string{n.good, n.bad, n.badPlain}
	default:
		return "", "", fmt.Errorf("assessment %v: want good, bad or indeterminate", to)
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
