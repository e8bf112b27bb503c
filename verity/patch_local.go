package verity

import (
	"bytes"
	"context"
	"io"
)

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
	jobs := (p.next.dataBlocks-1)/per + 1
	newWorker := func() func(int64, *blocks) error {
		w := &localWorker{patcher: p, checker: p.checker(), readable: make([]bool, per)}
		return func(job int64, out *blocks) error {
			first := job * per
			n := min(per, p.next.dataBlocks-first)
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
	if w.Resume || s.Origin == Kept {
		if err := w.try(w.have, first, first, b, right); err != nil {
			return err
		}
	}
	switch s.Origin {
	case Same, Moved:
		if err := w.try(w.old, s.From+first-s.First, first, b, copied); err != nil {
			return err
		}
	case Zero:
		if err := w.try(zeroReader{}, first, first, b, zeroed); err != nil {
			return err
		}
	case Fetch:
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
