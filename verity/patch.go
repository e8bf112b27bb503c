package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// PatchOptions are the choices of Patch; the zero value is usable.
type PatchOptions struct {
	// Resume checks every block of dst first and keeps those that are already right, also if the
	// delta has a different origin for them. Use it to continue an interrupted Patch; dst must
	// implement io.ReaderAt.
	Resume bool

	// MaxRequest is the most that is read from fetch at once, in bytes; smaller values than a block
	// count as one block. 0: 1 MiB.
	MaxRequest int

	// MaxGap joins ranges that must be fetched if no more than so many bytes lie between them,
	// which are then fetched although they are not needed. Over a network, a request costs as much
	// as some bytes: 64 KiB is a good value for HTTP. 0: none.
	MaxGap int

	// Progress, if not nil, is called with the bytes of the new image that are done, by one
	// goroutine at a time.
	Progress func(done, total int64)
}

// PatchResult says what Patch did, in blocks of the new image unless said otherwise.
type PatchResult struct {
	Kept    int64 // already right in dst
	Copied  int64 // from the old image
	Zeroed  int64
	Fetched int64

	// Damaged counts blocks that, according to the delta, the old image or dst should have, but
	// that could not be read or had a wrong digest. They are among the fetched ones.
	Damaged int64

	Requests       int64 // reads of fetch
	RequestedBytes int64 // bytes of these reads, gaps included
}

// Patch builds the new image in dst: it copies the blocks that the old image has, and reads the
// others from fetch, which has the bytes of the new image at their offsets, such as a file, or HTTP
// ranges with a small adapter. Only needed bytes are read from it, in ascending requests of whole
// blocks, several at a time.
//
// A block is written only after its digest was found in the new tree, and a hash block of that tree
// is used only after it was verified up to the root hash, which must be given in to.RootHash. So
// neither the old image nor fetch nor the delta needs to be trusted. When Patch returns without
// error, every block of the image was verified in this run, when it was written or, if it was kept,
// when it was read.
//
// A block of the old image that is damaged or cannot be read is fetched instead, and so is a kept
// block of dst that does not match the target tree; both are counted. A block of fetch with a wrong
// digest is a *BlockError. After an error dst has some of the blocks; continue with
// PatchOptions.Resume. If dst has a method Sync() error, it is called at the end.
//
// Blocks that the delta calls OriginKept are read from dst, which then must implement
// io.ReaderAt. The old image must not be dst itself. old may be nil if the delta takes
// nothing from it, fetch if nothing has to be fetched. Patch writes the image only, not
// its tree.
//
// Memory: 1 MiB and four requests for each core, of which 32 are used at most, and some
// 100 bytes for each range to fetch.
func Patch(ctx context.Context, dst io.WriterAt, old osmith.Source, fetch io.ReaderAt, to Tree, d *Delta, o PatchOptions) (result *PatchResult, err error) {
	defer prefix.Add("verity", &err)
	if dst == nil {
		return nil, errNone("patch: dst")
	}
	if to.RootHash == nil {
		return nil, errors.New("patch: the root hash of the new tree is not given")
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
			return nil, fmt.Errorf("patch: sync: %w", err)
		}
	}
	return p.result, nil
}

// check checks that a delta covers all blocks of an image.
func (d *Delta) check(to *openTree) error {
	if d == nil {
		return errors.New("patch: no delta was given")
	}
	if d.BlockSize != to.DataBlockSize || d.Blocks != to.dataBlocks() {
		return fmt.Errorf("patch: the delta is for %d blocks of %d bytes, the new tree for %d of %d",
			d.Blocks, d.BlockSize, to.dataBlocks(), to.DataBlockSize)
	}
	var at int64
	for i, s := range d.Spans {
		switch {
		case s.Origin >= origins || s.Count < 1 || s.Count > d.Blocks-at || s.First != at:
			return fmt.Errorf("patch: span %d of the delta, %v: want a known origin and the blocks from %d on", i, s, at)
		case s.fromOld() && (s.From < 0 || s.From > to.maxBlocks()-s.Count):
			return fmt.Errorf("patch: span %d of the delta, %v: no image contains that block", i, s)
		}
		at += s.Count
	}
	if at != d.Blocks {
		return fmt.Errorf("patch: the delta ends at block %d of %d", at, d.Blocks)
	}
	return nil
}

func (s Span) fromOld() bool { return s.Origin == OriginSame || s.Origin == OriginMoved }

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
		case s.Origin == OriginKept:
			kept += s.Count
		case s.Origin == OriginFetch:
			fetched += s.Count
		}
	}
	if need > 0 {
		if p.old == nil {
			return errors.New("patch: the delta takes blocks from an old image, but no old image was given")
		}
		if have := p.old.Size(); have < need*p.blockSize() {
			return &ShortError{Device: "old data", Want: need * p.blockSize(), Got: have}
		}
	}
	if kept > 0 || p.Resume {
		var ok bool
		if p.have, ok = p.dst.(io.ReaderAt); !ok {
			return errors.New("patch: the delta keeps blocks of dst, but dst cannot be read")
		}
	}
	if fetched > 0 && !p.Resume && p.fetch == nil {
		return p.noFetch(fetched)
	}
	return nil
}

func (p *patcher) noFetch(blocks int64) error {
	return fmt.Errorf("patch: %d blocks must be fetched, but no source was given to fetch them from", blocks)
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
		return fmt.Errorf("patch: write %d bytes at %#x: %w", len(b), off, err)
	}
	return nil
}

// A checker compares blocks with the new tree. Each goroutine has its own.
type checker struct {
	walker *hashtree.Walker
	slots  []byte
}

func (p *patcher) checker() *checker { return &checker{walker: p.next.walker()} }

// check calls found for each block of a run, with its number in the run and the digest
// that it must have and the one that it has.
func (c *checker) check(first int64, content []byte, found func(i int, want, got []byte) error) error {
	c.slots = c.walker.Hasher.AppendData(c.slots[:0], content)
	for i := range len(c.slots) / c.walker.Slot {
		want, err := c.walker.Want(0, first+int64(i))
		if err != nil {
			return err
		}
		if err := found(i, want, c.walker.Digest(c.slots, i)); err != nil {
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

// localSize is the bytes of the new image that one job makes from local blocks.
const localSize = 256 << 10

// An outcome is what became of a block in a job.
type outcome uint8

const (
	pending outcome = iota // must be fetched
	right                  // dst has it
	copied                 // in the buffer, verified
	zeroed                 // in the buffer, verified
	damaged                // must be fetched, though the delta promised otherwise
)

// blocks are those of one job.
type blocks struct {
	content  []byte
	outcomes []outcome
}

// local makes all blocks that need not be fetched, and collects the missing ones.
func (p *patcher) local(ctx context.Context) error {
	per := max(localSize/p.blockSize(), 1)
	jobs := (p.next.dataBlocks()-1)/per + 1
	newWorker := func() func(int64, *blocks) error {
		w := &localWorker{patcher: p, checker: p.checker(), readable: make([]bool, per)}
		return func(job int64, out *blocks) error {
			first := job * per
			n := min(per, p.next.dataBlocks()-first)
			if out.content == nil {
				out.content, out.outcomes = make([]byte, per*p.blockSize()), make([]outcome, per)
			}
			out.content, out.outcomes = out.content[:n*p.blockSize()], out.outcomes[:n]
			clear(out.outcomes)
			return w.make(first, out)
		}
	}
	return inOrder(ctx, jobs, newWorker, func(job int64, out *blocks) error {
		return p.finishLocal(job*per, out)
	})
}

// finishLocal writes the blocks of a job and counts.
func (p *patcher) finishLocal(first int64, b *blocks) error {
	size := int(p.blockSize())
	var done int64
	for i := 0; i < len(b.outcomes); {
		switch b.outcomes[i] {
		case copied, zeroed:
			end := i
			for end < len(b.outcomes) && (b.outcomes[end] == copied || b.outcomes[end] == zeroed) {
				if b.outcomes[end] == copied {
					p.result.Copied++
				} else {
					p.result.Zeroed++
				}
				end++
			}
			if err := p.write(first+int64(i), b.content[i*size:end*size]); err != nil {
				return err
			}
			done += int64(end - i)
			i = end
			continue
		case right:
			p.result.Kept++
			done++
		case damaged:
			p.result.Damaged++
			p.miss(first + int64(i))
		case pending:
			p.miss(first + int64(i))
		}
		i++
	}
	p.progress(done)
	return nil
}

type localWorker struct {
	*patcher
	*checker
	readable []bool
}

// make makes the blocks of a job.
func (w *localWorker) make(first int64, b *blocks) error {
	end := first + int64(len(b.outcomes))
	for _, s := range w.delta.spansFrom(first) {
		if s.First >= end {
			break
		}
		from := max(s.First, first)
		part := blocks{outcomes: b.outcomes[from-first : min(s.First+s.Count, end)-first]}
		part.content = b.content[(from-first)*w.blockSize():][:int64(len(part.outcomes))*w.blockSize()]
		if err := w.span(s, from, &part); err != nil {
			return err
		}
	}
	return nil
}

// span makes the blocks of a job that belong to one span.
func (w *localWorker) span(s Span, first int64, b *blocks) error {
	if w.Resume || s.Origin == OriginKept {
		if err := w.try(w.have, first, first, b, right); err != nil {
			return err
		}
	}
	switch s.Origin {
	case OriginSame, OriginMoved:
		if err := w.try(w.old, s.From+first-s.First, first, b, copied); err != nil {
			return err
		}
	case OriginZero:
		if err := w.try(zeroReader{}, first, first, b, zeroed); err != nil {
			return err
		}
	case OriginFetch:
		return nil
	}
	for i := range b.outcomes {
		if b.outcomes[i] == pending {
			b.outcomes[i] = damaged
		}
	}
	return nil
}

// try reads the blocks that are still pending from r, where the first one has the
// number from, and gives those that are right the outcome.
func (w *localWorker) try(r io.ReaderAt, from, first int64, b *blocks, to outcome) error {
	size := w.blockSize()
	for i := 0; i < len(b.outcomes); {
		if b.outcomes[i] != pending {
			i++
			continue
		}
		end := i + 1
		for end < len(b.outcomes) && b.outcomes[end] == pending {
			end++
		}
		content := b.content[int64(i)*size : int64(end)*size]
		readable := w.readable[:end-i]
		readBlocks(r, content, (from+int64(i))*size, int(size), readable)
		err := w.check(first+int64(i), content, func(n int, want, got []byte) error {
			if readable[n] && bytes.Equal(want, got) {
				b.outcomes[i+n] = to
			}
			return nil
		})
		if err != nil {
			return err
		}
		i = end
	}
	return nil
}

// readBlocks reads a run of blocks, and if that fails, those that can be read.
func readBlocks(r io.ReaderAt, b []byte, off int64, size int, readable []bool) {
	n, _ := r.ReadAt(b, off)
	all := n == len(b)
	for i := range readable {
		readable[i] = all
		if !all {
			n, _ := r.ReadAt(b[i*size:][:size], off+int64(i*size))
			readable[i] = n == size
		}
	}
}

// A zeroReader reads as zeros everywhere.
type zeroReader struct{}

func (zeroReader) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

const defaultRequest = 1 << 20

// A request is one read of what is fetched.
type request struct {
	run           // all blocks that are read
	missing []run // those that are needed
}

// requests puts the missing runs together to requests. Their runs are parts of the
// patcher's, cut where a request ends.
func (p *patcher) requests() []request {
	most := max(int64(p.MaxRequest)/p.blockSize(), 1)
	if p.MaxRequest == 0 {
		most = max(defaultRequest/p.blockSize(), 1)
	}
	gap := max(int64(p.MaxGap), 0) / p.blockSize()
	var all []request
	for _, m := range p.missing {
		for m.count > 0 {
			if n := len(all); n > 0 {
				last := &all[n-1]
				between := m.first - (last.first + last.count)
				if room := most - last.count - between; between <= gap && room > 0 {
					part := run{m.first, min(m.count, room)}
					last.count += between + part.count
					last.missing = append(last.missing, part)
					m.first, m.count = m.first+part.count, m.count-part.count
					continue
				}
			}
			part := run{m.first, min(m.count, most)}
			all = append(all, request{run: part, missing: []run{part}})
			m.first, m.count = m.first+part.count, m.count-part.count
		}
	}
	return all
}

// fetchMissing fetches, verifies and writes what local has left.
func (p *patcher) fetchMissing(ctx context.Context) error {
	if len(p.missing) == 0 {
		return nil
	}
	if p.fetch == nil {
		var n int64
		for _, m := range p.missing {
			n += m.count
		}
		return p.noFetch(n)
	}
	requests := p.requests()
	newWorker := func() func(int64, *[]byte) error {
		check := p.checker()
		return func(job int64, out *[]byte) error {
			r := requests[job]
			size := int(r.count * p.blockSize())
			if cap(*out) < size {
				*out = make([]byte, size)
			}
			*out = (*out)[:size]
			if err := hashtree.ReadFull(p.fetch, *out, r.first*p.blockSize(), "fetch"); err != nil {
				return err
			}
			for _, m := range r.missing {
				content := (*out)[(m.first-r.first)*p.blockSize():][:m.count*p.blockSize()]
				err := check.check(m.first, content, func(i int, want, got []byte) error {
					if bytes.Equal(want, got) {
						return nil
					}
					return fmt.Errorf("fetch: %w", &BlockError{Block: m.first + int64(i), Want: bytes.Clone(want), Got: bytes.Clone(got)})
				})
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	return inOrder(ctx, int64(len(requests)), newWorker, func(job int64, out *[]byte) error {
		r := requests[job]
		p.result.Requests++
		p.result.RequestedBytes += int64(len(*out))
		for _, m := range r.missing {
			if err := p.write(m.first, (*out)[(m.first-r.first)*p.blockSize():][:m.count*p.blockSize()]); err != nil {
				return err
			}
			p.result.Fetched += m.count
			p.progress(m.count)
		}
		return nil
	})
}
