package fec

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowMul multiplies by the definition of the field.
func slowMul(a, b byte) byte {
	var y int
	for i := range 8 {
		if b>>i&1 != 0 {
			y ^= int(a) << i
		}
	}
	for i := 14; i >= 8; i-- {
		if y>>i&1 != 0 {
			y ^= fieldPolynomial << (i - 8)
		}
	}
	return byte(y)
}

func TestField(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			want := slowMul(byte(a), byte(b))
			require.Equal(t, want, mul(byte(a), byte(b)))
			if b != 0 {
				require.Equal(t, byte(a), div(want, byte(b)))
			}
		}
	}
}

// slowParity is polynomial division, highest coefficient first, by the multiplication that
// TestField has checked.
func slowParity(data []byte, roots int) []byte {
	g := generator(roots)
	rest := append(append([]byte(nil), data...), make([]byte, roots)...)
	for i := range data {
		factor := rest[i]
		for j := range g {
			rest[i+j] ^= mul(factor, g[roots-j])
		}
	}
	return rest[len(data):]
}

func TestGenerator(t *testing.T) {
	for roots := MinRoots; roots <= MaxRoots; roots++ {
		g := generator(roots)
		require.Len(t, g, roots+1)
		assert.Equal(t, byte(1), g[roots])
		for i := range codeword {
			assert.Equal(t, i < roots, evaluate(g, power(i)) == 0, "roots %d: g(2^%d)", roots, i)
		}
	}
}

// TestMatrix compares the matrix with division for each unit vector.
func TestMatrix(t *testing.T) {
	for roots := MinRoots; roots <= MaxRoots; roots++ {
		m := parityMatrix(roots)
		data := make([]byte, codeword-roots)
		for i := range data {
			data[i] = 1
			for p, c := range slowParity(data, roots) {
				require.Equal(t, c, m[p][i], "roots %d, symbol %d", roots, i)
			}
			data[i] = 0
		}
	}
}

// randomWord returns a codeword.
func randomWord(r *rand.Rand, roots int) []byte {
	word := make([]byte, codeword)
	for i := range codeword - roots {
		word[i] = byte(r.Uint32())
	}
	copy(word[codeword-roots:], slowParity(word[:codeword-roots], roots))
	return word
}

// decodeWord corrects a word in place.
func decodeWord(word []byte, roots int, erasures []int) bool {
	rest := slowParity(word[:codeword-roots], roots)
	for i := range rest {
		rest[i] ^= word[codeword-roots+i]
	}
	corrections, ok := newDecoder(roots, erasures).decode(nil, rest)
	for _, c := range corrections {
		word[c.symbol] ^= c.value
	}
	return ok
}

// TestDecodeSingle tries every value in every place, with 2 roots.
func TestDecodeSingle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	word := randomWord(r, 2)
	d := newDecoder(2, nil)
	for symbol := range codeword {
		// A correction depends on the error alone.
		unit := make([]byte, codeword)
		for value := 1; value < 256; value++ {
			unit[symbol] = byte(value)
			rest := slowParity(unit[:253], 2)
			rest[0] ^= unit[253]
			rest[1] ^= unit[254]
			got, ok := d.decode(nil, rest)
			require.True(t, ok)
			require.Equal(t, []correction{{symbol, byte(value)}}, got)
		}
		damaged := append([]byte(nil), word...)
		damaged[symbol] ^= 0x5a
		require.True(t, decodeWord(damaged, 2, nil))
		require.Equal(t, word, damaged)
	}
}

// TestDecodePairs tries every pair of places: as erasures with 2 roots, as one erasure
// and one error with 3, as errors with 4.
func TestDecodePairs(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, roots := range []int{2, 3, 4} {
		g := make([][]byte, codeword) // remainders of the places
		for i := range g {
			unit := make([]byte, codeword)
			unit[i] = 1
			g[i] = slowParity(unit[:codeword-roots], roots)
			for j := range roots {
				g[i][j] ^= unit[codeword-roots+j]
			}
		}
		for a := range codeword {
			for b := range a {
				x, y := byte(1+r.IntN(255)), byte(1+r.IntN(255))
				rest := make([]byte, roots)
				for j := range rest {
					rest[j] = mul(x, g[a][j]) ^ mul(y, g[b][j])
				}
				d := newDecoder(roots, []int{b, a}[:4-roots])
				got, ok := d.decode(nil, rest)
				require.True(t, ok, "roots %d: %d, %d", roots, a, b)
				require.ElementsMatch(t, []correction{{a, x}, {b, y}}, got)
			}
		}
	}
}

// TestDecodeCapacity tries every number of erasures and errors within reach.
func TestDecodeCapacity(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for roots := MinRoots; roots <= MaxRoots; roots++ {
		for erasures := range roots + 1 {
			for errs := 0; 2*errs+erasures <= roots; errs++ {
				word := randomWord(r, roots)
				damaged := append([]byte(nil), word...)
				places := r.Perm(codeword)[:erasures+errs]
				for i, place := range places {
					if i < erasures {
						damaged[place] = byte(r.Uint32()) // may be what it was
					} else {
						damaged[place] ^= byte(1 + r.IntN(255))
					}
				}
				require.True(t, decodeWord(damaged, roots, places[:erasures]), "%d roots, %d erasures, %d errors", roots, erasures, errs)
				require.Equal(t, word, damaged)
			}
		}
	}
}

// FuzzDecode gives the decoder any remainder and any erasures: it must not panic, and
// what it calls corrected must be a codeword within reach.
func FuzzDecode(f *testing.F) {
	f.Add(uint8(2), []byte{}, []byte{1, 2})
	f.Add(uint8(24), []byte{3, 250, 254}, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add(uint8(3), []byte{0}, []byte{0, 0, 1})
	f.Fuzz(func(t *testing.T, n uint8, places, rest []byte) {
		roots := MinRoots + int(n)%(MaxRoots-MinRoots+1)
		var erased [codeword]bool
		var erasures []int
		for _, p := range places {
			if p < codeword && !erased[p] && len(erasures) < roots {
				erased[p] = true
				erasures = append(erasures, int(p))
			}
		}
		// The remainder of a word of zeros with this parity.
		word := make([]byte, codeword)
		copy(word[codeword-roots:], rest)
		corrections, ok := newDecoder(roots, erasures).decode(nil, word[codeword-roots:])
		if !ok {
			require.Empty(t, corrections)
			return
		}
		errs := 0
		for _, c := range corrections {
			word[c.symbol] ^= c.value
			if !erased[c.symbol] {
				errs++
			}
		}
		require.Equal(t, word[codeword-roots:], slowParity(word[:codeword-roots], roots))
		require.LessOrEqual(t, 2*errs+len(erasures), roots)
	})
}

// FuzzDecodeErrors damages a codeword within reach.
func FuzzDecodeErrors(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint8(0))
	f.Add(uint64(2), uint8(22), uint8(7))
	f.Fuzz(func(t *testing.T, seed uint64, n, erasures uint8) {
		r := rand.New(rand.NewPCG(seed, 0))
		roots := MinRoots + int(n)%(MaxRoots-MinRoots+1)
		e := int(erasures) % (roots + 1)
		word := randomWord(r, roots)
		damaged := append([]byte(nil), word...)
		places := r.Perm(codeword)[:e+(roots-e)/2]
		for _, place := range places {
			damaged[place] ^= byte(r.Uint32())
		}
		require.True(t, decodeWord(damaged, roots, places[:e]))
		require.Equal(t, word, damaged)
	})
}
