package vfat

import "fmt"

// add adds a name, which has no size yet. It takes the first run of slots that is long enough.
func (d *directory) add(name string, attr byte, start uint32) (*entry, error) {
	a, err := d.alias(name)
	if err != nil {
		return nil, err
	}
	field := a.field()
	short := newSlot(field, attr)
	setFile(short, start, 0)
	var slots [][]byte
	e := &entry{dir: d, raw: [slotSize]byte(short)}
	if !a.plain {
		slots, e.long = longSlots(name, sumOf(field)), name
	}
	slots = append(slots, short)
	if e.first, err = d.room(len(slots)); err != nil {
		return nil, err
	}
	var all []patch
	for i, b := range slots {
		copy(d.slot(e.first+i), b)
		all = append(all, patch{d.slotAt(e.first + i), b})
	}
	e.slot = e.first + len(slots) - 1
	return e, d.apply(all)
}

// alias is the 8.3 name for a new name.
func (d *directory) alias(name string) (alias, error) {
	a := aliasOf(name)
	if a.whole {
		return a, nil
	}
	a.plain = false
	taken := map[[11]byte]bool{}
	for _, e := range d.entries() {
		taken[[11]byte(e.raw[:11])] = true
	}
	for i := range maxSlots {
		if b := a.numbered(i + 1); !taken[b.field()] {
			return b, nil
		}
	}
	return a, fmt.Errorf("no 8.3 name is left for %q: %w", name, ErrNoSpace)
}

// room finds the first run of n free slots. Where there is none, the directory grows: what is free
// at its end counts.
func (d *directory) room(n int) (int, error) {
	run := 0
	for i := range d.slots() {
		if b := d.slot(i); b[0] != 0 && b[0] != erased {
			run = 0
			continue
		}
		if run++; run == n {
			return i + 1 - n, nil
		}
	}
	first := d.slots() - run
	perCluster := int(d.cluster / slotSize)
	more := (n - run + perCluster - 1) / perCluster
	if d.clusters == nil || d.slots()+more*perCluster > maxSlots {
		return 0, fmt.Errorf("the directory is full: %w", ErrNoSpace)
	}
	got, err := d.extend(d.clusters[len(d.clusters)-1], more, true)
	if err != nil {
		return 0, err
	}
	for _, c := range got {
		if err := d.write(make([]byte, d.cluster), d.offset(c)); err != nil {
			return 0, err
		}
	}
	d.clusters = append(d.clusters, got...)
	d.table = append(d.table, make([]byte, int64(more)*d.cluster)...)
	return first, nil
}

// writeBack writes the inode: the first cluster and the size of a file.
func (e *entry) writeBack(start uint32, size int64) error {
	setFile(e.raw[:], start, size)
	return e.dir.apply([]patch{{e.dir.slotAt(e.slot), e.raw[:]}})
}

// erase removes the name, sector by sector.
func (e *entry) erase() error {
	var all []patch
	for i := e.first; i <= e.slot; i++ {
		all = append(all, patch{e.dir.slotAt(i), []byte{erased}})
	}
	return e.dir.apply(all)
}
