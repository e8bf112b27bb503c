package verity

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// holed is mostly holes: only some ranges hold data, and nothing else may be read.
type holed struct {
	t    testing.TB
	size int64
	data [][2]int64 // offset and end
	err  error
}

func (h *holed) Size() int64 { return h.size }

func (h *holed) NextData(off int64) (start, end int64, err error) {
	for _, d := range h.data {
		if off < d[1] {
			return max(off, d[0]), d[1], h.err
		}
	}
	return 0, 0, io.EOF
}

func (h *holed) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	touched := false
	for _, d := range h.data {
		for at := max(off, d[0]); at < min(off+int64(len(b)), d[1]); at++ {
			b[at-off] = byte(at%251) | 1
			touched = true
		}
	}
	if !touched {
		h.t.Errorf("%d bytes read in a hole at %#x", len(b), off)
	}
	return len(b), nil
}

// solid hides the holes.
type solid struct{ h *holed }

func (s solid) Size() int64 { return s.h.size }

func (s solid) ReadAt(b []byte, off int64) (int, error) {
	quiet := *s.h
	quiet.t = new(testing.T) // a hole may be read
	return quiet.ReadAt(b, off)
}

func TestHoles(t *testing.T) {
	h := &holed{t: t, size: 40 << 20, data: [][2]int64{{0, 100}, {8191, 8193}, {1 << 20, 1<<20 + 4096}, {5<<20 - 1, 7<<20 + 1}, {33 << 20, 33<<20 + 5}}}
	for _, p := range []Params{{}, {DataBlockSize: 65536, Hash: "sha512"}, {DataBlockSize: 512, HashBlockSize: 512, Hash: "sha1", ChromeOS: true}} {
		tree, root := formatMemory(t, h, p)
		want, wantRoot := formatMemory(t, solid{h}, p)
		require.Equal(t, wantRoot, root)
		require.True(t, bytes.Equal(want, tree))
		require.NoError(t, Verify(context.Background(), h, tree, root))
	}
	h.err = errors.New("no idea")
	_, err := Format(context.Background(), newMemory(1<<20), h, Params{})
	assert.EqualError(t, err, "verity: data: find data at 0x0: no idea")
}

// A sparse file has the tree of the same bytes without holes.
func TestHolesOfFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	require.NoError(t, err)
	defer f.Close()
	const size = 24 << 20
	want := make(memory, size)
	for _, off := range []int64{0, 3<<20 + 100, size - 5000} {
		copy(want[off:], bytes.Repeat([]byte{7}, 5000))
		_, err := f.WriteAt(want[off:off+5000], off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(size))
	tree, root := formatMemory(t, want, testParams)
	got, gotRoot := formatMemory(t, io.NewSectionReader(f, 0, size), testParams)
	require.Equal(t, root, gotRoot)
	require.True(t, bytes.Equal(tree, got))
}

type nowhere struct{}

func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// What is allocated all in all does not depend on the size of the image.
func TestMemoryIsConstant(t *testing.T) {
	allocated := func(size int64) uint64 {
		h := &holed{t: t, size: size, data: [][2]int64{{0, 1}}}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Format(context.Background(), nowhere{}, h, Params{})
		require.NoError(t, err)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	assert.Less(t, allocated(8<<30), uint64(32<<20))
}
