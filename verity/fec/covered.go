package fec

import (
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// covered is data and hash area, one behind the other, and zeros behind them up to
// the end of the last row.
type covered struct {
	geometry
	dataSource osmith.Source
	hashSource osmith.Source // may be nil if hash is 0
}

// newCovered measures the sources. The hash area may be nil: then there is none.
func newCovered(data, hash osmith.Source, p Params) (*covered, error) {
	if data == nil {
		return nil, errNone("data")
	}
	var hashSize int64
	if hash != nil {
		hashSize = hash.Size()
	}
	g, err := newGeometry(data.Size(), hashSize, p)
	if err != nil {
		return nil, err
	}
	return &covered{geometry: g, dataSource: data, hashSource: hash}, nil
}

// read fills b from offset off, which may be anywhere.
func (c *covered) read(b []byte, off int64) error {
	if n := min(c.data-off, int64(len(b))); n > 0 {
		if err := hashtree.ReadFull(c.dataSource, b[:n], off, "data"); err != nil {
			return err
		}
		b, off = b[n:], off+n
	}
	if n := min(c.covered()-off, int64(len(b))); n > 0 {
		if err := hashtree.ReadFull(c.hashSource, b[:n], off-c.data, "hash area"); err != nil {
			return err
		}
		b = b[n:]
	}
	clear(b)
	return nil
}

// rowsOf reads columns [at, at+n) of all rows. Rows behind the end share the slice
// zero. The buffer has room for n bytes of every row.
func (c *covered) rowsOf(shards [][]byte, buffer, zero []byte, at int64, n int) error {
	for i := range c.rows() {
		off := int64(i)*c.rowSize() + at
		if off >= c.covered() {
			shards[i] = zero[:n]
			continue
		}
		shards[i] = buffer[i*n : i*n+n]
		if err := c.read(shards[i], off); err != nil {
			return err
		}
	}
	return nil
}

func writeFull(w io.WriterAt, b []byte, off int64, device string) error {
	n, err := w.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("%s: write %d bytes at %#x: wrote %d: %w", device, len(b), off, n, err)
	}
	return nil
}
