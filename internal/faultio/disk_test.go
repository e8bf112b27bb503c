package faultio

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func contents(t *testing.T, d *Disk) []byte {
	t.Helper()
	b := make([]byte, d.Size())
	_, err := d.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

func TestAgainstSlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const size = 5*pageSize + 100
	d, model := NewDisk(size), make([]byte, size)
	for range 200 {
		off := rng.IntN(size)
		p := make([]byte, rng.IntN(size-off)+1)
		if rng.IntN(3) > 0 {
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
		}
		_, err := d.WriteAt(p, int64(off))
		require.NoError(t, err)
		copy(model[off:], p)
		clear(p) // the disk keeps its own copy
	}
	require.Equal(t, model, contents(t, d))
	var out bytes.Buffer
	_, err := d.WriteTo(&out)
	require.NoError(t, err)
	require.Equal(t, model, out.Bytes())
	n, err := d.ReadAt(make([]byte, 10), size-4)
	require.Equal(t, 4, n)
	require.Equal(t, io.EOF, err)
	_, err = d.WriteAt(make([]byte, 2), size-1)
	require.Error(t, err)
}

func TestCutAndReplay(t *testing.T) {
	d := NewDisk(3 * pageSize)
	write := func(b byte, off int64, n int) error {
		_, err := d.WriteAt(bytes.Repeat([]byte{b}, n), off)
		return err
	}
	require.NoError(t, write(1, 0, 512))
	d.Record()
	before := d.Clone()
	require.NoError(t, write(2, 0, 512))
	require.NoError(t, d.Sync())
	require.NoError(t, write(3, 512, 1024))
	require.NoError(t, write(4, 4096, 512))
	require.Len(t, d.Writes(), 3)
	require.Equal(t, contents(t, before), contents(t, d.Prefix(0)))
	require.Equal(t, contents(t, d), contents(t, d.Prefix(3)))
	torn := contents(t, d.Torn(1, 512))
	require.Equal(t, []byte{2, 3, 0}, []byte{torn[0], torn[512], torn[1024]})
	lossy := contents(t, d.Lossy(3, func(i int) bool { return i == 2 }))
	require.Equal(t, []byte{2, 0, 4}, []byte{lossy[0], lossy[512], lossy[4096]})

	d.CutAfter(1)
	require.NoError(t, write(5, 0, 512))
	require.ErrorIs(t, write(6, 0, 512), ErrCut)
	require.ErrorIs(t, d.Sync(), ErrCut)
	require.Equal(t, byte(5), contents(t, d)[0])
	require.NoError(t, d.Clone().Sync(), "a clone has power again")
}
