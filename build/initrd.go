package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// WriteInitrd writes a tree of files as an initrd: a cpio archive in the "newc" format of Linux (Documentation/driver-api/early-userspace/buffer-format.rst), in the order of names and with numbers of its own for inodes, so that the same files
// give the same bytes. It is not compressed: put a compressor behind w that the kernel knows, such as one for zstd or gzip. Files are read as they are written. Hard links become files of their own.
//
// An initrd may consist of several archives, one after the other ([github.com/osmith-dev/osmith/uki.Image].Initrd), of which later ones win.
func WriteInitrd(ctx context.Context, w io.Writer, fsys fs.FS, o TreeOptions) (err error) {
	defer prefix.Add("build", &err)
	a := &archive{w: bufio.NewWriterSize(&interruptible{ctx, w}, 1<<16)}
	err = o.walk(fsys, func(f *file) error {
		if f.name == "." {
			return nil // it is there before the archive is unpacked
		}
		if err := a.add(fsys, f); err != nil {
			return fmt.Errorf("initrd: %s: %w", f.name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := a.header(&file{name: "TRAILER!!!"}, 0, 0, 1); err != nil {
		return err
	}
	return a.w.Flush()
}

// maxInitrdName is what the kernel reads of a name, with the zero byte behind it (init/initramfs.c: PATH_MAX).
const maxInitrdName = 4096

// archive is a newc archive while it is written.
type archive struct {
	w   *bufio.Writer
	n   int64
	ino uint32
}

func (a *archive) add(fsys fs.FS, f *file) error {
	if len(f.name) >= maxInitrdName {
		return fmt.Errorf("a name of %d bytes: the kernel reads at most %d", len(f.name), maxInitrdName-1)
	}
	if f.size > math.MaxUint32 {
		return fmt.Errorf("%d bytes: the format has at most %d a file", f.size, uint32(math.MaxUint32))
	}
	if f.mode.Type() == fs.ModeIrregular {
		return errors.New("no kind of file that Linux has")
	}
	links := uint32(1)
	if f.mode.IsDir() {
		links = 2
	}
	a.ino++
	if err := a.header(f, a.ino, f.unixMode(), links); err != nil {
		return err
	}
	switch {
	case f.mode&fs.ModeSymlink != 0:
		if err := a.write([]byte(f.link)); err != nil {
			return err
		}
	case f.mode.IsRegular():
		if err := a.content(fsys, f); err != nil {
			return err
		}
	}
	return a.pad()
}

func (a *archive) header(f *file, ino, mode, links uint32) error {
	text := []byte("070701")
	for _, v := range []uint32{ino, mode, f.UID, f.GID, links, uint32(f.mtime), uint32(f.size), 0, 0, f.Major, f.Minor, uint32(len(f.name) + 1), 0} {
		text = fmt.Appendf(text, "%08X", v)
	}
	if err := a.write(append(append(text, f.name...), 0)); err != nil {
		return err
	}
	return a.pad()
}

func (a *archive) content(fsys fs.FS, f *file) (err error) {
	src, err := fsys.Open(f.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	n, err := io.Copy(a.w, io.LimitReader(src, f.size))
	if a.n += n; err == nil && n < f.size {
		err = fmt.Errorf("%d bytes were read, %d are in the directory: it has changed meanwhile", n, f.size)
	}
	return err
}

func (a *archive) write(b []byte) error {
	n, err := a.w.Write(b)
	a.n += int64(n)
	return err
}

func (a *archive) pad() error { return a.write(make([]byte, -a.n&3)) }
