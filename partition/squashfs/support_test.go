package squashfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem"
	diskfs "github.com/diskfs/go-diskfs/filesystem/squashfs"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
)

// memory is an image that is written.
type memory struct {
	b      []byte
	writes []int64 // where each began
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	m.writes = append(m.writes, off)
	return copy(m.b[off:], p), nil
}

// write returns the image of a tree.
func write(t testing.TB, tree fs.FS, o Options) []byte {
	t.Helper()
	var m memory
	size, err := Write(t.Context(), &m, tree, o)
	require.NoError(t, err)
	require.EqualValues(t, len(m.b), size)
	require.Zero(t, size%4096)
	return m.b
}

// save writes an image to a file.
func save(t testing.TB, image []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(name, image, 0o644))
	return name
}

// noise are bytes that cannot be compressed, text those that can.
func noise(seed uint64, n int) []byte {
	var b []byte
	for r := rand.New(rand.NewPCG(seed, 1)); len(b) < n; {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

func text(seed uint64, n int) []byte {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(seed, 2))
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of a file that can be compressed\n", r.Uint32N(1000))
	}
	return b.Bytes()[:n]
}

// modified is the time of the files of a tree; latest the one that they may have at most.
var (
	modified = time.Unix(1_700_000_000, 0)
	latest   = time.Unix(1_800_000_000, 0)
)

func regular(b []byte) *fstest.MapFile {
	return &fstest.MapFile{Data: b, Mode: 0o644, ModTime: modified}
}

func special(mode fs.FileMode, major, minor uint32) *fstest.MapFile {
	return &fstest.MapFile{Mode: mode, ModTime: modified, Sys: &osmith.Node{UID: 1000, GID: 70000, Major: major, Minor: minor}}
}

// contentsTree has files of every size that matters for a block size.
func contentsTree(block int) fstest.MapFS {
	tree := fstest.MapFS{}
	for _, n := range []int{0, 1, block - 1, block, block + 1, 3 * block, 3*block + 77} {
		tree[fmt.Sprintf("noise-%d", n)] = regular(noise(uint64(n), n))
		tree[fmt.Sprintf("text-%d", n)] = regular(text(uint64(n), n))
		tree[fmt.Sprintf("zeros-%d", n)] = regular(make([]byte, n))
		tree[fmt.Sprintf("equal/noise-%d", n)] = regular(noise(uint64(n), n))
		tree[fmt.Sprintf("equal/other-%d", n)] = regular(text(99, n))
	}
	hole := make([]byte, 2*block)
	tree["holes/front"] = regular(append(bytes.Clone(hole), text(7, block+5)...))
	tree["holes/middle"] = regular(append(append(text(8, block), hole...), noise(8, 9)...))
	tree["holes/end"] = regular(append(text(9, block), make([]byte, block+9)...))
	return tree
}

// kindsTree has files of every kind, and directories that are large and deep.
func kindsTree() fstest.MapFS {
	tree := fstest.MapFS{
		"link":         {Data: []byte("dir/a"), Mode: fs.ModeSymlink | 0o777, ModTime: modified},
		"long link":    {Data: []byte(strings.Repeat("x", maxLink)), Mode: fs.ModeSymlink | 0o777, ModTime: modified},
		"null":         special(fs.ModeDevice|fs.ModeCharDevice|0o666, 1, 3),
		"disk":         special(fs.ModeDevice|0o660, 259, 300_000),
		"most":         special(fs.ModeDevice|0o660, filetree.MaxMajor, filetree.MaxMinor),
		"fifo":         special(fs.ModeNamedPipe|0o600, 0, 0),
		"socket":       special(fs.ModeSocket|0o755, 0, 0),
		"setuid":       {Data: []byte("program"), Mode: 0o755 | fs.ModeSetuid | fs.ModeSetgid, ModTime: modified},
		"tmp":          {Mode: fs.ModeDir | fs.ModeSticky | 0o777, ModTime: modified},
		"group":        {Mode: fs.ModeDir | fs.ModeSetgid | 0o750, ModTime: modified, Sys: &osmith.Node{UID: 1, GID: 2}},
		"dir/a":        {Data: []byte("a"), Mode: 0o400, ModTime: modified.Add(time.Hour), Sys: &osmith.Node{UID: 1<<32 - 2, GID: 1}},
		"dir/future":   {Data: []byte("b"), Mode: 0o644, ModTime: latest.Add(time.Hour)},
		"dir/past":     {Data: []byte("b"), Mode: 0o644, ModTime: time.Unix(-5, 0)},
		"dir/\xc3\xa9": regular([]byte("not ASCII")),
		"dir/ space":   regular(nil),
	}
	tree[strings.Repeat("n", filetree.MaxName)] = regular([]byte("long name"))
	tree[strings.Repeat("deep/", 60)+"file"] = regular([]byte("deep"))
	for i := range 3000 {
		tree[fmt.Sprintf("many/a file with a name that is not short %d", i*7919%3000)] = regular(fmt.Appendf(nil, "%d", i))
	}
	for i := range 300 { // their listing is not in the index, but has two headers
		tree[fmt.Sprintf("some/%d", i)] = regular(nil)
	}
	for i := range 400 { // more than 8 KiB
		tree[fmt.Sprintf("subdirectories/directory %03d/x", i)] = regular(nil)
	}
	return tree
}

// line is what is compared of a file: path, mode, size, time, owner, device, link and content.
func line(f *filetree.File, content []byte) string {
	return fmt.Sprintf("%q %o %d %d %d:%d %d:%d %q %x", f.Name, f.UnixMode(), f.Size, f.Mtime, f.UID, f.GID, f.Major, f.Minor, f.Link, sha256.Sum256(content))
}

// describe returns a line for each file of a tree but its root, which is extracted to a directory
// of the test.
func describe(t testing.TB, tree fs.FS, o osmith.TreeOptions) []string {
	t.Helper()
	return describeAs(t, tree, o, func(*filetree.File) {})
}

// describePlain is describe without what go-diskfs does not tell.
func describePlain(t testing.TB, tree fs.FS, o osmith.TreeOptions) []string {
	t.Helper()
	return describeAs(t, tree, o, func(f *filetree.File) {
		f.Mode &^= fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
		f.Major, f.Minor = 0, 0
	})
}

func describeAs(t testing.TB, tree fs.FS, o osmith.TreeOptions, change func(*filetree.File)) (lines []string) {
	t.Helper()
	require.NoError(t, filetree.Walk(tree, o, func(f *filetree.File) (err error) {
		if f.Name == "." {
			return nil
		}
		var content []byte
		if f.Mode.IsRegular() {
			content, err = fs.ReadFile(tree, f.Name)
		}
		change(f)
		lines = append(lines, line(f, content))
		return err
	}))
	return lines
}

// requireSame requires that two lists are equal, and shows the first difference.
func requireSame(t testing.TB, want, got []string) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		require.Equal(t, want[i], got[i], "line %d of %d", i, len(want))
	}
	require.Len(t, got, len(want))
}

// readBack describes an image as go-diskfs reads it.
func readBack(t testing.TB, image []byte) (lines []string) {
	t.Helper()
	disk, err := file.OpenFromPath(save(t, image), true)
	require.NoError(t, err)
	defer disk.Close()
	fsys, err := diskfs.Read(disk, int64(len(image)), 0, 0)
	require.NoError(t, err)
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := fsys.ReadDir(dir)
		require.NoError(t, err, dir)
		for _, e := range entries {
			info, err := e.Info()
			require.NoError(t, err)
			about := info.Sys().(*diskfs.StatT)
			f := &filetree.File{Name: path.Join(dir, e.Name()), Mode: info.Mode(), Mtime: info.ModTime().Unix(), Link: about.LinkTarget, Node: osmith.Node{UID: about.UID, GID: about.GID}}
			f.Size = int64(len(f.Link))
			var content []byte
			if f.Mode.IsRegular() {
				f.Size = info.Size()
				r, err := e.(interface {
					Open() (filesystem.File, error)
				}).Open()
				require.NoError(t, err)
				content, err = io.ReadAll(r)
				require.NoError(t, err, f.Name)
			}
			lines = append(lines, line(f, content))
			if f.Mode.IsDir() {
				walk(f.Name)
			}
		}
	}
	walk(".")
	return lines
}
