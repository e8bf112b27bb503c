package verity

import (
	"bytes"
	"context"

	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// state is what is known of a hash block.
type state int

const (
	intact   state = iota // its digest is the expected one
	inferred              // it is damaged, but the blocks under it give its true content
	doubtful              // it is damaged, and its content is all there is to go by
	spare                 // its digest is the expected one, but what must be zero is not
)

// A path is the way from the root hash to one hash block of level 1. A damaged block on it does not
// end the way: the blocks below are judged by what its content must have been, if the blocks under
// it tell, or else by what it is.
type path struct {
	*verifier
	walker hashtree.Walker
	hash   *hashtree.Hasher
	last   []damagedBlock // the last damaged block of each level
	// slots of the data blocks under the block of level 1 at hand, if they are known
	under []byte
}

type damagedBlock struct {
	number int64
	state  state
	spare  int // offset of the byte that is not zero
}

func (v *verifier) newPath(ctx context.Context, hash *hashtree.Hasher) *path {
	p := &path{verifier: v, hash: hash, last: make([]damagedBlock, len(v.Blocks))}
	for i := range p.last {
		p.last[i].number = -1
	}
	p.walker = hashtree.Walker{
		Layout: v.Layout, Hasher: hash, Root: v.root,
		Read: func(b []byte, level int, number int64) error {
			return hashtree.ReadFull(v.hashes, b, v.Offset(level, number), "tree")
		},
		Mismatch: func(h *hashtree.Held, want []byte) error { return p.infer(ctx, h, want) },
		Spare: func(h *hashtree.Held, at int) error {
			p.last[h.Level] = damagedBlock{number: h.Number, state: spare, spare: at}
			return nil
		},
	}
	return p
}

// state returns what is known of the hash block of a level that was passed last.
func (p *path) state(level int, number int64) state {
	if p.last[level].number == number {
		return p.last[level].state
	}
	return intact
}

// infer puts the digests of the blocks below in place of a damaged hash block if they are what it
// must have been.
func (p *path) infer(ctx context.Context, h *hashtree.Held, want []byte) error {
	p.last[h.Level] = damagedBlock{number: h.Number, state: doubtful}
	slots := p.under
	if h.Level > 1 || slots == nil {
		var err error
		if slots, err = p.below(ctx, h.Level, h.Number); err != nil {
			return err
		}
	}
	block := p.AppendBlocks(nil, slots)
	if bytes.Equal(p.hash.Sum(block), want) {
		copy(h.Content, block)
		p.last[h.Level].state = inferred
	}
	return nil
}

// below returns the slots of the blocks under a hash block.
func (p *path) below(ctx context.Context, level int, number int64) ([]byte, error) {
	size := p.HashBlockSize
	if level == 1 {
		size = p.DataBlockSize
	}
	child := make([]byte, size)
	var slots []byte
	for i := range p.Children(level, number) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := number*p.PerBlock + int64(i)
		if level == 1 {
			if err := hashtree.ReadFull(p.data.src, child, n*int64(size), "data"); err != nil {
				return nil, err
			}
			slots = p.hash.AppendData(slots, child)
			continue
		}
		if err := p.walker.Read(child, level-1, n); err != nil {
			return nil, err
		}
		slots = p.hash.AppendTree(slots, child)
	}
	return slots, nil
}

// report adds the hash blocks of the path that are not as they must be and whose first data block
// this is.
func (p *path) report(first int64, to *findings) {
	for level := 1; level <= p.Top(); level++ {
		if first%p.PerBlock != 0 {
			return
		}
		first /= p.PerBlock
		switch p.state(level, first) {
		case inferred, doubtful:
			to.levels[level].add(first, 1)
		case spare:
			if to.spare == nil {
				to.spare = p.spareError(level, first, p.last[level].spare)
			}
		}
	}
}

// findings are damaged blocks by level.
type findings struct {
	levels []ranges
	spare  *SpareError // the first one
}

func (f *findings) reset(levels int) {
	if f.levels == nil {
		f.levels = make([]ranges, levels)
	}
	for i := range f.levels {
		f.levels[i] = ranges{list: f.levels[i].list[:0]}
	}
	f.spare = nil
}

// merge adds the findings of the job that follows.
func (f *findings) merge(next *findings) {
	for i := range next.levels {
		from := &next.levels[i]
		var listed int64
		for _, r := range from.list {
			f.levels[i].add(r.First, r.Count)
			listed += r.Count
		}
		f.levels[i].total += from.total - listed
	}
	if f.spare == nil {
		f.spare = next.spare
	}
}

// mismatch returns the findings as an error value; without any, its totals are 0.
func (f *findings) mismatch(want, got []byte) *MismatchError {
	e := &MismatchError{Want: want, Got: got}
	for level, found := range f.levels {
		for _, r := range found.list {
			r.Level = level
			e.Ranges = append(e.Ranges, r)
		}
		if level == 0 {
			e.DataBlocks = found.total
		} else {
			e.TreeBlocks += found.total
		}
	}
	return e
}

// ranges are blocks of one level, listed up to MaxRanges and counted beyond.
type ranges struct {
	list  []Range
	total int64
}

// add adds blocks that lie behind those added before.
func (r *ranges) add(first, count int64) {
	r.total += count
	if n := len(r.list); n > 0 && r.list[n-1].First+r.list[n-1].Count == first {
		r.list[n-1].Count += count
	} else if n < MaxRanges {
		r.list = append(r.list, Range{First: first, Count: count})
	}
}
