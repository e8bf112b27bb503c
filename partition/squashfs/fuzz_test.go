package squashfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/osmith-dev/osmith"
)

// shapes are trees: what bytes mean is in treeOf.
var shapes = [][]byte{
	{},
	{0, 0, 0, 3, 7, 1, 1, 200, 9, 2, 2, 255, 255},
	{1, 3, 4, 5, 6, 4, 5, 6, 5, 1, 2, 6, 2, 3, 7, 1, 1},
	bytes.Repeat([]byte{2, 8, 1, 64}, 90),
	bytes.Repeat([]byte{0, 16, 255, 3, 32, 8, 9}, 100),
}

// treeOf makes a tree of any bytes, with options. Four bytes are a file: its kind and directory,
// its name, its size, its content.
func treeOf(b []byte) (fstest.MapFS, Options) {
	o := Options{BlockSize: 4096, Workers: 2, TreeOptions: osmith.TreeOptions{Time: latest}}
	if len(b) > 0 {
		o.Compression = Compression(b[0] % 3)
		b = b[1:]
	}
	tree := fstest.MapFS{}
	for i := 0; len(b) >= 4; i, b = i+1, b[4:] {
		dir := [...]string{".", "d", "d/e", strings.Repeat("x/", 20)}[b[0]>>6]
		name := path.Join(dir, fmt.Sprintf("f%s%d", strings.Repeat("n", int(b[1])%200), b[1]))
		size, seed := int(b[2])*97, uint64(b[3]>>2)
		switch b[0] & 15 {
		case 0:
			tree[name] = &fstest.MapFile{Data: []byte(fmt.Sprint("to ", i)), Mode: fs.ModeSymlink | 0o777, ModTime: modified}
		case 1:
			tree[name] = special(fs.ModeDevice|fs.ModeCharDevice|0o600, uint32(b[2]), uint32(b[3]))
		case 2:
			tree[name] = special(fs.ModeNamedPipe|0o640, 0, 0)
		case 3:
			tree[name] = special(fs.ModeSocket|0o640, 0, 0)
		case 4:
			tree[name] = &fstest.MapFile{Mode: fs.ModeDir | 0o700, ModTime: modified}
		case 5: // of other owners
			tree[name] = &fstest.MapFile{Data: text(seed, size), Mode: 0o644, ModTime: modified, Sys: &osmith.Node{UID: uint32(b[3]), GID: uint32(i)}}
		case 6:
			tree[name] = regular(make([]byte, size))
		case 7:
			tree[name] = regular(append(noise(seed, 4096), make([]byte, size)...))
		case 8: // many
			for k := range int(b[3]) {
				tree[fmt.Sprintf("%s-%d", name, k)] = regular(text(uint64(k), k%5))
			}
		case 9, 10, 11:
			tree[name] = regular(noise(seed, size))
		default:
			tree[name] = regular(text(seed, size))
		}
	}
	return tree, o
}

// Whatever the tree, go-diskfs reads what was written.
func FuzzWrite(f *testing.F) {
	for _, b := range shapes {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1000 {
			b = b[:1000]
		}
		tree, o := treeOf(b)
		requireSame(t, describePlain(t, tree, o.TreeOptions), readBack(t, write(t, tree, o)))
	})
}
