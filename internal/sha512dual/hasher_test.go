package sha512dual

import (
	"bytes"
	"crypto/sha512"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every length around the block boundaries, in pieces, by both paths, against the standard library.
func TestReference(t *testing.T) {
	message := make([]byte, 1<<20+77)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(message)
	pick := rand.New(random)
	for _, kernel := range []bool{false, Accelerated()} {
		h := newHasher(kernel)
		check := func(m []byte, piece int) {
			h.Reset()
			for left := m; len(left) > 0; {
				n := min(len(left), pick.IntN(piece)+1)
				_, _ = h.Write(left[:n])
				left = left[n:]
				if pick.IntN(50) == 0 {
					h.Sums() // does not end the message
				}
			}
			sha384, sum := h.Sums()
			want384, want := sha512.Sum384(m), sha512.Sum512(m)
			require.True(t, bytes.Equal(want384[:], sha384) && bytes.Equal(want[:], sum), "%d bytes", len(m))
		}
		for n := range 3*blockSize + 2 {
			check(message[:n], 300)
		}
		check(message, 1000)
		check(message, len(message))
	}
}

func FuzzSums(f *testing.F) {
	f.Add([]byte("abc"), 1)
	f.Add(bytes.Repeat([]byte{1}, 300), 128)
	f.Fuzz(func(t *testing.T, m []byte, at int) {
		if at < 0 || at > len(m) {
			return
		}
		h := New()
		_, _ = h.Write(m[:at])
		_, _ = h.Write(m[at:])
		sha384, sum := h.Sums()
		want384, want := sha512.Sum384(m), sha512.Sum512(m)
		require.Equal(t, want384[:], sha384)
		require.Equal(t, want[:], sum)
	})
}

func BenchmarkDual(b *testing.B) {
	h, m := New(), make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		_, _ = h.Write(m)
	}
}

func BenchmarkStandard(b *testing.B) {
	one, other, m := sha512.New(), sha512.New384(), make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		_, _ = one.Write(m)
		_, _ = other.Write(m)
	}
}
