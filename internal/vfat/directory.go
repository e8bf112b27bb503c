package vfat

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
)

// Of a directory entry (fatgen103, "FAT Directory Structure").
const (
	slotSize  = 32
	attrLabel = 0x08
	attrDir   = 0x10
	attrFile  = 0x20 // to be archived, as new files are
	attrLong  = 0x0f
	lastPiece = 0x40
	erased    = 0xe5
	firstDate = 1<<5 | 1 // 1980-01-01

	maxSlots = 1 << 16 // of a directory
)

// directory is a directory as it is on the disk.
type directory struct {
	*Volume
	start    uint32   // 0 for the root directory of a FAT12 or FAT16
	clusters []uint32 // of the others
	table    []byte
}

// entry is a name in a directory.
type entry struct {
	dir   *directory
	first int // the first slot, which may be that of a long name
	slot  int // that of the 8.3 name
	raw   [slotSize]byte
	long  string
}

func (e *entry) isDir() bool { return e.raw[11]&attrDir != 0 }
func (e *entry) size() int64 { return int64(binary.LittleEndian.Uint32(e.raw[28:])) }

func (e *entry) start() uint32 {
	n := uint32(binary.LittleEndian.Uint16(e.raw[26:]))
	if e.dir.bits == 32 {
		n |= uint32(binary.LittleEndian.Uint16(e.raw[20:])) << 16
	}
	return n
}

// setFile puts a first cluster and a size into the slot of an 8.3 name.
func setFile(raw []byte, start uint32, size int64) {
	le := binary.LittleEndian
	le.PutUint16(raw[20:], uint16(start>>16))
	le.PutUint16(raw[26:], uint16(start))
	le.PutUint32(raw[28:], uint32(size))
}

// newSlot is that of an 8.3 name which has no cluster yet.
func newSlot(field [11]byte, attr byte) []byte {
	b := make([]byte, slotSize)
	copy(b, field[:])
	b[11] = attr
	for _, at := range []int{16, 18, 24} { // made, read, changed
		binary.LittleEndian.PutUint16(b[at:], firstDate)
	}
	return b
}

// openDir reads the directory that starts at a cluster: 0 is the root directory, of a FAT32 too.
func (v *Volume) openDir(start uint32) (d *directory, err error) {
	d = &directory{Volume: v, start: start}
	if start == 0 && v.bits != 32 {
		d.table, err = v.read(v.rootStart, v.rootSize)
		return d, err
	}
	if start == 0 {
		d.start = v.root
	}
	most := max(maxSlots*slotSize/v.cluster, 1)
	if d.clusters, err = v.table().chain(d.start, int(most)); err != nil {
		return nil, err
	}
	for _, n := range d.clusters {
		b, err := v.read(v.offset(n), v.cluster)
		if err != nil {
			return nil, err
		}
		d.table = append(d.table, b...)
	}
	return d, nil
}

// slotAt is where a slot is on the disk.
func (d *directory) slotAt(i int) int64 {
	at := int64(i) * slotSize
	if d.clusters == nil {
		return d.rootStart + at
	}
	return d.offset(d.clusters[at/d.cluster]) + at%d.cluster
}

// slots is how many there are.
func (d *directory) slots() int { return len(d.table) / slotSize }

// slot is one of them.
func (d *directory) slot(i int) []byte { return d.table[i*slotSize : (i+1)*slotSize] }

// entries finds the names of a directory, without "." and "..".
func (d *directory) entries() []*entry {
	var all []*entry
	var pieces [][]byte
	for i := range d.slots() {
		b := d.slot(i)
		switch {
		case b[0] == 0:
			return all
		case b[0] == erased:
			pieces = nil
			continue
		case b[11] == attrLong:
			if b[0]&lastPiece != 0 {
				pieces = nil
			}
			pieces = append(pieces, b)
			continue
		case b[11]&attrLabel == 0 && b[0] != '.':
			e := &entry{dir: d, first: i, slot: i, raw: [slotSize]byte(b)}
			if name, ok := longName(pieces, sumOf([11]byte(b))); ok {
				e.long, e.first = name, i-len(pieces)
			}
			all = append(all, e)
		}
		pieces = nil
	}
	return all
}

// short is the text of the 8.3 name.
func (e *entry) short() string {
	a := alias{base: strings.TrimRight(string(e.raw[:8]), " "), ext: strings.TrimRight(string(e.raw[8:11]), " ")}
	return a.text()
}

// find returns the entry with a name, or nil. The 8.3 name is one even where there is a long name.
func (d *directory) find(name string) *entry {
	for _, e := range d.entries() {
		if e.long != "" && sameName(e.long, name) || sameName(e.short(), name) {
			return e
		}
	}
	return nil
}

// split divides a path into its elements. That of the root directory has none.
func split(name string) ([]string, error) {
	if name == "." {
		return nil, nil
	}
	var all []string
	for part := range strings.SplitSeq(name, "/") {
		clean, err := cleanName(part)
		if err != nil {
			return nil, err
		}
		all = append(all, clean)
	}
	return all, nil
}

// place is where a path leads.
type place struct {
	dir     *directory
	name    string
	entry   *entry   // nil: there is none
	parents []uint32 // the first clusters of the directories on the way
}

// lookup follows a path. All but its last element must exist.
func (v *Volume) lookup(path string) (*place, error) {
	parts, err := split(path)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("the root directory: %w", fs.ErrInvalid)
	}
	p := &place{}
	if p.dir, err = v.openDir(0); err != nil {
		return nil, err
	}
	for i, name := range parts {
		p.parents = append(p.parents, p.dir.start)
		p.name, p.entry = name, p.dir.find(name)
		if i == len(parts)-1 {
			break
		}
		if p.entry == nil {
			return nil, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
		}
		if p.dir, err = p.entry.open(); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
	}
	return p, nil
}

// existing is lookup of what has to be there.
func (v *Volume) existing(path string) (*place, error) {
	p, err := v.lookup(path)
	if err == nil && p.entry == nil {
		err = fs.ErrNotExist
	}
	return p, err
}

// open reads a directory.
func (e *entry) open() (*directory, error) {
	switch {
	case !e.isDir():
		return nil, ErrNotDirectory
	case e.start() == 0:
		return nil, fmt.Errorf("%w: a directory without a cluster", ErrDamaged)
	}
	return e.dir.openDir(e.start())
}
