package upgrade

import (
	"context"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/verity"
)

// meter counts the bytes that are read of file systems and their trees, or of files that are
// written.
type meter struct {
	progress    func(done, total int64)
	mu          sync.Mutex
	done, total int64
}

func (m *meter) add(n int64) {
	if m.progress == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Some blocks of a tree are read twice.
	if done := min(m.done+n, m.total); done > m.done {
		m.done = done
		m.progress(m.done, m.total)
	}
}

// end tells that all is read: what lies behind the blocks of an image is not.
func (m *meter) end() { m.add(m.total) }

// cancelled is a source that tells the meter what is read of it, and ends when the context does.
// None stays none.
func (m *meter) cancelled(ctx context.Context, src osmith.Source) osmith.Source {
	if src == nil {
		return nil
	}
	return meteredSource{cancelSource{src, ctx}, m}
}

// meteredSource tells a meter what is read of it.
type meteredSource struct {
	osmith.Source
	meter *meter
}

func (s meteredSource) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.Source.ReadAt(b, off)
	s.meter.add(int64(n))
	return n, err
}

// NextData knows the holes of the source.
func (s meteredSource) NextData(off int64) (start, end int64, err error) {
	return sparse.NextData(s.Source, off)
}

// verify reads a whole file system and its tree.
func (p *Plan) verify(ctx context.Context, data, tree osmith.Source, root []byte) error {
	return verity.Verify(ctx, meteredSource{data, &p.meter}, meteredSource{tree, &p.meter}, root)
}
