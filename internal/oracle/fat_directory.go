package oracle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// Attributes of a directory entry.
const (
	attrVolume = 0x08
	attrDir    = 0x10
	attrLong   = 0x0f
)

// How deep directories are followed, and how many entries are read.
const (
	maxDepth   = 32
	maxEntries = 1 << 18
)

// directory is a directory while it is read.
type directory struct {
	path    string
	start   uint32 // 0 for the root of FAT12 and FAT16
	at      int64  // offset of its entry
	parent  *directory
	depth   int
	entries []dirEntry
}

// dirEntry is one 8.3 entry with what stands before it.
type dirEntry struct {
	File
	index int
	// longName is the long name as it is on the disk, if one belongs to this entry.
	longName []uint16
	// behind says that a free entry which ends the directory comes before.
	behind bool
	volume bool
}

// longSet collects the entries of a long name, which come before their 8.3 entry.
type longSet struct {
	units   [20 * 13]uint16
	slots   int // of the whole name
	next    int // the order that is expected, 0 if the set is complete
	sum     byte
	typ     bool // one has a type
	cluster bool // one has a cluster number
}

// shortSum is the checksum that ties a long name to its 8.3 entry.
func shortSum(name []byte) (sum byte) {
	for _, c := range name[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// walk finds the files as the driver does.
func (v *Volume) walk() error {
	clusters, table, err := v.rootTable(v.fat)
	if err != nil {
		return err
	}
	return v.readDirectory(&directory{start: v.root}, clusters, table)
}

// rootTable reads the root directory by one of the FATs.
func (v *Volume) rootTable(fat []byte) (clusters []uint32, table []byte, err error) {
	if v.Bits != 32 {
		table, err = v.readAt(v.rootStart, v.rootSize)
	} else {
		var end chainEnd
		clusters, end = v.chain(fat, v.root, -1)
		if why := v.dirProblem(end); why != "" && v.options.Reader == FATReaderLinux {
			return nil, nil, fmt.Errorf("the root directory: %s", why)
		}
		if v.options.Reader == FATReaderEDK2 && (end == chainFree || end == chainBad) {
			return []uint32{}, nil, nil
		}
		table, err = v.readClusters(clusters, int64(len(clusters))*int64(v.ClusterSize))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the root directory: %w", err)
	}
	return clusters, table, nil
}

// entryOffset is where the entry with an index is.
func (v *Volume) entryOffset(clusters []uint32, i int) int64 {
	at := int64(i) * 32
	if clusters == nil {
		return v.rootStart + at
	}
	return v.offset(clusters[at/int64(v.ClusterSize)]) + at%int64(v.ClusterSize)
}

// dirProblem says why the driver cannot read a directory whose chain ends so.
func (v *Volume) dirProblem(end chainEnd) string {
	switch end {
	case chainWhole, chainLimited:
		return ""
	case chainBad:
		if v.options.Reader != FATReaderUBoot {
			// to Linux, a bad cluster is the end of a chain; to edk2, the directory is empty
			return ""
		}
	case chainRange:
		if v.options.Reader == FATReaderEDK2 { // it finds out when it comes there
			return ""
		}
	case chainFree:
		if v.options.Reader == FATReaderEDK2 { // the directory is empty
			return ""
		}
	}
	return (&chainError{end: end}).Error()
}

// readDirectory adds what a directory holds.
func (v *Volume) readDirectory(d *directory, clusters []uint32, table []byte) error {
	v.parse(d, clusters, table, nil)
	for i := range d.entries {
		e := &d.entries[i]
		if e.behind || e.volume || e.isDot() {
			continue
		}
		if v.entries++; v.entries > maxEntries {
			return ErrTooMuch
		}
		f := &e.File
		f.Path = d.pathOf(v, e)
		if !f.Dir {
			if !v.options.NoContent {
				if err := v.hash(f); err != nil {
					return fmt.Errorf("%s: %w", f.Path, err)
				}
			}
			v.add(f)
			continue
		}
		sub := &directory{path: f.Path, start: f.Start, at: f.at, parent: d, depth: d.depth + 1}
		clusters, end := v.chain(v.fat, f.Start, -1)
		f.Err = v.unreadable(sub, clusters, end)
		table, err := v.readClusters(clusters, int64(len(clusters))*int64(v.ClusterSize))
		switch {
		case errors.Is(err, ErrTooMuch):
			return fmt.Errorf("%s: %w", f.Path, err)
		case f.Err != "":
		case err != nil:
			f.Err = err.Error()
		case v.options.Reader == FATReaderEDK2 && (end == chainFree || end == chainBad):
			f.Err = (&chainError{f.Start, len(clusters), len(clusters) + 1, end}).Error() + ": the directory is empty"
		case v.options.Reader == FATReaderLinux && !hasDots(table):
			f.Err = "it has neither . and .. nor two directories"
		}
		v.add(f)
		if f.Err != "" {
			continue
		}
		if err := v.readDirectory(sub, clusters, table); err != nil {
			return err
		}
	}
	return nil
}

// pathOf is the path of an entry.
func (d *directory) pathOf(v *Volume, e *dirEntry) string {
	name := e.Short
	if e.Long {
		name = v.decode(e.longName)
	}
	if d.path != "" {
		return d.path + "/" + name
	}
	return name
}

// unreadable says why the driver cannot read a directory, or nothing.
func (v *Volume) unreadable(d *directory, clusters []uint32, end chainEnd) string {
	for p := d.parent; p != nil; p = p.parent {
		// Linux finds a directory again by the place of its entry.
		if v.options.Reader == FATReaderLinux && p.parent != nil && p.at == d.at || v.options.Reader != FATReaderLinux && p.start == d.start {
			return "it is a directory in which it is"
		}
	}
	switch {
	case d.depth > maxDepth:
		return "too many directories in each other"
	case d.start == 0 && v.options.Reader == FATReaderEDK2:
		return "" // it is empty
	case d.start == 0:
		return "it has no cluster"
	case d.start == v.root:
		return "it is the root directory"
	case v.options.Reader == FATReaderUBoot && len(clusters) > 0:
		return "" // it reads until the names end
	}
	return v.dirProblem(end)
}

// hasDots is what Linux wants of a directory: at least two entries that are directories, which are
// . and .. in most.
func hasDots(table []byte) bool {
	n := 0
	for len(table) >= 32 {
		if table[0] != 0 && table[0] != 0xe5 && table[11]&attrDir != 0 && table[11]&attrVolume == 0 {
			n++
		}
		table = table[32:]
	}
	return n >= 2
}

// add appends what the driver sees.
func (v *Volume) add(f *File) {
	if v.options.Reader == FATReaderEDK2 {
		// Of names that are equal but for case, its shell shows one.
		dir, name := split(f.Path)
		key := dir + "/" + strings.Map(upper, name)
		if v.shown[key] {
			return
		}
		if v.shown == nil {
			v.shown = map[string]bool{}
		}
		v.shown[key] = true
	}
	v.Files = append(v.Files, *f)
}

// tell is called with what is wrong with a long name; a driver does not mind.
type tell func(format string, args ...any)

// parse finds the 8.3 entries of a directory and the long names that belong to them.
func (v *Volume) parse(d *directory, clusters []uint32, table []byte, report tell) {
	if report == nil {
		report = func(string, ...any) {}
	}
	var set longSet
	ended := false
	for i := 0; i*32+32 <= len(table); i++ {
		raw := table[i*32 : i*32+32]
		switch {
		case raw[0] == 0:
			set.orphan(report)
			ended = true
			continue
		case raw[0] == 0xe5:
			set.orphan(report)
			continue
		case raw[11] == attrLong:
			set.add(raw, report)
			continue
		}
		e := dirEntry{index: i, behind: ended, volume: raw[11]&attrVolume != 0}
		e.File = File{
			Dir: raw[11]&attrDir != 0, Size: int64(binary.LittleEndian.Uint32(raw[28:])), Attributes: raw[11],
			Start: uint32(binary.LittleEndian.Uint16(raw[26:])), Short: v.shortName(raw, false), raw: [11]byte(raw), at: v.entryOffset(clusters, i),
		}
		if v.Bits == 32 {
			e.Start |= uint32(binary.LittleEndian.Uint16(raw[20:])) << 16
		}
		if e.volume {
			if d.parent == nil && !v.labelled && raw[11]&attrDir == 0 {
				v.Label, v.labelled = strings.TrimRight(v.shortName(raw, true), " "), true
			}
			set.take(raw, report)
		} else if set.take(raw, report) && !(set.cluster && v.options.Reader == FATReaderEDK2) {
			n := slices.Index(set.units[:], 0)
			if n < 0 || n > set.slots*13 {
				n = set.slots * 13
			}
			e.longName, e.Long = slices.Clone(set.units[:n]), true
		}
		set = longSet{}
		d.entries = append(d.entries, e)
	}
	set.orphan(report)
}

var dotNames = [2]string{".          ", "..         "}

// isDot says whether an entry is . or .., wherever it is: drivers leave such entries out.
func (e *dirEntry) isDot() bool {
	return string(e.raw[:]) == dotNames[0] || string(e.raw[:]) == dotNames[1]
}

// add adds an entry of a long name.
func (set *longSet) add(raw []byte, report tell) {
	order, sum := int(raw[0]&0x3f), raw[13]
	if raw[0]&0x40 != 0 {
		set.orphan(report)
		if order == 0 || order > 20 {
			report("a long name of %d entries", order)
			return
		}
		*set = longSet{slots: order, next: order, sum: sum}
	} else if set.slots == 0 || set.next != order || set.sum != sum {
		if set.slots == 0 {
			report("entry %d of a long name without those before it", order)
		} else {
			report("entry %d of a long name with checksum %#x, want %d with %#x", order, sum, set.next, set.sum)
		}
		*set = longSet{}
		return
	}
	set.typ = set.typ || raw[12] != 0
	set.cluster = set.cluster || raw[26] != 0 || raw[27] != 0
	units := set.units[(order-1)*13:]
	for i, at := range [13]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		units[i] = binary.LittleEndian.Uint16(raw[at:])
	}
	set.next--
}

// orphan ends a set that no 8.3 entry follows.
func (set *longSet) orphan(report tell) {
	if set.slots > 0 {
		report("a long name without its 8.3 entry")
	}
	*set = longSet{}
}

// take says whether the set is the long name of an 8.3 entry.
func (set *longSet) take(raw []byte, report tell) bool {
	switch {
	case set.slots == 0:
		return false
	case set.next != 0:
		report("a long name of %d entries lacks the last %d", set.slots, set.next)
		return false
	case set.sum != shortSum(raw):
		report("the checksum of a long name is %#x, that of %q is %#x", set.sum, raw[:11], shortSum(raw))
		return false
	}
	if set.typ || set.cluster {
		report("the type or the cluster of an entry of a long name is not zero")
	}
	return true
}

// shortName is the text of an 8.3 name. The case flags of Windows NT are honoured, as all drivers
// do.
func (v *Volume) shortName(raw []byte, label bool) string {
	b := bytes.Clone(raw[:11])
	edk2 := v.options.Reader == FATReaderEDK2
	if b[0] == 5 && !edk2 {
		b[0] = 0xe5
	}
	text := func(b []byte, lower bool) string {
		var s strings.Builder
		for _, c := range b {
			r := rune(c)
			if c >= 0x80 && edk2 { // it has no code page
				r |= 0xff00
			} else if c >= 0x80 {
				r = codePage437[c-0x80]
			} else if lower && c >= 'A' && c <= 'Z' {
				r += 'a' - 'A'
			}
			s.WriteRune(r)
		}
		return s.String()
	}
	if label {
		return text(b, false)
	}
	base := strings.TrimRight(text(b[:8], raw[12]&0x08 != 0), " ")
	ext := strings.TrimRight(text(b[8:], raw[12]&0x10 != 0), " ")
	if ext != "" {
		base += "." + ext
	}
	return base
}

// codePage437 are the upper characters of the code page that drivers assume.
var codePage437 = []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0")

// decode is the text of a long name.
func (v *Volume) decode(units []uint16) string {
	var s strings.Builder
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			if i+1 < len(units) {
				if pair := utf16.DecodeRune(r, rune(units[i+1])); pair != '\ufffd' {
					s.WriteRune(pair)
					i++
					continue
				}
			}
			if v.options.Reader == FATReaderLinux { // it leaves lone surrogates out
				continue
			}
			r = '\ufffd'
		}
		s.WriteRune(r)
	}
	return s.String()
}
