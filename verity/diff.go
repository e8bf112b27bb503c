package verity

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// An Origin is where a block of a new image comes from.
type Origin uint8

const (
	OriginKept  Origin = iota // it is already in the place to be written
	OriginSame                // the old image has it at the same position
	OriginMoved               // the old image has it at a different position
	OriginZero                // it is all zeros
	OriginFetch               // it must be fetched

	origins
)

func (o Origin) String() string {
	switch o {
	case OriginKept:
		return "kept"
	case OriginSame:
		return "same"
	case OriginMoved:
		return "moved"
	case OriginZero:
		return "zero"
	case OriginFetch:
		return "fetch"
	}
	return fmt.Sprintf("origin %d", uint8(o))
}

// A Span is a run of blocks of a new image that have one origin.
type Span struct {
	Origin Origin
	First  int64 // number of the first block
	Count  int64 // number of blocks
	From   int64 // for OriginSame and OriginMoved: number of the first block in the old image
}

func (s Span) String() string {
	text := fmt.Sprintf("%d", s.First)
	if s.Count > 1 {
		text += fmt.Sprintf("-%d", s.First+s.Count-1)
	}
	text += " " + s.Origin.String()
	if s.Origin == OriginMoved {
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
		follows := o != OriginSame && o != OriginMoved || from == last.From+last.Count
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

// DiffOptions are inputs of Diff besides the two trees.
type DiffOptions struct {
	// Target is the tree over the present contents of the place that will be written, such as the
	// unused slot of an A/B system. Blocks that already have their position there are OriginKept,
	// which saves the write. No Source: the contents are unknown.
	Target Tree
}

// Diff finds the blocks that a new and an old image share, from their hash trees alone. Equal
// digests mean equal blocks only under the same hash, format, salt and block sizes; if they differ,
// the error is an *IncompatibleError. An old tree without Source means that there is no old image:
// use it also if the tree of the old image is damaged.
//
// Each block gets the first origin that applies in the order of the constants. Of several
// OriginMoved candidates in the old image, the one that follows the previously chosen block is
// taken, or else the first. The result depends only on the trees.
//
// Both trees are read in order and checked against their root hashes as they are read: a
// *BlockError says what does not match. The old tree is read twice and, for moved blocks, in places
// a third time; that reading is not checked again, since a changed tree can only make Patch try a
// block in vain.
//
// Memory: an index over the old image of at most 22 bytes a block (16 MiB for 4 GiB
// of blocks of 4096 bytes), and 32 bytes for each span of the result, twice that while
// it grows. Beyond the first 16 Mi blocks of an old image (64 GiB), blocks are not found
// at other positions.
func Diff(ctx context.Context, from, to Tree, o DiffOptions) (delta *Delta, err error) {
	defer prefix.Add("verity", &err)
	next, err := to.open("new tree")
	if err != nil {
		return nil, err
	}
	d := &differ{
		next:  next.walker(),
		delta: &Delta{BlockSize: next.DataBlockSize, Blocks: next.dataBlocks()},
		zero:  next.Digest(next.NewHasher().AppendHole(nil, 1), 0),
	}
	if from.Source != nil {
		old, err := openComparable(from, "old", next)
		if err != nil {
			return nil, err
		}
		d.old, d.found = old.walker(), old.again()
	}
	if o.Target.Source != nil {
		target, err := openComparable(o.Target, "target", next)
		if err != nil {
			return nil, err
		}
		d.target = target.walker()
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

func openComparable(t Tree, name string, to *openTree) (*openTree, error) {
	opened, err := t.open(name + " tree")
	if err != nil {
		return nil, err
	}
	if err := opened.comparable(name, to); err != nil {
		return nil, err
	}
	return opened, nil
}

type differ struct {
	next   *hashtree.Walker
	old    *hashtree.Walker // nil if there is none; read in order
	target *hashtree.Walker // nil if there is none
	zero   []byte           // digest of a block of zeros

	index *digestIndex
	found *hashtree.Walker // the old tree, read where the index points
	delta *Delta
}

// cancelEvery is the number of digests between two looks at the context.
const cancelEvery = 1 << 12

func (d *differ) indexOld(ctx context.Context) error {
	d.index = newDigestIndex(d.old.Blocks[0])
	for b := range d.old.Blocks[0] {
		if b%cancelEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		digest, err := d.old.Want(0, b)
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
	for b := range d.next.Blocks[0] {
		if b%cancelEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		digest, err := d.next.Want(0, b)
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
	if is, err := has(d.target, block, digest); is || err != nil {
		return OriginKept, 0, err
	}
	if is, err := has(d.old, block, digest); is || err != nil {
		return OriginSame, block, err
	}
	if d.old != nil {
		from, err := d.find(digest)
		if from >= 0 || err != nil {
			return OriginMoved, from, err
		}
	}
	if bytes.Equal(digest, d.zero) {
		return OriginZero, 0, nil
	}
	return OriginFetch, 0, nil
}

// has says whether a tree has a digest at a position. No tree has none.
func has(w *hashtree.Walker, block int64, digest []byte) (bool, error) {
	if w == nil || block >= w.Blocks[0] {
		return false, nil
	}
	have, err := w.Want(0, block)
	return bytes.Equal(have, digest), err
}

// find returns which block of the old image has a digest, or -1.
func (d *differ) find(digest []byte) (int64, error) {
	if n := len(d.delta.Spans); n > 0 && d.delta.Spans[n-1].Origin == OriginMoved {
		last := d.delta.Spans[n-1]
		if next := last.From + last.Count; next < d.found.Blocks[0] {
			have, err := d.found.Want(0, next)
			if bytes.Equal(have, digest) || err != nil {
				return next, err
			}
		}
	}
	from := d.index.find(digest)
	if from < 0 {
		return -1, nil
	}
	have, err := d.found.Want(0, from)
	if !bytes.Equal(have, digest) {
		from = -1
	}
	return from, err
}

const (
	// maxIndexed is the number of old blocks that Diff finds by digest: 64 GiB of
	// blocks of 4096 bytes, for which the index has 256 MiB. Images of 4 GiB take 16.
	maxIndexed = 1 << 24

	// maxProbes bounds the work for digests that were chosen to collide. With
	// honest ones a full index has runs of some 400 slots.
	maxProbes = 1024
)

// A digestIndex finds blocks by digest, with 11 to 22 bytes a block. It keeps a part
// of each digest only, so what it finds must be compared.
type digestIndex struct {
	slots []uint64 // part of the digest, then number of the block plus one; 0 is free
	mask  uint64
}

// newDigestIndex returns an index with room for so many blocks, at most maxIndexed.
func newDigestIndex(blocks int64) *digestIndex {
	size := uint64(4)
	for size < uint64(min(blocks, maxIndexed))*4/3 {
		size *= 2
	}
	return &digestIndex{slots: make([]uint64, size), mask: size - 1}
}

// add adds a block unless an earlier one has the same digest.
func (x *digestIndex) add(digest []byte, block int64) {
	at, tag := x.place(digest)
	for range maxProbes {
		switch slot := x.slots[at]; {
		case slot == 0:
			x.slots[at] = tag | uint64(block+1)
			return
		case slot&tagMask == tag:
			return
		}
		at = (at + 1) & x.mask
	}
}

// find returns the block that may have the digest, or -1.
func (x *digestIndex) find(digest []byte) int64 {
	at, tag := x.place(digest)
	for range maxProbes {
		slot := x.slots[at]
		if slot == 0 {
			break
		}
		if slot&tagMask == tag {
			return int64(slot&^uint64(tagMask)) - 1
		}
		at = (at + 1) & x.mask
	}
	return -1
}

const tagMask = 0xffffffff << 32

// place returns where to look for a digest, and what to look for.
func (x *digestIndex) place(digest []byte) (at, tag uint64) {
	return binary.LittleEndian.Uint64(digest) & x.mask, binary.LittleEndian.Uint64(digest[8:]) & tagMask
}
