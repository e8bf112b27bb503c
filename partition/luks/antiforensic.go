package luks

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

// stripes is how many times as large as the key its area is, so that the loss of any part is the
// loss of the key: LUKS1 On-Disk Format Specification 1.2.3, section 2.4. Headers have the number
// in them, and cryptsetup does not look at it.
const stripes = 4000

// afSplit makes the content of an area from a key.
func afSplit(key []byte, h hash.Hash, rand io.Reader) ([]byte, error) {
	out := make([]byte, len(key)*stripes)
	if _, err := io.ReadFull(rand, out[:len(out)-len(key)]); err != nil {
		return nil, fmt.Errorf("random bytes for a key slot: %w", err)
	}
	sum := mixed(out, len(key), h)
	subtle.XORBytes(out[len(out)-len(key):], sum, key)
	clear(sum)
	return out, nil
}

// afMerge is the reverse of afSplit.
func afMerge(area []byte, keySize int, h hash.Hash) []byte {
	key := mixed(area, keySize, h)
	subtle.XORBytes(key, key, area[keySize*(stripes-1):])
	return key
}

// mixed combines all stripes but the last.
func mixed(area []byte, keySize int, h hash.Hash) []byte {
	d := make([]byte, keySize)
	for i := range stripes - 1 {
		subtle.XORBytes(d, d, area[i*keySize:][:keySize])
		diffuse(d, h)
	}
	return d
}

// diffuse replaces each piece of the size of a hash by the hash of its number and itself.
func diffuse(d []byte, h hash.Hash) {
	var number [4]byte
	var sum [64]byte
	for i, rest := uint32(0), d; len(rest) > 0; i++ {
		n := min(len(rest), h.Size())
		binary.BigEndian.PutUint32(number[:], i)
		h.Reset()
		h.Write(number[:])
		h.Write(rest[:n])
		copy(rest[:n], h.Sum(sum[:0]))
		rest = rest[n:]
	}
}
