package upgrade

import (
	"context"
	"io"

	"github.com/osmith-dev/osmith"
)

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

// cancelSource ends a long copy when the context does.
type cancelSource struct {
	osmith.Source
	ctx context.Context
}

func (c cancelSource) ReadAt(b []byte, off int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Source.ReadAt(b, off)
}
