package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/erofs/go-erofs"
)

// A tree is the files of one build, in the order of their paths.
type tree []file

type file struct {
	path    string
	library bool
	content []piece
}

// A piece is some bytes that cannot be compressed.
type piece struct {
	seed uint64
	skip int64 // bytes of the seed's stream that come before it
	size int64
}

func (f file) size() (n int64) {
	for _, p := range f.content {
		n += p.size
	}
	return n
}

func (t tree) size() (n int64) {
	for _, f := range t {
		n += f.size()
	}
	return n
}

// kinds are the directories of the model, with the number of their files and the
// median size; sizes are distributed log-normally.
var kinds = []struct {
	dir     string
	name    string
	files   int
	median  float64
	sigma   float64
	library bool
}{
	{"/usr/bin", "tool%d", 900, 28 << 10, 1.2, false},
	{"/usr/lib/firmware/vendor%d", "blob%d.bin", 150, 40 << 10, 1.5, false},
	{"/usr/lib/modules/6.18.0/kernel/drivers/d%d", "m%d.ko", 1200, 22 << 10, 0.9, false},
	{"/usr/lib/x86_64-linux-gnu", "lib%d.so.1", 500, 80 << 10, 1.3, true},
	{"/usr/share/d%d", "file%d", 4250, 2600, 1.5, false},
}

// firstBuild makes some 7,000 files out of a seed.
func firstBuild(seed uint64) tree {
	r := rand.New(rand.NewPCG(seed, 1))
	var t tree
	for _, k := range kinds {
		for n := range k.files {
			dir := k.dir
			if dir[len(dir)-2:] == "%d" {
				dir = fmt.Sprintf(dir, n/25)
			}
			size := min(int64(k.median*math.Exp(k.sigma*r.NormFloat64())), 12<<20) + 1
			t = append(t, file{
				path:    path.Join(dir, fmt.Sprintf(k.name, n)),
				library: k.library,
				content: []piece{{seed: r.Uint64(), size: size}},
			})
		}
	}
	return t
}

const (
	patchedLibraries = 40
	grownPercent     = 2
	removedPermille  = 5
	large            = 4096 // files that grow are larger than this
)

// nextBuild is what some weeks of fixes make of a build. A patched library is as
// before up to a place, has up to a quarter of its size new there, and then goes on as
// before, but 16 to 4096 bytes later; a grown file has up to 8 KiB more at its end.
func (t tree) nextBuild(seed uint64) tree {
	r := rand.New(rand.NewPCG(seed, 2))
	var libraries, others []int
	for i, f := range t {
		switch {
		case f.library:
			libraries = append(libraries, i)
		case f.size() > large:
			others = append(others, i)
		}
	}
	r.Shuffle(len(libraries), func(i, j int) { libraries[i], libraries[j] = libraries[j], libraries[i] })
	r.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	changed := map[int]file{}
	for _, i := range libraries[:patchedLibraries] {
		changed[i] = t[i].patched(r)
	}
	for _, i := range others[:len(others)*grownPercent/100] {
		f := t[i]
		f.content = append(f.content[:len(f.content):len(f.content)], piece{seed: r.Uint64(), size: 1 + r.Int64N(8<<10)})
		changed[i] = f
	}
	removed := map[int]bool{}
	for len(removed) < len(t)*removedPermille/1000 {
		removed[r.IntN(len(t))] = true
	}
	var next tree
	for i, f := range t {
		if c, is := changed[i]; is {
			f = c
		}
		if !removed[i] {
			next = append(next, f)
		}
	}
	return next
}

// patched returns a library after a fix.
func (f file) patched(r *rand.Rand) file {
	size := f.size()
	at := r.Int64N(size) / 16 * 16
	fresh := r.Int64N(size/4+1)/16*16 + 16
	later := (1 + r.Int64N(256)) * 16
	content := cut(f.content, 0, min(at, size))
	content = append(content, piece{seed: r.Uint64(), size: fresh + later})
	if at+fresh < size {
		content = append(content, cut(f.content, at+fresh, size)...)
	}
	f.content = content
	return f
}

// cut returns the pieces between two offsets.
func cut(pieces []piece, from, to int64) []piece {
	var out []piece
	for _, p := range pieces {
		a, b := max(from, 0), min(to, p.size)
		if a < b {
			out = append(out, piece{seed: p.seed, skip: p.skip + a, size: b - a})
		}
		from, to = from-p.size, to-p.size
	}
	return out
}

func (p piece) writeTo(w io.Writer) error {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], p.seed)
	stream := rand.NewChaCha8(key)
	if _, err := io.CopyN(io.Discard, stream, p.skip); err != nil {
		return err
	}
	_, err := io.CopyN(w, stream, p.size)
	return err
}

// writeFiles writes the files below a directory.
func (t tree) writeFiles(dir string) error {
	for _, f := range t {
		name := filepath.Join(dir, filepath.FromSlash(f.path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		out, err := os.Create(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.writeTo(out), out.Close()); err != nil {
			return err
		}
	}
	return nil
}

// writeImage writes the files as an EROFS image without compression. They are made as they are
// written, and never all in memory.
func (t tree) writeImage(w io.WriteSeeker) error {
	image := erofs.Create(w, erofs.WithBuildTime(0, 0))
	made := map[string]bool{"/": true}
	for _, f := range t {
		if err := makeDirs(image, made, path.Dir(f.path)); err != nil {
			return err
		}
		out, err := image.Create(f.path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.writeTo(out), out.Close(), image.Chtimes(f.path, epoch, epoch)); err != nil {
			return err
		}
	}
	return image.Close()
}

var epoch = time.Unix(0, 0)

func makeDirs(image *erofs.Writer, made map[string]bool, dir string) error {
	if made[dir] {
		return nil
	}
	made[dir] = true
	if err := makeDirs(image, made, path.Dir(dir)); err != nil {
		return err
	}
	return errors.Join(image.Mkdir(dir, 0o755), image.Chtimes(dir, epoch, epoch))
}

func (f file) writeTo(w io.Writer) error {
	for _, p := range f.content {
		if err := p.writeTo(w); err != nil {
			return err
		}
	}
	return nil
}
