package fat

import (
	"bytes"
	"fmt"
	"slices"
)

// This file puts entry sets into directories such that the write of one unit makes them appear,
// change or vanish. The unit is the logical sector of the device, which is written whole or not at
// all: what every journal on a disk relies on; nothing more is assumed. The sectors of the FAT may
// be larger (systemd-repart makes FATs with 4096-byte sectors for disks with 512-byte ones): a
// write of one is eight writes for the disk, and so it changes one unit only.
//
//   - A new set goes into free entries of one unit. It is there after that unit is written, and not
//     before.
//   - A set that is longer than a unit (a name of more than 195 units of UTF-16, with 512-byte
//     sectors) is written in ascending order: its first units hold long entries whose short entry
//     is missing, which every reader skips; the last one completes it.
//   - Removing writes the unit with the short entry first; long entries without it are skipped.
//   - Behind the end marker (an entry that starts with 0) nothing is visible. When a set is to
//     start beyond the marker's unit, the rest of that unit is first filled with deleted entries,
//     which moves the marker and shows nothing.

// smallestSector is the unit where the sector size of the device is not known: no disk writes less
// at once.
const smallestSector = 512

// perUnit is how many entries fit a unit.
func (f *FS) perUnit() int { return int(f.unit / entrySize) }

// vacant reports whether entry i of d may be written over.
func (d *directory) vacant(i int) bool { return i >= d.end || d.buf[i*entrySize] == entryDeleted }

// slot finds n vacant entries in a row, inside one unit if they fit one: where the fewest entries
// in use share 4 KiB with what has to be written. It returns -1 if d has to grow.
func (f *FS) slot(d *directory, n int) int {
	per, total := f.perUnit(), d.total(&f.geo)
	if n > per {
		return d.vacancy(0, total, n)
	}
	best, least := -1, 0
	risk := f.atRisk(d)
	for lo := 0; lo < total; lo += per {
		cost := risk.unit(lo)
		if best >= 0 && cost >= least {
			continue
		}
		if at := d.vacancy(lo, min(lo+per, total), n); at >= 0 {
			best, least = at, cost
		}
	}
	return best
}

// vacancy finds n vacant entries in a row between two entries.
func (d *directory) vacancy(lo, hi, n int) int {
	found := 0
	for i := lo; i < hi; i++ {
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
		return fmt.Errorf("%w: the root directory of a FAT%d has %d entries", ErrDirectoryFull, g.kind, g.rootEntries)
	}
	tail := d.runs[len(d.runs)-1]
	if f.torn(tail.first + tail.n - 1) {
		return fmt.Errorf("%w: the FAT12 entry of its last cluster spans two sectors, which a power cut can tear apart", ErrDirectoryFull)
	}
	return nil
}

// torn says whether a power cut can part the FAT entry of a cluster, so that half of it could point
// anywhere: one of a FAT12 that lies in two units.
func (f *FS) torn(c uint32) bool { return f.geo.kind == 12 && int64(c)*3/2%f.unit == f.unit-1 }

// grow adds clusters for n more entries to d: first zeroed, then marked as the end of a chain, then
// linked. A cut leaves lost clusters or an empty tail.
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
	// as long as the copies of the FAT differ, no entry is to depend on which of them is read
	return f.sync()
}

// writeSector writes the sector of the FAT that holds entry i of d. Devices with sectors as large
// as that take no less. What must not be torn has changed one unit of it alone.
func (f *FS) writeSector(d *directory, i int) error {
	at := int64(i*entrySize) / f.geo.sectorSize * f.geo.sectorSize
	return f.write(d.buf[at:at+f.geo.sectorSize], d.off(&f.geo, at))
}

// place writes a set into d so that it appears at once.
func (f *FS) place(d *directory, set []byte) error {
	n, per := len(set)/entrySize, f.perUnit()
	at := f.slot(d, n)
	if at < 0 {
		if err := f.grow(d, n); err != nil {
			return err
		}
		if at = f.slot(d, n); at < 0 {
			// cannot be: grow made it
			return fmt.Errorf("directory /%s has no room for %d entries", d.path, n)
		}
	}
	if err := f.clean(d, at+n); err != nil {
		return err
	}
	if d.end/per < at/per { // move the end marker to the unit of the set
		first, stop := d.end, at/per*per
		for i := first; i < stop; i++ {
			d.delete(i)
		}
		if err := f.writeSectors(d, first, stop); err != nil {
			return err
		}
		if err := f.sync(); err != nil {
			// fsck.fat takes a set behind the marker for one that was lost
			return err
		}
	}
	for i := d.end; i < at; i++ { // same unit as the set
		d.delete(i)
	}
	for lo, hi := at, 0; lo < at+n; lo = hi {
		hi = min((lo/per+1)*per, at+n)
		if hi == at+n && lo > at {
			if err := f.sync(); err != nil { // all long entries first
				return err
			}
		}
		copy(d.buf[lo*entrySize:hi*entrySize], set[(lo-at)*entrySize:])
		if err := f.writeSector(d, lo); err != nil {
			return err
		}
	}
	return nil
}

// writeSectors writes the sectors of the FAT that hold the entries from first up to stop.
func (f *FS) writeSectors(d *directory, first, stop int) error {
	per := int(f.geo.sectorSize / entrySize)
	for i := first / per * per; i < stop; i += per {
		if err := f.writeSector(d, i); err != nil {
			return err
		}
	}
	return nil
}

// clean makes sure that what comes behind the end marker, up to entry stop, is zero, as it has to
// be once the marker moves. The specification demands it; other writers may not have heard.
func (f *FS) clean(d *directory, stop int) error {
	per, total := f.perUnit(), d.total(&f.geo)
	if d.end >= total {
		return nil
	}
	first := (d.end/per + 1) * per
	// written together with what is in that unit
	clear(d.buf[d.end*entrySize : min(first, total)*entrySize])
	wrote := false
	for i := first; i <= stop && i < total; i += per {
		p := d.buf[i*entrySize : min(i+per, total)*entrySize]
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
	d.buf[i*entrySize] = entryDeleted
}

// erase removes the set of e: the unit with the short entry first.
func (f *FS) erase(d *directory, e *entry) error {
	per := f.perUnit()
	for lo, hi := 0, e.pos+e.n; hi > e.pos; hi = lo {
		lo = max((hi-1)/per*per, e.pos)
		for i := lo; i < hi; i++ {
			d.delete(i)
		}
		if err := f.writeSector(d, lo); err != nil {
			return err
		}
		if lo == e.pos {
			break
		}
		if err := f.sync(); err != nil {
			return err
		}
	}
	return nil
}

// changed returns the units in which b differs from the entries of d, as the index of their first
// entry.
func (f *FS) changed(d *directory, b []byte) []int {
	var units []int
	for at := 0; at < len(b); at += int(f.unit) {
		if end := at + int(f.unit); !bytes.Equal(d.buf[at:end], b[at:end]) {
			units = append(units, at/entrySize)
		}
	}
	return units
}

// substitute puts set in place of the set of e with the write of one unit. ok is false, and nothing
// is changed, if that is impossible.
func (f *FS) substitute(d *directory, e *entry, set []byte) (ok bool, err error) {
	rest := 0 // long entries of e that have lost their short entry then
	next := f.inPlace(d, e, set)
	if next == nil {
		next, rest = f.repack(d, e, set)
	}
	if next == nil {
		return false, nil
	}
	units := f.changed(d, next)
	if len(units) == 0 {
		return true, nil
	}
	d.buf = next
	if err := f.writeSector(d, units[0]); err != nil {
		return false, err
	}
	return true, f.dropRest(d, e, rest)
}

// dropRest removes the first n entries of the set of e once the switch is on the medium that has
// put its short entry elsewhere.
func (f *FS) dropRest(d *directory, e *entry, n int) error {
	if n == 0 {
		return nil
	}
	if err := f.sync(); err != nil {
		return err
	}
	for i := e.pos; i < e.pos+n; i++ {
		d.delete(i)
	}
	return f.writeSectors(d, e.pos, e.pos+n)
}

// inPlace returns the entries of d with set where the set of e is: the short entry stays, the long
// entries before it change. It returns nil if more entries are needed than are vacant there, or if
// more than one unit would change.
func (f *FS) inPlace(d *directory, e *entry, set []byte) []byte {
	end := e.pos + e.n
	start := end - len(set)/entrySize
	if start < 0 {
		return nil
	}
	for i := start; i < e.pos; i++ {
		if !d.vacant(i) {
			return nil
		}
	}
	next := slices.Clone(d.buf)
	for i := e.pos; i < end; i++ {
		next[i*entrySize] = entryDeleted
	}
	copy(next[start*entrySize:], set)
	if len(f.changed(d, next)) > 1 {
		return nil
	}
	return next
}

// repack returns the entries of d with set in the unit of e's short entry, where it moves the sets
// that lie wholly in that unit together. What the set of e has in units before is left there: rest
// entries that belong to nothing. It returns nil if the unit is too small.
func (f *FS) repack(d *directory, e *entry, set []byte) (next []byte, rest int) {
	per := f.perUnit()
	lo := (e.pos + e.n - 1) / per * per
	hi := min(lo+per, d.total(&f.geo))
	owner := d.owners(lo, hi)
	var head, middle, tail []byte
	if e.pos < lo {
		rest = lo - e.pos
		// first: a long entry of another name may follow what is left of the set before it, an 8.3
		// entry not
		middle = append(middle, set...)
	}
	for i := lo; i < hi && i < d.end; i++ {
		raw := d.buf[i*entrySize : (i+1)*entrySize]
		k := owner[i]
		switch {
		case k == nil: // deleted, or a long entry without owner
		case k == e:
			if i == e.pos {
				middle = append(middle, set...)
			}
		case k.pos < lo: // has begun in the unit before
			head = append(head, raw...)
		case k.pos+k.n > hi: // goes on in the next unit
			tail = append(tail, raw...)
		default:
			middle = append(middle, raw...)
		}
	}
	if len(head)+len(middle)+len(tail) > (hi-lo)*entrySize {
		return nil, 0
	}
	next = slices.Clone(d.buf)
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
	return next, rest
}
