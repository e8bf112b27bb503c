package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// entry is a file or directory as its parent directory lists it.
type entry struct {
	name    string
	short   shortName
	attr    byte
	cluster uint32
	size    uint32
	written stamp
	pos     int // index of the first 32-byte entry of the set
	n       int // entries of the set, the short one last
}

func (e *entry) isDir() bool { return e.attr&attrDirectory != 0 }

// directory is a directory in memory: at most 2 MiB.
type directory struct {
	path    string
	cluster uint32 // 0: the fixed root of FAT12/16
	runs    []run
	buf     []byte
	entries []entry
	end     int // index of the end marker, or the number of entries if there is none
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

func (d *directory) lookup(name string) *entry {
	key := fold(name)
	for i := range d.entries {
		if fold(d.entries[i].name) == key {
			return &d.entries[i]
		}
	}
	for i := range d.entries { // the 8.3 alias is a name too
		if d.entries[i].short.text(0) == key {
			return &d.entries[i]
		}
	}
	return nil
}

// readDir reads the directory that starts at cluster (0: the root).
func (f *FS) readDir(cluster uint32, path string) (*directory, error) {
	g := &f.geo
	d := &directory{path: path, cluster: cluster}
	if cluster == 0 && g.kind == 32 {
		d.cluster = g.rootCluster
	}
	if d.cluster == 0 {
		d.buf = make([]byte, g.rootSize)
		if err := sparse.ReadFull(f.r, d.buf, g.rootOff); err != nil {
			return nil, fmt.Errorf("root directory: %w", err)
		}
	} else {
		var err error
		limit := max(maxDirBytes/g.clusterSize, 1)
		if d.runs, err = newTableReader(f.r, g).runs(d.cluster, -1, limit, "directory /"+path); err != nil {
			return nil, err
		}
		for _, r := range d.runs {
			p := make([]byte, int64(r.n)*g.clusterSize)
			off := g.clusterOff(r.first)
			if err := sparse.ReadFull(f.r, p, off); err != nil {
				return nil, fmt.Errorf("directory /%s at 0x%x: %w", path, off, err)
			}
			d.buf = append(d.buf, p...)
		}
	}
	return d, f.parse(d)
}

// parse lists the entries of d.
func (f *FS) parse(d *directory) error {
	g := &f.geo
	d.entries, d.end = nil, len(d.buf)/entrySize
	subdirs := map[uint32]bool{}
	var long longName
	for i := 0; i < len(d.buf)/entrySize; i++ {
		b := d.buf[i*entrySize : (i+1)*entrySize]
		switch {
		case b[0] == entryEnd:
			d.end = i
			return nil
		case b[0] == entryDeleted:
			long.reset()
			continue
		case b[11]&attrLongMask == attrLong:
			long.add(b, i)
			continue
		case b[11]&attrVolume != 0:
			long.reset()
			continue
		}
		le := binary.LittleEndian
		e := entry{
			short: shortName(b[:11]), attr: b[11], pos: i, n: 1,
			cluster: uint32(le.Uint16(b[26:])), size: le.Uint32(b[28:]),
			written: stamp{time: le.Uint16(b[22:]), date: le.Uint16(b[24:])},
		}
		if g.kind == 32 { // the upper half is undefined on FAT12/16
			e.cluster |= uint32(le.Uint16(b[20:])) << 16
		}
		dots := bytes.Equal(b[:11], []byte(".          ")) || bytes.Equal(b[:11], []byte("..         "))
		if dots && e.isDir() {
			long.reset()
			if err := f.checkDots(d, &e); err != nil {
				return err
			}
			continue
		}
		if name, start, ok := long.finish(e.short); ok {
			e.name, e.pos, e.n = name, start, i-start+1
		} else {
			e.name = e.short.text(b[12])
		}
		long.reset()
		off := d.off(g, int64(i*entrySize))
		if !plainName(e.name) {
			return badFormat(off, "directory /"+d.path, "entry with the name %q", e.name)
		}
		if e.isDir() {
			if !g.valid(e.cluster) {
				return badFormat(off, "directory /"+d.path, "directory %q at cluster %d of %d", e.name, e.cluster, g.clusters)
			}
			if subdirs[e.cluster] { // two names for one directory would make a tree without end
				return badFormat(off, "directory /"+d.path, "cluster %d is a directory under two names", e.cluster)
			}
			subdirs[e.cluster] = true
		}
		d.entries = append(d.entries, e)
	}
	return nil
}

// checkDots refuses a directory that says that it is another one. Since every directory names one parent, a walk over
// a hostile volume comes to an end.
func (f *FS) checkDots(d *directory, e *entry) error {
	if e.short[1] == ' ' && e.cluster != d.cluster {
		off := d.off(&f.geo, int64(e.pos)*entrySize)
		return badFormat(off, "directory /"+d.path, "'.' is cluster %d, not %d", e.cluster, d.cluster)
	}
	return nil
}

// plainName reports whether a name read from disk can be an element of a path.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && utf8.ValidString(name) && !strings.ContainsAny(name, "/\x00")
}

// longName collects long entries, which come in descending order before their short entry.
type longName struct {
	start, left int // index of the first entry; pieces still missing
	sum         byte
	units       [20 * unitsPerLong * 2]byte
	size        int
}

func (l *longName) reset() { *l = longName{} }

func (l *longName) add(b []byte, index int) {
	ord := int(b[0] &^ lastLong)
	if b[0]&lastLong != 0 {
		l.reset()
		if ord < 1 || ord > 20 {
			return
		}
		l.start, l.left, l.sum, l.size = index, ord+1, b[13], ord*2*unitsPerLong
	}
	if l.left == 0 || ord != l.left-1 || ord == 0 || b[13] != l.sum || b[12] != 0 {
		l.reset()
		return
	}
	l.left = ord
	p := l.units[(ord-1)*2*unitsPerLong:]
	copy(p, b[1:11])
	copy(p[10:], b[14:26])
	copy(p[22:], b[28:32])
}

// finish returns the long name if all its pieces came and belong to s.
func (l *longName) finish(s shortName) (name string, start int, ok bool) {
	if l.left != 1 || l.sum != s.checksum() {
		return "", 0, false
	}
	name = efi.DecodeUTF16(l.units[:l.size])
	if strings.ContainsRune(name, utf8.RuneError) || !plainName(name) || efi.UTF16Len(name) > maxName {
		return "", 0, false
	}
	return name, l.start, true
}

// Directory entries, Microsoft "FAT: General Overview of On-Disk Format" 1.03 (fatgen103), sections 6 and 7.
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

// entrySet is what a name takes in its directory: long entries where they are needed, then the short entry.
func entrySet(name string, s shortName, short bool, attr byte, cluster, size uint32, t stamp) []byte {
	exact, bits, needLong, ok := exactShort(name)
	if ok && exact == s && (!needLong || (short && bits != 0 && s.text(bits) == name)) {
		if !needLong {
			bits = 0
		}
		return appendShort(nil, s, bits, attr, cluster, size, t)
	}
	set := appendLong(nil, name, s.checksum())
	return appendShort(set, s, 0, attr, cluster, size, t)
}
