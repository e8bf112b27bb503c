package pinned

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// Chunk is how much of a source goes by one digest, in bytes.
const Chunk = 64 << 10

// A Reader is a source of which the first reading counts: what is read of it again must be the
// same.
type Reader struct {
	// Changed makes the error for n bytes at off that are not what they were. It must be set.
	Changed func(off, n int64) error

	// Keep is how many bytes of the chunks that are read one at a time are kept in memory, and not
	// read again: headers and texts, which several readers look at.
	Keep int64

	// Elsewhere, if not nil, is asked before that: true says that the bytes can come from another
	// place now, and they are read once more.
	Elsewhere func() bool

	source osmith.Source
	size   int64

	mu   sync.Mutex
	sums map[int64][sha256.Size]byte // of the chunks that were read, by their numbers
	all  bool                        // the sums are those of all chunks
	kept map[int64][]byte            // chunks, by their numbers
}

// New pins a source.
func New(src osmith.Source, changed func(off, n int64) error) *Reader {
	return &Reader{Changed: changed, source: src, size: src.Size(), sums: map[int64][sha256.Size]byte{}}
}

// Size implements [osmith.Source].
func (p *Reader) Size() int64 { return p.size }

// ReadAt reads whole chunks.
func (p *Reader) ReadAt(b []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, fmt.Errorf("read at %d", off)
	case off >= p.size: // whatever the source has there by now
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.size-off)
	if chunk := p.chunk(off / Chunk); off%Chunk+n <= int64(len(chunk)) {
		return p.end(b, copy(b[:n], chunk[off%Chunk:]))
	}
	start, end := off/Chunk*Chunk, min((off+n+Chunk-1)/Chunk*Chunk, p.size)
	chunks := b[:n]
	if start != off || end != off+n {
		chunks = make([]byte, end-start)
	}
	if err := p.read(chunks, start); err != nil {
		return 0, err
	}
	if start != off || end != off+n {
		copy(b[:n], chunks[off-start:])
	}
	if end-start <= Chunk {
		p.keep(start/Chunk, chunks)
	}
	return p.end(b, int(n))
}

// end says that there is no more if fewer bytes were read than b has room for.
func (p *Reader) end(b []byte, n int) (int, error) {
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// chunk is one that was kept; nil: it was not.
func (p *Reader) chunk(i int64) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept[i]
}

func (p *Reader) keep(i int64, chunk []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Keep < int64(len(chunk)) {
		return
	}
	if p.kept == nil {
		p.kept = map[int64][]byte{}
	}
	p.kept[i] = bytes.Clone(chunk)
	p.Keep -= int64(len(chunk))
}

// read fills b with chunks that are what they were.
func (p *Reader) read(b []byte, start int64) error {
	for {
		if err := sparse.ReadFull(p.source, b, start); err != nil {
			return err
		}
		i, off := start/Chunk, start
		changed := slices.IndexFunc(slices.Collect(slices.Chunk(b, Chunk)), func(chunk []byte) bool {
			same := p.compare(i, sha256.Sum256(chunk))
			if same {
				i, off = i+1, off+int64(len(chunk))
			}
			return !same
		})
		if changed < 0 {
			return nil
		}
		if p.Elsewhere == nil || !p.Elsewhere() {
			return p.Changed(off, min(Chunk, p.size-off))
		}
	}
}

func (p *Reader) compare(i int64, sum [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, read := p.sums[i]
	if !read && !p.all {
		p.sums[i] = sum
		return true
	}
	return read && first == sum
}

// Sums are the digests of all of a source. The zero value is that of no source.
type Sums struct {
	size int64
	sums map[int64][sha256.Size]byte
}

// Size is that of the source, in bytes.
func (s Sums) Size() int64 { return s.size }

// Sums are those of a source that was read to its end.
func (p *Reader) Sums() (Sums, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := (p.size + Chunk - 1) / Chunk; int64(len(p.sums)) != want {
		return Sums{}, fmt.Errorf("%d of %d chunks were read", len(p.sums), want)
	}
	return Sums{p.size, maps.Clone(p.sums)}, nil
}

// Of is another source, or the same one again, of which these bytes are expected from the first
// reading on.
func (s Sums) Of(src osmith.Source, changed func(off, n int64) error) *Reader {
	return &Reader{Changed: changed, source: src, size: src.Size(), sums: s.sums, all: true}
}
