package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
	"github.com/osmith-dev/osmith/internal/newc"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// WriteInitrd writes a tree of files as an initrd: a cpio archive in the "newc" format of Linux
// (Documentation/driver-api/early-userspace/buffer-format.rst), in the order of names and with
// numbers of its own for inodes, so that the same files give the same bytes. It is not compressed:
// put a compressor behind w that the kernel knows, such as one for zstd or gzip. Files are read as
// they are written. Hard links become files of their own; the format has no extended attributes, so
// one in the tree is an [osmith.ErrXattr].
//
// An initrd may consist of several archives, one after the other
// ([github.com/osmith-dev/osmith/uki.Image].Initrd), of which later ones win.
func WriteInitrd(ctx context.Context, w io.Writer, fsys fs.FS, o osmith.TreeOptions) (err error) {
	defer prefix.Add("build", &err)
	a := &archive{w: bufio.NewWriterSize(&interruptible{ctx, w}, 1<<16)}
	err = filetree.Walk(fsys, o, func(f *filetree.File) error {
		if f.Name == "." {
			return nil // it is there before the archive is unpacked
		}
		if err := a.add(fsys, f); err != nil {
			return fmt.Errorf("initrd: %s: %w", f.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := a.header(newc.Header{Links: 1, Name: newc.Trailer}); err != nil {
		return err
	}
	return a.w.Flush()
}

// maxInitrdName is what the kernel reads of a name, with the zero byte behind it (init/initramfs.c:
// PATH_MAX).
const maxInitrdName = 4096

// archive is a newc archive while it is written.
type archive struct {
	w   *bufio.Writer
	n   int64
	ino uint32
}

func (a *archive) add(fsys fs.FS, f *filetree.File) error {
	if len(f.Name) >= maxInitrdName {
		return fmt.Errorf("a name of %d bytes: the kernel reads at most %d", len(f.Name), maxInitrdName-1)
	}
	if f.Size > math.MaxUint32 {
		return fmt.Errorf("%d bytes: the format has at most %d a file", f.Size, uint32(math.MaxUint32))
	}
	if err := f.Check(); err != nil {
		return err
	}
	if len(f.Xattrs) > 0 {
		return fmt.Errorf("%w: %s: the format has no extended attributes: remove it from the tree", osmith.ErrXattr, f.XattrNames()[0])
	}
	links := uint32(1)
	if f.Mode.IsDir() {
		links = 2
	}
	a.ino++
	h := newc.Header{Inode: a.ino, Mode: f.UnixMode(), UID: f.UID, GID: f.GID, Links: links, Mtime: uint32(min(f.Mtime, math.MaxUint32)), Size: uint32(f.Size), Major: f.Major, Minor: f.Minor, Name: f.Name}
	if err := a.header(h); err != nil {
		return err
	}
	switch {
	case f.Mode&fs.ModeSymlink != 0:
		if err := a.write([]byte(f.Link)); err != nil {
			return err
		}
	case f.Mode.IsRegular():
		if err := a.content(fsys, f); err != nil {
			return err
		}
	}
	return a.pad()
}

func (a *archive) header(h newc.Header) error {
	if err := a.write(h.Append(nil, newc.Upper)); err != nil {
		return err
	}
	return a.pad()
}

func (a *archive) content(fsys fs.FS, f *filetree.File) (err error) {
	src, err := fsys.Open(f.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	n, err := io.Copy(a.w, io.LimitReader(src, f.Size))
	if a.n += n; err == nil && n < f.Size {
		err = fmt.Errorf("the file changed: %d bytes, want %d as in its directory", n, f.Size)
	}
	return err
}

func (a *archive) write(b []byte) error {
	n, err := a.w.Write(b)
	a.n += int64(n)
	return err
}

func (a *archive) pad() error { return a.write(make([]byte, -a.n&3)) }
