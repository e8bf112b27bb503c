package upgrade

import (
	"context"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

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

// NextData knows the holes of the source.
func (c cancelSource) NextData(off int64) (start, end int64, err error) {
	return sparse.NextData(c.Source, off)
}
