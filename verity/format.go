package verity

import (
	"context"
	"fmt"
	"io"
)

const (
	readSize = 256 << 10 // bytes per read of the data

	// A job is a run of data blocks that fill whole hash blocks.
	jobHashBlocks = 8
	jobBlocks     = jobHashBlocks * perBlock
)

// Format writes the hash tree of the data, superblock first and top block next, and
// returns the root hash, 32 bytes. It reads the data once, from several goroutines;
// writes come from one goroutine at a time, and the superblock is written last, so
// what an interrupted Format leaves on a zeroed device is not taken for a tree.
// Every byte of the first TreeSize bytes is written.
//
// Data that is not a whole number of blocks is an *AlignmentError.
func Format(ctx context.Context, w io.WriterAt, data Source, p Params) ([]byte, error) {
	sb, err := p.superblock(data.Size())
	if err != nil {
		return nil, err
	}
	root, err := build(ctx, w, data, sb)
	if err != nil {
		return nil, err
	}
	first, err := sb.AppendBinary(make([]byte, 0, blockSize))
	if err != nil {
		return nil, err
	}
	if _, err := w.WriteAt(first[:blockSize], 0); err != nil {
		return nil, fmt.Errorf("verity: tree: write superblock: %w", err)
	}
	return root, nil
}

// leaves are the hash blocks of one job, and their digests.
type leaves struct {
	blocks  []byte
	digests []byte
}

// build writes all hash blocks and returns the root hash. A nil writer only computes.
func build(ctx context.Context, w io.WriterAt, data io.ReaderAt, sb *Superblock) ([]byte, error) {
	t := newTree(sb)
	if t.top() == 0 {
		block := make([]byte, blockSize)
		if err := readFull(data, block, 0, "data"); err != nil {
			return nil, err
		}
		return newHasher(sb.Salt).append(nil, block), ctx.Err()
	}
	up := &builder{tree: t, w: w, hash: newHasher(sb.Salt), pending: make([][]byte, len(t.blocks)), written: make([]int64, len(t.blocks))}
	newWorker := func() func(int64, *leaves) error {
		hash, buf := newHasher(sb.Salt), make([]byte, readSize)
		return func(job int64, out *leaves) error {
			out.blocks, out.digests = out.blocks[:0], out.digests[:0]
			var err error
			if out.blocks, err = hashData(ctx, data, sb, job, hash, buf, out.blocks); err != nil {
				return err
			}
			out.blocks = padBlock(out.blocks)
			out.digests = hash.appendAll(out.digests, out.blocks)
			return nil
		}
	}
	consume := func(job int64, out *leaves) error {
		if err := up.write(1, job*jobHashBlocks, out.blocks); err != nil {
			return err
		}
		for d := out.digests; len(d) > 0; d = d[digestSize:] {
			if err := up.add(2, d[:digestSize]); err != nil {
				return err
			}
		}
		return nil
	}
	jobs := (sb.DataBlocks-1)/jobBlocks + 1
	if err := inOrder(ctx, jobs, newWorker, consume); err != nil {
		return nil, err
	}
	return up.finish()
}

// hashData appends the digests of the data blocks of a job.
func hashData(ctx context.Context, data io.ReaderAt, sb *Superblock, job int64, hash *hasher, buf, digests []byte) ([]byte, error) {
	off := job * jobBlocks * blockSize
	end := min(off+jobBlocks*blockSize, sb.DataSize())
	for off < end {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(end-off, int64(len(buf)))]
		if err := readFull(data, b, off, "data"); err != nil {
			return nil, err
		}
		digests = hash.appendAll(digests, b)
		off += int64(len(b))
	}
	return digests, nil
}

// padBlock fills the last hash block with zeros.
func padBlock(b []byte) []byte {
	if over := len(b) % blockSize; over != 0 {
		b = append(b, zeroBlock[over:]...)
	}
	return b
}

// A builder keeps one unfinished hash block per level above the first.
type builder struct {
	tree
	w       io.WriterAt
	hash    *hasher
	pending [][]byte // by level
	written []int64  // finished blocks by level
	root    []byte
}

// add puts the next digest into a level.
func (b *builder) add(level int, digest []byte) error {
	if level > b.top() {
		b.root = append([]byte(nil), digest...)
		return nil
	}
	b.pending[level] = append(b.pending[level], digest...)
	if len(b.pending[level]) < blockSize {
		return nil
	}
	return b.flush(level)
}

// flush writes the block of a level and adds its digest to the next.
func (b *builder) flush(level int) error {
	block := padBlock(b.pending[level])
	if err := b.write(level, b.written[level], block); err != nil {
		return err
	}
	b.written[level]++
	b.pending[level] = block[:0]
	var digest [digestSize]byte
	return b.add(level+1, b.hash.append(digest[:0], block))
}

func (b *builder) write(level int, block int64, blocks []byte) error {
	if b.w == nil {
		return nil
	}
	if _, err := b.w.WriteAt(blocks, b.offset(level, block)); err != nil {
		return fmt.Errorf("verity: tree: write level %d at %#x: %w", level, b.offset(level, block), err)
	}
	return nil
}

// finish flushes what is unfinished, from the lowest level to the top.
func (b *builder) finish() ([]byte, error) {
	for level := 2; level <= b.top(); level++ {
		if len(b.pending[level]) == 0 {
			continue
		}
		if err := b.flush(level); err != nil {
			return nil, err
		}
	}
	return b.root, nil
}
