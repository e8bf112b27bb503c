package fec

import (
	"cmp"
	"fmt"

	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// A tree is the hash tree among the blocks that the code covers, which are counted from the first
// data block: the data, then the hash area with the top block first.
type tree struct {
	*hashtree.Layout
	root  []byte
	start []int64 // number of the first block by level
}

// newTree lays out the tree over so many data blocks, by parameters that are valid.
func newTree(p verity.Params, dataBlocks int64, blockSize int, root []byte) (*tree, error) {
	name := cmp.Or(p.Hash, "sha256")
	if !hashtree.Known(name) {
		return nil, fmt.Errorf("hash %q: %w: want %s", name, verity.ErrNotSupported, hashtree.Names())
	}
	l, err := hashtree.New(hashtree.Params{
		Hash: name, Salt: p.Salt, Format0: p.ChromeOS, DataBlockSize: blockSize, HashBlockSize: blockSize,
	}, dataBlocks, 0)
	if err != nil {
		return nil, err
	}
	if len(root) != l.DigestSize {
		return nil, fmt.Errorf("root hash: %d bytes: want %d for %s", len(root), l.DigestSize, name)
	}
	t := &tree{Layout: l, root: root, start: make([]int64, len(l.Blocks))}
	for level := 1; level <= l.Top(); level++ {
		t.start[level] = dataBlocks + l.Offset(level, 0)/int64(blockSize)
	}
	return t, nil
}

// position returns level and number of a block, or false for blocks behind the tree,
// which have no digest.
func (t *tree) position(block int64) (level int, number int64, ok bool) {
	for level, start := range t.start {
		if n := block - start; n >= 0 && n < t.Blocks[level] {
			return level, n, true
		}
	}
	return 0, 0, false
}

// parent returns the hash block that holds the digest of a block. The top block has none.
func (t *tree) parent(level int, number int64) int64 {
	return t.start[level+1] + number/t.PerBlock
}

// checkSpare returns an error for a hash block with the right digest in which bytes that must be
// zero are not. No repair can put that right: the tree is not of the data that it was given with.
func (t *tree) checkSpare(level int, number int64, block []byte) error {
	if at := t.SpareByte(level, number, block); at >= 0 {
		return &verity.SpareError{Level: level, Block: number, Offset: at, Blocks: t.Blocks[0]}
	}
	return nil
}
