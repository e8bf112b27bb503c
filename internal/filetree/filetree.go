// Package filetree walks a tree of files (fs.FS) for the packages that make a file system or an
// archive of it.
package filetree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
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

	maxXattrName  = 255     // XATTR_NAME_MAX
	maxXattrValue = 1 << 16 // XATTR_SIZE_MAX
)

// The name spaces of extended attributes that a file system stores (xattr(7)).
var xattrSpaces = []string{"user.", "trusted.", "security."}

// The attributes that have access control lists (acl(5)); each is a name space of its own.
const (
	ACLAccess  = "system.posix_acl_access"
	ACLDefault = "system.posix_acl_default"
)

// XattrNames are the names of the extended attributes, sorted.
func (f *File) XattrNames() []string { return slices.Sorted(maps.Keys(f.Xattrs)) }

func (f *File) checkXattrs() error {
	for _, name := range f.XattrNames() {
		inSpace := slices.ContainsFunc(xattrSpaces, func(s string) bool { return len(name) > len(s) && strings.HasPrefix(name, s) })
		switch {
		case !inSpace && name != ACLAccess && name != ACLDefault, strings.ContainsRune(name, 0):
			return fmt.Errorf("%w: %q: want user., trusted. or security. and a name, or an access control list", osmith.ErrXattr, name)
		case strings.HasPrefix(name, "user.") && !f.Mode.IsRegular() && !f.Mode.IsDir():
			return fmt.Errorf("%w: %q: Linux has it for regular files and directories only", osmith.ErrXattr, name)
		case len(name) > maxXattrName:
			return fmt.Errorf("%w: a name of %d bytes: want at most %d", osmith.ErrXattr, len(name), maxXattrName)
		case len(f.Xattrs[name]) > maxXattrValue:
			return fmt.Errorf("%w: %s with %d bytes: want at most %d", osmith.ErrXattr, name, len(f.Xattrs[name]), maxXattrValue)
		}
	}
	return nil
}

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
	return f.checkXattrs()
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
	more, err := Xattrs(fsys, name, o.KeepXattrs)
	if err != nil {
		return nil, fmt.Errorf("%s: extended attributes: %w", f.Absolute(), err)
	}
	if len(more) > 0 {
		all := map[string][]byte{}
		maps.Copy(all, f.Xattrs)
		maps.Copy(all, more)
		f.Xattrs = all
	}
	if f.Mode&fs.ModeSymlink == 0 {
		return f, nil
	}
	links, ok := fsys.(fs.ReadLinkFS)
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, osmith.ErrLink)
	}
	f.Link, err = links.ReadLink(name)
	f.Size = int64(len(f.Link))
	return f, err
}

// An Attributed tree tells extended attributes of its files besides those of their nodes.
type Attributed interface {
	Xattrs(name string, keep bool) (map[string][]byte, error)
}

// Xattrs are the extended attributes of a file besides those of its node, if keep those of a disk
// too. A symbolic link is not followed.
func Xattrs(fsys fs.FS, name string, keep bool) (map[string][]byte, error) {
	if a, ok := fsys.(Attributed); ok {
		return a.Xattrs(name, keep)
	}
	if !keep {
		return nil, nil
	}
	return xattrsOf(fsys, name)
}

// Clamp is a time in seconds since 1970, no later than the options say.
func Clamp(t time.Time, o osmith.TreeOptions) int64 {
	latest := int64(0)
	if !o.Time.IsZero() {
		latest = max(0, o.Time.Unix())
	}
	return max(0, min(t.Unix(), latest))
}
