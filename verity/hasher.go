package verity

import (
	"bytes"
	"fmt"
	"hash"
	"io"

	"github.com/osmith-dev/osmith/internal/sha256x2"
	"github.com/osmith-dev/osmith/internal/sha512x8"
)

// A hasher makes the digests of blocks. Each goroutine has its own.
type hasher struct {
	*layout
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

func newHasher(l *layout) *hasher {
	h := &hasher{layout: l, hash: l.algorithm.new()}
	prefix, suffix := l.Salt, []byte(nil)
	if l.ChromeOS {
		prefix, suffix = suffix, prefix
	}
	switch {
	case l.Hash == "sha256" && sha256x2.Accelerated():
		h.two = sha256x2.New(prefix, suffix)
	case (l.Hash == "sha512" || l.Hash == "sha384") && sha512x8.Accelerated():
		h.eight = sha512x8.New(l.algorithm.size, prefix, suffix)
	}
	h.zero = make([]byte, l.slot)
	h.one(h.zero, make([]byte, l.DataBlockSize))
	return h
}

// one puts the digest of a block into a slot: H(salt ‖ block), in format 0
// H(block ‖ salt).
func (h *hasher) one(slot, block []byte) {
	h.hash.Reset()
	if !h.ChromeOS {
		h.hash.Write(h.Salt)
	}
	h.hash.Write(block)
	if h.ChromeOS {
		h.hash.Write(h.Salt)
	}
	h.sum = h.hash.Sum(h.sum[:0])
	copy(slot, h.sum)
}

// appendData appends the slots of a run of data blocks.
func (h *hasher) appendData(slots, blocks []byte) []byte {
	return h.append(slots, blocks, h.DataBlockSize, true)
}

// appendTree appends the slots of a run of hash blocks.
func (h *hasher) appendTree(slots, blocks []byte) []byte {
	return h.append(slots, blocks, h.HashBlockSize, false)
}

func (h *hasher) append(slots, blocks []byte, size int, data bool) []byte {
	at := len(slots)
	slots = appendZeros(slots, len(blocks)/size*h.slot)
	for ; len(blocks) > 0; blocks, at = blocks[size:], at+h.slot {
		block, slot := blocks[:size], slots[at:at+h.slot]
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

func (h *hasher) lanes() int {
	switch {
	case h.two != nil:
		return 2
	case h.eight != nil:
		return sha512x8.Lanes
	}
	return 1
}

// flush hashes what waits.
func (h *hasher) flush() {
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

// appendHole appends the slots of n data blocks of zeros.
func (h *hasher) appendHole(slots []byte, n int64) []byte {
	for range n {
		slots = append(slots, h.zero...)
	}
	return slots
}

// appendBlocks appends the hash blocks that hold these slots.
func (l *layout) appendBlocks(blocks, slots []byte) []byte {
	full := int(l.perBlock) * l.slot
	for len(slots) > 0 {
		n := min(len(slots), full)
		blocks = append(blocks, slots[:n]...)
		blocks = appendZeros(blocks, l.HashBlockSize-n)
		slots = slots[n:]
	}
	return blocks
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

func appendZeros(b []byte, n int) []byte {
	for n > len(zeroes) {
		b = append(b, zeroes[:]...)
		n -= len(zeroes)
	}
	return append(b, zeroes[:n]...)
}

// readFull fills b from a device that is large enough for it by its own account.
func readFull(r io.ReaderAt, b []byte, off int64, device string) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("verity: %s: read %d bytes at %#x: got %d: %w", device, len(b), off, n, err)
}
