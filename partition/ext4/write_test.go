package ext4_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/ext4"
)

var id = osmith.MustParseGUID("00112233-4455-6677-8899-aabbccddeeff")

func TestReadBack(t *testing.T) {
	for _, o := range []ext4.Options{{}, {Size: 64 << 20}, {Size: 300 << 20, UUID: id, Label: "var"}, {NoJournal: true}} {
		name, size := image(t, kinds(), o)
		readBack(t, name, size, kinds())
	}
	name, size := image(t, crowded(), ext4.Options{})
	readBack(t, name, size, crowded())
}

// The bytes are the same for the same tree, whatever else the machine has.
func TestGolden(t *testing.T) {
	name, size := image(t, kinds(), ext4.Options{TreeOptions: osmith.TreeOptions{Time: modified}, Size: 40 << 20, UUID: id, Label: "golden"})
	require.EqualValues(t, 40<<20, size)
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	sum := sha256.Sum256(b)
	require.Equal(t, "18e5a78b347c2b33ab456db26dd949404f5cf8e3c9a4c5a2bf2d1d8eb49d14fb", hex.EncodeToString(sum[:]))
}

// The least size is enough, and one block less is not.
func TestMinSize(t *testing.T) {
	for name, tree := range map[string]fs.FS{"nothing": fstest.MapFS{}, "kinds": kinds(), "crowded": crowded(), "a group and more": fstest.MapFS{"f": {Data: content(140 << 20)}}} {
		for _, o := range []ext4.Options{{}, {NoJournal: true}, {BytesPerInode: 4096}} {
			least, err := ext4.MinSize(t.Context(), tree, o)
			require.NoError(t, err, name)
			o.Size = least
			_, size := image(t, tree, o)
			require.Equal(t, least, size, name)
			o.Size = least - 1
			var e *ext4.SizeError
			w := &counted{}
			_, err = ext4.Write(t.Context(), w, tree, o)
			require.ErrorAs(t, err, &e, name)
			require.Equal(t, ext4.SizeError{Size: least - 1, Want: least}, *e)
			require.Zero(t, w.writes, "nothing is written")
		}
	}
}

// The least size fits, and none that is a little or much less does, around the sizes at which a
// group, a copy of the superblock or a larger journal begins.
func TestMinSizeOfGroups(t *testing.T) {
	for _, mib := range []int64{110, 123, 124, 125, 126, 127, 128, 129, 240, 250, 251, 252, 253, 254, 255, 256, 380, 1000, 1005, 1015} {
		tree := sparse{fstest.MapFS{"large": {}}, mib<<20 - 4096}
		size, err := ext4.MinSize(t.Context(), tree, ext4.Options{})
		require.NoError(t, err)
		var e *ext4.SizeError
		for _, less := range []int64{4096, 8192, 1 << 20, 4 << 20, 16 << 20, 40 << 20} {
			_, err := ext4.Write(t.Context(), &counted{}, tree, ext4.Options{Size: size - less})
			require.ErrorAs(t, err, &e, "%d MiB: %d bytes less", mib, less)
			require.Equal(t, size, e.Want)
		}
		w := &counted{fail: 1}
		_, err = ext4.Write(t.Context(), w, tree, ext4.Options{Size: size})
		require.ErrorIs(t, err, errFull, "it fits, and the first write fails")
	}
}

// start keeps the beginning of what is written.
type start struct{ b [4096]byte }

func (s *start) WriteAt(b []byte, off int64) (int, error) {
	if off < int64(len(s.b)) {
		copy(s.b[off:], b)
	}
	return len(b), nil
}

// The largest file system has as many inodes as 32 bits can count, in whole blocks for each group.
func TestLargest(t *testing.T) {
	var s start
	size, err := ext4.Write(t.Context(), &s, fstest.MapFS{}, ext4.Options{Size: ext4.MaxSize, BytesPerInode: 4096})
	require.NoError(t, err)
	require.Equal(t, int64(ext4.MaxSize), size)
	require.Equal(t, uint32((1<<15-16)*(1<<17)), binary.LittleEndian.Uint32(s.b[1024:]))
	require.EqualValues(t, 1, binary.LittleEndian.Uint32(s.b[1024+0x150:]), "the upper half of the number of blocks")
}

type counted struct {
	writes int
	fail   int // the write that fails, from 1
	bytes  int64
	first  int // the write of the first block, from 1; 0: none was
}

var errFull = errors.New("no space left")

func (c *counted) WriteAt(b []byte, off int64) (int, error) {
	if c.writes++; c.writes == c.fail {
		return 0, errFull
	}
	c.bytes += int64(len(b))
	if off == 0 {
		c.first = c.writes
	}
	return len(b), nil
}

// Blocks of zeros are not written, wherever they are in a file.
func TestHoles(t *testing.T) {
	data := make([]byte, 8<<20)
	for _, at := range []int{0, 5 << 12, 6 << 12, 1<<20 - 1, 1 << 20, 7 << 20} {
		data[at] = 1
	}
	var with, without counted
	_, err := ext4.Write(t.Context(), &without, fstest.MapFS{"f": {Data: make([]byte, 8<<20)}}, ext4.Options{})
	require.NoError(t, err)
	_, err = ext4.Write(t.Context(), &with, fstest.MapFS{"f": {Data: data}}, ext4.Options{})
	require.NoError(t, err)
	require.Equal(t, int64(6*4096), with.bytes-without.bytes)
	require.Equal(t, 5, with.writes-without.writes)
}

// Every failed write is an error.
func TestFailedWrite(t *testing.T) {
	var all counted
	_, err := ext4.Write(t.Context(), &all, kinds(), ext4.Options{Size: 300 << 20})
	require.NoError(t, err)
	require.Greater(t, all.writes, 20)
	require.Equal(t, all.writes, all.first, "the superblock is written last")
	for n := range all.writes {
		_, err := ext4.Write(t.Context(), &counted{fail: n + 1}, kinds(), ext4.Options{Size: 300 << 20})
		require.ErrorIs(t, err, errFull, n)
	}
}

// altered has one file with more or less bytes than its directory says.
type altered struct {
	fstest.MapFS
	data []byte
}

func (a altered) Open(name string) (fs.File, error) {
	if name == "f" {
		return fstest.MapFS{"f": {Data: a.data}}.Open("f")
	}
	return a.MapFS.Open(name)
}

// broken has a file that cannot be read to its end.
type broken struct{ fstest.MapFS }

type brokenFile struct{ fs.File }

var errMedium = errors.New("medium error")

func (brokenFile) Read([]byte) (int, error) { return 0, errMedium }

func (b broken) Open(name string) (fs.File, error) {
	f, err := b.MapFS.Open(name)
	if name == "f" && err == nil {
		f = brokenFile{f}
	}
	return f, err
}

// replaced has a directory "d" that is a file when it is looked at.
type replaced struct{ fstest.MapFS }

type replacedEntry struct{ fs.DirEntry }

func (replacedEntry) Info() (fs.FileInfo, error) { return fstest.MapFS{"d": {}}.Stat("d") }

func (r replaced) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := r.MapFS.ReadDir(name)
	for i, e := range list {
		if e.Name() == "d" {
			list[i] = replacedEntry{e}
		}
	}
	return list, err
}

// noLinks does not tell targets of symbolic links.
type noLinks struct{ fs.FS }

func TestRefusals(t *testing.T) {
	one := fstest.MapFS{"f": {Mode: 0o644, Data: content(10000)}}
	for want, try := range map[string]struct {
		tree fs.FS
		o    ext4.Options
	}{
		`ext4: the label "a label of 18 bytes" has 19 bytes: want at most 16`:     {one, ext4.Options{Label: "a label of 18 bytes"}},
		"ext4: size -1: want 0 to 17592186044416 bytes":                           {one, ext4.Options{Size: -1}},
		"ext4: 4095 bytes for each inode: want 0, or 4096 to 67108864":            {one, ext4.Options{BytesPerInode: 4095}},
		"ext4: /f: the file changed: 9999 bytes, want 10000 as in its directory":  {altered{one, content(9999)}, ext4.Options{}},
		"ext4: /f: the file changed: 10001 bytes, want 10000 as in its directory": {altered{one, content(10001)}, ext4.Options{}},
		"ext4: /f: the file changed: 1 bytes, want 0 as in its directory":         {altered{fstest.MapFS{"f": {}}, content(1)}, ext4.Options{}},
		"ext4: /n: device number 4096:0: want at most 4095:1048575":               {fstest.MapFS{"n": {Mode: fs.ModeDevice, Sys: &osmith.Node{Major: 4096}}}, ext4.Options{}},
		"ext4: /d/a: the tree changed: /d is not a directory any more":            {replaced{fstest.MapFS{"d/a": {}}}, ext4.Options{}},
		"ext4: /f: medium error": {broken{one}, ext4.Options{}},
		"ext4: /" + strings.Repeat("n", 256) + ": a name of 256 bytes: want at most 255":                                          {fstest.MapFS{strings.Repeat("n", 256): {}}, ext4.Options{}},
		"ext4: /l: a symbolic link of 4096 bytes: want 1 to 4095":                                                                 {fstest.MapFS{"l": {Mode: fs.ModeSymlink, Data: content(4096)}}, ext4.Options{}},
		"ext4: /x: not a file type that Linux has":                                                                                {fstest.MapFS{"x": {Mode: fs.ModeIrregular}}, ext4.Options{}},
		"ext4: /lost+found: want a directory, in which a repair puts what it finds: rename the file":                              {fstest.MapFS{"lost+found": {}}, ext4.Options{}},
		"ext4: the files need 53248 bytes with the metadata, and the size is 16384: make the partition larger or leave files out": {one, ext4.Options{Size: 16384}},
	} {
		_, err := ext4.Write(t.Context(), &counted{}, try.tree, try.o)
		require.EqualError(t, err, want, want)
	}
	_, err := ext4.Write(t.Context(), &counted{}, noLinks{fstest.MapFS{"l": {Mode: fs.ModeSymlink, Data: []byte("x")}}}, ext4.Options{})
	require.ErrorIs(t, err, osmith.ErrLink)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ext4.Write(ctx, &counted{}, one, ext4.Options{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = ext4.MinSize(ctx, one, ext4.Options{})
	require.ErrorIs(t, err, context.Canceled)
	ctx, cancel = context.WithCancel(t.Context())
	_, err = ext4.Write(ctx, cancels{cancel}, kinds(), ext4.Options{})
	require.ErrorIs(t, err, context.Canceled, "a cancelled job ends at the next block")
}

type cancels struct{ cancel func() }

func (c cancels) WriteAt(b []byte, _ int64) (int, error) {
	c.cancel()
	return len(b), nil
}

// Later times than the options allow become that time; those beyond 2038 are kept.
func TestTimes(t *testing.T) {
	late := time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC)
	name, size := image(t, fstest.MapFS{"f": {ModTime: late}}, ext4.Options{TreeOptions: osmith.TreeOptions{Time: late.Add(time.Hour)}})
	require.Positive(t, size)
	require.Contains(t, debugfs(t, name, "stat /f"), "Sat Jan  1 00:00:00 2400")
	late = time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC)
	name, _ = image(t, fstest.MapFS{"f": {ModTime: late}}, ext4.Options{TreeOptions: osmith.TreeOptions{Time: late}})
	require.Contains(t, debugfs(t, name, "stat /f"), "Thu May 10 22:38:55 2446")
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte("d1f2l3d4f5"), int64(0))
	f.Add([]byte("ddddffffff"), int64(20<<20))
	f.Fuzz(func(t *testing.T, plan []byte, size int64) {
		tree, dir := fstest.MapFS{}, ""
		for i, c := range plan[:min(len(plan), 300)] {
			name := dir + strings.Repeat(string(rune('a'+c%26)), 1+int(c)/4) + string(rune('A'+i%26)) + string(rune('A'+i/26))
			switch c % 5 {
			case 0:
				tree[name] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
				if len(dir) < 500 {
					dir = name + "/"
				}
			case 1:
				dir = ""
			case 2:
				tree[name] = &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: content(1 + int(c))}
			default:
				tree[name] = &fstest.MapFile{Mode: 0o644, Data: content(int(c) * i)}
			}
		}
		var e *ext4.SizeError
		size %= 64 << 20
		if _, err := ext4.Write(t.Context(), &counted{}, tree, ext4.Options{Size: size}); err != nil {
			if !errors.As(err, &e) && size >= 0 {
				t.Fatal(err)
			}
			return
		}
		name, got := image(t, tree, ext4.Options{Size: size})
		if size > 0 && got > size {
			t.Fatalf("size %d of at most %d", got, size)
		}
		readBack(t, name, got, tree)
	})
}

var _ io.WriterAt = (*counted)(nil)
