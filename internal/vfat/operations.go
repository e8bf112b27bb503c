package vfat

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/osmith-dev/osmith"
)

// Create makes a new file. Its data has been handed to the kernel, and not necessarily to the
// medium. Where the space does not suffice, the file is there with what fitted, as after a write
// that failed; where the content cannot be read, it is there and empty.
func (v *Volume) Create(name string, content osmith.Source) error {
	return v.done("create", name, v.create(name, content))
}

func (v *Volume) create(name string, content osmith.Source) error {
	size := content.Size()
	if size < 0 || size > maxFile {
		return fmt.Errorf("a file of %d bytes: %w", size, fs.ErrInvalid)
	}
	p, err := v.lookup(name)
	if err != nil {
		return err
	}
	if p.entry != nil {
		return fs.ErrExist
	}
	e, err := p.dir.add(p.name, attrFile, 0)
	if err != nil {
		return err
	}
	return v.fill(e, content, size)
}

// Truncate makes a file empty: it has no clusters any more, and then they are freed.
func (v *Volume) Truncate(name string) error {
	return v.done("truncate", name, v.truncate(name))
}

func (v *Volume) truncate(name string) error {
	p, err := v.existing(name)
	if err != nil {
		return err
	}
	if p.entry.isDir() {
		return ErrIsDirectory
	}
	return v.empty(p.entry)
}

// empty takes the clusters from a file.
func (v *Volume) empty(e *entry) error {
	start := e.start()
	if err := e.writeBack(0, 0); err != nil {
		return err
	}
	return v.free(start)
}

// Rename gives a file or a directory another name, in any directory. A file that has the name is
// replaced: its name stays as it is stored, in its case. Nothing happens where both names are those
// of the same file, as with two that differ in case.
func (v *Volume) Rename(from, to string) error {
	return v.done("rename", from, v.rename(from, to))
}

func (v *Volume) rename(from, to string) error {
	p, err := v.existing(from)
	if err != nil {
		return err
	}
	q, err := v.lookup(to)
	if err != nil {
		return fmt.Errorf("to %s: %w", to, err)
	}
	old, e := p.entry, q.entry
	switch {
	case e == nil && old.isDir() && slices.Contains(q.parents, old.start()):
		return fmt.Errorf("to %s, which is in it: %w", to, fs.ErrInvalid)
	case e == nil:
	case e.dir.start == old.dir.start && e.slot == old.slot:
		return nil
	case e.isDir() && old.isDir():
		return fmt.Errorf("to %s: %w", to, fs.ErrExist)
	case e.isDir():
		return fmt.Errorf("to %s: %w", to, ErrIsDirectory)
	case old.isDir():
		return fmt.Errorf("to %s: %w", to, ErrNotDirectory)
	}
	var replaced uint32
	if e != nil {
		replaced = e.start()
		e.raw[11] = old.raw[11]
	} else if e, err = q.dir.add(q.name, old.raw[11], 0); err != nil {
		return fmt.Errorf("to %s: %w", to, err)
	}
	if err := e.writeBack(old.start(), old.size()); err != nil {
		return err
	}
	if old.isDir() && q.dir.start != p.dir.start {
		if err := v.setParent(old.start(), q.dir); err != nil {
			return err
		}
	}
	if err := old.erase(); err != nil {
		return err
	}
	return v.free(replaced)
}

// Exchange gives each of two files the name of the other (RENAME_EXCHANGE): both names stay as they
// are stored, and where their files start changes, in each with the inode.
func (v *Volume) Exchange(a, b string) error {
	return v.done("exchange", a, v.exchange(a, b))
}

func (v *Volume) exchange(a, b string) error {
	p, err := v.existing(a)
	if err != nil {
		return err
	}
	q, err := v.existing(b)
	if err != nil {
		return fmt.Errorf("with %s: %w", b, err)
	}
	if p.entry.isDir() || q.entry.isDir() {
		return ErrIsDirectory
	}
	start, size := p.entry.start(), p.entry.size()
	if err := p.entry.writeBack(q.entry.start(), q.entry.size()); err != nil {
		return err
	}
	return q.entry.writeBack(start, size)
}

// Unlink removes a file or an empty directory: its name, then its clusters.
func (v *Volume) Unlink(name string) error {
	return v.done("unlink", name, v.unlink(name, func() error { return nil }))
}

// Remove is Unlink of what is held open while its name is synced: the clusters of a file are not
// freed before its last user has closed it.
func (v *Volume) Remove(name string) error {
	return v.done("remove", name, v.unlink(name, v.Sync))
}

func (v *Volume) unlink(name string, between func() error) error {
	p, err := v.existing(name)
	if err != nil {
		return err
	}
	if p.entry.isDir() {
		d, err := p.entry.open()
		if err != nil {
			return err
		}
		if len(d.entries()) > 0 {
			return ErrNotEmpty
		}
	}
	if err := p.entry.erase(); err != nil {
		return err
	}
	if err := between(); err != nil {
		return err
	}
	return v.free(p.entry.start())
}

// Mkdir makes a directory in one that exists: first its cluster, then its name.
func (v *Volume) Mkdir(name string) error {
	return v.done("mkdir", name, v.mkdir(name))
}

func (v *Volume) mkdir(name string) error {
	p, err := v.lookup(name)
	if err != nil {
		return err
	}
	if p.entry != nil {
		return fs.ErrExist
	}
	got, err := v.extend(0, 1, true)
	if err != nil {
		return err
	}
	start := got[0]
	b := make([]byte, v.cluster)
	for i, dot := range []alias{{base: "."}, {base: ".."}} {
		copy(b[i*slotSize:], newSlot(dot.field(), attrDir))
	}
	setFile(b, start, 0)
	setFile(b[slotSize:], p.dir.parentStart(), 0)
	if err := v.write(b, v.offset(start)); err != nil {
		return err
	}
	if _, err = p.dir.add(p.name, attrDir, start); err != nil {
		if err := v.free(start); err != nil {
			return err
		}
	}
	return err
}

// parentStart is what ".." has in the directories of a directory: 0 if it is the root directory, of
// a FAT32 too.
func (d *directory) parentStart() uint32 {
	if d.start == d.root {
		return 0
	}
	return d.start
}

// setParent changes ".." of the directory that starts at a cluster.
func (v *Volume) setParent(start uint32, parent *directory) error {
	at := v.offset(start) + slotSize
	b, err := v.read(at, slotSize)
	if err != nil {
		return err
	}
	if field := (alias{base: ".."}).field(); [11]byte(b) != field {
		return fmt.Errorf("%w: a directory that does not name its parent", ErrDamaged)
	}
	setFile(b, parent.parentStart(), 0)
	return v.apply([]patch{{at, b}})
}

// Sync has everything on the medium when it returns, as syncfs(2) does.
func (v *Volume) Sync() error {
	if d, ok := v.disk.(interface{ Sync() error }); ok {
		if err := d.Sync(); err != nil {
			return fmt.Errorf("vfat: sync: %w", err)
		}
	}
	return nil
}
