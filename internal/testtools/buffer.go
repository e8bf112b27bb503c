package testtools

import (
	"bytes"
	"io"
	"sync"
)

// lockedBuffer lets two streams of one process share a buffer.
type lockedBuffer struct {
	mu  sync.Mutex
	buf *bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// tee writes to both; neither can fail.
type tee struct{ a, b io.Writer }

func (w *tee) Write(p []byte) (int, error) {
	if n, err := w.a.Write(p); err != nil {
		return n, err
	}
	return w.b.Write(p)
}
