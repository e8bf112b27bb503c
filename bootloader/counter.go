package bootloader

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Counter is the boot counter in an entry's file name: NAME+LEFT.efi or NAME+LEFT-DONE.efi (UAPI.1, "Boot counting").
// The widths are kept, so that parsing and formatting give the same text.
type Counter struct {
	TriesLeft int // boots that remain; 0: the entry is bad
	TriesDone int // boots made without having been declared good

	LeftWidth int // digits of LEFT, with leading zeros; 0: as many as needed
	DoneWidth int // digits of DONE; 0 with TriesDone 0: left out
}

// ParseName splits the file name of an entry into what is before the counter and what is behind it. Suffix is ".efi"
// or ".conf"; its case in the name does not matter. ok is false if the name has no counter, as systemd-boot sees it:
// the last "+" must be followed by digits, or two runs of digits joined by "-", and then the suffix.
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

// String is the counter as it stands in a name: "+3", "+2-1", "+09-01".
func (c Counter) String() string {
	s := fmt.Sprintf("+%0*d", c.LeftWidth, c.TriesLeft)
	if c.DoneWidth > 0 || c.TriesDone > 0 {
		s += fmt.Sprintf("-%0*d", c.DoneWidth, c.TriesDone)
	}
	return s
}

// Next is the counter after one more boot as the Boot Loader Specification of 2026 asks: one try less, one more done,
// widths kept, and a number of done tries that would need another digit stays at all nines. (systemd-boot 262 writes
// both numbers without leading zeros; see [Entry.Boot].)
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

// CountedName is the file name, in EFI/Linux, of a new Unified Kernel Image that gets that many tries: "STEM+3.efi".
// Stems that systemd-boot would skip or take for something else are refused, and so are characters that systemd's
// programs do not accept in the name of an entry, although the loader does: bootctl would not show it.
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
		if !isDigit(c) && !isAlpha(c) && strings.IndexByte("+-_.@", c) < 0 {
			return bad(fmt.Sprintf("%q is none of the letters, digits and +-_.@ that systemd allows in the name of an entry", c))
		}
	}
	// Longest counter: +2147483647-2147483647.
	if len(name)+22 > 255 {
		return bad("too long")
	}
	return nil
}

// equalFold compares as systemd-boot does: letters of ASCII only.
func equalFold(a, b string) bool { return lower(a) == lower(b) }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && equalFold(s[len(s)-len(suffix):], suffix)
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
