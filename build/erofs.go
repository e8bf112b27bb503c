package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// EROFSOptions are the choices of [WriteEROFS].
type EROFSOptions struct {
	osmith.TreeOptions

	// TempDir is a directory for a file that has all contents while the image is written. It must
	// be given.
	TempDir string

	// UUID and Label are those of the file system; the label has up to 16 bytes. They are not
	// needed.
	UUID  osmith.GUID
	Label string
}

// Where they are in an image: superblock at 1024, of it the UUID and the label (Linux,
// Documentation/filesystems/erofs.rst; fs/erofs/erofs_fs.h).
const (
	erofsUUID     = 1024 + 48
	erofsLabel    = 1024 + 64
	maxErofsLabel = 16
)

// WriteEROFS writes a tree of files as an EROFS file system, which is read-only and which Linux
// mounts from 5.4 on: uncompressed, in blocks of 4096 bytes. The same files give the same bytes.
// The image is written once and in any order; w must be empty, and what it has afterwards is the
// image. Access control lists are an [osmith.ErrXattr], and hard links become files of their own.
func WriteEROFS(ctx context.Context, w io.WriteSeeker, fsys fs.FS, o EROFSOptions) (err error) {
	defer prefix.Add("build", &err)
	if o.TempDir == "" {
		return errors.New("EROFS: no TempDir: want a directory with room for all files")
	}
	if len(o.Label) > maxErofsLabel {
		return fmt.Errorf("EROFS: the label %q has %d bytes: want at most %d", o.Label, len(o.Label), maxErofsLabel)
	}
	im := erofs.Create(w, erofs.WithBuildTime(uint64(filetree.Clamp(o.Time, o.TreeOptions)), 0), erofs.WithTempDir(o.TempDir), erofs.WithBlockSize(4096))
	err = filetree.Walk(fsys, o.TreeOptions, func(f *filetree.File) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := addToEROFS(ctx, im, fsys, f); err != nil {
			return fmt.Errorf("EROFS: %s: %w", f.Absolute(), err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, im.Close())
	}
	if err := im.Close(); err != nil {
		return fmt.Errorf("EROFS: %w", err)
	}
	return o.name(w)
}

// name puts UUID and label into the superblock, which has no checksum.
func (o *EROFSOptions) name(w io.WriteSeeker) error {
	put := func(at int64, b []byte) error {
		if _, err := w.Seek(at, io.SeekStart); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}
	if !o.UUID.IsZero() {
		if err := put(erofsUUID, o.UUID[:]); err != nil {
			return err
		}
	}
	if o.Label != "" {
		return put(erofsLabel, []byte(o.Label))
	}
	return nil
}

func addToEROFS(ctx context.Context, im *erofs.Writer, fsys fs.FS, f *filetree.File) (err error) {
	if err := f.Check(); err != nil {
		return err
	}
	name := f.Absolute()
	switch {
	case f.Mode.IsDir():
		if name != "/" {
			err = im.Mkdir(name, f.Mode.Perm())
		}
	case f.Mode&fs.ModeSymlink != 0:
		err = im.Symlink(f.Link, name)
	case f.Mode.IsRegular():
		err = copyToEROFS(ctx, im, fsys, f)
	default:
		err = im.Mknod(name, uint16(f.UnixMode()), f.Device())
	}
	if err != nil {
		return err
	}
	if f.Mode&fs.ModeSymlink == 0 {
		if err := im.Chmod(name, f.Mode); err != nil {
			return err
		}
	}
	if err := im.Chown(name, int(f.UID), int(f.GID)); err != nil {
		return err
	}
	if err := xattrsToEROFS(im, f); err != nil {
		return err
	}
	at := time.Unix(f.Mtime, 0)
	return im.Chtimes(name, at, at)
}

func copyToEROFS(ctx context.Context, im *erofs.Writer, fsys fs.FS, f *filetree.File) (err error) {
	src, err := fsys.Open(f.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	to, err := im.Create(f.Absolute())
	if err != nil {
		return err
	}
	n, err := io.Copy(&interruptible{ctx, to}, src)
	if err == nil && n != f.Size {
		err = fmt.Errorf("the file changed: %d bytes, want %d as in its directory", n, f.Size)
	}
	return errors.Join(err, to.Close())
}

// Limits of extended attributes in an inode (fs/erofs/erofs_fs.h: struct erofs_xattr_entry and
// i_xattr_icount).
const (
	maxErofsXattr  = 1<<16 - 1
	maxErofsXattrs = (1<<16 - 2) * 4
)

func xattrsToEROFS(im *erofs.Writer, f *filetree.File) error {
	total := 0
	for _, name := range f.XattrNames() {
		value := f.Xattrs[name]
		total += 4 + len(name) + len(value) + 3
		switch {
		case name == filetree.ACLAccess || name == filetree.ACLDefault:
			return fmt.Errorf("%w: %s: this package writes no access control lists into EROFS: remove it from the tree", osmith.ErrXattr, name)
		case len(value) > maxErofsXattr:
			return fmt.Errorf("%w: %s with %d bytes: want at most %d", osmith.ErrXattr, name, len(value), maxErofsXattr)
		case total > maxErofsXattrs:
			return fmt.Errorf("%w: those up to %s have %d bytes: want at most %d for a file", osmith.ErrXattr, name, total, maxErofsXattrs)
		}
		if err := im.Setxattr(f.Absolute(), name, string(value)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
