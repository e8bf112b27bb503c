package fec

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"github.com/osmith-dev/osmith/verity"
)

var hashes = map[string]func() hash.Hash{
	"sha1":   sha1.New,
	"sha256": sha256.New,
	"sha384": sha512.New384,
	"sha512": sha512.New,
}

// A tree is where the blocks of a hash tree lie among the blocks that the code
// covers, counted from the first data block. Level 0 is the data, and the top is one
// block, the first of the hash area. (https://docs.kernel.org/admin-guide/device-mapper/verity.html,
// section Hash Tree.)
type tree struct {
	new        func() hash.Hash
	salt       []byte
	saltBehind bool // the salt is hashed behind the block: hash format 0
	root       []byte
	digest     int     // bytes of a digest
	slot       int     // bytes from one digest to the next in a hash block
	perBlock   int64   // digests in a hash block
	blocks     []int64 // number of blocks by level
	start      []int64 // number of the first block by level
}

// newTree lays out the tree over so many data blocks, by parameters that are valid.
func newTree(p verity.Params, dataBlocks int64, blockSize int, root []byte) (*tree, error) {
	name := cmp.Or(p.Hash, "sha256")
	t := &tree{salt: p.Salt, saltBehind: p.ChromeOS, root: root, new: hashes[name]}
	if t.new == nil {
		return nil, fmt.Errorf("fec: hash %q: %w: want sha1, sha256, sha384 or sha512", name, verity.ErrNotSupported)
	}
	if t.digest = t.new().Size(); len(root) != t.digest {
		return nil, fmt.Errorf("fec: root hash: %d bytes: want %d for %s", len(root), t.digest, name)
	}
	padded := 1
	for padded < t.digest {
		padded *= 2
	}
	t.slot = padded
	if p.ChromeOS {
		t.slot = t.digest
	}
	t.perBlock = int64(blockSize / padded)
	t.blocks = []int64{dataBlocks}
	for n := dataBlocks; n > 1; {
		n = (n-1)/t.perBlock + 1
		t.blocks = append(t.blocks, n)
	}
	t.start = make([]int64, len(t.blocks))
	at := dataBlocks
	for level := t.top(); level > 0; level-- {
		t.start[level] = at
		at += t.blocks[level]
	}
	return t, nil
}

func (t *tree) top() int { return len(t.blocks) - 1 }

// position returns level and number of a block, or false for blocks behind the tree,
// which have no digest.
func (t *tree) position(block int64) (level int, number int64, ok bool) {
	for level, start := range t.start {
		if n := block - start; n >= 0 && n < t.blocks[level] {
			return level, n, true
		}
	}
	return 0, 0, false
}

// parent returns the hash block that holds the digest of a block, and which of its
// digests that is. The top block has none.
func (t *tree) parent(level int, number int64) (block int64, slot int) {
	return t.start[level+1] + number/t.perBlock, int(number % t.perBlock)
}

// digestIn returns a digest of a hash block.
func (t *tree) digestIn(block []byte, slot int) []byte {
	return block[slot*t.slot:][:t.digest]
}

// A hasher makes the digests of blocks. Each goroutine has its own.
type hasher struct {
	*tree
	hash hash.Hash
	sum  []byte
}

func (t *tree) newHasher() *hasher { return &hasher{tree: t, hash: t.new()} }

// matches tells whether the digest is the block's.
func (h *hasher) matches(block, digest []byte) bool {
	return bytes.Equal(h.of(block), digest)
}

// of returns the digest of a block; it is valid until the next call.
func (h *hasher) of(block []byte) []byte {
	h.hash.Reset()
	if !h.saltBehind {
		h.hash.Write(h.salt)
	}
	h.hash.Write(block)
	if h.saltBehind {
		h.hash.Write(h.salt)
	}
	h.sum = h.hash.Sum(h.sum[:0])
	return h.sum
}
