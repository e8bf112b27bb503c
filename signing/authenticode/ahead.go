package authenticode

import (
	"hash"
	"sync"
)

// What a caller may be ahead of the hash, in pieces and bytes of one.
const (
	aheadPieces = 4
	aheadSize   = 256 << 10
)

// ahead hashes copies of what it is given while the caller goes on with something else: reading the next bytes, writing these. Its goroutine
// ends when there is nothing to do, so that nobody has to say that no more will come.
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
