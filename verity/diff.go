package verity

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// An Origin is where a block of a new image comes from.
type Origin uint8

const (
	Kept  Origin = iota // where it is to be written it is already
	Same                // the old image has it at the same position
	Moved               // the old image has it at another position
	Zero                // it is all zeros
	Fetch               // it must be fetched

	origins
)

func (o Origin) String() string {
	switch o {
	case Kept:
		return "kept"
	case Same:
		return "same"
	case Moved:
		return "moved"
	case Zero:
		return "zero"
	case Fetch:
		return "fetch"
	}
	return fmt.Sprintf("origin %d", uint8(o))
}

// A Span is a run of blocks of a new image that have one origin.
type Span struct {
	Origin Origin
	First  int64 // number of the first block
	Count  int64 // number of blocks
	From   int64 // for Same and Moved: number of the first block in the old image
}

func (s Span) String() string {
	text := fmt.Sprintf("%d", s.First)
	if s.Count > 1 {
		text += fmt.Sprintf("-%d", s.First+s.Count-1)
	}
	text += " " + s.Origin.String()
	if s.Origin == Moved {
		text += fmt.Sprintf(" from %d", s.From)
	}
	return text
}

// A Delta says where every block of a new image comes from.
type Delta struct {
	BlockSize int    // bytes of a data block
	Blocks    int64  // number of blocks of the new image
	Spans     []Span // all blocks in order; neighbours differ, or are apart in the old image
}

// Total returns how many blocks of the new image have an origin. Multiply by
// BlockSize for bytes.
func (d *Delta) Total(o Origin) int64 {
	var n int64
	for _, s := range d.Spans {
		if s.Origin == o {
			n += s.Count
		}
	}
	return n
}

// String returns the totals, for people.
func (d *Delta) String() string {
	parts := []string{fmt.Sprintf("%d blocks of %d bytes", d.Blocks, d.BlockSize)}
	for o := range origins {
		if n := d.Total(o); n > 0 {
			parts = append(parts, fmt.Sprintf("%v %d (%.1f %%)", o, n, 100*float64(n)/float64(d.Blocks)))
		}
	}
	return strings.Join(parts, ", ")
}

// add adds the next block.
func (d *Delta) add(o Origin, from int64) {
	if n := len(d.Spans); n > 0 {
		last := &d.Spans[n-1]
		follows := o != Same && o != Moved || from == last.From+last.Count
		if last.Origin == o && follows {
			last.Count++
			return
		}
	}
	var first int64
	if n := len(d.Spans); n > 0 {
		first = d.Spans[n-1].First + d.Spans[n-1].Count
	}
	d.Spans = append(d.Spans, Span{Origin: o, First: first, Count: 1, From: from})
}

// DiffOptions are what Diff may know besides the two trees.
type DiffOptions struct {
	// Target is the tree over what the place that will be written holds now, such as
	// the slot of an A/B system that is not in use. Its blocks are Kept where they
	// have their position already, which saves the write. No Source: nothing is known.
	Target Tree
}

// Diff finds out which blocks of a new image an old one has, from their hash trees
// alone. Equal digests mean equal blocks only under the same hash, format, salt and
// block sizes; if they differ, the error is an *IncompatibleError. An old tree without
// Source stands for no old image: that is what to do without one, or with one whose tree
// is damaged.
//
// Each block gets the first origin that applies in the order of the constants. Of
// several blocks of the old image that are Moved candidates, the one that follows the
// block chosen before is taken, or else the first. The result depends on nothing but
// the trees.
//
// Both trees are read in order and checked against their root hashes as they are read:
// a *BlockError says what does not match. The old tree is read twice and, for moved
// blocks, in places a third time; that reading is not checked again, since nothing more
// than a block that Patch tries in vain can come of it.
//
// Memory: an index over the old image of at most 22 bytes a block (16 MiB for 4 GiB
// of blocks of 4096 bytes), and 32 bytes for each span of the result, twice that while
// it grows. Beyond the first 16 Mi blocks of an old image (64 GiB), blocks are not found
// at other positions.
func Diff(ctx context.Context, from, to Tree, o DiffOptions) (*Delta, error) {
	next, err := to.open("new tree")
	if err != nil {
		return nil, err
	}
	d := &differ{
		next:  next.reader(),
		delta: &Delta{BlockSize: next.DataBlockSize, Blocks: next.dataBlocks},
		zero:  next.digest(newHasher(next.layout).appendHole(nil, 1), 0),
	}
	if from.Source != nil {
		if d.old, err = openComparable(from, "old", next); err != nil {
			return nil, err
		}
	}
	if o.Target.Source != nil {
		if d.target, err = openComparable(o.Target, "target", next); err != nil {
			return nil, err
		}
	}
	if d.old != nil {
		if err := d.indexOld(ctx); err != nil {
			return nil, err
		}
	}
	if err := d.compare(ctx); err != nil {
		return nil, err
	}
	return d.delta, nil
}

func openComparable(t Tree, name string, to *openTree) (*digestReader, error) {
	opened, err := t.open(name + " tree")
	if err != nil {
		return nil, err
	}
	if err := opened.comparable(name, to); err != nil {
		return nil, err
	}
	return opened.reader(), nil
}

type differ struct {
	next   *digestReader
	old    *digestReader // nil if there is none; read in order
	target *digestReader // nil if there is none
	zero   []byte        // digest of a block of zeros

	index *digestIndex
	found *digestReader // the old tree, read where the index points
	delta *Delta
}

// cancelEvery is the number of digests between two looks at the context.
const cancelEvery = 1 << 12

func (d *differ) indexOld(ctx context.Context) error {
	d.index, d.found = newDigestIndex(d.old.dataBlocks), d.old.reader()
	for b := range d.old.dataBlocks {
		if b%cancelEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		digest, err := d.old.want(b)
		if err != nil {
			return err
		}
		if b < maxIndexed {
			d.index.add(digest, b)
		}
	}
	return nil
}

func (d *differ) compare(ctx context.Context) error {
	for b := range d.next.dataBlocks {
		if b%cancelEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		digest, err := d.next.want(b)
		if err != nil {
			return err
		}
		origin, from, err := d.origin(b, digest)
		if err != nil {
			return err
		}
		d.delta.add(origin, from)
	}
	return nil
}

// origin returns where a block of the new image comes from.
func (d *differ) origin(block int64, digest []byte) (Origin, int64, error) {
	if is, err := d.target.has(block, digest); is || err != nil {
		return Kept, 0, err
	}
	if is, err := d.old.has(block, digest); is || err != nil {
		return Same, block, err
	}
	if d.old != nil {
		from, err := d.find(digest)
		if from >= 0 || err != nil {
			return Moved, from, err
		}
	}
	if bytes.Equal(digest, d.zero) {
		return Zero, 0, nil
	}
	return Fetch, 0, nil
}

// has says whether a tree has a digest at a position. No tree has none.
func (r *digestReader) has(block int64, digest []byte) (bool, error) {
	if r == nil || block >= r.dataBlocks {
		return false, nil
	}
	have, err := r.want(block)
	return bytes.Equal(have, digest), err
}

// find returns which block of the old image has a digest, or -1.
func (d *differ) find(digest []byte) (int64, error) {
	if n := len(d.delta.Spans); n > 0 && d.delta.Spans[n-1].Origin == Moved {
		last := d.delta.Spans[n-1]
		if next := last.From + last.Count; next < d.found.dataBlocks {
			have, err := d.found.again(next)
			if bytes.Equal(have, digest) || err != nil {
				return next, err
			}
		}
	}
	from := d.index.find(digest)
	if from < 0 {
		return -1, nil
	}
	have, err := d.found.again(from)
	if !bytes.Equal(have, digest) {
		from = -1
	}
	return from, err
}
