package fec

import (
	"context"
	"fmt"
	"io"

	"github.com/klauspost/reedsolomon"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// memory is about what all workers together keep, in bytes.
const memory = 24 << 20

// maxColumns is the largest number of codewords that are encoded at once. More would
// only fall out of the processor's cache.
const maxColumns = 32 << 10

// columns returns how many codewords a job has: all jobs together stay within memory.
func columns() int {
	n := memory / (workers() * (codeword + 2*MaxRoots))
	return max(min(n, maxColumns)&^4095, 4096)
}

// Encode writes the parity of data and hash area, [Size] bytes from offset 0 of the writer, which
// for a FEC area inside a device is an io.OffsetWriter. The bytes are those of veritysetup format
// --fec-device. A nil hash area is empty.
//
// It reads every byte once, in parallel, and uses some 30 MiB of memory for data of any size.
// Writes come from several goroutines and are in no particular order.
func Encode(ctx context.Context, parity io.WriterAt, data, hash osmith.Source, p Params) (err error) {
	defer prefix.Add("fec", &err)
	if parity == nil {
		return errNone("writer for the parity")
	}
	c, err := newCovered(data, hash, p)
	if err != nil {
		return err
	}
	return c.encode(ctx, func() func([]byte, int64) error {
		return func(b []byte, off int64) error { return writeFull(parity, b, off, "parity") }
	})
}

// encode gives all parity to the functions that newUse returns, one for each
// goroutine, in pieces of whole codewords.
func (c *covered) encode(ctx context.Context, newUse func() func(b []byte, off int64) error) error {
	per := int64(min(int64(columns()), c.rowSize()))
	jobs := (c.rowSize()-1)/per + 1
	rs, err := newEncoder(c.Roots)
	if err != nil {
		return err
	}
	return parallel(ctx, workers(), jobs, func() func(int64) error {
		w, use := c.newEncoding(rs, int(per)), newUse()
		return func(job int64) error {
			at := job * per
			n := int(min(per, c.rowSize()-at))
			out, err := w.parity(at, n)
			if err != nil {
				return err
			}
			return use(out, at*int64(c.Roots))
		}
	})
}

// newEncoder returns the encoder of a code. It takes its arithmetic over GF(256)
// with the polynomial 0x11d, which is that of the package it comes from.
func newEncoder(roots int) (reedsolomon.Encoder, error) {
	rs, err := reedsolomon.New(codeword-roots, roots,
		reedsolomon.WithCustomMatrix(parityMatrix(roots)), reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return nil, fmt.Errorf("encoder with %d roots: %w", roots, err)
	}
	return rs, nil
}

// An encoding is the buffers of one goroutine.
type encoding struct {
	*covered
	rs     reedsolomon.Encoder
	shards [][]byte // rows, then parity symbols
	rowBuf []byte
	parBuf []byte
	zero   []byte
	out    []byte
}

func (c *covered) newEncoding(rs reedsolomon.Encoder, columns int) *encoding {
	inUse := (c.covered()-1)/c.rowSize() + 1 // rows that are not all zeros
	return &encoding{
		covered: c,
		rs:      rs,
		shards:  make([][]byte, codeword),
		rowBuf:  make([]byte, int(inUse)*columns),
		parBuf:  make([]byte, c.Roots*columns),
		zero:    make([]byte, columns),
		out:     make([]byte, c.Roots*columns),
	}
}

// parity returns the parity of columns [at, at+n) in the order of the FEC area. The
// slice is valid until the next call.
func (w *encoding) parity(at int64, n int) ([]byte, error) {
	if err := w.rowsOf(w.shards, w.rowBuf, w.zero, at, n); err != nil {
		return nil, err
	}
	return w.parityOfRows(n)
}

// parityOfRows returns the parity of the n columns that the shards hold.
func (w *encoding) parityOfRows(n int) ([]byte, error) {
	for i := range w.Roots {
		w.shards[w.rows()+i] = w.parBuf[i*n : i*n+n]
	}
	if err := w.rs.Encode(w.shards); err != nil {
		return nil, fmt.Errorf("encoding %d codewords: %w", n, err)
	}
	out := w.out[:n*w.Roots]
	interleave(out, w.shards[w.rows():])
	return out, nil
}

// interleave puts symbol p of codeword c from symbols[p][c] to out[c*len(symbols)+p].
func interleave(out []byte, symbols [][]byte) {
	roots := len(symbols)
	if roots == 2 { // the default is worth it
		a, b := symbols[0], symbols[1][:len(symbols[0])]
		out = out[:2*len(a)]
		for i, x := range a {
			out[2*i], out[2*i+1] = x, b[i]
		}
		return
	}
	// A few symbols at a time, so that what is written stays in the cache.
	const tile = 1024
	for from := 0; from < len(symbols[0]); from += tile {
		to := min(from+tile, len(symbols[0]))
		for p, s := range symbols {
			at := from*roots + p
			for _, x := range s[from:to] {
				out[at] = x
				at += roots
			}
		}
	}
}
