package partition

import (
	"fmt"
	"io"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// ReadWriterAt is a disk or an image of one.
type ReadWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// Window is one partition of a disk, for reading and writing. Nothing outside of it can be reached through it.
type Window struct {
	disk      ReadWriterAt
	off, size int64
}

// Window is partition i (index in Partitions) of disk.
func (t *Table) Window(disk ReadWriterAt, i int) *Window {
	off, size := t.Extent(i)
	return &Window{disk: disk, off: off, size: size}
}

// Size is the size of the partition in bytes.
func (w *Window) Size() int64 { return w.size }

// ReadAt implements [io.ReaderAt].
func (w *Window) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(w.disk, w.off, w.size).ReadAt(p, off)
}

// WriteAt implements [io.WriterAt]. A write that would leave the partition is refused whole.
func (w *Window) WriteAt(p []byte, off int64) (int, error) {
	if err := w.inside(off, int64(len(p))); err != nil {
		return 0, prefix.Error("partition", err)
	}
	return w.disk.WriteAt(p, w.off+off)
}

func (w *Window) inside(off, n int64) error {
	if off < 0 || n < 0 || off > w.size || n > w.size-off {
		return fmt.Errorf("write of %d bytes at %d in a partition of %d bytes", n, off, w.size)
	}
	return nil
}

// Sync calls the Sync method of the disk, if it has one.
func (w *Window) Sync() error { return prefix.Error("partition", syncTarget(w.disk)) }
