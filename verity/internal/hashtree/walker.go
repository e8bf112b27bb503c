package hashtree

import (
	"bytes"
	"fmt"
	"io"
)

// A Walker finds the digest that a block must have, on the way from the root hash down. It keeps
// one hash block of each level, so walking in order reads and hashes each once. Each goroutine has
// its own.
type Walker struct {
	*Layout
	Hasher *Hasher // not used if Trusted
	Root   []byte

	// Read fills b with a hash block.
	Read func(b []byte, level int, number int64) error

	// Mismatch is called with a hash block that does not have the digest that it must have. It
	// returns an error, or nil to go on with what it leaves in Content, which no walker with a
	// Cache may do.
	Mismatch func(h *Held, want []byte) error

	// Spare is called with a hash block that has the digest that it must have, but with a byte, the
	// first of them at this offset, that holds no digest and is not zero. It returns an error, or
	// nil to go on, which no walker with a Cache may do.
	Spare func(h *Held, at int) error

	// Trusted says that the hash blocks were verified before. They are then neither hashed nor
	// traced to the root hash, so walking out of order costs no more than reading.
	Trusted bool

	// Cache, if there is one, has hash blocks that were verified by this walker or another.
	Cache *Cache

	held []Held // by level; the first is unused
}

// Held is a hash block on the way.
type Held struct {
	Level   int
	Number  int64 // which block of its level this is; -1 for none
	Content []byte
	Got     []byte // digest of the block as it was read; not if Trusted or from the cache
}

// Want returns the digest that a block must have. It is valid until the next call.
func (w *Walker) Want(level int, number int64) ([]byte, error) {
	if level == w.Top() {
		return w.Root, nil
	}
	h, err := w.Hold(level+1, number/w.PerBlock)
	if err != nil {
		return nil, err
	}
	return w.Digest(h.Content, int(number%w.PerBlock)), nil
}

// Hold returns a hash block, verified unless the walker is Trusted. It must not be changed, and is
// valid until the next call.
func (w *Walker) Hold(level int, number int64) (*Held, error) {
	h := w.at(level)
	if h.Number == number {
		return h, nil
	}
	offset := w.Offset(level, number)
	if w.Cache != nil {
		if content := w.Cache.get(offset); content != nil {
			h.Number, h.Content = number, content
			return h, nil
		}
	}
	var want []byte
	if !w.Trusted {
		var err error
		if want, err = w.Want(level, number); err != nil {
			return nil, err
		}
	}
	h.Number = -1
	if h.Content == nil || w.Cache != nil { // what is in the cache belongs to all
		h.Content = make([]byte, w.params.HashBlockSize)
	}
	if err := w.Read(h.Content, level, number); err != nil {
		return nil, err
	}
	if w.Trusted {
		h.Number = number
		return h, nil
	}
	h.Got = append(h.Got[:0], w.Hasher.Sum(h.Content)...)
	if err := w.judge(h, number, want); err != nil {
		return nil, err
	}
	if w.Cache != nil {
		w.Cache.put(offset, h.Content)
	}
	return h, nil
}

// Put is Hold for a hash block that was read and hashed elsewhere, of a walker without a Cache. It
// copies content.
func (w *Walker) Put(level int, number int64, content, got []byte) (*Held, error) {
	h := w.at(level)
	h.Got = append(h.Got[:0], got...)
	want, err := w.Want(level, number)
	if err != nil {
		return nil, err
	}
	h.Content = append(h.Content[:0], content...)
	return h, w.judge(h, number, want)
}

// judge compares what a hash block has with what it must have, and looks at what must be zero.
func (w *Walker) judge(h *Held, number int64, want []byte) error {
	h.Number = number
	var err error
	if !bytes.Equal(h.Got, want) {
		err = w.Mismatch(h, want)
	} else if at := w.SpareByte(h.Level, number, h.Content); at >= 0 {
		err = w.Spare(h, at)
	}
	if err != nil {
		h.Number = -1
	}
	return err
}

func (w *Walker) at(level int) *Held {
	if w.held == nil {
		w.held = make([]Held, len(w.Blocks))
		for i := range w.held {
			w.held[i] = Held{Level: i, Number: -1}
		}
	}
	return &w.held[level]
}

// ReadFull fills b from a device that is large enough for it by its own account.
func ReadFull(r io.ReaderAt, b []byte, off int64, device string) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: read %d bytes at %#x: got %d: %w", device, len(b), off, n, err)
}
