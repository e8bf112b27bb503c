// Package filetree walks a tree of files (fs.FS) for the packages that make a file system or an
// archive of it.
package filetree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
)

// File is one file of a tree.
type File struct {
	Name  string // "." or a path without a slash in front
	Mode  fs.FileMode
	Size  int64  // bytes of a regular file, or of the target of a symbolic link
	Mtime int64  // seconds since 1970, never negative
	Link  string // target of a symbolic link
	osmith.Node
}

// UnixMode is the mode as stat(2) has it: type and permissions.
func (f *File) UnixMode() uint32 {
	m := uint32(f.Mode.Perm())
	for bit, unix := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if f.Mode&bit != 0 {
			m |= unix
		}
	}
	switch f.Mode.Type() {
	case 0:
		m |= 0o100000
	case fs.ModeDir:
		m |= 0o040000
	case fs.ModeSymlink:
		m |= 0o120000
	case fs.ModeDevice:
		m |= 0o060000
	case fs.ModeDevice | fs.ModeCharDevice:
		m |= 0o020000
	case fs.ModeNamedPipe:
		m |= 0o010000
	case fs.ModeSocket:
		m |= 0o140000
	}
	return m
}

// Device is the device number as the kernel encodes it for user space (linux/kdev_t.h,
// new_encode_dev).
func (f *File) Device() uint32 { return f.Minor&0xff | f.Major<<8 | f.Minor&^0xff<<12 }

// Absolute is the name from the root on.
func (f *File) Absolute() string { return path.Join("/", f.Name) }

// Limits of Linux: of a name (NAME_MAX), and of device numbers (include/linux/kdev_t.h).
const (
	MaxName  = 255
	MaxMajor = 1<<12 - 1
	MaxMinor = 1<<20 - 1
)

// Check refuses what Linux does not have. A larger device number would become that of another
// device.
func (f *File) Check() error {
	if n := len(path.Base(f.Name)); n > MaxName {
		return fmt.Errorf("a name of %d bytes: want at most %d", n, MaxName)
	}
	switch f.Mode.Type() {
	case fs.ModeIrregular:
		return errors.New("not a file type that Linux has")
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		if f.Major > MaxMajor || f.Minor > MaxMinor {
			return fmt.Errorf("device number %d:%d: want at most %d:%d", f.Major, f.Minor, MaxMajor, MaxMinor)
		}
	}
	return nil
}

// Walk visits a tree: a directory, then what is in it, each directory in the order of names. What
// is visited below a file that is no directory any more is an error.
func Walk(fsys fs.FS, o osmith.TreeOptions, visit func(*File) error) error {
	replaced := map[string]bool{}
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f, err := describe(fsys, name, info, o)
		if err != nil {
			return err
		}
		if dir := path.Dir(name); replaced[dir] && name != "." {
			return fmt.Errorf("%s: the tree changed: %s is not a directory any more", f.Absolute(), path.Join("/", dir))
		}
		if d.IsDir() && !f.Mode.IsDir() {
			replaced[name] = true
		}
		return visit(f)
	})
}

func describe(fsys fs.FS, name string, info fs.FileInfo, o osmith.TreeOptions) (*File, error) {
	if strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("%q: the name has a zero byte", name)
	}
	f := &File{Name: name, Mode: info.Mode()}
	if f.Mode.IsRegular() {
		f.Size = info.Size()
	}
	f.Mtime = Clamp(info.ModTime(), o)
	if node, ok := info.Sys().(*osmith.Node); ok {
		f.Node = *node
	} else if o.KeepOwners {
		f.Node = nodeOf(info)
	}
	if f.Mode&fs.ModeSymlink == 0 {
		return f, nil
	}
	links, ok := fsys.(fs.ReadLinkFS)
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, osmith.ErrLink)
	}
	var err error
	f.Link, err = links.ReadLink(name)
	f.Size = int64(len(f.Link))
	return f, err
}

// Clamp is a time in seconds since 1970, no later than the options say.
func Clamp(t time.Time, o osmith.TreeOptions) int64 {
	latest := int64(0)
	if !o.Time.IsZero() {
		latest = max(0, o.Time.Unix())
	}
	return max(0, min(t.Unix(), latest))
}
