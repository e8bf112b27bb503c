package verity

import "encoding/binary"

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
