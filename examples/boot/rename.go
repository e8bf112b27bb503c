package main

import (
	"io/fs"
	"path"
)

// renamed is a file system as it is when a file has another name in its directory.
type renamed struct {
	fs.FS
	from, to string
}

// Open implements [fs.FS].
func (r renamed) Open(name string) (fs.File, error) {
	switch name {
	case r.from:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case r.to:
		name = r.from
	}
	return r.FS.Open(name)
}

// Stat implements [fs.StatFS].
func (r renamed) Stat(name string) (fs.FileInfo, error) {
	if name == r.from {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	if name == r.to {
		name = r.from
	}
	return fs.Stat(r.FS, name)
}

// ReadDir implements [fs.ReadDirFS].
func (r renamed) ReadDir(dir string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(r.FS, dir)
	for i, d := range list {
		if path.Join(dir, d.Name()) == r.from {
			list[i] = named{d, path.Base(r.to)}
		}
	}
	return list, err
}

type named struct {
	fs.DirEntry
	name string
}

// Name implements [fs.DirEntry].
func (n named) Name() string { return n.name }

// trial is a machine as it would be: nothing is written.
type trial struct{ esp, xbootldr fs.FS }

func (m *machine) trial() *trial {
	t := &trial{esp: m.ESP}
	if m.XBOOTLDR != nil {
		t.xbootldr = m.XBOOTLDR
	}
	return t
}

// rename gives the file of an entry another name. It keeps its own if that is taken.
func (t *trial) rename(xbootldr bool, from, to string) bool {
	at := &t.esp
	if xbootldr {
		at = &t.xbootldr
	}
	if _, err := fs.Stat(*at, to); err == nil {
		return false
	}
	*at = renamed{*at, from, to}
	return true
}
