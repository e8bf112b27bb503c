package upgrade

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// pinnedChunk is how much of a source goes by one digest.
const pinnedChunk = 64 << 10

// pinned is a source of which the first reading counts: what is read of it again must be the same, or it is a [*ChangedError]. What was judged is what is written, and
// nothing has to be read in full to know that.
type pinned struct {
	source osmith.Source
	what   string
	size   int64

	mu   sync.Mutex
	sums map[int64][sha256.Size]byte // of the chunks that were read, by their numbers
}

// pin pins a source. None stays none.
func pin(src osmith.Source, what string) osmith.Source {
	if src == nil {
		return nil
	}
	return &pinned{source: src, what: what, size: src.Size(), sums: map[int64][sha256.Size]byte{}}
}

// Size implements [osmith.Source].
func (p *pinned) Size() int64 { return p.size }

// ReadAt reads whole chunks.
func (p *pinned) ReadAt(b []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, fmt.Errorf("%s: read at %d", p.what, off)
	case off >= p.size: // whatever the source has there by now
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.size-off)
	start, end := off/pinnedChunk*pinnedChunk, min((off+n+pinnedChunk-1)/pinnedChunk*pinnedChunk, p.size)
	chunks := b[:n]
	if start != off || end != off+n {
		chunks = make([]byte, end-start)
	}
	if err := sparse.ReadFull(p.source, chunks, start); err != nil {
		return 0, err
	}
	i := start / pinnedChunk
	for chunk := range slices.Chunk(chunks, pinnedChunk) {
		if !p.compare(i, sha256.Sum256(chunk)) {
			return 0, &ChangedError{p.what}
		}
		i++
	}
	if start != off || end != off+n {
		copy(b[:n], chunks[off-start:])
	}
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (p *pinned) compare(i int64, sum [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, read := p.sums[i]
	if !read {
		p.sums[i] = sum
	}
	return !read || first == sum
}

// pinRelease is a release whose files for the ESP are pinned. Of the rest the root hash is the pin.
func pinRelease(r *release.Release) release.Release {
	own := *r
	own.UKI = pin(r.UKI, "the release")
	own.Addons = slices.Clone(r.Addons)
	for i := range own.Addons {
		own.Addons[i].Content = pin(own.Addons[i].Content, "the release")
	}
	own.Extensions = slices.Clone(r.Extensions)
	for i := range own.Extensions {
		own.Extensions[i].Content = pin(own.Extensions[i].Content, "the release")
	}
	return own
}

// scanBlock is how much of a source is in memory of each of the blocks that are on their way.
const scanBlock = 1 << 20

// scan writes a source to several writers at once, and reads the next block meanwhile.
func scan(src osmith.Source, to ...io.Writer) error {
	type block struct {
		b   []byte
		err error
	}
	size := src.Size()
	n := min(scanBlock, size)
	full, free := make(chan block, 1), make(chan []byte, 2)
	free <- make([]byte, n)
	free <- make([]byte, n)
	go func() {
		defer close(full)
		for off := int64(0); off < size; off += n {
			b := (<-free)[:min(n, size-off)]
			err := sparse.ReadFull(src, b, off)
			full <- block{b, err}
			if err != nil {
				return
			}
		}
	}()
	var failed error
	for next := range full {
		if failed == nil {
			failed = next.err
		}
		if failed == nil {
			failed = writeAll(next.b, to)
		}
		free <- next.b[:n]
	}
	return failed
}

// writeAll gives the same bytes to all writers at the same time.
func writeAll(b []byte, to []io.Writer) error {
	errs := make([]error, len(to))
	var group sync.WaitGroup
	for i, w := range to {
		group.Go(func() { _, errs[i] = w.Write(b) })
	}
	group.Wait()
	return errors.Join(errs...)
}
