package authenticode

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

// A hasher takes the same bytes under several algorithms.
type hasher struct {
	algorithms []crypto.Hash
	states     []hash.Hash
	ahead      *ahead // of a single state, once there was something to do meanwhile
}

func newHasher(hashes []crypto.Hash) (*hasher, error) {
	s := new(hasher)
	for _, h := range hashes {
		if slices.Contains(s.algorithms, h) {
			continue
		}
		switch h {
		case crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512:
			s.algorithms = append(s.algorithms, h)
			s.states = append(s.states, h.New())
		default:
			return nil, fmt.Errorf("authenticode: digest algorithm %v: want SHA-1, SHA-256, SHA-384 or SHA-512", h)
		}
	}
	return s, nil
}

// parallelFrom is the size from which a piece is hashed by several goroutines: hashing it takes far longer than starting one.
const parallelFrom = 16 << 10

// write hashes b under every algorithm and runs meanwhile, if there is one, at the same time. With several algorithms it waits for all; a single
// one may go on behind the caller's back until sums.
func (s *hasher) write(b []byte, meanwhile func()) {
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
func (s *hasher) wait() {
	if s.ahead != nil {
		s.ahead.wait()
	}
}

// sums returns the digests so far, as they would be with so many zeros (0 to 7) behind what was written.
func (s *hasher) sums(padding int64) (map[crypto.Hash][]byte, error) {
	s.wait()
	m := make(map[crypto.Hash][]byte, len(s.states))
	for i, h := range s.algorithms {
		w := s.states[i]
		if padding > 0 {
			c, ok := w.(hash.Cloner)
			if !ok {
				return nil, fmt.Errorf("authenticode: %v: %w", h, errors.ErrUnsupported)
			}
			var err error
			if w, err = c.Clone(); err != nil {
				return nil, fmt.Errorf("authenticode: %v: %w", h, err)
			}
			w.Write(make([]byte, padding))
		}
		m[h] = w.Sum(nil)
	}
	return m, nil
}
