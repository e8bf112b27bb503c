package build

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// TreeOptions say what becomes of a tree of files in a file system or an archive. The zero value is
// one that is the same on every machine: all belongs to root, and dates from 1970.
type TreeOptions struct {
	// Time is the latest that a file may have: later times become it, such as those of files that
	// the build has made. Zero: 1970-01-01, and so for all files. Times are in whole seconds.
	Time time.Time

	// KeepOwners takes user, group and device numbers from the file system, where that says them as
	// an [os.DirFS] of Linux does. Otherwise all files belong to root, and devices need a [Node].
	KeepOwners bool
}

// Node is what a file has besides the mode. A [fs.FileInfo] whose Sys is a *Node has it, with
// TreeOptions.KeepOwners and without.
type Node struct {
	UID, GID     uint32
	Major, Minor uint32 // of a device
}

// ErrLink is returned for a symbolic link in a file system that cannot say where it leads: it is no
// [fs.ReadLinkFS].
var ErrLink = errors.New("the file system does not support reading symbolic links")

// file is one file of a tree.
type file struct {
	name  string // "." or a path without a slash in front
	mode  fs.FileMode
	size  int64
	mtime int64 // seconds since 1970
	link  string
	Node
}

// unixMode is the mode as stat(2) has it: type and permissions.
func (f *file) unixMode() uint32 {
	m := uint32(f.mode.Perm())
	for bit, unix := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if f.mode&bit != 0 {
			m |= unix
		}
	}
	switch f.mode.Type() {
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

// walk goes through a tree: a directory, then what is in it, each directory in the order of names.
func (o *TreeOptions) walk(fsys fs.FS, visit func(*file) error) error {
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f, err := o.describe(fsys, name, info)
		if err != nil {
			return err
		}
		return visit(f)
	})
}

func (o *TreeOptions) describe(fsys fs.FS, name string, info fs.FileInfo) (*file, error) {
	if strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("%q: the name has a zero byte", name)
	}
	f := &file{name: name, mode: info.Mode()}
	if f.mode.IsRegular() {
		f.size = info.Size()
	}
	f.mtime = o.clamp(info.ModTime())
	if node, ok := info.Sys().(*Node); ok {
		f.Node = *node
	} else if o.KeepOwners {
		f.Node = nodeOf(info)
	}
	if f.mode&fs.ModeSymlink == 0 {
		return f, nil
	}
	links, ok := fsys.(fs.ReadLinkFS)
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, ErrLink)
	}
	var err error
	f.link, err = links.ReadLink(name)
	f.size = int64(len(f.link))
	return f, err
}

// clamp is a time in seconds since 1970, no later than the options say.
func (o *TreeOptions) clamp(t time.Time) int64 {
	latest := int64(0)
	if !o.Time.IsZero() {
		latest = max(0, o.Time.Unix())
	}
	return max(0, min(t.Unix(), latest))
}

// absolute is the name from the root on.
func (f *file) absolute() string { return path.Join("/", f.name) }
