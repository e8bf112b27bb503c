package sha512x8

import (
	"crypto/sha512"
	"encoding/binary"
	"hash"
)

// Lanes is the number of messages that are hashed at a time.
const Lanes = 8

// blockSize is the size of what SHA-512 compresses at a time, in bytes.
const blockSize = sha512.BlockSize

// A state has each of the eight words for all lanes.
type state [8][Lanes]uint64

// Initial hash values, FIPS 180-4, sections 5.3.4 and 5.3.5.
var (
	iv384 = [8]uint64{
		0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17, 0x152fecd8f70e5939,
		0x67332667ffc00b31, 0x8eb44a8768581511, 0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4,
	}
	iv512 = [8]uint64{
		0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
		0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
	}
)

// A Hasher makes digests of messages that share a prefix and a suffix. It is not safe
// for concurrent use.
type Hasher struct {
	size   int
	suffix []byte
	mid    state  // after the whole blocks of the prefix
	midLen int    // bytes of the prefix in mid
	rest   []byte // of the prefix

	one    hash.Hash // where there is no kernel
	prefix []byte
	now    state
	at     [Lanes]*byte
	head   [Lanes][blockSize]byte
	tail   [Lanes][]byte
}

// New returns a Hasher for SHA-384, which has digests of 48 bytes, or SHA-512, which has
// digests of 64. Both slices may be empty; they are not copied.
func New(size int, prefix, suffix []byte) *Hasher {
	iv, one := iv512, sha512.New
	if size == sha512.Size384 {
		iv, one = iv384, sha512.New384
	}
	h := &Hasher{size: size, suffix: suffix, prefix: prefix}
	if !Accelerated() {
		h.one = one()
		return h
	}
	for word := range h.mid {
		for lane := range h.mid[word] {
			h.mid[word][lane] = iv[word]
		}
	}
	h.midLen = len(prefix) / blockSize * blockSize
	if h.midLen > 0 {
		for lane := range h.at {
			h.at[lane] = &prefix[0]
		}
		blocks(&h.mid, &h.at, h.midLen/blockSize)
	}
	h.rest = prefix[h.midLen:]
	return h
}

// Sum puts the digest of prefix ‖ message ‖ suffix for each message into the first bytes
// of the digest of the same number. The messages must have the same length.
func (h *Hasher) Sum(digests, messages *[Lanes][]byte) {
	size := len(messages[0])
	for _, m := range messages {
		if len(m) != size {
			panic("sha512x8: messages of different length")
		}
	}
	if h.one != nil {
		for lane, m := range messages {
			h.single(digests[lane], m)
		}
		return
	}
	h.now = h.mid
	head := 0 // bytes of the messages that are done
	rest := h.rest
	if len(rest) > 0 && len(rest)+size >= blockSize {
		head = blockSize - len(rest)
		for lane, m := range messages {
			copy(h.head[lane][copy(h.head[lane][:], rest):], m)
			h.at[lane] = &h.head[lane][0]
		}
		blocks(&h.now, &h.at, 1)
		rest = nil
	}
	if n := (size - head) / blockSize; n > 0 && len(rest) == 0 {
		for lane, m := range messages {
			h.at[lane] = &m[head]
		}
		blocks(&h.now, &h.at, n)
		head += n * blockSize
	}
	for lane, m := range messages {
		h.tail[lane] = h.pad(append(append(h.tail[lane][:0], rest...), m[head:]...), len(h.prefix)+size+len(h.suffix))
		h.at[lane] = &h.tail[lane][0]
	}
	blocks(&h.now, &h.at, len(h.tail[0])/blockSize)
	clear(h.at[:])
	for lane, d := range digests {
		for word := range h.size / 8 {
			binary.BigEndian.PutUint64(d[8*word:], h.now[word][lane])
		}
	}
}

// pad appends suffix and padding (FIPS 180-4, section 5.1.2).
func (h *Hasher) pad(tail []byte, total int) []byte {
	tail = append(tail, h.suffix...)
	tail = append(tail, 0x80)
	for len(tail)%blockSize != blockSize-16 {
		tail = append(tail, 0)
	}
	tail = binary.BigEndian.AppendUint64(tail, 0) // the upper half of the length
	return binary.BigEndian.AppendUint64(tail, uint64(total)*8)
}

// single hashes one message with the standard library.
func (h *Hasher) single(d, m []byte) {
	h.one.Reset()
	h.one.Write(h.prefix)
	h.one.Write(m)
	h.one.Write(h.suffix)
	var sum [sha512.Size]byte
	copy(d[:h.size], h.one.Sum(sum[:0]))
}
