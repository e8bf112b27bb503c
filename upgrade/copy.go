package upgrade

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/verity"
)

const (
	copyChunk   = 1 << 20
	writeback   = 8 << 20 // as much as the disk is asked to begin with at a time
	copyWorkers = 4       // they wait for the disk most of the time; each has a chunk in memory
)

// copyVerified writes a root file system to the start of a partition. Every block is checked
// against the tree before it is written, so that the release's file system is read once; what is a
// hole in the source is checked, too, and made zero. Chunks are read, checked and written side by
// side: in what order they reach the medium does not matter, since nothing uses the slot yet. What
// an interrupted upgrade has written already is not written again: begun says that there may be
// some of it.
func (a *applier) copyVerified(dst osmith.Disk, root osmith.Source, im verity.Image, begun bool) error {
	reader, err := verity.NewReader(im, verity.ReaderOptions{})
	if err != nil {
		return err
	}
	size := reader.Size()
	ctx, cancel := context.WithCancelCause(a.ctx)
	defer cancel(nil)
	var next atomic.Int64
	var report sync.Mutex
	var group sync.WaitGroup
	for range min(copyWorkers, runtime.GOMAXPROCS(0)+1) {
		group.Go(func() {
			buf := make([]byte, copyChunk)
			var have []byte
			if begun {
				have = make([]byte, copyChunk)
			}
			for ctx.Err() == nil {
				off := (next.Add(1) - 1) * copyChunk
				if off >= size {
					return
				}
				b := buf[:min(copyChunk, size-off)]
				if err := copyChunkTo(dst, root, reader, b, have, off); err != nil {
					cancel(err)
					return
				}
				report.Lock()
				a.report(int64(len(b)))
				report.Unlock()
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return a.ctx.Err()
}

// copyChunkTo writes what b has room for. have, if it is not nil, is room for what is there.
func copyChunkTo(dst osmith.Disk, root osmith.Source, reader *verity.Reader, b, have []byte, off int64) error {
	if err := sparse.ReadFull(reader, b, off); err != nil {
		return err
	}
	if have != nil {
		have = have[:len(b)]
		// What cannot be read there is written, too.
		if err := sparse.ReadFull(dst, have, off); err == nil && bytes.Equal(have, b) {
			return nil
		}
	}
	// A hole that is checked needs no zeros to be written where the disk makes them faster.
	if start, _, err := sparse.NextData(root, off); err == nil && start >= off+int64(len(b)) {
		if z, ok := dst.(sparse.ZeroRanger); ok {
			if err := z.ZeroRange(off, int64(len(b))); !errors.Is(err, errors.ErrUnsupported) {
				return err
			}
		}
	}
	if _, err := dst.WriteAt(b, off); err != nil {
		return err
	}
	if end := off + int64(len(b)); end%writeback == 0 {
		sparse.StartWriteback(dst, end-writeback, writeback)
	}
	return nil
}
