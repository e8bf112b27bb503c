package sha256x2

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func check(t testing.TB, prefix, suffix, a, b []byte) {
	var da, db [32]byte
	h := New(prefix, suffix)
	for range 2 { // a Hasher is used again
		h.Sum(&da, &db, a, b)
		wantA := sha256.Sum256(append(append(append([]byte(nil), prefix...), a...), suffix...))
		wantB := sha256.Sum256(append(append(append([]byte(nil), prefix...), b...), suffix...))
		if da != wantA || db != wantB {
			t.Fatalf("prefix %d, message %d, suffix %d bytes: %x and %x, want %x and %x",
				len(prefix), len(a), len(suffix), da, db, wantA, wantB)
		}
	}
}

// Every salt length before and behind every message length up to a few blocks, and
// before the lengths of data blocks.
func TestSumEveryLength(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, b, salt := noise(r, 8192), noise(r, 8192), noise(r, 256)
	for n := range 200 {
		for s := 0; s <= 256; s += 1 + n%3 {
			check(t, salt[:s], nil, a[:n], b[n:2*n])
			check(t, nil, salt[:s], a[:n], b[n:2*n])
		}
	}
	for s := range 257 {
		for _, n := range []int{512, 1024, 4096} {
			check(t, salt[:s], nil, a[:n], b[:n])
			check(t, nil, salt[:s], a[:n], b[:n])
		}
	}
	check(t, salt[:3], salt[:5], a, b)
}

func TestSumDifferentLengths(t *testing.T) {
	var d [32]byte
	require.Panics(t, func() { New(nil, nil).Sum(&d, &d, make([]byte, 1), nil) })
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("salt"), []byte(""), []byte("0123456789"))
	f.Add(make([]byte, 64), make([]byte, 63), make([]byte, 512))
	f.Fuzz(func(t *testing.T, prefix, suffix, both []byte) {
		n := len(both) / 2
		check(t, prefix, suffix, both[:n], both[n:2*n])
	})
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{512, 1024, 4096} {
		b.Run(fmt.Sprintf("two/%d", n), func(b *testing.B) {
			x, y := make([]byte, n), make([]byte, n)
			h := New(make([]byte, 32), nil)
			var d, e [32]byte
			b.SetBytes(int64(2 * n))
			for b.Loop() {
				h.Sum(&d, &e, x, y)
			}
		})
		b.Run(fmt.Sprintf("crypto/%d", n), func(b *testing.B) {
			x, salt := make([]byte, n), make([]byte, 32)
			h := sha256.New()
			var d [32]byte
			b.SetBytes(int64(n))
			for b.Loop() {
				h.Reset()
				h.Write(salt)
				h.Write(x)
				h.Sum(d[:0])
			}
		})
	}
}
