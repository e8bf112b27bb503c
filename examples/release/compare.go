package main

import (
	"bytes"
	"io"
	"sync/atomic"
)

// A comparison is written to instead of a file that should have the same bytes already.
type comparison struct {
	tree    io.ReaderAt
	differs bool
	written atomic.Int64
}

// WriteAt compares.
func (c *comparison) WriteAt(b []byte, off int64) (int, error) {
	have := make([]byte, len(b))
	if n, err := c.tree.ReadAt(have, off); n < len(have) && err != nil && err != io.EOF {
		return 0, err
	}
	c.differs = c.differs || !bytes.Equal(b, have)
	c.written.Add(int64(len(b)))
	return len(b), nil
}

// progress estimates how much of the data was read from how much of its tree was written: a digest of 32 bytes for a block of 4096.
func (c *comparison) progress(total int64) func() int64 {
	return func() int64 { return min(c.written.Load()*128, total) }
}
