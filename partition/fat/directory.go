package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// entry is a file or directory as its parent directory lists it.
type entry struct {
	name    string
	alias   string // the 8.3 name as text
	short   shortName
	attr    byte
	cluster uint32
	size    uint32
	written stamp
	pos     int  // index of the first 32-byte entry of the set
	n       int  // entries of the set, the short one last
	byAlias bool // the long name cannot be an element of a path: name is the 8.3 alias
	again   bool // an earlier entry names the same directory
}

func (e *entry) isDir() bool { return e.attr&attrDirectory != 0 }

// directory is a directory in memory: at most 2 MiB.
type directory struct {
	path    string
	cluster uint32 // 0: the fixed root of FAT12/16
	runs    []run
	buf     []byte
	entries []entry
	kept    []entry // what is not listed but is there to stay: the volume label, '.' and '..'
	end     int     // index of the end marker, or the number of entries if there is none
}

// total is how many entries the directory can hold.
func (d *directory) total(g *geometry) int {
	if d.cluster == 0 {
		return g.rootEntries
	}
	return len(d.buf) / entrySize
}

// sets are all entries with their long names, in the order of the disk.
func (d *directory) sets() []entry {
	all := slices.Concat(d.entries, d.kept)
	slices.SortFunc(all, func(a, b entry) int { return a.pos - b.pos })
	return all
}

// off is the place on disk of byte i of the directory.
func (d *directory) off(g *geometry, i int64) int64 {
	if d.cluster == 0 {
		return g.rootOff + i
	}
	index := i / g.clusterSize
	for _, r := range d.runs {
		if index < int64(r.n) {
			return g.clusterOff(r.first+uint32(index)) + i%g.clusterSize
		}
		index -= int64(r.n)
	}
	panic("fat: byte outside of the directory") // callers stay inside of buf
}

// lookup finds the entry that a reader means by name: the one that has exactly this name, else the
// first one that has it but for case, else the first one whose 8.3 alias it is.
func (d *directory) lookup(name string) *entry {
	var same, alias *entry
	for i := range d.entries {
		e := &d.entries[i]
		switch {
		case e.name == name:
			return e
		case same == nil && SameName(e.name, name):
			same = e
		case alias == nil && same == nil && e.answers(name):
			alias = e
		}
	}
	if same != nil {
		return same
	}
	return alias
}

// answers reports whether name is that of e, but for case, or its 8.3 alias.
func (e *entry) answers(name string) bool {
	return SameName(e.name, name) || SameName(e.alias, name)
}

// only is lookup for changes: nil if there is no such entry, and [ErrAmbiguous] if name can mean
// several. A name in its exact case means one, unless a damaged directory has it twice.
func (d *directory) only(name string) (*entry, error) {
	var exact, loose *entry
	twice := func(a, b *entry) error {
		return fmt.Errorf("%w: %q can be %q (8.3 alias %s) or %q (%s): give the name in its exact case", ErrAmbiguous, name, a.name,
			a.alias, b.name, b.alias)
	}
	var both error
	for i := range d.entries {
		e := &d.entries[i]
		switch {
		case e.name == name && exact != nil:
			return nil, twice(exact, e)
		case e.name == name:
			exact = e
		case !e.answers(name):
		case loose == nil:
			loose = e
		case both == nil:
			both = twice(loose, e)
		}
	}
	switch {
	case exact != nil:
		return exact, nil
	case both != nil:
		return nil, both
	}
	return loose, nil
}

// taken reports whether an entry other than but answers to name: to another reader the two would be
// one.
func (d *directory) taken(name string, but *entry) bool {
	for i := range d.entries {
		if e := &d.entries[i]; e != but && e.answers(name) {
			return true
		}
	}
	return false
}

// readDir reads the directory that starts at cluster (0: the root).
func (f *FS) readDir(cluster uint32, path string) (*directory, error) {
	g := &f.geo
	if cluster == 0 && g.kind == 32 {
		cluster = g.rootCluster
	}
	var runs []run
	if cluster != 0 {
		var err error
		if runs, err = newTableReader(f.r, g).runs(cluster, -1, g.dirClusters(), "directory /"+path); err != nil {
			return nil, err
		}
	}
	return f.loadDir(cluster, runs, path)
}

// loadDir reads the directory in runs, none for the fixed root of a FAT12 or FAT16.
func (f *FS) loadDir(cluster uint32, runs []run, path string) (*directory, error) {
	g := &f.geo
	d := &directory{path: path, cluster: cluster, runs: runs}
	if cluster == 0 {
		d.buf = make([]byte, g.rootSize)
		if err := sparse.ReadFull(f.r, d.buf, g.rootOff); err != nil {
			return nil, fmt.Errorf("root directory: %w", err)
		}
	}
	if cluster != 0 {
		d.buf = make([]byte, count(runs)*g.clusterSize)
	}
	at := int64(0)
	for _, r := range runs {
		p := d.buf[at : at+int64(r.n)*g.clusterSize]
		off := g.clusterOff(r.first)
		if err := sparse.ReadFull(f.r, p, off); err != nil {
			return nil, fmt.Errorf("directory /%s at 0x%x: %w", path, off, err)
		}
		at += int64(len(p))
	}
	old := f.known.of(cluster)
	f.parse(d, old)
	if len(d.entries) >= manyEntries && !bytes.Equal(d.buf, old.buf) {
		f.known.keep(d)
	}
	return d, nil
}

// known is the directory that was read last, of those that are large. Its bytes are read again each
// time, but what has not changed is not decoded again, which for 10,000 names takes twenty times as
// long.
type known struct {
	mu sync.Mutex
	d  *directory // neither its bytes nor its entries are ever changed
}

// manyEntries is from what size on a directory is kept.
const manyEntries = 256

// of returns the directory if it is the one that starts at cluster, or an empty one.
func (k *known) of(cluster uint32) *directory {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.d == nil || k.d.cluster != cluster {
		return &directory{}
	}
	return k.d
}

func (k *known) keep(d *directory) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.d = &directory{cluster: d.cluster, buf: bytes.Clone(d.buf), entries: d.entries}
}

// parse lists the entries of d. Nothing in a directory makes its other entries unreadable. Sets
// that are as they were in old are taken from there.
func (f *FS) parse(d, old *directory) {
	d.entries, d.kept, d.end = make([]entry, 0, len(old.entries)+1), nil, d.total(&f.geo)
	subdirs := map[uint32]bool{}
	add := func(e entry) {
		if e.isDir() {
			e.again = subdirs[e.cluster]
			subdirs[e.cluster] = true
		}
		d.entries = append(d.entries, e)
	}
	var long longName
	for i, k := 0, 0; i < d.end; i++ {
		for k < len(old.entries) && old.entries[k].pos < i {
			k++
		}
		// A set of several entries begins with one that ends all before it.
		if k < len(old.entries) && old.entries[k].pos == i && (old.entries[k].n > 1 || long.left == 0) {
			e := &old.entries[k]
			if lo, hi := i*entrySize, (i+e.n)*entrySize; hi <= d.end*entrySize && bytes.Equal(d.buf[lo:hi], old.buf[lo:hi]) {
				long.reset()
				add(*e)
				i += e.n - 1
				continue
			}
		}
		b := d.buf[i*entrySize : (i+1)*entrySize]
		switch {
		case b[0] == entryEnd:
			d.end = i
			return
		case b[0] == entryDeleted:
			long.reset()
			continue
		case b[11]&attrLongMask == attrLong:
			long.add(b, i)
			continue
		}
		e := shortEntry(b, f.geo.kind)
		var name string
		name, e.pos = long.finish(e.short, i)
		e.n = i - e.pos + 1
		long.reset()
		if e.attr&attrVolume != 0 || e.dots() != "" {
			d.kept = append(d.kept, e)
			continue
		}
		e.alias = f.page.text(e.short, 0)
		switch e.name = name; {
		case name != "":
		case b[12]&(lowerBase|lowerExt) != 0:
			e.name, e.byAlias = f.page.text(e.short, b[12]), e.n > 1
		default:
			e.name, e.byAlias = e.alias, e.n > 1
		}
		add(e)
	}
}

// shortEntry decodes the fields of a short entry.
func shortEntry(b []byte, kind int) entry {
	le := binary.LittleEndian
	e := entry{
		short: shortName(b[:11]), attr: b[11], cluster: uint32(le.Uint16(b[26:])), size: le.Uint32(b[28:]),
		written: stamp{time: le.Uint16(b[22:]), date: le.Uint16(b[24:])},
	}
	if kind == 32 { // the upper half is undefined on FAT12/16
		e.cluster |= uint32(le.Uint16(b[20:])) << 16
	}
	return e
}

// dots is "." or ".." if e is the entry of that name. Drivers show such entries nowhere.
func (e *entry) dots() string {
	switch string(e.short[:]) {
	case ".          ":
		return "."
	case "..         ":
		return ".."
	}
	return ""
}

// plainName reports whether a name read from disk can be an element of a path.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && utf8.ValidString(name) && !strings.ContainsAny(name, "/\x00")
}

// longName collects long entries, which come in descending order before their short entry.
type longName struct {
	start, left int // index of the first entry; pieces still missing
	sum         byte
	units       [20 * unitsPerLong]uint16
	size        int
}

func (l *longName) reset() { l.start, l.left, l.size = 0, 0, 0 }

// add takes the next long entry. LDIR_Type and LDIR_FstClusLO are not looked at: no driver does
// before it takes a name.
func (l *longName) add(b []byte, index int) {
	ord := int(b[0] &^ lastLong)
	if b[0]&lastLong != 0 {
		l.reset()
		if ord < 1 || ord > 20 {
			return
		}
		l.start, l.left, l.sum, l.size = index, ord+1, b[13], ord*unitsPerLong
	}
	if l.left == 0 || ord != l.left-1 || ord == 0 || b[13] != l.sum {
		l.reset()
		return
	}
	l.left = ord
	p := l.units[(ord-1)*unitsPerLong:]
	for i, at := range [unitsPerLong]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		p[i] = binary.LittleEndian.Uint16(b[at:])
	}
}

// finish returns the long name of the short entry at index, and the index where its set starts. A
// set whose pieces are all there, in order and with the checksum of s, belongs to it whatever its
// text; name is empty if there is no such set, or if its text cannot be an element of a path: it
// has a surrogate without its pair, a slash, or more than 255 units.
func (l *longName) finish(s shortName, index int) (name string, start int) {
	if l.left != 1 || l.sum != s.checksum() {
		return "", index
	}
	units := l.units[:l.size]
	if i := slices.Index(units, 0); i >= 0 {
		units = units[:i]
	}
	if len(units) > maxName {
		return "", l.start
	}
	text := make([]byte, 0, 3*len(units))
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			if i+1 == len(units) {
				return "", l.start
			}
			if r = utf16.DecodeRune(r, rune(units[i+1])); r == utf8.RuneError {
				return "", l.start
			}
			i++
		}
		text = utf8.AppendRune(text, r)
	}
	if name = string(text); !plainName(name) {
		return "", l.start
	}
	return name, l.start
}

// Directory entries, Microsoft "FAT: General Overview of On-Disk Format" 1.03 (fatgen103), sections
// 6 and 7.
//
//	short entry                      long entry
//	 0 11 DIR_Name                    0  1 LDIR_Ord (0x40: last piece, stored first)
//	11  1 DIR_Attr                    1 10 LDIR_Name1, 5 units
//	12  1 DIR_NTRes (case bits)      11  1 LDIR_Attr = 0x0f
//	13  1 DIR_CrtTimeTenth           12  1 LDIR_Type = 0
//	14  4 DIR_CrtTime, DIR_CrtDate   13  1 LDIR_Chksum
//	18  2 DIR_LstAccDate             14 12 LDIR_Name2, 6 units
//	20  2 DIR_FstClusHI              26  2 LDIR_FstClusLO = 0
//	22  4 DIR_WrtTime, DIR_WrtDate   28  4 LDIR_Name3, 2 units
//	26  2 DIR_FstClusLO
//	28  4 DIR_FileSize
const (
	entrySize    = 32
	unitsPerLong = 13

	attrReadOnly  = 0x01
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLong      = 0x0f // read-only, hidden, system and volume together
	attrLongMask  = 0x3f

	entryEnd     = 0x00
	entryDeleted = 0xe5
	lastLong     = 0x40

	// maxDirBytes is the limit of a directory: 65,536 entries (fatgen103, section 6).
	maxDirBytes = 65536 * entrySize
)

// stamp is a date and time of a directory entry: UTC, from 1980 to 2107, in steps of two seconds.
type stamp struct{ date, time uint16 }

var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// stampOf encodes t; the zero time is 1980-01-01, times out of range go to the nearest end.
func stampOf(t time.Time) stamp {
	t = t.UTC()
	if t.Before(epoch) {
		t = epoch
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	return stamp{
		date: uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day()),
		time: uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2),
	}
}

func (s stamp) decode() time.Time {
	month, day := time.Month(s.date>>5&15), int(s.date&31)
	if month == 0 || day == 0 { // not set
		return epoch
	}
	return time.Date(1980+int(s.date>>9), month, day, int(s.time>>11), int(s.time>>5&63), int(s.time&31)*2, 0, time.UTC)
}

// appendShort appends one short entry.
func appendShort(b []byte, s shortName, caseBits, attr byte, cluster uint32, size uint32, t stamp) []byte {
	b = append(b, s[:]...)
	b = append(b, attr, caseBits, 0)
	b = binary.LittleEndian.AppendUint16(b, t.time)
	b = binary.LittleEndian.AppendUint16(b, t.date)
	b = binary.LittleEndian.AppendUint16(b, t.date)
	b = binary.LittleEndian.AppendUint16(b, uint16(cluster>>16))
	b = binary.LittleEndian.AppendUint16(b, t.time)
	b = binary.LittleEndian.AppendUint16(b, t.date)
	b = binary.LittleEndian.AppendUint16(b, uint16(cluster))
	return binary.LittleEndian.AppendUint32(b, size)
}

// setCluster changes the first cluster and the size of a short entry.
func setCluster(e []byte, cluster, size uint32) {
	binary.LittleEndian.PutUint16(e[20:], uint16(cluster>>16))
	binary.LittleEndian.PutUint16(e[26:], uint16(cluster))
	binary.LittleEndian.PutUint32(e[28:], size)
}

// longEntries is how many long entries hold name.
func longEntries(name string) int { return (efi.UTF16Len(name) + unitsPerLong - 1) / unitsPerLong }

// appendLong appends the long entries of name, in disk order: the last piece first.
func appendLong(b []byte, name string, sum byte) []byte {
	text := efi.AppendUTF16(nil, name)
	n := longEntries(name)
	if len(text)%(2*unitsPerLong) != 0 { // one NUL unit, then 0xffff to the end of the piece
		text = append(text, 0, 0)
		for len(text) < 2*unitsPerLong*n {
			text = append(text, 0xff, 0xff)
		}
	}
	for i := n; i > 0; i-- {
		ord := byte(i)
		if i == n {
			ord |= lastLong
		}
		p := text[(i-1)*2*unitsPerLong:]
		b = append(b, ord)
		b = append(b, p[:10]...)
		b = append(b, attrLong, 0, sum)
		b = append(b, p[10:22]...)
		b = append(b, 0, 0)
		b = append(b, p[22:26]...)
	}
	return b
}

// entrySet is what a name takes in its directory: long entries where they are needed, then the
// short entry.
func entrySet(name string, s shortName, short bool, attr byte, cluster, size uint32, t stamp) []byte {
	bits, ok := onlyShort(name, s, short)
	if ok {
		return appendShort(nil, s, bits, attr, cluster, size, t)
	}
	set := appendLong(make([]byte, 0, setLength(name, s, short)*entrySize), name, s.checksum())
	return appendShort(set, s, 0, attr, cluster, size, t)
}

// setLength is how many entries a name takes.
func setLength(name string, s shortName, short bool) int {
	if _, ok := onlyShort(name, s, short); ok {
		return 1
	}
	return longEntries(name) + 1
}

// onlyShort says whether a name needs no long entries, and which case bits do.
func onlyShort(name string, s shortName, short bool) (bits byte, ok bool) {
	exact, bits, needLong, ok := exactShort(name)
	switch {
	case !ok || exact != s:
		return 0, false
	case !needLong:
		return 0, true
	}
	return bits, short && bits != 0 && codePage(nil).text(s, bits) == name
}
