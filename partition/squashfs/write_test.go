package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// The result depends neither on the number of workers nor on the run.
func TestReproducible(t *testing.T) {
	for _, c := range []Compression{Zstd, Gzip, None} {
		o := Options{Compression: c, BlockSize: 4096, Workers: 1, TreeOptions: osmith.TreeOptions{Time: latest}}
		tree := contentsTree(16 << 10)
		tree["large"] = regular(append(text(1, 1<<20), noise(1, 1<<20)...))
		want := sha256.Sum256(write(t, tree, o))
		for _, o.Workers = range []int{1, 4, 0, 7} {
			require.Equal(t, want, sha256.Sum256(write(t, tree, o)), "%s, %d workers", c, o.Workers)
		}
	}
}

// Images stay as they are from one version to the next, unless a compressor changes.
func TestGolden(t *testing.T) {
	tree := fstest.MapFS{
		"etc/os-release": {Data: []byte("ID=acme\nVERSION_ID=1\n"), Mode: 0o644, ModTime: modified},
		"usr/bin/tool":   {Data: text(3, 300_000), Mode: 0o755 | fs.ModeSetuid, ModTime: modified, Sys: &osmith.Node{GID: 5}},
		"usr/bin/again":  {Data: text(3, 300_000), Mode: 0o755, ModTime: modified},
		"bin":            {Data: []byte("usr/bin"), Mode: fs.ModeSymlink | 0o777, ModTime: modified},
		"dev/null":       special(fs.ModeDevice|fs.ModeCharDevice|0o666, 1, 3),
		"hole":           regular(make([]byte, 200_000)),
	}
	for c, want := range map[Compression]string{
		None: "b74c8130640a56fc0204682966e001c0a774177769f4abba5d06c3d06848b573",
		Gzip: "92d5d3ee07d18c29340338cdf65d93a7e68f76d7404df2bd853637754593abb4",
		Zstd: "a366fe97db0da98997303c9d5c4f556eee3259cd8a61b015307f557aa42bd71a",
	} {
		got := sha256.Sum256(write(t, tree, Options{Compression: c, TreeOptions: osmith.TreeOptions{Time: latest}}))
		require.Equal(t, want, hex.EncodeToString(got[:]), c.String())
	}
}

// Equal files are stored once, whether they fit in a block or not; those of equal size are not
// equal yet.
func TestDuplicates(t *testing.T) {
	for _, size := range []int{100, 4096, 50_000} {
		one := len(write(t, fstest.MapFS{"a": regular(noise(1, size))}, Options{BlockSize: 4096}))
		two := len(write(t, fstest.MapFS{"a": regular(noise(1, size)), "b": regular(noise(1, size)), "c": regular(noise(1, size))}, Options{BlockSize: 4096}))
		require.LessOrEqual(t, two, one+4096, "%d bytes", size)
	}
	tree := fstest.MapFS{}
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		tree[name] = regular(append(noise(5, 9000), byte(i/2))) // a, b; c, d; e
	}
	o := Options{BlockSize: 4096, TreeOptions: osmith.TreeOptions{Time: latest}}
	requireSame(t, describePlain(t, tree, o.TreeOptions), readBack(t, write(t, tree, o)))
}

// Blocks of zeros take no room.
func TestHoles(t *testing.T) {
	require.Len(t, write(t, fstest.MapFS{"a": regular(make([]byte, 10<<20+3))}, Options{Compression: None, BlockSize: 1 << 20}), 4096)
}

// A directory is sorted, in whatever order the file system lists it.
func TestSorted(t *testing.T) {
	tree := fstest.MapFS{"a": regular(nil), "b/c": regular(nil), "b/d": regular(nil), "z": regular(nil)}
	o := Options{TreeOptions: osmith.TreeOptions{Time: latest}}
	require.Equal(t, write(t, tree, o), write(t, backwards{tree}, o))
}

// backwards lists directories from their end.
type backwards struct{ fstest.MapFS }

func (b backwards) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := b.MapFS.ReadDir(name)
	slices.Reverse(entries)
	return entries, err
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Compression: 3}, "squashfs: Compression(3): want Zstd, Gzip or None"},
		{Options{Compression: -1}, "squashfs: Compression(-1): want Zstd, Gzip or None"},
		{Options{Level: 23}, "squashfs: level 23 of zstd: want 1 to 22, or 0 for 15"},
		{Options{Level: -1}, "squashfs: level -1 of zstd: want 1 to 22, or 0 for 15"},
		{Options{Compression: Gzip, Level: 10}, "squashfs: level 10 of gzip: want 1 to 9, or 0 for 9"},
		{Options{Compression: None, Level: 1}, "squashfs: level 1 without compression: want 0"},
		{Options{BlockSize: 2048}, "squashfs: block size 2048: want a power of two from 4096 to 1048576"},
		{Options{BlockSize: 2 << 20}, "squashfs: block size 2097152: want a power of two from 4096 to 1048576"},
		{Options{BlockSize: 12288}, "squashfs: block size 12288: want a power of two from 4096 to 1048576"},
		{Options{Workers: -1}, "squashfs: -1 workers: want 1 or more, or 0 for one for each processor"},
	} {
		var m memory
		_, err := Write(t.Context(), &m, fstest.MapFS{}, c.o)
		require.EqualError(t, err, c.want)
		require.Empty(t, m.writes)
	}
	for _, c := range []Compression{Zstd, Gzip, None} {
		parsed, err := ParseCompression(c.String())
		require.NoError(t, err)
		require.Equal(t, c, parsed)
	}
	_, err := ParseCompression("xz")
	require.EqualError(t, err, `squashfs: compression "xz": want zstd, gzip or none`)
}

// What neither the format nor Linux has is refused before anything is written.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		tree fs.FS
		want string
	}{
		{fstest.MapFS{"d/" + strings.Repeat("n", 256): regular(nil)}, "n: a name of 256 bytes: want at most 255"},
		{fstest.MapFS{"d/x": {Mode: fs.ModeIrregular}}, "squashfs: /d/x: not a file type that Linux has"},
		{fstest.MapFS{"l": {Mode: fs.ModeSymlink}}, "squashfs: /l: a symbolic link to a path of 0 bytes: want 1 to 4095"},
		{fstest.MapFS{"l": {Mode: fs.ModeSymlink, Data: make([]byte, 4096)}}, "squashfs: /l: a symbolic link to a path of 4096 bytes: want 1 to 4095"},
		{fstest.MapFS{"n": special(fs.ModeDevice, 4096, 0)}, "squashfs: /n: device number 4096:0: want at most 4095:1048575"},
		{fstest.MapFS{"n": special(fs.ModeDevice|fs.ModeCharDevice, 1, 1<<20)}, "squashfs: /n: device number 1:1048576: want at most 4095:1048575"},
		{fileRoot{}, "squashfs: the root of the tree is not a directory"},
		{replaced{fstest.MapFS{"d/a": regular(nil)}}, "squashfs: /d/a: the tree changed: /d is not a directory any more"},
	} {
		var m memory
		_, err := Write(t.Context(), &m, c.tree, Options{})
		require.ErrorContains(t, err, c.want)
		require.Empty(t, m.writes)
	}
	_, err := Write(t.Context(), &memory{}, noLinks{fstest.MapFS{"l": {Mode: fs.ModeSymlink, Data: []byte("x")}}}, Options{})
	require.ErrorIs(t, err, osmith.ErrLink)
}

type noLinks struct{ fs.FS }

// fileRoot is a file system of one file.
type fileRoot struct{}

func (fileRoot) Open(string) (fs.File, error) { return fstest.MapFS{"a": regular(nil)}.Open("a") }

// replaced has a file where a directory was when it was listed.
type replaced struct{ fstest.MapFS }

func (r replaced) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := r.MapFS.ReadDir(name)
	for i, e := range entries {
		if e.IsDir() {
			entries[i] = nowFile{e}
		}
	}
	return entries, err
}

type nowFile struct{ fs.DirEntry }

func (nowFile) Info() (fs.FileInfo, error) { return fs.Stat(fstest.MapFS{"d": regular(nil)}, "d") }

// changing is a file system in which a file has other bytes than its directory says, from its n-th
// opening on.
type changing struct {
	fstest.MapFS
	name string
	n    int
	data []byte
	err  error // of reading behind them
}

func (c *changing) Open(name string) (fs.File, error) {
	f, err := c.MapFS.Open(name)
	if name != c.name {
		return f, err
	}
	if c.n--; c.n >= 0 {
		return f, err
	}
	return &changed{f, io.MultiReader(bytes.NewReader(c.data), failing{c.err})}, err
}

type changed struct {
	fs.File
	r io.Reader
}

func (c *changed) Read(p []byte) (int, error) { return c.r.Read(p) }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

// A file that does not have the size that its directory tells, or that cannot be read, ends it.
func TestChanges(t *testing.T) {
	for _, size := range []int{0, 100, 4096, 10_000, 12_288} {
		tree := func() fstest.MapFS { return fstest.MapFS{"d/a": regular(noise(1, size)), "z": regular(noise(2, 3))} }
		if size > 0 {
			_, err := Write(t.Context(), &memory{}, &changing{MapFS: tree(), name: "d/a", data: noise(1, size-1)}, Options{BlockSize: 4096})
			require.ErrorContains(t, err, "squashfs: /d/a: the file changed: ")
			require.ErrorContains(t, err, " bytes, want ")
		}
		_, err := Write(t.Context(), &memory{}, &changing{MapFS: tree(), name: "d/a", data: noise(1, size+1)}, Options{BlockSize: 4096})
		require.ErrorContains(t, err, "squashfs: /d/a: the file changed: more than ")
		_, err = Write(t.Context(), &memory{}, &changing{MapFS: tree(), name: "d/a", data: noise(1, size), err: faultio.ErrIO}, Options{BlockSize: 4096})
		require.ErrorIs(t, err, faultio.ErrIO)
	}
	tree := fstest.MapFS{"d/a": regular(noise(1, 100))}
	_, err := Write(t.Context(), &memory{}, &changing{MapFS: tree, name: "d/a", data: noise(1, 7)}, Options{})
	require.EqualError(t, err, "squashfs: /d/a: the file changed: 7 bytes, want 100 as in its directory")
	_, err = Write(t.Context(), &memory{}, &changing{MapFS: tree, name: "d/a", data: noise(1, 200)}, Options{})
	require.EqualError(t, err, "squashfs: /d/a: the file changed: more than 100 bytes, want 100 as in its directory")
}

// A file is opened twice if it may be equal to one before it: then both readings must agree.
func TestChangesBetweenReadings(t *testing.T) {
	tree := fstest.MapFS{"a": regular(noise(1, 10_000)), "b": regular(noise(2, 10_000))}
	for _, other := range [][]byte{noise(1, 10_000), noise(3, 10_000)} {
		_, err := Write(t.Context(), &memory{}, &changing{MapFS: tree, name: "b", n: 1, data: other}, Options{BlockSize: 4096})
		require.ErrorContains(t, err, "squashfs: /b: the file changed: SHA-256 ")
		require.ErrorContains(t, err, " as when it was compared with other files")
	}
	for _, wrong := range [][]byte{noise(2, 9_999), noise(2, 10_001)} {
		_, err := Write(t.Context(), &memory{}, &changing{MapFS: tree, name: "b", data: wrong}, Options{BlockSize: 4096})
		require.ErrorContains(t, err, "squashfs: /b: the file changed: ")
	}
	_, err := Write(t.Context(), &memory{}, &changing{MapFS: tree, name: "b", err: faultio.ErrIO}, Options{BlockSize: 4096})
	require.ErrorIs(t, err, faultio.ErrIO)
}

// The error of a write ends it, and leaves no file system.
func TestFailingWriter(t *testing.T) {
	tree := fstest.MapFS{"a": regular(noise(1, 3<<20)), "b": regular(text(1, 100))}
	count := func() int {
		m := &memory{}
		_, err := Write(t.Context(), m, tree, Options{})
		require.NoError(t, err)
		return len(m.writes)
	}()
	require.Greater(t, count, 3)
	for after := range count {
		disk := faultio.NewDisk(8 << 20)
		disk.Faulty(faultio.Failure{Op: faultio.OpWrite, After: after})
		size, err := Write(t.Context(), disk, tree, Options{})
		require.ErrorIs(t, err, faultio.ErrIO, "write %d of %d", after, count)
		require.ErrorContains(t, err, "writing the image: ")
		require.Zero(t, size)
		b := make([]byte, 4)
		_, err = disk.ReadAt(b, 0)
		require.NoError(t, err)
		require.Equal(t, make([]byte, 4), b)
	}
}

// A cancelled context ends it: before the first file, between files, and between blocks.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var m memory
	_, err := Write(ctx, &m, fstest.MapFS{}, Options{})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, m.writes)
	for after := range 8 {
		ctx, cancel := context.WithCancel(t.Context())
		tree := fstest.MapFS{"a": regular(noise(1, 1<<20)), "b": regular(noise(2, 1<<20))}
		reads := 0
		_, err := Write(ctx, &m, watched{tree, func() {
			if reads++; reads > after {
				cancel()
			}
		}}, Options{BlockSize: 4096})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, after+1, reads, "nothing is read after that")
		cancel()
	}
	// What is left to do when all is read is little, and ends without a file system.
	ctx, cancel = context.WithCancel(t.Context())
	m = memory{}
	w := &cancelling{memory: &m, cancel: cancel}
	_, err = Write(ctx, w, fstest.MapFS{"a": regular(noise(1, 100))}, Options{})
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, m.writes, int64(0))
}

// watched calls a function before each reading of a file.
type watched struct {
	fstest.MapFS
	before func()
}

func (w watched) Open(name string) (fs.File, error) {
	f, err := w.MapFS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return f, err
	}
	return &changed{f, watchedReader{f, w.before}}, nil
}

type watchedReader struct {
	r      io.Reader
	before func()
}

func (w watchedReader) Read(p []byte) (int, error) {
	w.before()
	return w.r.Read(p)
}

// cancelling cancels at the first write.
type cancelling struct {
	*memory
	cancel func()
}

func (c *cancelling) WriteAt(p []byte, off int64) (int, error) {
	c.cancel()
	return c.memory.WriteAt(p, off)
}

// Times end in 2106, when 32 bits do; the image is from the latest time.
func TestTimes(t *testing.T) {
	far := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	tree := fstest.MapFS{"a": {ModTime: far, Mode: 0o644}, "b": {ModTime: modified, Mode: 0o644}}
	o := osmith.TreeOptions{Time: far}
	lines := readBack(t, write(t, tree, Options{TreeOptions: o}))
	require.Contains(t, lines[0], " 4294967295 ")
	require.Contains(t, lines[1], " 1700000000 ")
	for _, line := range readBack(t, write(t, tree, Options{})) {
		require.Contains(t, line, " 0 0:0 ")
	}
}

// The error of closing a file is not lost.
func TestClose(t *testing.T) {
	for _, size := range []int{10, 10_000} {
		tree := closing{fstest.MapFS{"a": regular(noise(1, size)), "b": regular(noise(1, size))}}
		_, err := Write(t.Context(), &memory{}, tree, Options{BlockSize: 4096})
		require.ErrorIs(t, err, errClose)
	}
}

var errClose = errors.New("close")

type closing struct{ fstest.MapFS }

func (c closing) Open(name string) (fs.File, error) {
	f, err := c.MapFS.Open(name)
	if name == "b" {
		return &unclosed{f}, err
	}
	return f, err
}

type unclosed struct{ fs.File }

func (*unclosed) Close() error { return errClose }
