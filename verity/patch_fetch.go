package verity

import (
	"bytes"
	"context"
)

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
			if err := readFull(p.fetch, *out, r.first*p.blockSize(), "fetch"); err != nil {
				return err
			}
			for _, m := range r.missing {
				content := (*out)[(m.first-r.first)*p.blockSize():][:m.count*p.blockSize()]
				err := check.check(m.first, content, func(i int, want, got []byte) error {
					if bytes.Equal(want, got) {
						return nil
					}
					return &sideError{"fetch", &BlockError{Block: m.first + int64(i), Want: bytes.Clone(want), Got: bytes.Clone(got)}}
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
