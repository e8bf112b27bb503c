package sha512x8

import (
	"bytes"
	"crypto/sha512"
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

// check hashes eight different pieces of n bytes.
func check(t testing.TB, prefix, suffix, pieces []byte, n int) {
	for _, size := range []int{sha512.Size384, sha512.Size} {
		h := New(size, prefix, suffix)
		var digests, messages [Lanes][]byte
		for lane := range Lanes {
			digests[lane] = make([]byte, size)
			messages[lane] = pieces[lane*n : (lane+1)*n]
		}
		for range 2 { // a Hasher is used again
			h.Sum(&digests, &messages)
			for lane, m := range messages {
				all := append(append(append([]byte(nil), prefix...), m...), suffix...)
				want := sha512.Sum512(all)
				if size == sha512.Size384 {
					sum := sha512.Sum384(all)
					copy(want[:], sum[:])
				}
				if !bytes.Equal(want[:size], digests[lane]) {
					t.Fatalf("lane %d, prefix %d, message %d, suffix %d bytes: %x, want %x",
						lane, len(prefix), n, len(suffix), digests[lane], want[:size])
				}
			}
		}
	}
}

// Every salt length before and behind message lengths up to a few blocks, and before
// the lengths of data blocks.
func TestSumEveryLength(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pieces, salt := noise(r, Lanes*4096), noise(r, 256)
	step := 1
	if !Accelerated() {
		step = 11 // there is nothing of ours to test
	}
	for n := 0; n < 400; n += step {
		for s := n % 7; s <= 256; s += 7 {
			check(t, salt[:s], nil, pieces, n)
			check(t, nil, salt[:s], pieces, n)
		}
	}
	for s := 0; s <= 256; s += step {
		for _, n := range []int{512, 4096} {
			check(t, salt[:s], nil, pieces, n)
			check(t, nil, salt[:s], pieces, n)
		}
	}
	check(t, salt[:3], salt[:5], pieces, 1000)
}

func TestSumDifferentLengths(t *testing.T) {
	require.Panics(t, func() { New(64, nil, nil).Sum(new([Lanes][]byte), &[Lanes][]byte{3: {1}}) })
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("salt"), []byte(""), []byte("0123456789"))
	f.Add(make([]byte, 128), make([]byte, 63), make([]byte, 4096))
	f.Fuzz(func(t *testing.T, prefix, suffix, pieces []byte) {
		check(t, prefix, suffix, pieces, len(pieces)/Lanes)
	})
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{512, 1024, 4096} {
		b.Run(fmt.Sprintf("eight/%d", n), func(b *testing.B) {
			h := New(sha512.Size, make([]byte, 32), nil)
			var digests, messages [Lanes][]byte
			for lane := range Lanes {
				digests[lane], messages[lane] = make([]byte, sha512.Size), make([]byte, n)
			}
			b.SetBytes(int64(Lanes * n))
			for b.Loop() {
				h.Sum(&digests, &messages)
			}
		})
		b.Run(fmt.Sprintf("crypto/%d", n), func(b *testing.B) {
			x, salt := make([]byte, n), make([]byte, 32)
			h := sha512.New()
			var d [sha512.Size]byte
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
