package fec

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkEncode(b *testing.B) {
	const size = 256 << 20
	f, err := os.Create(filepath.Join(b.TempDir(), "data"))
	require.NoError(b, err)
	defer f.Close()
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), size)
	require.NoError(b, err)
	out, err := os.Create(filepath.Join(b.TempDir(), "parity"))
	require.NoError(b, err)
	defer out.Close()
	data := io.NewSectionReader(f, 0, size)
	for _, roots := range []int{2, 24} {
		b.Run(map[int]string{2: "2 roots", 24: "24 roots"}[roots], func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				require.NoError(b, Encode(context.Background(), out, data, nil, Params{Roots: roots}))
			}
		})
	}
}

// BenchmarkRepair repairs a burst that hits as many rounds as there are.
func BenchmarkRepair(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	f := newFixture(b, noise(r, 8<<20), smallParams(4096), 24)
	burst := append(device(nil), f.data[1<<20:][:40<<10]...)
	b.SetBytes(int64(len(burst)))
	for b.Loop() {
		for i := range burst {
			f.data[1<<20+i] ^= 0xff
		}
		_, err := f.repair()
		require.NoError(b, err)
	}
}
