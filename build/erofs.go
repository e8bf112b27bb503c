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
	"github.com/osmith-dev/osmith/internal/prefix"
)

// EROFSOptions are the choices of [WriteEROFS].
type EROFSOptions struct {
	TreeOptions

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
// image. Extended attributes are not carried over, and hard links become files of their own.
func WriteEROFS(ctx context.Context, w io.WriteSeeker, fsys fs.FS, o EROFSOptions) (err error) {
	defer prefix.Add("build", &err)
	if o.TempDir == "" {
		return errors.New("EROFS: no TempDir: want a directory with room for all files")
	}
	if len(o.Label) > maxErofsLabel {
		return fmt.Errorf("EROFS: the label %q has %d bytes: want at most %d", o.Label, len(o.Label), maxErofsLabel)
	}
	im := erofs.Create(w, erofs.WithBuildTime(uint64(o.clamp(o.Time)), 0), erofs.WithTempDir(o.TempDir), erofs.WithBlockSize(4096))
	err = o.walk(fsys, func(f *file) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := addToEROFS(ctx, im, fsys, f); err != nil {
			return fmt.Errorf("EROFS: %s: %w", f.absolute(), err)
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

func addToEROFS(ctx context.Context, im *erofs.Writer, fsys fs.FS, f *file) (err error) {
	name := f.absolute()
	switch {
	case f.mode.IsDir():
		if name != "/" {
			err = im.Mkdir(name, f.mode.Perm())
		}
	case f.mode&fs.ModeSymlink != 0:
		err = im.Symlink(f.link, name)
	case f.mode.IsRegular():
		err = copyToEROFS(ctx, im, fsys, f)
	case f.mode.Type() == fs.ModeIrregular:
		return errors.New("not a file type that Linux has")
	default:
		// Numbers of devices as the kernel encodes them for user space: linux/kdev_t.h,
		// new_encode_dev.
		err = im.Mknod(name, uint16(f.unixMode()), f.Minor&0xff|f.Major<<8|f.Minor&^0xff<<12)
	}
	if err != nil {
		return err
	}
	if f.mode&fs.ModeSymlink == 0 {
		if err := im.Chmod(name, f.mode); err != nil {
			return err
		}
	}
	if err := im.Chown(name, int(f.UID), int(f.GID)); err != nil {
		return err
	}
	at := time.Unix(f.mtime, 0)
	return im.Chtimes(name, at, at)
}

func copyToEROFS(ctx context.Context, im *erofs.Writer, fsys fs.FS, f *file) (err error) {
	src, err := fsys.Open(f.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	to, err := im.Create(f.absolute())
	if err != nil {
		return err
	}
	n, err := io.Copy(&interruptible{ctx, to}, src)
	if err == nil && n != f.size {
		err = fmt.Errorf("the file changed: %d bytes, want %d as in its directory", n, f.size)
	}
	return errors.Join(err, to.Close())
}
