package signedpe

import (
	"crypto"
	_ "crypto/sha1" // the bank of that name in a TPM; never accepted in a signature
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
)

// A Hasher takes the same bytes under several algorithms.
type Hasher struct {
	algorithms []crypto.Hash
	states     []hash.Hash
	ahead      *ahead // of a single state, once there was something to do meanwhile
}

// NewHasher returns a Hasher for SHA-1, SHA-256, SHA-384 or SHA-512, one or several. A hash that is
// named twice counts once.
func NewHasher(hashes []crypto.Hash) (*Hasher, error) {
	s := new(Hasher)
	for _, h := range hashes {
		if slices.Contains(s.algorithms, h) {
			continue
		}
		switch h {
		case crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512:
			s.algorithms = append(s.algorithms, h)
			s.states = append(s.states, h.New())
		default:
			return nil, fmt.Errorf("digest algorithm %v: want SHA-1, SHA-256, SHA-384 or SHA-512", h)
		}
	}
	return s, nil
}

// parallelFrom is the size from which a piece is hashed by several goroutines: hashing it takes far
// longer than starting one.
const parallelFrom = 16 << 10

// Write hashes b under every algorithm and runs meanwhile, if there is one, at the same time. With
// several algorithms it waits for all; a single one may go on behind the caller's back until
// [Hasher.Sums].
func (s *Hasher) Write(b []byte, meanwhile func()) {
	if len(s.states) == 1 && meanwhile != nil && len(b) >= parallelFrom {
		if s.ahead == nil {
			s.ahead = newAhead(s.states[0])
		}
		s.ahead.write(b)
		meanwhile()
		return
	}
	s.wait()
	var wg sync.WaitGroup
	for i, w := range s.states {
		if last := i == len(s.states)-1; len(b) < parallelFrom || (last && meanwhile == nil) {
			w.Write(b)
		} else {
			wg.Go(func() { w.Write(b) })
		}
	}
	if meanwhile != nil {
		meanwhile()
	}
	wg.Wait()
}

// wait lets what goes on behind the caller's back come to its end.
func (s *Hasher) wait() {
	if s.ahead != nil {
		s.ahead.wait()
	}
}

// Sums returns the digests so far, as they would be with so many zeros (0 to 7) behind what was
// written.
func (s *Hasher) Sums(padding int64) (map[crypto.Hash][]byte, error) {
	s.wait()
	m := make(map[crypto.Hash][]byte, len(s.states))
	for i, h := range s.algorithms {
		w := s.states[i]
		if padding > 0 {
			c, ok := w.(hash.Cloner)
			if !ok {
				return nil, fmt.Errorf("%v: %w", h, errors.ErrUnsupported)
			}
			var err error
			if w, err = c.Clone(); err != nil {
				return nil, fmt.Errorf("%v: %w", h, err)
			}
			w.Write(make([]byte, padding))
		}
		m[h] = w.Sum(nil)
	}
	return m, nil
}

// What a caller may be ahead of the hash, in pieces and bytes of one.
const (
	aheadPieces = 4
	aheadSize   = 256 << 10
)

// ahead hashes copies of what it is given while the caller goes on with something else: reading the
// next bytes, writing these. Its goroutine ends when there is nothing to do, so that the caller
// need not say that no more will come.
type ahead struct {
	state hash.Hash
	mu    sync.Mutex
	room  sync.Cond // a piece has been hashed
	queue [][]byte  // the first one is being hashed if busy
	free  [][]byte
	busy  bool
}

func newAhead(state hash.Hash) *ahead {
	a := &ahead{state: state}
	a.room.L = &a.mu
	return a
}

func (a *ahead) write(b []byte) {
	for len(b) > 0 {
		n := min(len(b), aheadSize)
		a.add(b[:n])
		b = b[n:]
	}
}

func (a *ahead) add(b []byte) {
	a.mu.Lock()
	for len(a.queue) == aheadPieces {
		a.room.Wait()
	}
	var piece []byte
	if n := len(a.free); n > 0 {
		piece, a.free = a.free[n-1], a.free[:n-1]
	}
	a.mu.Unlock()
	piece = append(piece[:0], b...)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, piece)
	if !a.busy {
		a.busy = true
		go a.run()
	}
}

func (a *ahead) run() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue) > 0 {
		piece := a.queue[0]
		a.mu.Unlock()
		a.state.Write(piece)
		a.mu.Lock()
		a.queue = append(a.queue[:0], a.queue[1:]...)
		a.free = append(a.free, piece)
		a.room.Signal()
	}
	a.busy = false
	a.room.Signal()
}

// wait returns when everything has been hashed; the state may be asked then.
func (a *ahead) wait() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.busy {
		a.room.Wait()
	}
}
