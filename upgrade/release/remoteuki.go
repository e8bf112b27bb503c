package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// remoteUKI is a UKI that stays on its server, but for what an older one has, which is read there.
// Nothing is verified here: it is read through a [pinned.Reader].
type remoteUKI struct {
	ctx  context.Context
	src  RangeSource
	desc ocispec.Descriptor

	mu   sync.Mutex
	old  osmith.Source // nil: there is none, and one run
	runs []run

	body io.ReadCloser // of what is read in order; nil: nothing is
	at   int64         // of its next byte
	end  int64
	next int64 // where the last read has ended
}

func newRemoteUKI(ctx context.Context, src RangeSource, d ocispec.Descriptor) *remoteUKI {
	return &remoteUKI{ctx: ctx, src: src, desc: d, runs: []run{{0, d.Size, fetched}}, next: -1}
}

// reuse takes from an older UKI what the runs say.
func (r *remoteUKI) reuse(old osmith.Source, runs []run) *UKIPatch {
	r.old, r.runs = old, runs
	result := new(UKIPatch)
	for _, run := range runs {
		if run.old == fetched {
			result.Fetched += run.size
			result.Requests++
		} else {
			result.Reused += run.size
		}
	}
	return result
}

// forget has everything fetched from now on. It is false if that is so already.
func (r *remoteUKI) forget() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drop()
}

// reuses reports whether something comes from an older UKI.
func (r *remoteUKI) reuses() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.old != nil
}

func (r *remoteUKI) drop() bool {
	if r.old == nil {
		return false
	}
	r.old, r.runs = nil, []run{{0, r.desc.Size, fetched}}
	return true
}

// Size implements [osmith.Source].
func (r *remoteUKI) Size() int64 { return r.desc.Size }

// ReadAt implements [io.ReaderAt].
func (r *remoteUKI) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= r.desc.Size {
			return n, io.EOF
		}
		k, err := r.read(p[n:], at)
		n += k
		if err != nil {
			return n, fmt.Errorf("blob %s: %d of %d bytes at %d: %w", r.desc.Digest, n, len(p), off, err)
		}
	}
	return n, nil
}

// read reads from the run that a place is in.
func (r *remoteUKI) read(p []byte, at int64) (int, error) {
	for _, run := range r.runs {
		end := run.off + run.size
		if at < run.off || at >= end {
			continue
		}
		p = p[:min(int64(len(p)), end-at)]
		if run.old == fetched {
			return r.fetch(p, at, end)
		}
		if err := sparse.ReadFull(r.old, p, run.old+at-run.off); err != nil {
			r.drop()
			return 0, nil
		}
		r.next = at + int64(len(p))
		return len(p), nil
	}
	return 0, fmt.Errorf("no run has byte %d", at)
}

// fetch reads from the server. A read that begins where the last one ended is likely to go on to
// the end of the run, which is fetched by one request.
func (r *remoteUKI) fetch(p []byte, at, end int64) (int, error) {
	if r.body == nil || r.at != at {
		if err := r.hangUp(); err != nil {
			return 0, err
		}
		if at != r.next {
			end = at + int64(len(p))
		}
		body, err := r.src.BlobRange(r.ctx, r.desc, at, end-at)
		if err != nil {
			return 0, err
		}
		r.body, r.at, r.end = body, at, end
	}
	n, err := io.ReadFull(r.body, p[:min(int64(len(p)), r.end-at)])
	r.at += int64(n)
	r.next = r.at
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil || r.at == r.end {
		err = errors.Join(err, r.hangUp())
	}
	return n, err
}

func (r *remoteUKI) hangUp() error {
	if r.body == nil {
		return nil
	}
	body := r.body
	r.body = nil
	return body.Close()
}

// Close ends what is being read.
func (r *remoteUKI) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hangUp()
}
