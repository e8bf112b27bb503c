//go:build !purego

package aesxts

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/cpu"
)

var useKernel = cpu.X86.HasAES && cpu.X86.HasAVX

// encryptSectors encrypts sectors of 8*eights blocks each. Of each sector there is a tweak, and of
// the key one more round key than rounds.
//
//go:noescape
func encryptSectors(dst, src *byte, sectors, eights int, tweaks, keys *byte, rounds int)

// decryptSectors is the reverse, with the keys of the equivalent inverse cipher (FIPS 197, section
// 5.3.5).
//
//go:noescape
func decryptSectors(dst, src *byte, sectors, eights int, tweaks, keys *byte, rounds int)

// encryptBlocks encrypts 8*eights blocks in place, each by itself.
//
//go:noescape
func encryptBlocks(blocks *byte, eights int, keys *byte, rounds int)

// invertKey is InvMixColumns of a round key.
//
//go:noescape
func invertKey(key *byte)

// substitute puts SubWord(w1), RotWord of it, SubWord(w3) and RotWord of that in the place of four
// words.
//
//go:noescape
func substitute(words *[4]uint32)

// schedule are the round keys of AES (FIPS 197, section 5.2), 16 bytes each.
func schedule(key []byte) []byte {
	n := len(key) / 4
	rounds := n + 6
	words := make([]uint32, 4*(rounds+1))
	for i := range n {
		words[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	constant := uint32(1)
	for i := n; i < len(words); i++ {
		w := words[i-1]
		switch {
		case i%n == 0:
			w = bits.RotateLeft32(subWord(w), -8) ^ constant
			constant = constant<<1 ^ -(constant>>7)&0x11b
		case n > 6 && i%n == 4:
			w = subWord(w)
		}
		words[i] = words[i-n] ^ w
	}
	b := make([]byte, 0, 4*len(words))
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func subWord(w uint32) uint32 {
	words := [4]uint32{1: w}
	substitute(&words)
	return words[0]
}

// inverse are the round keys in the order of decryption.
func inverse(keys []byte) []byte {
	b := make([]byte, 0, len(keys))
	for i := len(keys) - 16; i >= 0; i -= 16 {
		b = append(b, keys[i:i+16]...)
	}
	for i := 16; i < len(b)-16; i += 16 {
		invertKey(&b[i])
	}
	return b
}
