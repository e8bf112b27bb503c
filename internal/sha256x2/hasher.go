package sha256x2

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// blockSize is the size of what SHA-256 compresses at a time, in bytes.
const blockSize = sha256.BlockSize

// iv is the initial state in the order of the SHA extensions, which keep it in two
// registers, lowest word first: f e b a and h g d c.
var iv = [8]uint32{0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372}

// A Hasher makes digests of messages that share a prefix and a suffix. It is not safe
// for concurrent use.
type Hasher struct {
	suffix []byte
	mid    [8]uint32 // state after the whole blocks of the prefix
	midLen int       // bytes of the prefix in mid
	rest   []byte    // of the prefix

	one    hash.Hash // where there is no kernel for two
	prefix []byte
	a, b   [2 * blockSize]byte
	tailA  []byte
	tailB  []byte
}

// New returns a Hasher. Both slices may be empty; they are not copied.
func New(prefix, suffix []byte) *Hasher {
	h := &Hasher{suffix: suffix, prefix: prefix}
	if !Accelerated() {
		h.one = sha256.New()
		return h
	}
	h.mid = iv
	h.midLen = len(prefix) / blockSize * blockSize
	if h.midLen > 0 {
		other := iv
		blocks(&h.mid, &other, &prefix[0], &prefix[0], h.midLen/blockSize)
	}
	h.rest = prefix[h.midLen:]
	return h
}

// Sum puts the digests of prefix ‖ a ‖ suffix and prefix ‖ b ‖ suffix into da and db.
// The messages must have the same length.
func (h *Hasher) Sum(da, db *[sha256.Size]byte, a, b []byte) {
	if len(a) != len(b) {
		panic("sha256x2: messages of different length")
	}
	if h.one != nil {
		h.single(da, a)
		h.single(db, b)
		return
	}
	sa, sb := h.mid, h.mid
	total := uint64(h.midLen + len(h.rest) + len(a) + len(h.suffix))
	head := 0 // bytes of the messages that share a block with the prefix
	if len(h.rest) > 0 && len(h.rest)+len(a) >= blockSize {
		head = blockSize - len(h.rest)
		copy(h.a[copy(h.a[:], h.rest):blockSize], a)
		copy(h.b[copy(h.b[:], h.rest):blockSize], b)
		blocks(&sa, &sb, &h.a[0], &h.b[0], 1)
	}
	if n := (len(a) - head) / blockSize; n > 0 && (head > 0 || len(h.rest) == 0) {
		blocks(&sa, &sb, &a[head], &b[head], n)
		head += n * blockSize
	}
	h.tailA, h.tailB = h.tailA[:0], h.tailB[:0]
	if head == 0 {
		h.tailA, h.tailB = append(h.tailA, h.rest...), append(h.tailB, h.rest...)
	}
	h.tailA = h.pad(append(h.tailA, a[head:]...), total)
	h.tailB = h.pad(append(h.tailB, b[head:]...), total)
	blocks(&sa, &sb, &h.tailA[0], &h.tailB[0], len(h.tailA)/blockSize)
	put(da, &sa)
	put(db, &sb)
}

// pad appends suffix and padding (FIPS 180-4, section 5.1.1).
func (h *Hasher) pad(tail []byte, total uint64) []byte {
	tail = append(tail, h.suffix...)
	tail = append(tail, 0x80)
	for len(tail)%blockSize != blockSize-8 {
		tail = append(tail, 0)
	}
	return binary.BigEndian.AppendUint64(tail, total*8)
}

// put writes a state as a digest.
func put(d *[sha256.Size]byte, s *[8]uint32) {
	for i, word := range [8]uint32{s[3], s[2], s[7], s[6], s[1], s[0], s[5], s[4]} {
		binary.BigEndian.PutUint32(d[4*i:], word)
	}
}

// single hashes one message with the standard library.
func (h *Hasher) single(d *[sha256.Size]byte, m []byte) {
	h.one.Reset()
	h.one.Write(h.prefix)
	h.one.Write(m)
	h.one.Write(h.suffix)
	h.one.Sum(d[:0])
}
