package fat

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Repaired says what [FS.Repair] repaired.
type Repaired struct {
	// sectors of copies of the FAT that were rewritten from the copy that matches the tree
	FATSectors   int
	FATHeads     int   // copies of the FAT that did not begin with the media byte
	LostClusters int64 // clusters in use that no file has
	LongEntries  int   // pieces of long names whose short entry was not written or is gone
	Names        int   // second names of one chain, left by an interrupted rename
	Dots         int   // directories whose '.' or '..' had the wrong cluster, or was missing
	Discarded    int   // files that were to be discarded ([RepairOptions])
}

// RepairOptions are the choices of [FS.RepairWith].
type RepairOptions struct {
	// Discard reports, by its path, whether a file can be discarded, such as one that an
	// interrupted job has left. The names of these files are removed before the volume is checked,
	// so that a broken chain of such a file does not prevent the repair. Nil: no files are
	// discarded.
	Discard func(name string) bool
}

// Repair repairs only what power cuts and known faults of other FAT drivers leave:
//
//   - a copy of the FAT that is outdated, or that is damaged while the other copy matches the tree;
//   - clusters that are marked but belong to no file;
//   - pieces of long names whose short entry is missing. A long name whose pieces are in order and
//     have the checksum of their short entry belongs to that entry, with any text;
//   - two names on one chain, as U-Boot and others leave them after an interrupted rename: the
//     second name is removed, as by fsck.fat, unless only its size matches the chain; no cluster is
//     freed;
//   - directories whose '.' and '..' name wrong clusters (mtools before 4.0.21), or that lack them
//     and have no other entries in these places.
//
// If a volume has any other damage, Repair changes nothing and returns the damage as the error, as
// it does with [ErrFATsDiffer] and [ErrFATDamaged]. Files whose size does not match their chain do
// not prevent the repair and stay as they are ([FS.Check]).
func (f *FS) Repair() (done Repaired, err error) { return f.RepairWith(RepairOptions{}) }

// RepairWith is [FS.Repair] with options.
func (f *FS) RepairWith(o RepairOptions) (done Repaired, err error) {
	defer prefix.Add("fat", &err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parents.forget()
	if err := f.refuse(); err != nil {
		return done, err
	}
	f.ready = false
	if done.Discarded, err = f.discardNames(o.Discard); err != nil {
		return done, err
	}
	s, err := f.prepare()
	if err != nil {
		return done, err
	}
	drop, err := f.secondNames(s)
	if err != nil {
		return done, err
	}
	if err := s.damage(); err != nil && len(drop) == 0 {
		return done, err
	}
	if done.FATSectors, err = f.reconcile(); err != nil {
		return done, err
	}
	if done.FATHeads, err = f.rightHead(); err != nil {
		return done, err
	}
	for _, t := range drop {
		if err := f.dropName(t); err != nil {
			return done, err
		}
		done.Names++
	}
	if len(drop) > 0 {
		if s, err = f.survey(walk{}); err != nil {
			return done, err
		}
	}
	for _, p := range s.torn {
		if err := f.dropOrphans(p, &done); err != nil {
			return done, err
		}
	}
	for _, p := range s.dots {
		if err := f.writeDots(p, &done); err != nil {
			return done, err
		}
	}
	lost, err := f.lostClusters(s)
	if err != nil {
		return done, err
	}
	done.LostClusters = count(lost)
	f.protect(s)
	f.ready = true
	if err := f.discard(lost); err != nil {
		return done, err
	}
	if err := f.writeInfo(); err != nil {
		return done, err
	}
	return done, f.sync()
}

// discardNames erases names and frees nothing, which is left to the repair: of clusters that
// another file has, that one keeps them.
func (f *FS) discardNames(discard func(name string) bool) (n int, err error) {
	if discard == nil {
		return 0, nil
	}
	var drop []listing
	_, err = f.survey(walk{each: func(e *entry, p place) {
		if name := path.Join(p.path, e.name); !e.isDir() && discard(strings.TrimPrefix(name, "/")) {
			drop = append(drop, listing{p, spot{p.cluster, e.pos}})
		}
	}})
	if err != nil {
		return 0, err
	}
	for _, t := range drop {
		if err := f.dropName(t); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// lostClusters are those that the FAT has in use and nothing refers to.
func (f *FS) lostClusters(s *survey) (lost []run, err error) {
	w := newTableReader(f.r, &f.geo)
	for c := uint32(2); c < f.geo.clusters+2; c++ {
		if !f.used.has(c) || s.reached.has(c) {
			continue
		}
		if v, err := w.entry(c); err != nil {
			return nil, err
		} else if v == clusterBad {
			continue
		}
		if k := len(lost) - 1; k >= 0 && lost[k].first+lost[k].n == c {
			lost[k].n++
		} else {
			lost = append(lost, run{c, 1})
		}
	}
	return lost, nil
}

// orphans are the long entries of d that belong to no set.
func (d *directory) orphans() []int {
	var out []int
	next := 0 // first entry behind the sets seen so far
	for _, e := range append(d.sets(), entry{pos: d.end}) {
		for i := next; i < e.pos; i++ {
			if b := d.buf[i*entrySize:]; b[0] != entryDeleted && b[11]&attrLongMask == attrLong {
				out = append(out, i)
			}
		}
		next = e.pos + e.n
	}
	return out
}

func (f *FS) dropOrphans(p place, done *Repaired) error {
	d, err := f.loadDir(p.cluster, p.runs, p.path)
	if err != nil {
		return err
	}
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

// writeDots gives '.' and '..' their clusters, by one sector write. Where another entry is in the
// place of one of them, the directory stays as it is: it is read all the same.
func (f *FS) writeDots(p place, done *Repaired) error {
	d, err := f.loadDir(p.cluster, p.runs, p.path)
	if err != nil {
		return err
	}
	up := p.up
	if p.depth == 1 {
		up = 0
	}
	for i, c := range []uint32{p.cluster, up} {
		name := padShort([]string{".", ".."}[i], "")
		b := d.buf[i*entrySize : (i+1)*entrySize]
		switch e := shortEntry(b, f.geo.kind); {
		case e.short == name && e.attr&attrVolume == 0:
			b[11] |= attrDirectory
			setCluster(b, c, 0)
		case b[0] == entryDeleted, i >= d.end && d.buf[2*entrySize] == entryEnd:
			copy(b, appendShort(nil, name, 0, attrDirectory, c, 0, stampOf(f.Time)))
		default:
			return nil
		}
	}
	done.Dots++
	return f.writeSector(d, 0)
}

// listing is an entry and where it is.
type listing struct {
	dir place
	at  spot
}

// holder is a name whose chain starts where that of another does.
type holder struct {
	listing
	dir, whole, fits bool
}

// holders finds all names whose chains start at the first clusters that several have, by that
// cluster.
func (f *FS) holders(s *survey) (map[uint32][]holder, error) {
	out := map[uint32][]holder{}
	for _, c := range s.second {
		out[c] = nil
	}
	cs := f.geo.clusterSize
	var unread error // says nothing about a name: no other is to be kept in its place
	_, err := f.survey(walk{each: func(e *entry, p place) {
		all, ok := out[e.cluster]
		if !ok || len(all) > maxProblems {
			return
		}
		runs, err := f.chain(e, e.name)
		h := holder{listing: listing{p, spot{p.cluster, e.pos}}, dir: e.isDir()}
		_, broken := errors.AsType[*osmith.FormatError](err)
		switch {
		case broken:
		case err != nil:
			unread = err
		case !h.dir:
			h.fits = count(runs) == (int64(e.size)+cs-1)/cs
			h.whole = h.fits
		default:
			h.whole = true
			sub, err := f.loadDir(e.cluster, runs, "")
			if err != nil {
				unread = err
				return
			}
			up := sub.parent(f.geo.kind)
			h.fits = up == p.cluster || up == 0 && p.depth == 0
		}
		out[e.cluster] = append(all, h)
	}})
	if err == nil {
		err = unread
	}
	return out, err
}

// secondNames finds for each chain that several names start at the one that is to keep it, and
// returns the others: none, if all would not be right without them. Which name was there first
// nothing says: the first one stays, as with fsck.fat, unless its size does not fit the chain, or
// another is where the '..' of the directory says.
func (f *FS) secondNames(s *survey) (drop []listing, err error) {
	if len(s.second) == 0 {
		return nil, nil
	}
	found, err := f.holders(s)
	if err != nil {
		return nil, err
	}
	skip := map[spot]bool{}
	for _, c := range slices.Sorted(maps.Keys(found)) {
		all := found[c]
		keep := slices.IndexFunc(all, func(h holder) bool { return h.fits })
		if keep < 0 {
			keep = slices.IndexFunc(all, func(h holder) bool { return h.whole })
		}
		mixed := slices.ContainsFunc(all, func(h holder) bool { return h.dir != all[0].dir })
		if keep < 0 || mixed {
			// a file and a directory cannot both be right, and the chain does not tell
			continue
		}
		for i, h := range all {
			if i != keep {
				drop = append(drop, h.listing)
				skip[h.at] = true
			}
		}
	}
	// Without these names everything has to be reached still, and to be whole.
	without, err := f.survey(walk{skip: skip})
	if err != nil {
		return nil, err
	}
	if without.damage() != nil || !slices.Equal(without.reached, s.reached) {
		return nil, nil
	}
	return drop, nil
}

// parent is the cluster that '..' names.
func (d *directory) parent(kind int) uint32 {
	e := shortEntry(d.buf[entrySize:2*entrySize], kind)
	if e.dots() != ".." {
		return 0
	}
	return e.cluster
}

// dropName erases a name and frees nothing.
func (f *FS) dropName(t listing) error {
	d, err := f.loadDir(t.dir.cluster, t.dir.runs, t.dir.path)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(d.entries, func(e entry) bool { return e.pos == t.at.pos })
	return f.erase(d, &d.entries[i])
}

// String is for people: "2 FAT sectors, 17 lost clusters, 0 pieces of names".
func (r Repaired) String() string {
	text := fmt.Sprintf("%d FAT sectors, %d lost clusters, %d pieces of names", r.FATSectors, r.LostClusters, r.LongEntries)
	for _, more := range []struct {
		n    int
		what string
	}{{r.FATHeads, "first entries of FATs"}, {r.Names, "second names of one file"}, {r.Dots, "directories with wrong '.' or '..'"}, {r.Discarded, "discarded files"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}
