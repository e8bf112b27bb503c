package fat

import (
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/efi"
)

// maxName is the limit of a long name in UTF-16 units, as in Windows and Linux: 20 long entries
// would hold 260.
const maxName = 255

// shortName is the 11-byte name of a directory entry: eight characters, three of extension, padded
// with spaces.
type shortName [11]byte

// Case bits of DIR_NTRes, an extension of Windows NT that Linux, mtools and edk2 understand.
const (
	lowerBase = 0x08
	lowerExt  = 0x10
)

// fold is the form in which two names are compared: FAT keeps case but does not tell names apart by
// it. This is the one rule: the letters of ASCII, which fatgen103 section 6.1 and every driver have
// in upper case. What other letters have is a matter of code pages and tables of Unicode, in which
// no two drivers agree; and Unicode's own rules take the long s of "\u017fys.efi" for the s of
// "sys.efi", which no driver does.
func fold(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= 'a' && c <= 'z' {
			b := []byte(name)
			for ; i < len(b); i++ {
				b[i] = upper(b[i])
			}
			return string(b)
		}
	}
	return name
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// SameName reports whether a volume takes two names, or two paths, for the same: they are equal
// except for the case of ASCII letters. A file also has its 8.3 alias ([Attributes]), by which it
// is found.
func SameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && upper(a[i]) != upper(b[i]) {
			return false
		}
	}
	return true
}

// checkName reports why name cannot be a long name that every system can use.
func checkName(name string) error {
	bad := func(why string) error { return &NameError{Name: name, Why: why} }
	switch {
	case name == "":
		return bad("is empty")
	case name == "." || name == "..":
		return bad("is reserved")
	case !utf8.ValidString(name):
		return bad("is not valid UTF-8")
	case efi.UTF16Len(name) > maxName:
		return bad("is longer than 255 UTF-16 units")
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return bad("ends with a dot or a space, which Windows drops")
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`"*/:<>?\|`, r) {
			return bad("contains " + quoteRune(r) + ", which FAT does not allow")
		}
	}
	base, _, _ := strings.Cut(name, ".")
	base = fold(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL":
		return bad("is a device name of DOS and Windows")
	}
	if len(base) == 4 && (strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")) && base[3] >= '1' && base[3] <= '9' {
		return bad("is a device name of DOS and Windows")
	}
	return nil
}

func quoteRune(r rune) string {
	if r < 0x20 || r == 0x7f {
		return "a control character"
	}
	return "'" + string(r) + "'"
}

// shortChar reports whether c may stand in a short name, lower case counted as upper case
// (fatgen103, section 6.1).
func shortChar(c byte) bool {
	switch {
	case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("$%'-_@~`!(){}^#&", c) >= 0
}

func padShort(base, ext string) shortName {
	s := shortName([]byte("           "))
	copy(s[:8], base)
	copy(s[8:], ext)
	return s
}

// exactShort returns the short name that is the same as name but for case. caseBits says how to
// restore a case that is uniform in each part; needLong is set where upper case alone does not give
// name back.
func exactShort(name string) (s shortName, caseBits byte, needLong, ok bool) {
	base, ext, dot := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || (dot && ext == "") {
		return s, 0, false, false
	}
	mixed := false
	for _, part := range []struct {
		text string
		bit  byte
	}{{base, lowerBase}, {ext, lowerExt}} {
		for i := range len(part.text) {
			if !shortChar(part.text[i]) {
				return s, 0, false, false
			}
		}
		switch part.text {
		case fold(part.text):
		case strings.ToLower(part.text):
			needLong, caseBits = true, caseBits|part.bit
		default:
			needLong, mixed = true, true
		}
	}
	if mixed {
		caseBits = 0
	}
	return padShort(fold(base), fold(ext)), caseBits, needLong, true
}

// basis reduces a long name to short-name characters (fatgen103, "The Basis-Name Generation
// Algorithm").
func basis(name string) (base, ext string) {
	name = strings.TrimLeft(name, ". ")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name, ext = name[:i], name[i+1:]
	}
	reduce := func(s string, limit int) string {
		var b strings.Builder
		for _, r := range s {
			if b.Len() == limit {
				break
			}
			switch {
			case r == ' ' || r == '.':
			case r < 0x80 && shortChar(byte(r)):
				b.WriteByte(upper(byte(r)))
			default:
				b.WriteByte('_')
			}
		}
		return b.String()
	}
	base, ext = reduce(name, 8), reduce(ext, 3)
	if base == "" {
		base = "_"
	}
	return base, ext
}

// aliases gives out the short names of one directory.
type aliases struct {
	used map[shortName]bool
	// basis -> the first tail not yet tried: keeps thousands of similar names linear
	next map[shortName]int
}

func newAliases(n int) *aliases {
	return &aliases{used: make(map[shortName]bool, n), next: map[shortName]int{}}
}

// take chooses the short name for name and marks it used. ok is false only when a million tails are
// taken.
func (a *aliases) take(name string) (s shortName, ok bool) {
	if exact, _, _, fits := exactShort(name); fits && !a.used[exact] {
		a.used[exact] = true
		return exact, true
	}
	base, ext := basis(name)
	key := padShort(base, ext)
	for n := max(a.next[key], 1); n < 1_000_000; n++ {
		tail := "~" + itoa(n)
		s = padShort(base[:min(len(base), 8-len(tail))]+tail, ext)
		if !a.used[s] {
			a.used[s], a.next[key] = true, n+1
			return s, true
		}
	}
	return s, false
}

func itoa(n int) string {
	var b [8]byte
	i := len(b)
	for ; n > 0; n /= 10 {
		i--
		b[i] = byte('0' + n%10)
	}
	return string(b[i:])
}

// checksum ties long entries to their short entry (fatgen103, ChkSum).
func (s shortName) checksum() byte {
	var sum byte
	for _, c := range s {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}
