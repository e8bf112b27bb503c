package verity

import (
	"bytes"
	"fmt"
	"hash"
	"io"

	"github.com/osmith-dev/osmith/internal/sha256x2"
)

// A hasher makes the digests of blocks. Each goroutine has its own.
type hasher struct {
	*layout
	hash hash.Hash
	two  *sha256x2.Hasher // two blocks at a time; nil where one by one is as fast
	sum  []byte
	zero []byte // slot of a data block of zeros, which images are full of
}

func newHasher(l *layout) *hasher {
	h := &hasher{layout: l, hash: l.algorithm.new()}
	if l.Hash == "sha256" && sha256x2.Accelerated() {
		if l.ChromeOS {
			h.two = sha256x2.New(nil, l.Salt)
		} else {
			h.two = sha256x2.New(l.Salt, nil)
		}
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
	var waiting, waitingSlot []byte // for a second block to be hashed with
	for ; len(blocks) > 0; blocks, at = blocks[size:], at+h.slot {
		block, slot := blocks[:size], slots[at:at+h.slot]
		switch {
		case data && isZero(block):
			copy(slot, h.zero)
		case h.two == nil:
			h.one(slot, block)
		case waiting == nil:
			waiting, waitingSlot = block, slot
		default:
			h.two.Sum((*[32]byte)(waitingSlot), (*[32]byte)(slot), waiting, block)
			waiting = nil
		}
	}
	if waiting != nil {
		h.one(waitingSlot, waiting)
	}
	return slots
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
