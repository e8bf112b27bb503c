package fec

import (
	"context"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// Check reports whether the parity, which may be longer than [Size], matches data and hash area: it
// returns nil, or a *ParityError that lists the rounds that differ. A nil hash area is empty.
//
// For the first of these rounds the error also names the damaged blocks, counted from the first
// data block through the hash area, according to the code: the list is right if at most Roots/2
// bytes of each codeword are damaged. An empty list means that the parity itself is damaged, or too
// many bytes are. Only the root hash gives certainty: see [Repair].
//
// A parity that is too short is a *verity.ShortError. Time and memory are those of Encode.
func Check(ctx context.Context, data, hash, parity osmith.Source, p Params) (err error) {
	defer prefix.Add("fec", &err)
	if parity == nil {
		return errNone("parity")
	}
	c, err := newCovered(data, hash, p)
	if err != nil {
		return err
	}
	if have := parity.Size(); have < c.size() {
		return &verity.ShortError{Device: "parity", Want: c.size(), Got: have}
	}
	var mu sync.Mutex
	var differ damage // of rounds
	first := c.size()
	err = c.encode(ctx, func() func([]byte, int64) error {
		var stored []byte
		return func(b []byte, off int64) error {
			if len(stored) < len(b) {
				stored = make([]byte, len(b))
			}
			if err := hashtree.ReadFull(parity, stored[:len(b)], off, "parity"); err != nil {
				return err
			}
			var found damage
			for i := 0; i < len(b); i++ {
				if b[i] == stored[i] {
					continue
				}
				if len(found) == 0 {
					mu.Lock()
					first = min(first, off+int64(i))
					mu.Unlock()
				}
				n := (off + int64(i)) / c.perRound()
				found.add(run{n, 1, bad})
				// On with the next round.
				i = int(min((n+1)*c.perRound()-off, int64(len(b)))) - 1
			}
			mu.Lock()
			differ = append(differ, found...)
			mu.Unlock()
			return nil
		}
	})
	if err != nil || len(differ) == 0 {
		return err
	}
	e := &ParityError{Total: c.rounds, Offset: first}
	for _, r := range differ.sorted() {
		e.Differ += r.count
		if len(e.Rounds) < verity.MaxRanges {
			e.Rounds = append(e.Rounds, Rounds{r.first, r.count})
		}
	}
	e.Blocks, err = c.locate(parity, e.Rounds[0].First)
	if err != nil {
		return err
	}
	return e
}

// locate returns the blocks of a round in which the code finds errors, or nil if there
// are more than it can find.
func (c *covered) locate(parity osmith.Source, n int64) ([]int64, error) {
	rs, err := newEncoder(c.Roots)
	if err != nil {
		return nil, err
	}
	d := newDecoder(c.Roots, nil)
	var damaged [codeword]bool
	var corrections []correction
	// A piece at a time, since a block may be large.
	piece := min(c.BlockSize, 4096)
	e := c.newEncoding(rs, piece)
	stored := make([]byte, piece*c.Roots)
	for at := n * int64(c.BlockSize); at < (n+1)*int64(c.BlockSize); at += int64(piece) {
		rest, err := e.parity(at, piece)
		if err != nil {
			return nil, err
		}
		if err := hashtree.ReadFull(parity, stored, at*int64(c.Roots), "parity"); err != nil {
			return nil, err
		}
		for i, b := range stored {
			rest[i] ^= b
		}
		for ; len(rest) > 0; rest = rest[c.Roots:] {
			var ok bool
			if corrections, ok = d.decode(corrections[:0], rest[:c.Roots]); !ok {
				return nil, nil
			}
			for _, x := range corrections {
				damaged[x.symbol] = true
			}
		}
	}
	var blocks []int64
	for row := range c.rows() {
		block := int64(row)*c.rounds + n
		if !damaged[row] {
			continue
		}
		if block >= c.blocks() {
			return nil, nil // these are zeros, so this is not what happened
		}
		blocks = append(blocks, block)
	}
	return blocks, nil
}
