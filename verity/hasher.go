package verity

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

var zeroBlock [blockSize]byte

// A hasher makes the digests of blocks. Each goroutine has its own.
type hasher struct {
	salt []byte
	hash hash.Hash
	zero []byte // digest of a block of zeros, which images are full of
}

func newHasher(salt []byte) *hasher {
	h := &hasher{salt: salt, hash: sha256.New()}
	h.zero = h.append(nil, zeroBlock[:])
	return h
}

// append appends H(salt ‖ block), the digest of hash format 1.
func (h *hasher) append(b, block []byte) []byte {
	if h.zero != nil && bytes.Equal(block, zeroBlock[:]) {
		return append(b, h.zero...)
	}
	h.hash.Reset()
	h.hash.Write(h.salt)
	h.hash.Write(block)
	return h.hash.Sum(b)
}

// appendAll appends the digests of a run of blocks.
func (h *hasher) appendAll(b, blocks []byte) []byte {
	for len(blocks) > 0 {
		b = h.append(b, blocks[:blockSize])
		blocks = blocks[blockSize:]
	}
	return b
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
