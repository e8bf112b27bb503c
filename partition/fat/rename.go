package fat

import (
	"fmt"
	"io/fs"
)

// Rename gives a file or directory another name in the same directory; another directory is [ErrCrossDirectory], a
// name that is taken [fs.ErrExist]. One sector write does it, so that a power cut leaves the old or the new name:
// counted names such as x+3-0.efi, x+2-1.efi, x.efi only change entries that are there already, and a longer name moves
// its neighbours within the sector if it must. The 8.3 alias stays, unless it is the old name itself.
//
// Where a sector cannot hold the new name, a file is copied under the new name and the old one removed, which needs
// its size in free space, and a cut in the middle leaves both; a directory is refused with [ErrNoRoom].
func (f *FS) Rename(oldName, newName string) error {
	return f.change("rename", oldName, func() error {
		if !fs.ValidPath(newName) || newName == "." {
			return fs.ErrInvalid
		}
		d, e, err := f.walk(oldName)
		if err != nil {
			return err
		}
		dir, base := splitPath(newName)
		if err := checkName(base); err != nil {
			return err
		}
		_, to, err := f.find(dir)
		switch {
		case err != nil:
			return err
		case to == nil:
			return ErrNotDirectory
		case to.cluster != d.cluster:
			return ErrCrossDirectory
		}
		if other := d.lookup(base); other != nil && other != e {
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
	if short.text(0) == fold(e.name) { // the alias would keep the old name alive
		var err error
		if short, err = shortFor(d, base, e); err != nil {
			return err
		}
	}
	set := entrySet(base, short, false, e.attr, e.cluster, e.size, e.written)
	last := set[len(set)-entrySize:]
	raw := d.buf[(e.pos+e.n-1)*entrySize : (e.pos+e.n)*entrySize]
	copy(last[13:], raw[13:]) // times, clusters and size as they are
	ok, err := f.substitute(d, e, set)
	if ok || err != nil {
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
	d, e, err = f.walk(oldName)
	if err != nil {
		return err
	}
	return f.remove(d, e, oldName)
}
