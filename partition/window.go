package partition

import (
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// Window is one partition of a disk, for reading and writing: an [osmith.Disk]. It gives no access
// to bytes outside of the partition. If the disk reports holes or has a faster way to write zeros,
// so does the Window.
type Window struct {
	disk      osmith.Disk
	off, size int64
}

// Window is partition i (index in Partitions) of disk.
func (t *Table) Window(disk osmith.Disk, i int) *Window {
	off, size := t.Extent(i)
	return &Window{disk: disk, off: off, size: size}
}

// Size is the size of the partition in bytes.
func (w *Window) Size() int64 { return w.size }

// SectorSize is the logical sector size of the disk in bytes, 0 if the disk does not report it.
func (w *Window) SectorSize() int {
	if d, ok := w.disk.(interface{ SectorSize() int }); ok {
		return d.SectorSize()
	}
	return 0
}

// ReadAt implements [io.ReaderAt].
func (w *Window) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(w.disk, w.off, w.size).ReadAt(p, off)
}

// NextData returns the first range [start, end) at or behind off that may hold anything but zeros,
// in bytes of the partition. If there is none, start and end are the size. If the disk does not
// report holes, all the rest counts as data.
func (w *Window) NextData(off int64) (start, end int64, err error) {
	start, end, err = sparse.NextDataWithin(w.disk, w.off, w.size, off)
	return start, end, prefix.Error("partition", err)
}

// WriteAt implements [io.WriterAt]. A write that would reach beyond the partition is refused
// completely.
func (w *Window) WriteAt(p []byte, off int64) (int, error) {
	if err := w.inside(off, int64(len(p))); err != nil {
		return 0, prefix.Error("partition", err)
	}
	return w.disk.WriteAt(p, w.off+off)
}

// ZeroRange zeroes n bytes, if the disk has such a method; otherwise the error matches
// [errors.ErrUnsupported].
func (w *Window) ZeroRange(off, n int64) error {
	if err := w.inside(off, n); err != nil {
		return prefix.Error("partition", err)
	}
	z, ok := w.disk.(sparse.ZeroRanger)
	if !ok {
		return prefix.Error("partition", fmt.Errorf("zeroing a range of the disk: %w", errors.ErrUnsupported))
	}
	return z.ZeroRange(w.off+off, n)
}

// StartWriteback asks the disk, if it supports that, to begin to write n bytes to stable storage,
// and does not wait.
func (w *Window) StartWriteback(off, n int64) {
	if w.inside(off, n) == nil {
		sparse.StartWriteback(w.disk, w.off+off, n)
	}
}

// DropCache drops n synced bytes from the cache, so that the next read is from the medium. If the
// disk does not support that, the error matches [errors.ErrUnsupported].
func (w *Window) DropCache(off, n int64) error {
	if err := w.inside(off, n); err != nil {
		return prefix.Error("partition", err)
	}
	known, err := sparse.DropCache(w.disk, w.off+off, n)
	if err == nil && !known {
		err = fmt.Errorf("reading past the cache of the disk: %w", errors.ErrUnsupported)
	}
	return prefix.Error("partition", err)
}

// Lock locks the whole disk until unlock is called, as [osmith.Device.Lock] does. If the disk
// cannot be locked, the error matches [errors.ErrUnsupported].
func (w *Window) Lock() (unlock func() error, err error) {
	l, ok := w.disk.(sparse.Locker)
	if !ok {
		return nil, prefix.Error("partition", fmt.Errorf("locking the disk: %w", errors.ErrUnsupported))
	}
	return l.Lock()
}

func (w *Window) inside(off, n int64) error {
	if off < 0 || n < 0 || off > w.size || n > w.size-off {
		return fmt.Errorf("%d bytes at %d in a partition of %d bytes", n, off, w.size)
	}
	return nil
}

// Sync calls the Sync method of the disk, if it has one.
func (w *Window) Sync() error { return prefix.Error("partition", syncTarget(w.disk)) }
