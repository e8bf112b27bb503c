package uki

import (
	"crypto"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/osmith-dev/osmith/internal/sha512dual"
)

// How much is read at a time for hashing, and how many such pieces are in flight. The slowest hash
// decides the pace; the others are at most this many pieces ahead of it.
const (
	bankBuffer  = 256 << 10
	bankBuffers = 8
)

// banks hashes a sequence of sections with several hashes, each in a goroutine of its own (SHA-384
// and SHA-512 in one, where they take less together), over buffers that they share. A caller takes
// a buffer, fills it, hands it on with write and must release it.
type banks struct {
	free  chan *buffer
	lanes []*lane
	wg    sync.WaitGroup
}

// A buffer is free again when the last of its users has released it.
type buffer struct {
	b     []byte
	users atomic.Int32
	home  chan *buffer
}

func (b *buffer) release() {
	if b.users.Add(-1) == 0 {
		b.home <- b
	}
}

// A lane is what one goroutine works on: one section after the other.
type lane struct {
	in    chan step
	state digester
	sums  []map[crypto.Hash][]byte // of the sections that have ended
}

// A digester is one hash, or two at a time.
type digester interface {
	io.Writer
	Reset()
	into(sums map[crypto.Hash][]byte)
}

type single struct {
	hash.Hash
	name crypto.Hash
}

func (s single) into(sums map[crypto.Hash][]byte) { sums[s.name] = s.Sum(nil) }

type pair struct{ *sha512dual.Hasher }

func (p pair) into(sums map[crypto.Hash][]byte) { sums[crypto.SHA384], sums[crypto.SHA512] = p.Sums() }

// A step is one thing for a lane to do; only what is set is done, in the order of the fields.
type step struct {
	from  *buffer // to be released when data has been hashed
	data  []byte
	zeros int64           // to be hashed behind data
	end   bool            // the section ends here
	reach *sync.WaitGroup // to be told that all before is done
}

var zeros [32 << 10]byte

// newBanks starts the goroutines. They end with close.
func newBanks(hashes []crypto.Hash) (*banks, error) {
	if len(hashes) == 0 {
		hashes = []crypto.Hash{crypto.SHA256}
	}
	b := &banks{free: make(chan *buffer, bankBuffers)}
	add := func(d digester) { b.lanes = append(b.lanes, &lane{in: make(chan step, bankBuffers), state: d}) }
	dual := sha512dual.Accelerated() && slices.Contains(hashes, crypto.SHA384) && slices.Contains(hashes, crypto.SHA512)
	if dual {
		add(pair{sha512dual.New()})
	}
	seen := make(map[crypto.Hash]bool)
	for _, h := range hashes {
		if !h.Available() {
			return nil, fmt.Errorf("hash %v is not linked into this program", h)
		}
		if !seen[h] && !(dual && (h == crypto.SHA384 || h == crypto.SHA512)) {
			add(single{h.New(), h})
		}
		seen[h] = true
	}
	for range bankBuffers {
		b.free <- &buffer{home: b.free}
	}
	for _, l := range b.lanes {
		b.wg.Go(l.run)
	}
	return b, nil
}

func (l *lane) run() {
	for s := range l.in {
		l.state.Write(s.data)
		if s.from != nil {
			s.from.release()
		}
		for n := s.zeros; n > 0; n -= int64(len(zeros)) {
			l.state.Write(zeros[:min(n, int64(len(zeros)))])
		}
		if s.end {
			sums := make(map[crypto.Hash][]byte, 2)
			l.state.into(sums)
			l.sums = append(l.sums, sums)
			l.state.Reset()
		}
		if s.reach != nil {
			s.reach.Done()
		}
	}
}

// take is a buffer of that many bytes, at most bankBuffer, with one user: the caller.
func (b *banks) take(n int64) *buffer {
	buf := <-b.free
	if int64(cap(buf.b)) < n {
		buf.b = make([]byte, n)
	}
	buf.b = buf.b[:n]
	buf.users.Store(1)
	return buf
}

// write adds part of a buffer to the section that is being hashed.
func (b *banks) write(from *buffer, data []byte) {
	from.users.Add(int32(len(b.lanes)))
	b.send(step{from: from, data: data})
}

// end ends a section, with that many zeros behind what was written of it.
func (b *banks) end(zeros int64) { b.send(step{zeros: zeros, end: true}) }

func (b *banks) send(s step) {
	for _, l := range b.lanes {
		l.in <- s
	}
}

// wait returns when all that was written has been hashed; sums may be asked for then.
func (b *banks) wait() {
	var reach sync.WaitGroup
	reach.Add(len(b.lanes))
	b.send(step{reach: &reach})
	reach.Wait()
}

// sums are the digests of the n-th section that has ended.
func (b *banks) sums(n int) map[crypto.Hash][]byte {
	m := make(map[crypto.Hash][]byte, len(b.lanes)+1)
	for _, l := range b.lanes {
		maps.Copy(m, l.sums[n])
	}
	return m
}

// close ends the goroutines.
func (b *banks) close() {
	for _, l := range b.lanes {
		close(l.in)
	}
	b.wg.Wait()
}
