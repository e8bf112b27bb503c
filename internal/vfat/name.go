package vfat

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// unitsPerSlot is how much of a long name a slot has, maxUnits how long it can be.
const (
	unitsPerSlot = 13
	maxUnits     = 255
)

// unitPlaces are those of the units in a slot of a long name (fatgen103, "FAT Long Directory
// Entries").
var unitPlaces = [unitsPerSlot]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// cleanName is an element of a path as the driver stores it: without dots at its end.
func cleanName(name string) (string, error) {
	clean := strings.TrimRight(name, ".")
	switch {
	case clean == "" || !utf8.ValidString(clean) || len(utf16.Encode([]rune(clean))) > maxUnits:
		return "", fmt.Errorf("name %q: %w", name, fs.ErrInvalid)
	case strings.ContainsFunc(clean, func(r rune) bool { return r < ' ' || strings.ContainsRune(`"*/:<>?\|`, r) }):
		return "", fmt.Errorf("a character in %q: %w", name, fs.ErrInvalid)
	}
	return clean, nil
}

// sameName compares names without regard to the case of ASCII letters.
func sameName(a, b string) bool { return upperName(a) == upperName(b) }

func upperName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}, name)
}

// alias is the 8.3 name that a name would have, before a number makes it another one.
type alias struct {
	base, ext string
	// whole: the name is this one. plain: and in upper case, so that it needs no long name.
	whole, plain bool
}

// aliasOf makes an 8.3 name: in upper case, without blanks and all dots but the last, other
// characters replaced, and cut.
func aliasOf(name string) alias {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && strings.Trim(name[:i], ". ") != "" {
		base, ext = name[:i], name[i+1:]
	}
	part := func(s string, most int) string {
		var b strings.Builder
		for _, r := range upperName(s) {
			switch {
			case r == '.' || r == ' ':
			case r >= utf8.RuneSelf || strings.ContainsRune(";,+=[]", r):
				b.WriteByte('_')
			default:
				b.WriteRune(r)
			}
		}
		return b.String()[:min(b.Len(), most)]
	}
	a := alias{base: part(base, 8), ext: part(ext, 3)}
	if a.base == "" {
		a.base = "_"
	}
	a.whole = a.text() == upperName(name)
	a.plain = a.text() == name
	return a
}

// text is the name as it is written.
func (a alias) text() string {
	if a.ext != "" {
		return a.base + "." + a.ext
	}
	return a.base
}

// numbered is the i-th alias with a number: ~1 to ~9 first, then such as differ in more places.
func (a alias) numbered(i int) alias {
	tail := fmt.Sprintf("~%d", i)
	if i > 9 {
		a.base = a.base[:min(len(a.base), 2)]
		// The driver takes four digits from the time. These are from a counter, spread by a prime.
		tail = fmt.Sprintf("%04X~%d", (i*0x9e35)&0xffff, 1+i%9)
	}
	a.base = a.base[:min(len(a.base), 8-len(tail))] + tail
	return a
}

// field is the name of a directory entry.
func (a alias) field() (f [11]byte) {
	copy(f[:], fmt.Sprintf("%-8s%-3s", a.base, a.ext))
	return f
}

// sumOf is the checksum that ties a long name to its 8.3 name (fatgen103, "ChkSum").
func sumOf(field [11]byte) byte {
	var sum byte
	for _, c := range field {
		sum = sum<<7 | sum>>1
		sum += c
	}
	return sum
}

// longSlots are the pieces of a long name, in the order in which they are stored: the last one
// first.
func longSlots(name string, sum byte) [][]byte {
	units := utf16.Encode([]rune(name))
	n := (len(units) + unitsPerSlot - 1) / unitsPerSlot
	var all [][]byte
	for piece := n; piece > 0; piece-- {
		b := make([]byte, slotSize)
		b[0], b[11], b[13] = byte(piece), attrLong, sum
		if piece == n {
			b[0] |= lastPiece
		}
		for i, at := range unitPlaces {
			unit := uint16(0xffff) // behind the end
			switch k := (piece-1)*unitsPerSlot + i; {
			case k < len(units):
				unit = units[k]
			case k == len(units):
				unit = 0
			}
			binary.LittleEndian.PutUint16(b[at:], unit)
		}
		all = append(all, b)
	}
	return all
}

// longName reads the pieces of a long name that belong to an 8.3 name, or says that they do not.
func longName(slots [][]byte, sum byte) (string, bool) {
	var units []uint16
	n := len(slots)
	for i := range slots {
		b, order := slots[n-1-i], byte(i+1)
		if i == n-1 {
			order |= lastPiece
		}
		if b[0] != order || b[13] != sum {
			return "", false
		}
		for _, at := range unitPlaces {
			units = append(units, binary.LittleEndian.Uint16(b[at:]))
		}
	}
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return string(utf16.Decode(units)), n > 0
}
