package fat

import (
	"fmt"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Repaired says what [FS.Repair] put right.
type Repaired struct {
	FATSectors   int   // sectors of the second FAT that lagged behind the first
	LostClusters int64 // clusters in use that no file has
	LongEntries  int   // pieces of long names whose short entry was not written or is gone
}

// Repair puts right what a power cut during an update leaves: a second FAT that lags behind, clusters that are marked
// but belong to no file, and pieces of long names. A volume that is damaged in another way is left alone, and the
// damage is the error.
func (f *FS) Repair() (done Repaired, err error) {
	defer prefix.Add("fat", &err)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.w == nil || f.geo.few {
		return done, ErrReadOnly
	}
	if f.broken != nil {
		return done, f.broken
	}
	f.used = nil
	if err := f.load(); err != nil {
		return done, err
	}
	reach := newBitmap(&f.geo)
	root, err := f.readDir(0, "")
	if err != nil {
		return done, err
	}
	var torn []*directory
	if err := f.reach(reach, root, []uint32{root.cluster}, &torn); err != nil {
		return done, err
	}
	if done.FATSectors, err = f.reconcile(); err != nil {
		return done, err
	}
	f.ready = true
	for _, d := range torn {
		if err := f.dropOrphans(d, &done); err != nil {
			return done, err
		}
	}
	var lost []run
	w := newTableReader(f.r, &f.geo)
	for c := uint32(2); c < f.geo.clusters+2; c++ {
		if !f.used.has(c) || reach.has(c) {
			continue
		}
		if v, err := w.entry(c); err != nil {
			return done, err
		} else if v == clusterBad {
			continue
		}
		if k := len(lost) - 1; k >= 0 && lost[k].first+lost[k].n == c {
			lost[k].n++
		} else {
			lost = append(lost, run{c, 1})
		}
		done.LostClusters++
	}
	if err := f.discard(lost); err != nil {
		return done, err
	}
	if err := f.writeInfo(); err != nil {
		return done, err
	}
	return done, f.sync()
}

// reach marks all clusters of d and of what is in it.
func (f *FS) reach(seen bitmap, d *directory, above []uint32, torn *[]*directory) error {
	if err := f.visit(seen, d.runs, d.path); err != nil {
		return err
	}
	if len(d.orphans()) > 0 {
		*torn = append(*torn, d)
	}
	for i := range d.entries {
		e := &d.entries[i]
		name := e.name
		if d.path != "" {
			name = d.path + "/" + e.name
		}
		if e.isDir() {
			sub, err := f.enter(above, e, name)
			if err != nil {
				return err
			}
			if err := f.reach(seen, sub, append(above[:len(above):len(above)], sub.cluster), torn); err != nil {
				return err
			}
			continue
		}
		runs, err := f.chain(e, name)
		if err != nil {
			return err
		}
		if err := f.visit(seen, runs, name); err != nil {
			return err
		}
	}
	return nil
}

// orphans are the long entries of d that belong to no set.
func (d *directory) orphans() []int {
	var out []int
	next := 0 // first entry behind the sets seen so far
	sets := append(d.entries[:len(d.entries):len(d.entries)], entry{pos: d.end})
	for _, e := range sets {
		for i := next; i < e.pos; i++ {
			if b := d.buf[i*entrySize:]; b[0] != entryDeleted && b[11]&attrLongMask == attrLong {
				out = append(out, i)
			}
		}
		next = e.pos + e.n
	}
	return out
}

func (f *FS) dropOrphans(d *directory, done *Repaired) error {
	orphans := d.orphans()
	for _, i := range orphans {
		d.delete(i)
	}
	done.LongEntries += len(orphans)
	for k, i := range orphans {
		if per := int(f.geo.sectorSize / entrySize); k > 0 && orphans[k-1]/per == i/per {
			continue
		}
		if err := f.writeSector(d, i); err != nil {
			return err
		}
	}
	return nil
}

func (f *FS) visit(seen bitmap, runs []run, name string) error {
	for _, r := range runs {
		for c := r.first; c < r.first+r.n; c++ {
			if seen.has(c) {
				return badFormat(f.geo.clusterOff(c), "/"+name, "cluster %d belongs to two files", c)
			}
			seen.set(c)
		}
	}
	return nil
}

// String is for people: "2 FAT sectors, 17 lost clusters, 0 pieces of names".
func (r Repaired) String() string {
	return fmt.Sprintf("%d FAT sectors, %d lost clusters, %d pieces of names", r.FATSectors, r.LostClusters, r.LongEntries)
}
