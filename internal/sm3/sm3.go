// Package sm3 computes the hash SM3 (GB/T 32905-2016, ISO/IEC 10118-3:2018), which PCR banks have
// as TPM_ALG_SM3_256 and the standard library has not. A module that implements it brings ten times
// as much code as the hash is, for logs that few machines have.
package sm3

import (
	"encoding/binary"
	"math/bits"
)

// Size is the length of a digest in bytes.
const Size = 32

const blockSize = 64

// initial is the value IV of section 4.1.
var initial = [8]uint32{0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600, 0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e}

// Sum hashes the concatenation of parts.
func Sum(parts ...[]byte) [Size]byte {
	v := initial
	var pending []byte
	length := uint64(0)
	for _, p := range parts {
		length += uint64(len(p))
		if len(pending) > 0 {
			n := min(blockSize-len(pending), len(p))
			pending, p = append(pending, p[:n]...), p[n:]
			if len(pending) < blockSize {
				continue
			}
			compress(&v, pending)
			pending = pending[:0]
		}
		for ; len(p) >= blockSize; p = p[blockSize:] {
			compress(&v, p)
		}
		pending = append(pending, p...)
	}
	pending = append(pending, 0x80)
	for len(pending)%blockSize != blockSize-8 {
		pending = append(pending, 0)
	}
	pending = binary.BigEndian.AppendUint64(pending, 8*length)
	for ; len(pending) > 0; pending = pending[blockSize:] {
		compress(&v, pending)
	}
	var out [Size]byte
	for i, x := range v {
		binary.BigEndian.PutUint32(out[4*i:], x)
	}
	return out
}

// compress is the function CF of section 5.3.3, for the first block of b.
func compress(v *[8]uint32, b []byte) {
	var w [68]uint32
	for j := range 16 {
		w[j] = binary.BigEndian.Uint32(b[4*j:])
	}
	for j := 16; j < len(w); j++ {
		x := w[j-16] ^ w[j-9] ^ bits.RotateLeft32(w[j-3], 15)
		x ^= bits.RotateLeft32(x, 15) ^ bits.RotateLeft32(x, 23) // P1
		w[j] = x ^ bits.RotateLeft32(w[j-13], 7) ^ w[j-6]
	}
	s := *v // A to H
	for j := range 64 {
		t, f, g := uint32(0x79cc4519), s[0]^s[1]^s[2], s[4]^s[5]^s[6]
		if j >= 16 {
			t, f, g = 0x7a879d8a, s[0]&s[1]|s[0]&s[2]|s[1]&s[2], s[4]&s[5]|^s[4]&s[6]
		}
		a12 := bits.RotateLeft32(s[0], 12)
		ss1 := bits.RotateLeft32(a12+s[4]+bits.RotateLeft32(t, j), 7)
		tt1 := f + s[3] + (ss1 ^ a12) + (w[j] ^ w[j+4])
		tt2 := g + s[7] + ss1 + w[j]
		tt2 ^= bits.RotateLeft32(tt2, 9) ^ bits.RotateLeft32(tt2, 17) // P0
		s = [8]uint32{tt1, s[0], bits.RotateLeft32(s[1], 9), s[2], tt2, s[4], bits.RotateLeft32(s[5], 19), s[6]}
	}
	for i := range v {
		v[i] ^= s[i]
	}
}
