package fat

import (
	"bytes"
	"fmt"
	"slices"
)

// This file puts entry sets into directories such that one sector write makes them appear, change or vanish. That a
// sector is written whole or not at all is what every journal on a disk relies on; nothing more is assumed.
//
//   - A new set goes into free entries of one sector. It is there after the write of that sector, and not before.
//   - A set that is longer than a sector (a name of more than 195 units, with 512-byte sectors) is written in ascending order: its first
//     sectors hold long entries whose short entry is missing, which every reader skips; the last one completes it.
//   - Removing writes the sector with the short entry first; long entries without it are skipped.
//   - Behind the end marker (an entry that starts with 0) nothing is visible. When a set is to start beyond the marker's sector, the
//     rest of that sector is first filled with deleted entries, which moves the marker and shows nothing.

// perSector is how many entries fit a sector.
func (f *FS) perSector() int { return int(f.geo.sectorSize / entrySize) }

// vacant reports whether entry i of d may be written over.
func (d *directory) vacant(i int) bool { return i >= d.end || d.buf[i*entrySize] == entryDeleted }

// slot finds n vacant entries in a row, inside one sector if they fit one. It returns -1 if d has to grow.
func (f *FS) slot(d *directory, n int) int {
	per, total := f.perSector(), len(d.buf)/entrySize
	found := 0
	for i := range total {
		if n <= per && i%per == 0 {
			found = 0
		}
		if !d.vacant(i) {
			found = 0
			continue
		}
		if found++; found == n {
			return i - n + 1
		}
	}
	return -1
}

// growth is how many clusters hold n more entries.
func (f *FS) growth(n int) int64 {
	return (int64(n)*entrySize + f.geo.clusterSize - 1) / f.geo.clusterSize
}

// growable reports why d cannot be given more clusters.
func (f *FS) growable(d *directory) error {
	g := &f.geo
	if d.cluster == 0 {
		return fmt.Errorf("%w: the root directory of a FAT%d has %d entries", ErrDirectoryFull, g.kind, g.rootSize/entrySize)
	}
	tail := d.runs[len(d.runs)-1]
	last := int64(tail.first + tail.n - 1)
	if g.kind == 12 && last*3/2%g.sectorSize == g.sectorSize-1 { // half an entry could point anywhere
		return fmt.Errorf("%w: the FAT12 entry of its last cluster lies in two sectors, which a power cut can part", ErrDirectoryFull)
	}
	return nil
}

// grow adds clusters for n more entries to d: first zeroed, then marked as the end of a chain, then linked. A cut leaves
// lost clusters or an empty tail.
func (f *FS) grow(d *directory, n int) error {
	g := &f.geo
	count := f.growth(n)
	if int64(len(d.buf))+count*g.clusterSize > maxDirBytes {
		return fmt.Errorf("%w: /%s", ErrDirectoryFull, d.path)
	}
	runs, ok := f.alloc(uint32(count))
	if !ok {
		return &SpaceError{Need: count * g.clusterSize, Have: int64(f.free) * g.clusterSize, What: "directory /" + d.path}
	}
	zero := make([]byte, g.clusterSize)
	for _, r := range runs {
		for c := r.first; c < r.first+r.n; c++ {
			if err := f.write(zero, g.clusterOff(c)); err != nil {
				return err
			}
		}
	}
	if err := f.linkWritten(runs); err != nil {
		return err
	}
	tail := d.runs[len(d.runs)-1]
	last := run{tail.first + tail.n - 1, 1}
	if err := f.link([]run{last, {runs[0].first, 0}}); err != nil {
		return err
	}
	d.runs = append(d.runs, runs...)
	d.buf = append(d.buf, make([]byte, count*g.clusterSize)...)
	return f.sync()
}

// writeSector writes the sector of d that holds entry i.
func (f *FS) writeSector(d *directory, i int) error {
	at := int64(i*entrySize) / f.geo.sectorSize * f.geo.sectorSize
	return f.write(d.buf[at:at+f.geo.sectorSize], d.off(&f.geo, at))
}

// place writes a set into d so that it appears at once.
func (f *FS) place(d *directory, set []byte) error {
	n, per := len(set)/entrySize, f.perSector()
	at := f.slot(d, n)
	if at < 0 {
		if err := f.grow(d, n); err != nil {
			return err
		}
		if at = f.slot(d, n); at < 0 {
			return fmt.Errorf("directory /%s has no room for %d entries", d.path, n) // cannot be: grow made it
		}
	}
	if err := f.clean(d, at+n); err != nil {
		return err
	}
	if d.end/per < at/per { // move the end marker to the sector of the set
		for sector := d.end / per; sector < at/per; sector++ {
			for i := max(d.end, sector*per); i < (sector+1)*per; i++ {
				d.delete(i)
			}
			if err := f.writeSector(d, sector*per); err != nil {
				return err
			}
		}
		if err := f.sync(); err != nil {
			return err
		}
	}
	for i := d.end; i < at; i++ { // same sector as the set
		d.delete(i)
	}
	copy(d.buf[at*entrySize:], set)
	for sector := at / per; sector <= (at+n-1)/per; sector++ {
		if sector == (at+n-1)/per && sector > at/per {
			if err := f.sync(); err != nil { // all long entries first
				return err
			}
		}
		if err := f.writeSector(d, sector*per); err != nil {
			return err
		}
	}
	return f.sync()
}

// clean makes sure that what comes behind the end marker, up to entry stop, is zero, as it has to be once the marker
// moves. The specification demands it; other writers may not have heard.
func (f *FS) clean(d *directory, stop int) error {
	per := f.perSector()
	if d.end >= len(d.buf)/entrySize {
		return nil
	}
	first := (d.end/per + 1) * per
	clear(d.buf[d.end*entrySize : min(first*entrySize, len(d.buf))]) // written together with what is in that sector
	wrote := false
	for i := first; i <= stop && i < len(d.buf)/entrySize; i += per {
		p := d.buf[i*entrySize : (i+per)*entrySize]
		if bytes.Count(p, []byte{0}) == len(p) {
			continue
		}
		clear(p)
		wrote = true
		if err := f.writeSector(d, i); err != nil {
			return err
		}
	}
	if wrote {
		return f.sync()
	}
	return nil
}

// delete marks entry i in memory.
func (d *directory) delete(i int) {
	p := d.buf[i*entrySize : (i+1)*entrySize]
	if i >= d.end {
		clear(p)
	}
	p[0] = entryDeleted
}

// erase removes the set of e: the sector with the short entry first.
func (f *FS) erase(d *directory, e *entry) error {
	per := f.perSector()
	for i := e.pos; i < e.pos+e.n; i++ {
		d.delete(i)
	}
	for sector := (e.pos + e.n - 1) / per; sector >= e.pos/per; sector-- {
		if err := f.writeSector(d, sector*per); err != nil {
			return err
		}
		if err := f.sync(); err != nil {
			return err
		}
	}
	return nil
}

// substitute puts set in place of the set of e with one sector write. ok is false, and nothing is changed, if that is
// impossible.
func (f *FS) substitute(d *directory, e *entry, set []byte) (ok bool, err error) {
	per := f.perSector()
	next := slices.Clone(d.buf)
	if !f.inPlace(d, e, set, next) && !f.repack(d, e, set, next) {
		return false, nil
	}
	changed := -1
	for sector := range len(next) / entrySize / per {
		lo, hi := sector*per*entrySize, (sector+1)*per*entrySize
		if bytes.Equal(d.buf[lo:hi], next[lo:hi]) {
			continue
		}
		if changed >= 0 {
			return false, nil
		}
		changed = sector
	}
	if changed < 0 {
		return true, nil
	}
	d.buf = next
	if err := f.writeSector(d, changed*per); err != nil {
		return false, err
	}
	return true, f.sync()
}

// inPlace keeps the short entry where it is, and changes the long entries before it. It fails if more entries are
// needed than are vacant there, or if more than one sector would change.
func (f *FS) inPlace(d *directory, e *entry, set, next []byte) bool {
	end, m, per := e.pos+e.n, len(set)/entrySize, f.perSector()
	start := end - m
	if start < 0 {
		return false
	}
	for i := start; i < e.pos; i++ {
		if !d.vacant(i) {
			return false
		}
	}
	trial := slices.Clone(next)
	for i := e.pos; i < end; i++ {
		trial[i*entrySize] = entryDeleted
	}
	copy(trial[start*entrySize:], set)
	changed := 0
	for sector := min(start, e.pos) / per; sector <= (end-1)/per; sector++ {
		lo, hi := sector*per*entrySize, (sector+1)*per*entrySize
		if !bytes.Equal(trial[lo:hi], next[lo:hi]) {
			changed++
		}
	}
	if changed > 1 {
		return false
	}
	copy(next, trial)
	return true
}

// repack moves the sets that lie wholly in the sector of e together, to make room for a longer set.
func (f *FS) repack(d *directory, e *entry, set, next []byte) bool {
	per := f.perSector()
	lo := e.pos / per * per
	hi := lo + per
	if e.pos+e.n > hi {
		return false
	}
	owner := map[int]*entry{} // entry index -> the set it belongs to
	for i := range d.entries {
		k := &d.entries[i]
		for j := k.pos; j < k.pos+k.n; j++ {
			owner[j] = k
		}
	}
	var head, middle, tail []byte
	for i := lo; i < hi && i < d.end; i++ {
		raw := d.buf[i*entrySize : (i+1)*entrySize]
		k := owner[i]
		switch {
		case k == nil && (raw[0] == entryDeleted || raw[11]&attrLongMask == attrLong): // deleted, or a long entry without owner
		case k == nil: // a volume label, '.' or '..'
			middle = append(middle, raw...)
		case k.pos < lo: // has begun in the sector before
			head = append(head, raw...)
		case k.pos+k.n > hi: // goes on in the next sector
			tail = append(tail, raw...)
		case k.pos == e.pos:
			if i == e.pos {
				middle = append(middle, set...)
			}
		default:
			middle = append(middle, raw...)
		}
	}
	if len(head)+len(middle)+len(tail) > per*entrySize {
		return false
	}
	p := next[lo*entrySize : hi*entrySize]
	clear(p)
	n := copy(p, head)
	n += copy(p[n:], middle)
	if d.end >= hi { // the end marker is not here: fill up with deleted entries
		for ; n < len(p)-len(tail); n += entrySize {
			p[n] = entryDeleted
		}
		copy(p[n:], tail)
	}
	return true
}
