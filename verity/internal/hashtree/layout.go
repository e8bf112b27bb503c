// Package hashtree is the hash tree of dm-verity
// (https://docs.kernel.org/admin-guide/device-mapper/verity.html, section Hash Tree) for the
// packages that make it, verify it, compare it and repair it: where its blocks lie, how blocks are
// hashed, and the one way from a root hash down to the digest of a block.
package hashtree

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"hash"
	"math"
	"strings"
)

// An algorithm is a hash that trees can be made with.
type algorithm struct {
	name string // the kernel's
	size int    // bytes of a digest
	new  func() hash.Hash
}

var algorithms = []algorithm{
	{"sha1", sha1.Size, sha1.New},
	{"sha256", sha256.Size, sha256.New},
	{"sha384", sha512.Size384, sha512.New384},
	{"sha512", sha512.Size, sha512.New},
}

func algorithmByName(name string) (algorithm, bool) {
	for _, a := range algorithms {
		if a.name == name {
			return a, true
		}
	}
	return algorithm{}, false
}

// Known reports whether trees can be made with a hash of this name.
func Known(hash string) bool {
	_, ok := algorithmByName(hash)
	return ok
}

// Names lists the hashes, for errors.
func Names() string {
	var names []string
	for _, a := range algorithms {
		names = append(names, a.name)
	}
	return strings.Join(names, ", ")
}

// Params are the parameters of a tree. The caller has checked them.
type Params struct {
	Hash          string // the kernel's name, one of Names
	Salt          []byte
	Format0       bool // the salt is hashed behind the block, and digests are not padded
	DataBlockSize int  // bytes
	HashBlockSize int  // bytes
}

// A Layout is where the blocks of a hash tree lie. Level 0 is the data, level 1 the hash blocks
// over it, whose digests are those of the data blocks; the last level is one block, whose digest is
// the root hash. A tree over one data block has no levels of its own: the digest of the data block
// is the root hash.
//
// On the hash device the top block comes first and level 1 last, without gaps.
type Layout struct {
	DigestSize int // bytes

	// Slot is the distance of two digests in a hash block: format 1 pads a digest with zeros to the
	// next power of two, format 0 does not.
	Slot int

	// PerBlock is the number of digests in a hash block, a power of two. In format 0 it may leave
	// room for more; what is not used is zero.
	PerBlock int64

	Blocks []int64 // number of blocks by level
	End    int64   // byte offset of the end of the tree in the hash device

	params    Params
	algorithm algorithm
	start     []int64 // byte offset by level in the hash device; the first is unused
}

// ErrTooLarge says that a tree would reach beyond what a device can have.
var ErrTooLarge = errors.New("data, tree and offset together exceed what a device can hold")

// New lays a tree over so many data blocks out, from a byte offset in the hash device on.
func New(p Params, dataBlocks int64, start uint64) (*Layout, error) {
	l := &Layout{params: p}
	l.algorithm, _ = algorithmByName(p.Hash)
	l.DigestSize = l.algorithm.size
	padded := 1
	for padded < l.DigestSize {
		padded *= 2
	}
	// A block size divided by the next power of two is the largest power of two of digests that
	// fit, padded or not.
	l.PerBlock = int64(p.HashBlockSize / padded)
	l.Slot = l.DigestSize
	if !p.Format0 {
		l.Slot = padded
	}
	l.Blocks = []int64{dataBlocks}
	for n := dataBlocks; n > 1; {
		n = (n-1)/l.PerBlock + 1
		l.Blocks = append(l.Blocks, n)
	}
	// No level is larger than an eighth of the one below, so this cannot wrap.
	at := start
	l.start = make([]int64, len(l.Blocks))
	for level := l.Top(); level > 0; level-- {
		l.start[level] = int64(at)
		at += uint64(l.Blocks[level]) * uint64(p.HashBlockSize)
	}
	if at > math.MaxInt64 {
		return nil, ErrTooLarge
	}
	l.End = int64(at)
	return l, nil
}

// Top returns the level of the top block; 0 if there is nothing but one data block.
func (l *Layout) Top() int { return len(l.Blocks) - 1 }

// Offset returns where a hash block lies in the hash device, in bytes.
func (l *Layout) Offset(level int, block int64) int64 {
	return l.start[level] + block*int64(l.params.HashBlockSize)
}

// Children returns how many blocks of the level below a hash block covers.
func (l *Layout) Children(level int, block int64) int {
	return int(min(l.Blocks[level-1]-block*l.PerBlock, l.PerBlock))
}

// Digest returns the nth digest in a hash block, or in slots.
func (l *Layout) Digest(block []byte, n int) []byte {
	return block[n*l.Slot:][:l.DigestSize]
}

// SpareByte returns the offset of the first byte of a hash block that is neither zero nor part of a
// digest, or -1. Such bytes are those that pad a digest and all behind the last one. A tree over
// more data has digests there, so without this check a layout over less data than the tree is of
// would be as good as the right one.
func (l *Layout) SpareByte(level int, number int64, block []byte) int {
	n := l.Children(level, number)
	if l.Slot > l.DigestSize {
		for i := range n {
			if at := nonzero(block[i*l.Slot+l.DigestSize : (i+1)*l.Slot]); at >= 0 {
				return i*l.Slot + l.DigestSize + at
			}
		}
	}
	if at := nonzero(block[n*l.Slot:]); at >= 0 {
		return n*l.Slot + at
	}
	return -1
}

// nonzero returns the offset of the first byte that is not zero, or -1.
func nonzero(b []byte) int {
	if isZero(b) {
		return -1
	}
	return bytes.IndexFunc(b, func(r rune) bool { return r != 0 })
}

// AppendBlocks appends the hash blocks that hold these slots.
func (l *Layout) AppendBlocks(blocks, slots []byte) []byte {
	full := int(l.PerBlock) * l.Slot
	for len(slots) > 0 {
		n := min(len(slots), full)
		blocks = append(blocks, slots[:n]...)
		blocks = AppendZeros(blocks, l.params.HashBlockSize-n)
		slots = slots[n:]
	}
	return blocks
}
