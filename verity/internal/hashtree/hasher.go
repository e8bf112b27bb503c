package hashtree

import (
	"bytes"
	"hash"

	"github.com/osmith-dev/osmith/internal/sha256x2"
	"github.com/osmith-dev/osmith/internal/sha512x8"
)

// A Hasher makes the digests of blocks: a slot for each, which is a digest with the zeros that pad
// it. Each goroutine has its own.
type Hasher struct {
	*Layout
	hash hash.Hash
	sum  []byte
	zero []byte // slot of a data block of zeros, which images are full of

	// Several blocks at a time, where that is faster; the others are nil.
	two   *sha256x2.Hasher
	eight *sha512x8.Hasher

	// Blocks that wait for more to be hashed with, and where their digests go.
	waiting int
	blocks  [sha512x8.Lanes][]byte
	slots   [sha512x8.Lanes][]byte
}

// NewHasher returns a hasher for the blocks of a tree.
func (l *Layout) NewHasher() *Hasher {
	h := &Hasher{Layout: l, hash: l.algorithm.new()}
	prefix, suffix := l.params.Salt, []byte(nil)
	if l.params.Format0 {
		prefix, suffix = suffix, prefix
	}
	switch name := l.params.Hash; {
	case name == "sha256" && sha256x2.Accelerated():
		h.two = sha256x2.New(prefix, suffix)
	case (name == "sha512" || name == "sha384") && sha512x8.Accelerated():
		h.eight = sha512x8.New(l.DigestSize, prefix, suffix)
	}
	h.zero = make([]byte, l.Slot)
	h.one(h.zero, make([]byte, l.params.DataBlockSize))
	return h
}

// Sum returns the digest of one block of any kind; it is valid until the next call.
func (h *Hasher) Sum(block []byte) []byte {
	h.hash.Reset()
	if !h.params.Format0 {
		h.hash.Write(h.params.Salt)
	}
	h.hash.Write(block)
	if h.params.Format0 {
		h.hash.Write(h.params.Salt)
	}
	h.sum = h.hash.Sum(h.sum[:0])
	return h.sum
}

// one puts the digest of a block into a slot: H(salt ‖ block), in format 0 H(block ‖ salt).
func (h *Hasher) one(slot, block []byte) { copy(slot, h.Sum(block)) }

// AppendData appends the slots of a run of data blocks.
func (h *Hasher) AppendData(slots, blocks []byte) []byte {
	return h.append(slots, blocks, h.params.DataBlockSize, true)
}

// AppendTree appends the slots of a run of hash blocks.
func (h *Hasher) AppendTree(slots, blocks []byte) []byte {
	return h.append(slots, blocks, h.params.HashBlockSize, false)
}

func (h *Hasher) append(slots, blocks []byte, size int, data bool) []byte {
	at := len(slots)
	slots = AppendZeros(slots, len(blocks)/size*h.Slot)
	for ; len(blocks) > 0; blocks, at = blocks[size:], at+h.Slot {
		block, slot := blocks[:size], slots[at:at+h.Slot]
		if data && isZero(block) {
			copy(slot, h.zero)
			continue
		}
		h.blocks[h.waiting], h.slots[h.waiting] = block, slot
		h.waiting++
		if h.waiting == h.lanes() {
			h.flush()
		}
	}
	h.flush()
	return slots
}

func (h *Hasher) lanes() int {
	switch {
	case h.two != nil:
		return 2
	case h.eight != nil:
		return sha512x8.Lanes
	}
	return 1
}

// flush hashes what waits.
func (h *Hasher) flush() {
	n := h.waiting
	h.waiting = 0
	switch {
	case h.two != nil && n == 2:
		h.two.Sum((*[32]byte)(h.slots[0]), (*[32]byte)(h.slots[1]), h.blocks[0], h.blocks[1])
	case h.eight != nil && n > 2:
		// All eight take about as long as two one by one.
		for i := n; i < len(h.blocks); i++ {
			h.blocks[i], h.slots[i] = h.blocks[0], h.slots[0]
		}
		h.eight.Sum(&h.slots, &h.blocks)
	default:
		for i := range n {
			h.one(h.slots[i], h.blocks[i])
		}
	}
}

// AppendHole appends the slots of n data blocks of zeros.
func (h *Hasher) AppendHole(slots []byte, n int64) []byte {
	for range n {
		slots = append(slots, h.zero...)
	}
	return slots
}

var zeroes [4096]byte

func isZero(b []byte) bool {
	for len(b) > len(zeroes) {
		if !bytes.Equal(b[:len(zeroes)], zeroes[:]) {
			return false
		}
		b = b[len(zeroes):]
	}
	return bytes.Equal(b, zeroes[:len(b)])
}

// AppendZeros appends n zeros.
func AppendZeros(b []byte, n int) []byte {
	for n > len(zeroes) {
		b = append(b, zeroes[:]...)
		n -= len(zeroes)
	}
	return append(b, zeroes[:n]...)
}
