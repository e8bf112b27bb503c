package sha512dual

import (
	"crypto/sha512"
	"encoding/binary"
	"hash"
)

const blockSize = sha512.BlockSize

// A state has each of the eight words for SHA-512 and SHA-384.
type state [8][2]uint64

// initial are the hash values of FIPS 180-4, sections 5.3.5 and 5.3.4.
var initial = state{
	{0x6a09e667f3bcc908, 0xcbbb9d5dc1059ed8},
	{0xbb67ae8584caa73b, 0x629a292a367cd507},
	{0x3c6ef372fe94f82b, 0x9159015a3070dd17},
	{0xa54ff53a5f1d36f1, 0x152fecd8f70e5939},
	{0x510e527fade682d1, 0x67332667ffc00b31},
	{0x9b05688c2b3e6c1f, 0x8eb44a8768581511},
	{0x1f83d9abfb41bd6b, 0xdb0c2e0d64f98fa7},
	{0x5be0cd19137e2179, 0x47b5481dbefa4fa4},
}

// A Hasher takes a message piece by piece. It is not safe for concurrent use; make one with New.
type Hasher struct {
	s     state
	rest  [blockSize]byte // the last bytes, which are no whole block
	n     int             // how many of them
	total uint64          // bytes so far

	one, other hash.Hash // SHA-512 and SHA-384 where there is no kernel
}

// New returns a Hasher.
func New() *Hasher { return newHasher(Accelerated()) }

func newHasher(kernel bool) *Hasher {
	if !kernel {
		return &Hasher{one: sha512.New(), other: sha512.New384()}
	}
	return &Hasher{s: initial}
}

// Reset begins a new message.
func (h *Hasher) Reset() {
	if h.one != nil {
		h.one.Reset()
		h.other.Reset()
		return
	}
	h.s, h.n, h.total = initial, 0, 0
}

// Write adds to the message. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	if h.one != nil {
		h.one.Write(p)
		return h.other.Write(p)
	}
	size := len(p)
	h.total += uint64(size)
	if h.n > 0 {
		n := copy(h.rest[h.n:], p)
		h.n, p = h.n+n, p[n:]
		if h.n < blockSize {
			return size, nil
		}
		blocks(&h.s, &h.rest[0], 1)
		h.n = 0
	}
	if n := len(p) / blockSize; n > 0 {
		blocks(&h.s, &p[0], n)
		p = p[n*blockSize:]
	}
	h.n = copy(h.rest[:], p)
	return size, nil
}

// Sums returns the digests of the message so far, which may go on.
func (h *Hasher) Sums() (sha384, sha512 []byte) {
	if h.one != nil {
		return h.other.Sum(nil), h.one.Sum(nil)
	}
	// Padding (FIPS 180-4, section 5.1.2): a one bit, zeros, the length in bits of 16 bytes.
	var tail [2 * blockSize]byte
	n := copy(tail[:], h.rest[:h.n])
	tail[n] = 0x80
	size := blockSize
	if n+1+16 > blockSize {
		size = 2 * blockSize
	}
	binary.BigEndian.PutUint64(tail[size-16:], h.total>>61)
	binary.BigEndian.PutUint64(tail[size-8:], h.total<<3)
	s := h.s
	blocks(&s, &tail[0], size/blockSize)
	for i, w := range s {
		sha512 = binary.BigEndian.AppendUint64(sha512, w[0])
		if i < 6 {
			sha384 = binary.BigEndian.AppendUint64(sha384, w[1])
		}
	}
	return sha384, sha512
}
