package verity

import (
	"fmt"
	"math"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// A layout is the tree over some data by parameters that are valid, and where it is on the hash
// device.
type layout struct {
	Params // with every choice made
	*hashtree.Layout
	// byte offset of the tree in the hash device: the first whole hash block behind the superblock
	tree int64
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
	at := uint64(p.HashOffset)
	if size := uint64(p.HashBlockSize); !p.NoSuperblock {
		at = (at + SuperblockSize + size - 1) / size * size
	}
	tree, err := hashtree.New(hashtree.Params{
		Hash: p.Hash, Salt: p.Salt, Format0: p.ChromeOS, DataBlockSize: p.DataBlockSize, HashBlockSize: p.HashBlockSize,
	}, dataSize/int64(p.DataBlockSize), at)
	if err != nil {
		return nil, fmt.Errorf("data: %d bytes: %w", dataSize, err)
	}
	return &layout{Params: p, Layout: tree, tree: int64(at)}, nil
}

// dataBlocks returns the number of blocks that the tree covers.
func (l *layout) dataBlocks() int64 { return l.Blocks[0] }

// dataSize returns the bytes that the tree covers.
func (l *layout) dataSize() int64 { return l.dataBlocks() * int64(l.DataBlockSize) }

// TreeSize returns the size of superblock and tree for the given size of data, in bytes: from
// Params.HashOffset of the hash device to the end of the tree. The data size must be a positive
// multiple of the data block size, or the error is an *AlignmentError.
func TreeSize(dataSize int64, p Params) (n int64, err error) {
	defer prefix.Add("verity", &err)
	l, err := newLayout(p, dataSize)
	if err != nil {
		return 0, err
	}
	return l.End - l.HashOffset, nil
}

// TreeStart returns where the top block of the tree lies on the hash device, in bytes: the first
// whole hash block after the superblock.
func TreeStart(p Params) (n int64, err error) {
	defer prefix.Add("verity", &err)
	p = p.withDefaults()
	l, err := newLayout(p, int64(max(p.DataBlockSize, 1)))
	if err != nil {
		return 0, err
	}
	return l.tree, nil
}

// MaxTreeSize returns how large a hash partition must be, in bytes and counted from its start, for
// every image that fits a data slot of the given size. The slot need not be a multiple of the block
// size.
func MaxTreeSize(dataSlot int64, p Params) (n int64, err error) {
	defer prefix.Add("verity", &err)
	p = p.withDefaults()
	if err := p.check(); err != nil {
		return 0, err
	}
	size := dataSlot / int64(p.DataBlockSize) * int64(p.DataBlockSize)
	if size <= 0 {
		return 0, &AlignmentError{Size: min(dataSlot, 0), BlockSize: p.DataBlockSize}
	}
	l, err := newLayout(p, size)
	if err != nil {
		return 0, err
	}
	return l.End, nil
}

// MaxDataSize returns the largest data, in bytes, whose tree fits a hash partition of the given
// size, from Params.HashOffset on. If the partition has no room for the smallest tree, the error is
// a *ShortError.
func MaxDataSize(treeSlot int64, p Params) (n int64, err error) {
	defer prefix.Add("verity", &err)
	return largest(p, "tree", treeSlot, func(size int64, p Params) (int64, error) {
		l, err := newLayout(p, size)
		if err != nil {
			return 0, err
		}
		return l.End, nil
	})
}

// MaxSharedDataSize returns the largest data, in bytes, that fits a slot of the given size together
// with its tree after it, and the Params.HashOffset to format with: SharedHashOffset of that size.
// The given Params.HashOffset is ignored.
func MaxSharedDataSize(slot int64, p Params) (dataSize, hashOffset int64, err error) {
	defer prefix.Add("verity", &err)
	p.HashOffset = 0
	dataSize, err = largest(p, "data", slot, func(size int64, p Params) (int64, error) {
		at, err := SharedHashOffset(size, p)
		if err != nil {
			return 0, err
		}
		p.HashOffset = at
		l, err := newLayout(p, size)
		if err != nil {
			return 0, err
		}
		return l.End, nil
	})
	if err != nil {
		return 0, 0, err
	}
	hashOffset, err = SharedHashOffset(dataSize, p)
	return dataSize, hashOffset, err
}

// SharedHashOffset returns the least Params.HashOffset for data and tree on one
// device: the end of the data, rounded up to a whole hash block. It is the same with
// and without a superblock.
func SharedHashOffset(dataSize int64, p Params) (n int64, err error) {
	defer prefix.Add("verity", &err)
	p = p.withDefaults()
	p.HashOffset = 0
	if err := p.check(); err != nil {
		return 0, err
	}
	if err := checkDataSize(dataSize, p.DataBlockSize); err != nil {
		return 0, err
	}
	size := int64(p.HashBlockSize)
	if dataSize > math.MaxInt64-size {
		return 0, fmt.Errorf("data: %d bytes: %w", dataSize, hashtree.ErrTooLarge)
	}
	return (dataSize + size - 1) / size * size, nil
}

// largest returns the largest data size for which need is not more than have. Both
// grow together.
func largest(p Params, device string, have int64, need func(int64, Params) (int64, error)) (int64, error) {
	p = p.withDefaults()
	if err := p.check(); err != nil {
		return 0, err
	}
	size := int64(p.DataBlockSize)
	least, err := need(size, p)
	if err != nil {
		return 0, err
	}
	if have < least {
		return 0, &ShortError{Device: device, Want: least, Got: have}
	}
	// A size that cannot be laid out does not fit.
	low, high := int64(1), math.MaxInt64/size+1 // blocks: low fits, high does not
	for high-low > 1 {
		middle := low + (high-low)/2
		if n, err := need(middle*size, p); err == nil && n <= have {
			low = middle
		} else {
			high = middle
		}
	}
	return low * size, nil
}
