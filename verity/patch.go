package verity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
)

// PatchOptions are the choices of Patch; the zero value is usable.
type PatchOptions struct {
	// Resume looks at every block of dst before anything else and leaves those alone
	// that are right already, whatever the delta says. It is how a Patch that was
	// interrupted is taken up again; dst must implement io.ReaderAt.
	Resume bool

	// MaxRequest is the most that is read from fetch at once, in bytes; it counts as
	// one block at least. 0: 1 MiB.
	MaxRequest int

	// MaxGap joins ranges that must be fetched if no more than so many bytes lie
	// between them, which are then fetched for nothing. With a network behind it, a
	// request costs as much as some bytes: 64 KiB is a good value for HTTP. 0: none.
	MaxGap int

	// Progress, if not nil, is told how many bytes of the new image are done, from
	// one goroutine at a time.
	Progress func(done, total int64)
}

// PatchResult says what Patch did, in blocks of the new image unless said otherwise.
type PatchResult struct {
	Kept    int64 // right in dst already
	Copied  int64 // from the old image
	Zeroed  int64
	Fetched int64

	// Damaged counts blocks that the old image or dst should have had by the delta,
	// but could not be read or had another digest. They are among the fetched ones.
	Damaged int64

	Requests       int64 // reads of fetch
	RequestedBytes int64 // bytes of these reads, gaps included
}

// Patch builds the new image in dst: it copies the blocks that the old image has, and
// reads the others from fetch, which has the bytes of the new image at their offsets,
// such as a file, or HTTP ranges behind a small adapter. Only what is needed is read
// from it, in ascending requests of whole blocks, several at a time.
//
// No block is written before its digest was found in the new tree, and no hash block
// of that tree is used before it was traced to the root hash, which must be given in
// to.RootHash. So neither the old image nor fetch nor the delta needs to be trusted. When
// Patch returns without error, every block of the image was verified in this run, as it
// was written or, if it was kept, as it was read.
//
// A block of the old image that is damaged or cannot be read is fetched instead, so is
// a kept block of dst that is not what the target tree said; both are counted. A block
// of fetch with a wrong digest is a *BlockError. After an error dst has some of the
// blocks; PatchOptions.Resume goes on from there. If dst has a method Sync() error, it
// is called at the end.
//
// Blocks that the delta calls Kept are read from dst, which then must implement
// io.ReaderAt. The old image must not be dst itself. old may be nil if the delta takes
// nothing from it, fetch if nothing has to be fetched. Patch writes the image only, not
// its tree.
//
// Memory: 1 MiB and four requests for each core, of which 32 are used at most, and some
// 100 bytes for each range to fetch.
func Patch(ctx context.Context, dst io.WriterAt, old osmith.Source, fetch io.ReaderAt, to Tree, d *Delta, o PatchOptions) (*PatchResult, error) {
	if to.RootHash == nil {
		return nil, errors.New("verity: patch: the root hash of the new tree is not given")
	}
	next, err := to.open("new tree")
	if err != nil {
		return nil, err
	}
	if err := d.check(next); err != nil {
		return nil, err
	}
	p := &patcher{next: next, dst: dst, old: old, fetch: fetch, delta: d, PatchOptions: o, result: new(PatchResult)}
	if err := p.checkSources(); err != nil {
		return nil, err
	}
	if err := p.local(ctx); err != nil {
		return nil, err
	}
	if err := p.fetchMissing(ctx); err != nil {
		return nil, err
	}
	if s, ok := dst.(interface{ Sync() error }); ok {
		if err := s.Sync(); err != nil {
			return nil, fmt.Errorf("verity: patch: sync: %w", err)
		}
	}
	return p.result, nil
}

// check checks that a delta covers all blocks of an image.
func (d *Delta) check(to *openTree) error {
	if d == nil {
		return errors.New("verity: patch: there is no delta")
	}
	if d.BlockSize != to.DataBlockSize || d.Blocks != to.dataBlocks {
		return fmt.Errorf("verity: patch: the delta is for %d blocks of %d bytes, the new tree for %d of %d",
			d.Blocks, d.BlockSize, to.dataBlocks, to.DataBlockSize)
	}
	var at int64
	for i, s := range d.Spans {
		switch {
		case s.Origin >= origins || s.Count < 1 || s.Count > d.Blocks-at || s.First != at:
			return fmt.Errorf("verity: patch: span %d of the delta, %v: want a known origin and the blocks from %d on", i, s, at)
		case s.fromOld() && (s.From < 0 || s.From > to.maxBlocks()-s.Count):
			return fmt.Errorf("verity: patch: span %d of the delta, %v: no image has that block", i, s)
		}
		at += s.Count
	}
	if at != d.Blocks {
		return fmt.Errorf("verity: patch: the delta ends at block %d of %d", at, d.Blocks)
	}
	return nil
}

func (s Span) fromOld() bool { return s.Origin == Same || s.Origin == Moved }

// maxBlocks returns how many data blocks an image can have.
func (l *layout) maxBlocks() int64 { return int64(1<<63-1) / int64(l.DataBlockSize) }

type patcher struct {
	next  *openTree
	dst   io.WriterAt
	have  io.ReaderAt // dst, if it is to be read
	old   osmith.Source
	fetch io.ReaderAt
	delta *Delta
	PatchOptions

	result  *PatchResult
	missing []run // to fetch, in order
	done    int64 // blocks
}

// A run is some blocks of the new image.
type run struct{ first, count int64 }

// checkSources checks that there is something to read for every span.
func (p *patcher) checkSources() error {
	var need, kept, fetched int64
	for _, s := range p.delta.Spans {
		switch {
		case s.fromOld():
			need = max(need, s.From+s.Count)
		case s.Origin == Kept:
			kept += s.Count
		case s.Origin == Fetch:
			fetched += s.Count
		}
	}
	if need > 0 {
		if p.old == nil {
			return errors.New("verity: patch: the delta takes blocks from an old image, but there is none")
		}
		if have := p.old.Size(); have < need*p.blockSize() {
			return &ShortError{Device: "old data", Need: need * p.blockSize(), Have: have}
		}
	}
	if kept > 0 || p.Resume {
		var ok bool
		if p.have, ok = p.dst.(io.ReaderAt); !ok {
			return errors.New("verity: patch: blocks of dst are to be kept, but it cannot be read")
		}
	}
	if fetched > 0 && !p.Resume && p.fetch == nil {
		return p.noFetch(fetched)
	}
	return nil
}

func (p *patcher) noFetch(blocks int64) error {
	return fmt.Errorf("verity: patch: %d blocks must be fetched, but there is nothing to fetch from", blocks)
}

func (p *patcher) blockSize() int64 { return int64(p.next.DataBlockSize) }

// progress counts blocks that are done.
func (p *patcher) progress(blocks int64) {
	p.done += blocks
	if p.Progress != nil && blocks > 0 {
		p.Progress(p.done*p.blockSize(), p.next.dataSize())
	}
}

// miss adds a block to those that must be fetched.
func (p *patcher) miss(block int64) {
	if n := len(p.missing); n > 0 && p.missing[n-1].first+p.missing[n-1].count == block {
		p.missing[n-1].count++
		return
	}
	p.missing = append(p.missing, run{block, 1})
}

// write writes blocks of the new image.
func (p *patcher) write(first int64, b []byte) error {
	off := first * p.blockSize()
	if n, err := p.dst.WriteAt(b, off); err != nil || n != len(b) {
		if err == nil {
			err = io.ErrShortWrite
		}
		return fmt.Errorf("verity: patch: write %d bytes at %#x: %w", len(b), off, err)
	}
	return nil
}

// A checker compares blocks with the new tree. Each goroutine has its own.
type checker struct {
	*digestReader
	slots []byte
}

func (p *patcher) checker() *checker { return &checker{digestReader: p.next.reader()} }

// check calls found for each block of a run, with its number in the run and the digest
// that it must have and the one that it has.
func (c *checker) check(first int64, content []byte, found func(i int, want, got []byte) error) error {
	c.slots = c.hash.appendData(c.slots[:0], content)
	for i := range len(c.slots) / c.layout.slot {
		want, err := c.want(first + int64(i))
		if err != nil {
			return err
		}
		if err := found(i, want, c.digest(c.slots, i)); err != nil {
			return err
		}
	}
	return nil
}

// spansFrom returns the spans of a delta from the one with a block on.
func (d *Delta) spansFrom(block int64) []Span {
	i, _ := slices.BinarySearchFunc(d.Spans, block, func(s Span, block int64) int {
		switch {
		case s.First+s.Count <= block:
			return -1
		case s.First > block:
			return 1
		}
		return 0
	})
	return d.Spans[i:]
}
