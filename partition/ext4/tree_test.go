package ext4_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/ext4"
)

var modified = time.Unix(1_700_000_000, 0)

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + n)
	}
	return b
}

// longestName is what go-diskfs 1.9.4 reads of a name: it adds 8 to its length in one byte. Names
// of 255 bytes are in TestFsck.
const longestName = 247

// kinds has a file of each kind, and of each size that is special.
func kinds() fstest.MapFS {
	m := fstest.MapFS{
		"dev/console":                    {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Sys: &osmith.Node{Major: 5, Minor: 1}},
		"dev/vdb":                        {Mode: fs.ModeDevice | 0o660, Sys: &osmith.Node{GID: 6, Major: 254, Minor: 70000}},
		"dev/socket":                     {Mode: fs.ModeSocket | 0o666},
		"dev/pipe":                       {Mode: fs.ModeNamedPipe | 0o622},
		"usr/bin/su":                     {Mode: fs.ModeSetuid | 0o755, Data: content(5000), ModTime: modified},
		"usr/bin/wall":                   {Mode: fs.ModeSetgid | 0o755, Data: content(12), Sys: &osmith.Node{UID: 70000, GID: 5}},
		"tmp":                            {Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		"empty":                          {Mode: fs.ModeDir | 0o700, Sys: &osmith.Node{UID: 1000, GID: 1000}},
		"link":                           {Mode: fs.ModeSymlink | 0o777, Data: []byte("usr/bin/su")},
		"link59":                         {Mode: fs.ModeSymlink | 0o777, Data: []byte(strings.Repeat("a", 59))},
		"link60":                         {Mode: fs.ModeSymlink | 0o777, Data: []byte(strings.Repeat("b", 60))},
		"link4000":                       {Mode: fs.ModeSymlink | 0o777, Data: []byte(strings.Repeat("c/", 2000))},
		"zeros":                          {Mode: 0o644, Data: make([]byte, 3<<20)},
		"name with ünïcode":              {Mode: 0o644, Data: content(1)},
		strings.Repeat("n", longestName): {Mode: 0o644},
	}
	for _, n := range []int{0, 1, 4095, 4096, 4097, 8192, 1 << 20, 1<<20 + 1, 3<<20 + 17} {
		m[fmt.Sprintf("sizes/%d", n)] = &fstest.MapFile{Mode: 0o644, Data: content(n), ModTime: modified}
	}
	return m
}

// crowded has directories with one block, with an index, and with an index of two levels.
func crowded() fstest.MapFS {
	m := fstest.MapFS{}
	for i := range 400 {
		m[fmt.Sprintf("some/%04d", i)] = &fstest.MapFile{Mode: 0o644}
	}
	for i := range 3000 {
		m[fmt.Sprintf("more/%d-ÿ%x", i, i*i)] = &fstest.MapFile{Mode: 0o644}
	}
	for i := range 9000 {
		m[fmt.Sprintf("many/%s%d", strings.Repeat("x", 230), i)] = &fstest.MapFile{Mode: 0o644}
	}
	// Few entries that fill a block without "." and "..".
	for i := range 16 {
		m[fmt.Sprintf("brim/%s%02d", strings.Repeat("y", 240), i)] = &fstest.MapFile{Mode: 0o644}
	}
	m["brim/"+strings.Repeat("z", 40)] = &fstest.MapFile{Mode: 0o644}
	return m
}

// image is a new file with the file system of a tree.
func image(t testing.TB, tree fs.FS, o ext4.Options) (name string, size int64) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "ext4.img")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	size, err = ext4.Write(t.Context(), f, tree, o)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, size, info.Size(), "the file is as long as the file system")
	return name, size
}

// readBack compares an image with the tree that it was made of. The reader is go-diskfs.
func readBack(t testing.TB, name string, size int64, tree fs.FS) {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	made, err := diskfs.Read(file.New(f, true), size, 0, 512)
	require.NoError(t, err)
	seen := map[string]bool{}
	var walk func(dir string)
	walk = func(dir string) {
		list, err := made.ReadDir(dir)
		require.NoError(t, err, dir)
		for _, e := range list {
			if e.Name() == "." || e.Name() == ".." {
				continue
			}
			p := path.Join(dir, e.Name())
			seen[p] = true
			if e.IsDir() {
				walk(p)
			}
		}
	}
	walk(".")
	delete(seen, "lost+found")
	require.NoError(t, fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		if p == "." {
			return nil
		}
		require.True(t, seen[p], p)
		delete(seen, p)
		if !d.Type().IsRegular() {
			return nil
		}
		want, err := fs.ReadFile(tree, p)
		require.NoError(t, err)
		if len(want) == 0 {
			return nil // finding one of thousands takes the reader long
		}
		r, err := made.OpenFile(p, os.O_RDONLY)
		require.NoError(t, err, p)
		got, err := io.ReadAll(r)
		require.NoError(t, err, p)
		require.True(t, bytes.Equal(want, got), p)
		return nil
	}))
	require.Empty(t, seen)
}
