package ext4

import (
	"encoding/binary"
	"math/bits"

	"github.com/osmith-dev/osmith"
)

// hashHalfMD4 is the number of the hash of names that mkfs.ext4 uses.
const hashHalfMD4 = 1

// hashName is the hash of a name by which an index finds it: MD4 with eight steps a round instead
// of sixteen, seeded, of the name as unsigned bytes in pieces of 32.
func hashName(name string, seed osmith.GUID) (hash, minor uint32) {
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if !seed.IsZero() {
		for i := range state {
			state[i] = binary.LittleEndian.Uint32(seed[4*i:])
		}
	}
	for rest := name; len(rest) > 0; rest = rest[min(32, len(rest)):] {
		halfMD4(&state, words(rest))
	}
	hash = state[1] &^ 1
	if hash == 0xfffffffe {
		hash = 0xfffffffc // the former marks the end
	}
	return hash, state[2]
}

// words are the first 32 bytes of a name as numbers, padded with its length.
func words(name string) (w [8]uint32) {
	pad := uint32(len(name)) * 0x101
	pad |= pad << 16
	name = name[:min(32, len(name))]
	for i := range w {
		v := pad
		for k := 4 * i; k < min(4*i+4, len(name)); k++ {
			v = uint32(name[k]) + v<<8
		}
		w[i] = v
	}
	return w
}

// The order in which the rounds take the words, and how far they rotate.
var (
	halfMD4Order  = [3][8]int{{0, 1, 2, 3, 4, 5, 6, 7}, {1, 3, 5, 7, 0, 2, 4, 6}, {3, 7, 2, 6, 1, 5, 0, 4}}
	halfMD4Rotate = [3][4]int{{3, 7, 11, 19}, {3, 5, 9, 13}, {3, 9, 11, 15}}
	halfMD4Add    = [3]uint32{0, 0x5a827999, 0x6ed9eba1}
)

func halfMD4(state *[4]uint32, in [8]uint32) {
	a, b, c, d := state[0], state[1], state[2], state[3]
	for round := range 3 {
		for i, k := range halfMD4Order[round] {
			var f uint32
			switch round {
			case 0:
				f = d ^ b&(c^d)
			case 1:
				f = b&c + (b^c)&d
			case 2:
				f = b ^ c ^ d
			}
			a = bits.RotateLeft32(a+f+in[k]+halfMD4Add[round], halfMD4Rotate[round][i%4])
			a, b, c, d = d, a, b, c
		}
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}
