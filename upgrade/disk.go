package upgrade

import (
	"fmt"
	"io"
)

// Source is sized random-access input: *[bytes.Reader], *[io.SectionReader] and *[github.com/osmith-dev/osmith/uki.Assembled]
// satisfy it.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Disk is the storage of one machine: an image file or a block device, whole. If it has a method Sync() error, that is
// called wherever the order of writes matters, and must return only when everything written before is on stable storage.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Size() int64
}

type syncer interface{ Sync() error }

func syncDisk(d any) error {
	if s, ok := d.(syncer); ok {
		return s.Sync()
	}
	return nil
}

// region is one partition of a disk. Access outside it is an error, so that no mistake in an offset reaches another slot.
type region struct {
	disk      Disk
	off, size int64
}

func (r region) Size() int64 { return r.size }

func (r region) Sync() error { return syncDisk(r.disk) }

func (r region) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("upgrade: read at %d of a partition", off)
	}
	if off >= r.size {
		return 0, io.EOF
	}
	short := int64(len(b)) > r.size-off
	if short {
		b = b[:r.size-off]
	}
	n, err := r.disk.ReadAt(b, r.off+off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (r region) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || int64(len(b)) > r.size || off > r.size-int64(len(b)) {
		return 0, fmt.Errorf("upgrade: write of %d bytes at %d leaves the partition of %d bytes", len(b), off, r.size)
	}
	return r.disk.WriteAt(b, r.off+off)
}

// copyBuffer is the unit in which images are copied into slots.
const copyBuffer = 1 << 20

// copyTo writes src to the start of dst and calls progress after each buffer, whose error ends it.
func copyTo(dst io.WriterAt, src Source, progress func(n int64) error) error {
	size := src.Size()
	buf := make([]byte, min(copyBuffer, max(size, 1)))
	for off := int64(0); off < size; {
		b := buf[:min(int64(len(buf)), size-off)]
		if n, err := src.ReadAt(b, off); n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if _, err := dst.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
		if err := progress(int64(len(b))); err != nil {
			return err
		}
	}
	return nil
}
