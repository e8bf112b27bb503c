package pinned

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// block is how much of a source is in memory of each of the blocks that are on their way.
const block = 1 << 20

// Scan writes a source to several writers at once, and reads the next block meanwhile. Behind the
// first error nothing more is read.
func Scan(src osmith.Source, to ...io.Writer) error {
	type read struct {
		b   []byte
		err error
	}
	size := src.Size()
	n := min(block, size)
	full, free := make(chan read, 1), make(chan []byte, 2)
	free <- make([]byte, n)
	free <- make([]byte, n)
	var failed atomic.Pointer[error]
	go func() {
		defer close(full)
		for off := int64(0); off < size && failed.Load() == nil; off += n {
			b := (<-free)[:min(n, size-off)]
			err := sparse.ReadFull(src, b, off)
			full <- read{b, err}
			if err != nil {
				return
			}
		}
	}()
	for next := range full {
		err := next.err
		if err == nil && failed.Load() == nil {
			err = writeAll(next.b, to)
		}
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
		free <- next.b[:n]
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// writeAll gives the same bytes to all writers at the same time.
func writeAll(b []byte, to []io.Writer) error {
	errs := make([]error, len(to))
	var group sync.WaitGroup
	for i, w := range to {
		group.Go(func() { _, errs[i] = w.Write(b) })
	}
	group.Wait()
	return errors.Join(errs...)
}
