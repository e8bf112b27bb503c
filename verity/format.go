package verity

import (
	"context"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// Format writes superblock and hash tree of the data and returns the root hash. It reads the data
// once, from several goroutines, and does not read holes; writes come from one goroutine at a time,
// and the superblock is written last, so what an interrupted Format leaves on a zeroed device is
// not taken for a tree. Every byte of TreeSize bytes from Params.HashOffset is written, and no
// others: the writer may be the device that also holds the data.
//
// Data that is not a whole number of blocks is an *AlignmentError.
func Format(ctx context.Context, w io.WriterAt, data osmith.Source, p Params) (root []byte, err error) {
	defer prefix.Add("verity", &err)
	switch {
	case w == nil:
		return nil, errNone("writer for the tree")
	case data == nil:
		return nil, errNone("data")
	}
	l, err := newLayout(p, data.Size())
	if err != nil {
		return nil, err
	}
	root, err = build(ctx, w, data, l)
	if err != nil {
		return nil, err
	}
	if err := l.writeSuperblock(w); err != nil {
		return nil, err
	}
	return root, nil
}

// writeSuperblock writes all between the hash offset and the tree.
func (l *layout) writeSuperblock(w io.WriterAt) error {
	if l.NoSuperblock {
		return nil
	}
	b, err := l.superblock(l.dataBlocks()).AppendBinary(nil)
	if err != nil {
		return err
	}
	b = hashtree.AppendZeros(b, int(l.tree-l.HashOffset)-len(b))
	if _, err := w.WriteAt(b, l.HashOffset); err != nil {
		return fmt.Errorf("tree: write superblock: %w", err)
	}
	return nil
}

// leaves are the digests of one job: those of data blocks or, where a job fills whole
// hash blocks, these and their digests.
type leaves struct {
	blocks []byte
	slots  []byte
}

// build writes all hash blocks and returns the root hash. A nil writer only computes.
func build(ctx context.Context, w io.WriterAt, data osmith.Source, l *layout) ([]byte, error) {
	up := newBuilder(l, w)
	in := &dataReader{layout: l, src: data}
	newWorker := func() func(int64, *leaves) error {
		hash, buf := l.NewHasher(), l.newBuffer()
		var slots []byte
		return func(job int64, out *leaves) error {
			var err error
			if slots, err = in.appendSlots(ctx, slots[:0], job, hash, buf); err != nil {
				return err
			}
			l.fill(hash, out, slots)
			return nil
		}
	}
	if err := inOrder(ctx, l.jobs(), newWorker, up.take); err != nil {
		return nil, err
	}
	return up.finish()
}

// fill makes what a builder takes of the slots of a job.
func (l *layout) fill(hash *hashtree.Hasher, out *leaves, slots []byte) {
	out.blocks, out.slots = out.blocks[:0], out.slots[:0]
	if l.wide() || l.Top() == 0 {
		out.slots = append(out.slots, slots...)
		return
	}
	out.blocks = l.AppendBlocks(out.blocks, slots)
	out.slots = hash.AppendTree(out.slots, out.blocks)
}

// A builder keeps one unfinished hash block per level.
type builder struct {
	*layout
	w       io.WriterAt
	hash    *hashtree.Hasher
	pending [][]byte // slots by level
	written []int64  // finished blocks by level
	root    []byte
}

func newBuilder(l *layout, w io.WriterAt) *builder {
	return &builder{layout: l, w: w, hash: l.NewHasher(), pending: make([][]byte, l.Top()+1), written: make([]int64, l.Top()+1)}
}

// take takes the leaves of the next job.
func (b *builder) take(_ int64, in *leaves) error {
	if len(in.blocks) == 0 {
		return b.add(1, in.slots)
	}
	if err := b.write(1, b.written[1], in.blocks); err != nil {
		return err
	}
	b.written[1] += int64(len(in.blocks) / b.HashBlockSize)
	return b.add(2, in.slots)
}

// add puts the next slots into a level.
func (b *builder) add(level int, slots []byte) error {
	if level > b.Top() {
		b.root = append([]byte(nil), slots[:b.DigestSize]...)
		return nil
	}
	full := int(b.PerBlock) * b.Slot
	for len(slots) > 0 {
		n := min(len(slots), full-len(b.pending[level]))
		b.pending[level] = append(b.pending[level], slots[:n]...)
		slots = slots[n:]
		if len(b.pending[level]) == full {
			if err := b.flush(level); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the block of a level and adds its digest to the next.
func (b *builder) flush(level int) error {
	block := hashtree.AppendZeros(b.pending[level], b.HashBlockSize-len(b.pending[level]))
	if err := b.write(level, b.written[level], block); err != nil {
		return err
	}
	b.written[level]++
	b.pending[level] = block[:0]
	return b.add(level+1, b.hash.AppendTree(nil, block))
}

func (b *builder) write(level int, block int64, blocks []byte) error {
	if b.w == nil {
		return nil
	}
	if _, err := b.w.WriteAt(blocks, b.Offset(level, block)); err != nil {
		return fmt.Errorf("tree: write level %d at %#x: %w", level, b.Offset(level, block), err)
	}
	return nil
}

// finish flushes what is unfinished, from the lowest level to the top.
func (b *builder) finish() ([]byte, error) {
	for level := 1; level <= b.Top(); level++ {
		if len(b.pending[level]) == 0 {
			continue
		}
		if err := b.flush(level); err != nil {
			return nil, err
		}
	}
	return b.root, nil
}
