package verity

import (
	"fmt"
	"io"
)

// A Source is sized random-access input. *bytes.Reader, *strings.Reader and
// *io.SectionReader are Sources. ReadAt is called from several goroutines.
type Source interface {
	io.ReaderAt
	Size() int64
}

const (
	blockSize  = 4096
	digestSize = 32 // SHA-256
	algorithm  = "sha256"

	// perBlock is the number of digests in a hash block. Format 1 pads a digest to
	// the next power of two, which 32 already is.
	perBlock = blockSize / digestSize

	// MaxSaltSize is the largest salt that a superblock can hold, in bytes.
	MaxSaltSize = 256
)

// Params are the choices that go into a hash tree. The zero value means: no salt,
// an all-zero UUID, hash format 1, SHA-256, data and hash blocks of 4096 bytes, and
// a superblock in front of the tree.
type Params struct {
	// Salt is hashed in front of every block, 0 to 256 bytes.
	Salt []byte

	// UUID identifies the hash device, in text order: 00112233-4455-... is
	// {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, ...}. The kernel does not look at it.
	UUID [16]byte
}

// superblock returns the superblock of a tree over so much data.
func (p Params) superblock(dataSize int64) (*Superblock, error) {
	if len(p.Salt) > MaxSaltSize {
		return nil, fmt.Errorf("verity: salt: %d bytes: at most %d are allowed", len(p.Salt), MaxSaltSize)
	}
	if dataSize <= 0 || dataSize%blockSize != 0 {
		return nil, &AlignmentError{Size: dataSize, BlockSize: blockSize}
	}
	return &Superblock{
		HashType:      1,
		UUID:          p.UUID,
		Algorithm:     algorithm,
		DataBlockSize: blockSize,
		HashBlockSize: blockSize,
		DataBlocks:    dataSize / blockSize,
		Salt:          p.Salt,
	}, nil
}

// TreeSize returns how many bytes the hash device has for so many bytes of data,
// superblock included. The data size must be a positive multiple of 4096, or the
// error is an *AlignmentError.
func TreeSize(dataSize int64, p Params) (int64, error) {
	sb, err := p.superblock(dataSize)
	if err != nil {
		return 0, err
	}
	return newTree(sb).size(), nil
}

// A tree is where the blocks of a hash tree lie. Level 0 is the data, level 1 the
// hash blocks over it; the last level is one block. A tree over one data block has
// no levels of its own: the digest of the data block is the root hash.
type tree struct {
	blocks []int64 // number of blocks by level
	start  []int64 // byte offset by level in the hash device; the first is unused
}

func newTree(sb *Superblock) tree {
	t := tree{blocks: []int64{sb.DataBlocks}}
	for n := sb.DataBlocks; n > 1; {
		n = (n-1)/perBlock + 1
		t.blocks = append(t.blocks, n)
	}
	// The top block comes first, right after the block that holds the superblock.
	t.start = make([]int64, len(t.blocks))
	at := int64(blockSize)
	for level := t.top(); level > 0; level-- {
		t.start[level] = at
		at += t.blocks[level] * blockSize
	}
	return t
}

// top returns the level of the top block; 0 if there is nothing but one data block.
func (t tree) top() int { return len(t.blocks) - 1 }

// size returns the bytes of the hash device.
func (t tree) size() int64 {
	at := int64(blockSize)
	for _, n := range t.blocks[1:] {
		at += n * blockSize
	}
	return at
}

// offset returns where a hash block lies in the hash device.
func (t tree) offset(level int, block int64) int64 {
	return t.start[level] + block*blockSize
}

// children returns how many blocks of the level below a hash block covers.
func (t tree) children(level int, block int64) int {
	return int(min(t.blocks[level-1]-block*perBlock, perBlock))
}
