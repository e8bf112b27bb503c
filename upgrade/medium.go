package upgrade

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/blockdev"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// ErrNoSync is returned for a disk that is to be changed and has no method Sync: without Sync, a
// power cut might undo writes in any order, so an upgrade cannot be safe.
var ErrNoSync = errors.New("the disk has no method Sync: the order in which writes reach the medium is unknown: give an *osmith.Device, or a disk with a Sync method")

type syncer interface{ Sync() error }

// take makes a disk ready to be changed: it must be able to sync, is locked where it can be, and is
// read from the medium afterwards.
func take(disk *checkedDisk) (release func() error, err error) {
	if _, ok := disk.Disk.(syncer); !ok {
		return nil, ErrNoSync
	}
	if release, err = sparse.Lock(disk.Disk); err != nil {
		return nil, err
	}
	if err := toMedium(disk); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// alone does something with a disk that this program has for itself meanwhile.
func alone(disk *checkedDisk, do func() error) (err error) {
	release, err := take(disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	return do()
}

// toMedium has what was written reach the medium, and what is read next come from there. After a
// failed sync the cache shows what the medium may not have, and the next sync succeeds
// nevertheless.
func toMedium(disk *checkedDisk) error {
	if err := disk.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return pastCache(disk)
}

// pastCache has all that is read next come from the medium, where the disk can be told so.
func pastCache(disk osmith.Disk) error {
	_, err := sparse.DropCache(disk, 0, disk.Size())
	return err
}

// checkedDisk reads small writes back from the medium at each sync, before anything is written
// whose order depends on them: the table and the structures of a file system. A sync that says that
// all is there when it is not is found out by that. Large writes are contents, which are verified
// as what they are.
type checkedDisk struct {
	osmith.Disk
	mu      sync.Mutex
	written []smallWrite // since the last sync, without those that were written over
}

type smallWrite struct {
	off  int64
	data []byte
}

const (
	smallWriteBytes = 64 << 10
	maxSmallWrites  = 1024 // kept at a time; a change of a file system has a dozen
)

// checked wraps a disk once.
func checked(disk osmith.Disk) *checkedDisk {
	if c, ok := disk.(*checkedDisk); ok {
		return c
	}
	return &checkedDisk{Disk: disk}
}

// cacheWindow is how many bytes of the disk are dropped from the page cache at a time while an
// upgrade reads and writes in bulk, and cacheKept how far behind the present position: by then they
// have been written. Otherwise a release of a gigabyte takes the page cache from all programs on
// the machine, and each page of memory has to be reclaimed first.
const (
	cacheWindow = writeback
	cacheKept   = 64 << 20
)

// ReadAt implements [io.ReaderAt].
func (c *checkedDisk) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Disk.ReadAt(b, off)
	if end := off + int64(n); n > smallWriteBytes && off/cacheWindow != end/cacheWindow {
		c.forget(end/cacheWindow*cacheWindow-cacheWindow, cacheWindow)
	}
	return n, err
}

// forget drops from the cache what lies behind. It is advice.
func (c *checkedDisk) forget(off, n int64) {
	if off -= cacheKept; off >= 0 {
		_, _ = sparse.DropCache(c.Disk, off, n)
	}
}

// WriteAt implements [io.WriterAt].
func (c *checkedDisk) WriteAt(b []byte, off int64) (int, error) {
	n, err := c.Disk.WriteAt(b, off)
	c.note(off, b[:n])
	return n, err
}

// note remembers a write. What an earlier one has written to the same place counts no more.
func (c *checkedDisk) note(off int64, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := off + int64(len(b))
	kept := c.written[:0]
	for _, w := range c.written {
		switch wEnd := w.off + int64(len(w.data)); {
		case wEnd <= off || end <= w.off:
			kept = append(kept, w)
		case off <= w.off && wEnd <= end:
		default: // in part: what is left of it is not worth the trouble
		}
	}
	c.written = kept
	if len(b) <= smallWriteBytes && len(c.written) < maxSmallWrites {
		c.written = append(c.written, smallWrite{off, bytes.Clone(b)})
	}
}

// Sync returns when what was written is on the medium, as far as that can be read there.
func (c *checkedDisk) Sync() error {
	if s, ok := c.Disk.(syncer); ok {
		if err := s.Sync(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	written := c.written
	c.written = nil
	c.mu.Unlock()
	for _, w := range written {
		n := int64(len(w.data))
		if _, err := sparse.DropCache(c.Disk, w.off, n); err != nil {
			return err
		}
		got := make([]byte, n)
		if err := sparse.ReadFull(c.Disk, got, w.off); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		if !bytes.Equal(got, w.data) {
			return &LostWriteError{Offset: w.off, Size: n}
		}
	}
	return nil
}

// ZeroRange implements the method of [osmith.Disk].
func (c *checkedDisk) ZeroRange(off, n int64) error {
	z, ok := c.Disk.(sparse.ZeroRanger)
	if !ok {
		return errors.ErrUnsupported
	}
	err := z.ZeroRange(off, n)
	if err == nil && n <= smallWriteBytes {
		c.note(off, make([]byte, n))
	}
	return err
}

// StartWriteback implements the method of [osmith.Disk].
func (c *checkedDisk) StartWriteback(off, n int64) {
	sparse.StartWriteback(c.Disk, off, n)
	c.forget(off, n)
}

// DropCache implements the method of [osmith.Disk].
func (c *checkedDisk) DropCache(off, n int64) error {
	known, err := sparse.DropCache(c.Disk, off, n)
	if err == nil && !known {
		err = errors.ErrUnsupported
	}
	return err
}

// Exclusive implements the method of [osmith.Disk].
func (c *checkedDisk) Exclusive(off, n int64) (release func() error, err error) {
	return blockdev.Exclusive(c.Disk, off, n)
}

// SectorSize implements the method of [osmith.Disk].
func (c *checkedDisk) SectorSize() int {
	if d, ok := c.Disk.(interface{ SectorSize() int }); ok {
		return d.SectorSize()
	}
	return 0
}

// NextData knows the holes of the disk.
func (c *checkedDisk) NextData(off int64) (start, end int64, err error) {
	return sparse.NextData(c.Disk, off)
}

// LostWriteError says that the disk lost a write although the disk was synced: the disk may be
// failing.
type LostWriteError struct {
	Offset, Size int64 // bytes on the disk
}

func (e *LostWriteError) Error() string {
	return fmt.Sprintf("the disk reported %d bytes at %d as written, but returns different ones: it may be failing", e.Size, e.Offset)
}
