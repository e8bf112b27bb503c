package verity

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"math"
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

// A layout is where the blocks of a hash tree lie. Level 0 is the data, level 1 the
// hash blocks over it, whose digests are those of the data blocks; the last level is
// one block, whose digest is the root hash. A tree over one data block has no levels
// of its own: the digest of the data block is the root hash.
//
// On the hash device the superblock comes first, then from the next whole hash block
// on the tree, top block first and level 1 last, without gaps.
type layout struct {
	Params     // with every choice made
	algorithm  algorithm
	dataBlocks int64

	// slot is the distance of two digests in a hash block: format 1 pads a digest
	// with zeros to the next power of two, format 0 does not.
	slot int

	// perBlock is the number of digests in a hash block, a power of two. In format 0
	// it may leave room for more; what is not used is zero.
	perBlock int64

	blocks []int64 // number of blocks by level
	start  []int64 // byte offset by level in the hash device; the first is unused
	tree   int64   // byte offset of the tree in the hash device
	end    int64   // byte offset of its end
}

// newLayout checks the parameters and lays a tree over so many bytes of data out.
func newLayout(p Params, dataSize int64) (*layout, error) {
	p = p.withDefaults()
	if err := p.check(); err != nil {
		return nil, err
	}
	if err := checkDataSize(dataSize, p.DataBlockSize); err != nil {
		return nil, err
	}
	l := &layout{Params: p, dataBlocks: dataSize / int64(p.DataBlockSize)}
	l.algorithm, _ = algorithmByName(p.Hash)
	padded := 1
	for padded < l.algorithm.size {
		padded *= 2
	}
	// A block size divided by the next power of two is the largest power of two of
	// digests that fit, padded or not.
	l.perBlock = int64(p.HashBlockSize / padded)
	l.slot = l.algorithm.size
	if !p.ChromeOS {
		l.slot = padded
	}

	l.blocks = []int64{l.dataBlocks}
	for n := l.dataBlocks; n > 1; {
		n = (n-1)/l.perBlock + 1
		l.blocks = append(l.blocks, n)
	}
	// No level is larger than an eighth of the one below, so this cannot wrap.
	at := uint64(p.HashOffset)
	size := uint64(p.HashBlockSize)
	if !p.NoSuperblock {
		at = (at + SuperblockSize + size - 1) / size * size
	}
	l.tree = int64(at)
	l.start = make([]int64, len(l.blocks))
	for level := l.top(); level > 0; level-- {
		l.start[level] = int64(at)
		at += uint64(l.blocks[level]) * size
	}
	if at > math.MaxInt64 {
		return nil, fmt.Errorf("verity: data: %d bytes: %w", dataSize, errTooLarge)
	}
	l.end = int64(at)
	return l, nil
}

// top returns the level of the top block; 0 if there is nothing but one data block.
func (l *layout) top() int { return len(l.blocks) - 1 }

// dataSize returns the bytes that the tree covers.
func (l *layout) dataSize() int64 { return l.dataBlocks * int64(l.DataBlockSize) }

// offset returns where a hash block lies in the hash device.
func (l *layout) offset(level int, block int64) int64 {
	return l.start[level] + block*int64(l.HashBlockSize)
}

// children returns how many blocks of the level below a hash block covers.
func (l *layout) children(level int, block int64) int {
	return int(min(l.blocks[level-1]-block*l.perBlock, l.perBlock))
}

// digest returns the nth digest in a hash block.
func (l *layout) digest(block []byte, n int) []byte {
	return block[n*l.slot:][:l.algorithm.size]
}

// TreeSize returns how many bytes the superblock and tree have for so many bytes of
// data: those of the hash device from Params.HashOffset to the end of the tree. The
// data size must be a positive multiple of the data block size, or the error is an
// *AlignmentError.
func TreeSize(dataSize int64, p Params) (int64, error) {
	l, err := newLayout(p, dataSize)
	if err != nil {
		return 0, err
	}
	return l.end - l.HashOffset, nil
}

// TreeStart returns where the top block of the tree lies on the hash device, in
// bytes: the first whole hash block behind the superblock.
func TreeStart(p Params) (int64, error) {
	p = p.withDefaults()
	l, err := newLayout(p, int64(max(p.DataBlockSize, 1)))
	if err != nil {
		return 0, err
	}
	return l.tree, nil
}
