package upgrade

import "io"

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
