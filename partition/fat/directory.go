package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
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
		if d.runs, err = newWindow(f.r, g).runs(d.cluster, -1, limit, "directory /"+path); err != nil {
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
