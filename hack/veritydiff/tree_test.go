package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/erofs/go-erofs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func contents(t *testing.T, f file) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, p := range f.content {
		require.NoError(t, p.writeTo(&b))
	}
	require.Equal(t, f.size(), int64(b.Len()))
	return b.Bytes()
}

func TestModel(t *testing.T) {
	first := firstBuild(1)
	require.Equal(t, first, firstBuild(1))
	require.Len(t, first, 7000)
	next := first.nextBuild(2)
	require.Equal(t, next, first.nextBuild(2))
	require.Len(t, next, 7000-35)

	before := map[string]file{}
	for _, f := range first {
		before[f.path] = f
	}
	patched, grown := 0, 0
	for _, f := range next {
		old := before[f.path]
		if len(f.content) == len(old.content) {
			require.Equal(t, old, f)
			continue
		}
		if f.library {
			patched++
		} else {
			grown++
			require.True(t, bytes.HasPrefix(contents(t, f), contents(t, old)))
		}
	}
	assert.InDelta(t, patchedLibraries, patched, 2) // one or the other was removed
	assert.InDelta(t, 60, grown, 20)
}

func TestPatched(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f := file{content: []piece{{seed: 7, size: 100001}}}
	for range 20 { // a library that is patched again and again
		old, now := contents(t, f), []byte(nil)
		f = f.patched(r)
		now = contents(t, f)
		start := 0
		for start < len(old) && old[start] == now[start] {
			start++
		}
		end := 0
		for end < len(old)-start && old[len(old)-1-end] == now[len(now)-1-end] {
			end++
		}
		assert.GreaterOrEqual(t, start+end, len(old)*3/4-64)
	}
}

func TestWriteImage(t *testing.T) {
	files := firstBuild(1)[:300]
	out, err := os.Create(filepath.Join(t.TempDir(), "image"))
	require.NoError(t, err)
	defer out.Close()
	require.NoError(t, files.writeImage(out))
	image, err := erofs.Open(out)
	require.NoError(t, err)
	for _, f := range files[290:] {
		in, err := image.Open(f.path[1:])
		require.NoError(t, err)
		b, err := io.ReadAll(in)
		require.NoError(t, err)
		require.NoError(t, in.Close())
		require.True(t, bytes.Equal(contents(t, f), b))
	}
}
