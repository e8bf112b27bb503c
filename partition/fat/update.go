package fat

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// change runs one update under the lock.
func (f *FS) change(op, name string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parents.forget()
	if err := f.writable(); err != nil {
		return pathError(op, name, err)
	}
	if !fs.ValidPath(name) || name == "." {
		return pathError(op, name, fs.ErrInvalid)
	}
	if err := do(); err != nil {
		return pathError(op, name, err)
	}
	if err := f.writeInfo(); err != nil {
		return pathError(op, name, err)
	}
	return pathError(op, name, f.sync())
}

// refuse says why the volume cannot be written.
func (f *FS) refuse() error {
	switch {
	case f.w == nil:
		return fmt.Errorf("%w: opened for reading only", ErrReadOnly)
	case f.geo.few:
		return fmt.Errorf("%w: laid out as FAT32 with only %d clusters: below %d, Linux reads the volume as FAT32 but UEFI firmware as FAT16, "+
			"and each damages it for the other: create it as FAT16, or larger",
			ErrReadOnly, f.geo.clusters, minClusters32)
	}
	return f.broken
}

// writable prepares for the first change.
func (f *FS) writable() error {
	if err := f.refuse(); err != nil {
		return err
	}
	if f.used != nil && f.ready {
		return nil
	}
	s, err := f.prepare()
	if err != nil {
		return err
	}
	f.protect(s)
	if _, err := f.reconcile(); err != nil {
		return err
	}
	f.ready = true
	return nil
}

// prepare chooses the FAT, loads it, and returns what the tree is under it.
func (f *FS) prepare() (*survey, error) {
	s, err := f.settle()
	if err != nil {
		return nil, err
	}
	f.used = nil
	return s, f.load()
}

// protect marks clusters that the tree has as used, whatever the FAT says of them: on a volume that
// is damaged, another file must not be written there.
func (f *FS) protect(s *survey) {
	for i, w := range s.reached {
		f.free -= uint32(bits.OnesCount64(w &^ f.used[i]))
		f.used[i] |= w
	}
	f.joins = s.joins
}

// newName resolves the directory of a new name, checks that the name is free and can be written,
// and chooses its alias.
func (f *FS) newName(name string) (d *directory, base string, short shortName, err error) {
	dir, base := splitPath(name)
	if err := checkName(base); err != nil {
		return nil, "", short, err
	}
	if _, d, err = f.findFor(dir, true); err != nil {
		return nil, "", short, err
	}
	if d == nil {
		return nil, "", short, ErrNotDirectory
	}
	if d.taken(base, nil) {
		return nil, "", short, fs.ErrExist
	}
	short, err = shortFor(d, base, nil)
	return d, base, short, err
}

// shortFor chooses an alias in d, leaving out the one of skip.
func shortFor(d *directory, name string, skip *entry) (shortName, error) {
	taken := newAliases(len(d.entries))
	for i := range d.entries {
		e := &d.entries[i]
		if e == skip {
			continue
		}
		taken.used[e.short] = true
		if len(e.name) > len(e.short)+1 { // no 8.3 name
			continue
		}
		if s, _, _, ok := exactShort(e.name); ok {
			taken.used[s] = true
		}
	}
	s, ok := taken.take(name)
	if !ok {
		return s, fmt.Errorf("no short name is left in /%s", d.path)
	}
	return s, nil
}

// fits checks, before anything is written, that there is room for size bytes and for n entries in
// d.
func (f *FS) fits(d *directory, n int, size int64, name string) error {
	g := &f.geo
	need := (max(size, 0) + g.clusterSize - 1) / g.clusterSize
	if f.slot(d, n) < 0 {
		if err := f.growable(d); err != nil {
			return err
		}
		more := f.growth(n)
		if int64(len(d.buf))+more*g.clusterSize > maxDirBytes {
			return fmt.Errorf("%w: /%s", ErrDirectoryFull, d.path)
		}
		need += more
	}
	if need > int64(f.free) {
		return &SpaceError{Need: need * g.clusterSize, Have: int64(f.free) * g.clusterSize, What: "/" + name}
	}
	return nil
}

// store writes content to free clusters and links them. Nothing refers to them yet.
func (f *FS) store(name string, content osmith.Source) ([]run, error) {
	g := &f.geo
	size := content.Size()
	if size < 0 || size > math.MaxUint32 {
		return nil, fmt.Errorf("%d bytes: a file has at most 4 GiB - 1", size)
	}
	if size == 0 {
		return nil, nil
	}
	n := (size + g.clusterSize - 1) / g.clusterSize
	if n > int64(f.free) {
		return nil, &SpaceError{Need: n * g.clusterSize, Have: int64(f.free) * g.clusterSize, What: "/" + name}
	}
	runs, ok := f.alloc(uint32(n))
	if !ok {
		return nil, &SpaceError{Need: n * g.clusterSize, Have: int64(f.free) * g.clusterSize, What: "/" + name}
	}
	whole := &padded{content, g.sectorSize, n * g.clusterSize}
	pos := int64(0)
	for i, r := range runs {
		size := int64(r.n) * g.clusterSize
		var piece osmith.Source = whole
		if len(runs) > 1 {
			piece = io.NewSectionReader(whole, pos, size)
		}
		to := sparse.Target{W: f.w, Sync: true}
		f.unsynced = true
		if err := to.Copy(g.clusterOff(r.first), piece, size); err != nil {
			f.release(runs) // the FAT on disk still says free
			return nil, fmt.Errorf("content of /%s, run %d: %w", name, i, err)
		}
		pos += size
	}
	return runs, f.linkWritten(runs)
}

// padded is a source with zeros behind it, whose data ranges are of whole sectors: a disk takes no
// less.
type padded struct {
	osmith.Source
	sector, size int64
}

func (p *padded) Size() int64 { return p.size }

func (p *padded) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	if end := p.Source.Size(); off < end {
		n = int(min(int64(len(b)), end-off))
		if err := sparse.ReadFull(p.Source, b[:n], off); err != nil {
			return 0, err
		}
	}
	clear(b[n:min(int64(len(b)), p.size-off)])
	if off+int64(len(b)) > p.size {
		return int(p.size - off), io.EOF
	}
	return len(b), nil
}

// NextData implements [sparse.DataFinder].
func (p *padded) NextData(off int64) (start, end int64, err error) {
	start, end, err = sparse.NextData(p.Source, off)
	if err != nil {
		return 0, 0, err
	}
	if start >= p.Source.Size() {
		return p.size, p.size, nil
	}
	return max(off, start/p.sector*p.sector), (end + p.sector - 1) / p.sector * p.sector, nil
}

func firstOf(runs []run) uint32 {
	if len(runs) == 0 {
		return 0
	}
	return runs[0].first
}

// discard gives clusters back once it is on the medium that their entry does not refer to them any
// more: but for those that another entry has too.
func (f *FS) discard(runs []run) error {
	if len(runs) == 0 {
		return nil
	}
	if err := f.sync(); err != nil {
		return err
	}
	if f.joins != nil && slices.ContainsFunc(runs, func(r run) bool { return f.joins.any(r) }) {
		s, err := f.survey(walk{})
		if err != nil {
			return f.fail(err)
		}
		f.joins = s.joins
		runs = s.reached.without(runs)
	}
	if err := f.unlink(runs); err != nil {
		return err
	}
	f.release(runs)
	return nil
}

// WriteFile makes a new file. If the file exists, the error is [fs.ErrExist]; if there is too
// little space, it is a [*SpaceError] and nothing is written. Its directory must exist. The data
// and both FATs are written first, then the one sector of the directory that makes the file appear:
// after a power cut the volume has the complete file or does not have it, at worst with lost
// clusters, which [FS.Repair] frees.
func (f *FS) WriteFile(name string, content osmith.Source) error {
	return f.change("write", name, func() error {
		return f.create(name, content, attrArchive, stampOf(f.Time))
	})
}

func (f *FS) create(name string, content osmith.Source, attr byte, t stamp) error {
	d, base, short, err := f.newName(name)
	if err != nil {
		return err
	}
	set := entrySet(base, short, false, attr, 0, 0, t)
	if err := f.fits(d, len(set)/entrySize, content.Size(), name); err != nil {
		return err
	}
	runs, err := f.store(name, content)
	if err != nil {
		return err
	}
	setCluster(set[len(set)-entrySize:], firstOf(runs), uint32(content.Size()))
	return f.placeOrDiscard(d, set, runs)
}

// placeOrDiscard gives the clusters back if the directory cannot take the set although the disk
// works.
func (f *FS) placeOrDiscard(d *directory, set []byte, runs []run) error {
	err := f.place(d, set)
	if err != nil && f.broken == nil {
		if undo := f.discard(runs); undo != nil {
			return undo
		}
	}
	return err
}

// ReplaceFile gives an existing file new contents: they are written to free clusters, one sector
// write switches to them, and the old clusters are freed. A power cut leaves the old or the new
// contents.
func (f *FS) ReplaceFile(name string, content osmith.Source) error {
	return f.change("replace", name, func() error {
		d, e, err := f.target(name)
		if err != nil {
			return err
		}
		if e.isDir() {
			return ErrIsDirectory
		}
		old, err := f.chain(e, name)
		if err != nil {
			return err
		}
		runs, err := f.store(name, content)
		if err != nil {
			return err
		}
		i := e.pos + e.n - 1
		b := d.buf[i*entrySize : (i+1)*entrySize]
		setCluster(b, firstOf(runs), uint32(content.Size()))
		t := stampOf(f.Time)
		b[18], b[19] = byte(t.date), byte(t.date>>8)
		b[22], b[23], b[24], b[25] = byte(t.time), byte(t.time>>8), byte(t.date), byte(t.date>>8)
		if err := f.writeSector(d, i); err != nil {
			return err
		}
		return f.discard(old)
	})
}

// chain returns all clusters of e.
func (f *FS) chain(e *entry, name string) ([]run, error) {
	if e.cluster == 0 && !e.isDir() {
		return nil, nil
	}
	limit := int64(f.geo.clusters)
	if e.isDir() {
		limit = f.geo.dirClusters()
	}
	return newTableReader(f.r, &f.geo).runs(e.cluster, -1, limit, "/"+name)
}

// MkdirAll makes a directory and its missing parents. The directory may exist already.
func (f *FS) MkdirAll(name string) error {
	if name == "." {
		return nil
	}
	return f.change("mkdir", name, func() error {
		parts := strings.Split(name, "/")
		for _, p := range parts {
			if err := checkName(p); err != nil {
				return err
			}
		}
		for i := range parts {
			at := strings.Join(parts[:i+1], "/")
			_, e, err := f.target(at)
			switch {
			case err == nil && e.isDir():
				continue
			case err == nil:
				return ErrNotDirectory
			case err != fs.ErrNotExist:
				return err
			}
			if err := f.mkdir(at); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *FS) mkdir(name string) error {
	d, base, short, err := f.newName(name)
	if err != nil {
		return err
	}
	g := &f.geo
	t := stampOf(f.Time)
	set := entrySet(base, short, false, attrDirectory, 0, 0, t)
	if err := f.fits(d, len(set)/entrySize, g.clusterSize, name); err != nil {
		return err
	}
	runs, ok := f.alloc(1)
	if !ok {
		return &SpaceError{Need: g.clusterSize, Have: 0, What: "/" + name}
	}
	setCluster(set[len(set)-entrySize:], runs[0].first, 0)
	up := d.cluster
	if up == g.rootCluster {
		up = 0
	}
	b := appendShort(nil, padShort(".", ""), 0, attrDirectory, runs[0].first, 0, t)
	b = appendShort(b, padShort("..", ""), 0, attrDirectory, up, 0, t)
	b = append(b, make([]byte, g.clusterSize-int64(len(b)))...)
	if err := f.write(b, g.clusterOff(runs[0].first)); err != nil {
		return err
	}
	if err := f.linkWritten(runs); err != nil {
		return err
	}
	return f.placeOrDiscard(d, set, runs)
}

// Remove removes a file or an empty directory: its name by one sector write, then its clusters.
func (f *FS) Remove(name string) error {
	return f.change("remove", name, func() error {
		d, e, err := f.target(name)
		if err != nil {
			return err
		}
		return f.remove(d, e, name)
	})
}

func (f *FS) remove(d *directory, e *entry, name string) error {
	runs, err := f.chain(e, name)
	if err != nil {
		return err
	}
	if e.isDir() {
		sub, err := f.loadDir(e.cluster, runs, name)
		if err != nil {
			return err
		}
		if len(sub.entries) > 0 {
			return ErrNotEmpty
		}
	}
	if err := f.erase(d, e); err != nil {
		return err
	}
	return f.discard(runs)
}

// Rename gives a file or directory a new name in the same directory. For a different directory the
// error is [ErrCrossDirectory]; for a name that is taken, [fs.ErrExist]. The rename is one sector
// write, so a power cut leaves the old or the new name: counted names such as x+3-0.efi, x+2-1.efi,
// x.efi only change existing entries, and a longer name moves its neighbours within the sector if
// necessary. If the sector has no room, or the entries of the old name lie in two sectors (other
// programs write such names), the cluster of the directory is rewritten elsewhere with room for the
// name, and one write switches to it. The 8.3 alias stays, unless it is the old name itself.
//
// The first cluster of the root directory, of a directory that has subdirectories, and all of the
// root directory of a FAT12 or FAT16 cannot be moved. In that case a file is copied to the new name
// and the old file removed, which needs free space of its size, and a power cut in between leaves
// both names; for a directory the error is [ErrNoRoom].
func (f *FS) Rename(oldName, newName string) error {
	return f.change("rename", oldName, func() error {
		if !fs.ValidPath(newName) || newName == "." {
			return fs.ErrInvalid
		}
		d, e, err := f.target(oldName)
		if err != nil {
			return err
		}
		dir, base := splitPath(newName)
		if err := checkName(base); err != nil {
			return err
		}
		_, to, err := f.findFor(dir, true)
		switch {
		case err != nil:
			return err
		case to == nil:
			return ErrNotDirectory
		case to.cluster != d.cluster:
			return ErrCrossDirectory
		}
		if d.taken(base, e) {
			return fmt.Errorf("%s: %w", newName, fs.ErrExist)
		}
		if base == e.name {
			return nil
		}
		return f.rename(d, e, oldName, newName, base)
	})
}

func (f *FS) rename(d *directory, e *entry, oldName, newName, base string) error {
	short := e.short
	if SameName(e.alias, e.name) { // the alias would keep the old name alive
		var err error
		if short, err = shortFor(d, base, e); err != nil {
			return err
		}
	}
	set := entrySet(base, short, false, e.attr, e.cluster, e.size, e.written)
	last := set[len(set)-entrySize:]
	raw := d.buf[(e.pos+e.n-1)*entrySize : (e.pos+e.n)*entrySize]
	copy(last[13:], raw[13:]) // times, clusters and size as they are
	if ok, err := f.substitute(d, e, set); ok || err != nil {
		return err
	}
	dir, _ := splitPath(oldName)
	if ok, err := f.relocate(d, dir, e, set); ok || err != nil {
		return err
	}
	if e.isDir() {
		return ErrNoRoom
	}
	src, err := f.openFile(e, oldName)
	if err != nil {
		return err
	}
	if err := f.create(newName, src.SectionReader, e.attr, e.written); err != nil {
		return err
	}
	if err := f.sync(); err != nil {
		return err
	}
	d, e, err = f.target(oldName)
	if err != nil {
		return err
	}
	return f.remove(d, e, oldName)
}
