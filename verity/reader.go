package verity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// DefaultCacheSize is how many bytes of the tree a Reader keeps by default. With default parameters
// it covers 512 MiB of data.
const DefaultCacheSize = 4 << 20

// ReaderOptions are the choices of a Reader. The zero value is the default.
type ReaderOptions struct {
	// CacheSize bounds the verified hash blocks that are kept, in bytes; 0 is
	// DefaultCacheSize. One block is always kept.
	CacheSize int64
}

// A Reader reads the data of an image and verifies what it reads, as the kernel
// does: it never returns a byte that it has not verified. It is safe for concurrent
// use.
type Reader struct {
	layout  *layout
	image   Image
	workers sync.Pool // of *readWorker
}

type readWorker struct {
	hash   *hashtree.Hasher
	walker hashtree.Walker
	buf    []byte
	slots  []byte
}

var _ osmith.Source = (*Reader)(nil)

// NewReader returns a reader of the image. It reads the superblock, unless Params are given, and
// the top block of the tree. If the top block does not match the root hash, the error is a
// *BlockError; if bytes in it that must be zero are not, a *SpareError. Other errors are those of
// Image.Verify.
func NewReader(im Image, o ReaderOptions) (r *Reader, err error) {
	defer prefix.Add("verity", &err)
	l, err := im.layout()
	if err != nil {
		return nil, err
	}
	im.RootHash = bytes.Clone(im.RootHash)
	size := o.CacheSize
	if size <= 0 {
		size = DefaultCacheSize
	}
	cache := hashtree.NewCache(int(min(size/int64(l.HashBlockSize), 1<<30)))
	r = &Reader{layout: l, image: im}
	r.workers.New = func() any {
		hash := l.NewHasher()
		return &readWorker{hash: hash, buf: l.newBuffer(), walker: hashtree.Walker{
			Layout: l.Layout, Hasher: hash, Root: im.RootHash, Cache: cache,
			Read: func(b []byte, level int, number int64) error {
				return hashtree.ReadFull(im.Tree, b, l.Offset(level, number), "tree")
			},
			Mismatch: l.blockError, Spare: l.heldSpare,
		}}
	}
	if l.Top() > 0 {
		w := r.workers.Get().(*readWorker)
		defer r.workers.Put(w)
		if _, err := w.walker.Hold(l.Top(), 0); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// blockError is the error for a hash block that does not have the digest that it must have.
func (l *layout) blockError(h *hashtree.Held, want []byte) error {
	return &BlockError{Level: h.Level, Block: h.Number, Want: bytes.Clone(want), Got: bytes.Clone(h.Got), top: h.Level == l.Top()}
}

// heldSpare is the error for a hash block with a byte that must be zero and is not.
func (l *layout) heldSpare(h *hashtree.Held, at int) error {
	return l.spareError(h.Level, h.Number, at)
}

func (l *layout) spareError(level int, block int64, at int) *SpareError {
	return &SpareError{Level: level, Block: block, Offset: at, Blocks: l.dataBlocks()}
}

// Size returns the number of bytes that the tree covers.
func (r *Reader) Size() int64 { return r.layout.dataSize() }

// ReadAt implements io.ReaderAt. At the first block that does not match, it returns the bytes
// before that block and a *BlockError, or a *SpareError for a hash block above it with bytes that
// must be zero.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("verity: data: read at %d: %w", off, errNegative)
	}
	w := r.workers.Get().(*readWorker)
	defer r.workers.Put(w)
	n := 0
	for n < len(p) {
		if off >= r.layout.dataSize() {
			return n, io.EOF
		}
		k, err := r.span(w, p[n:], off)
		n += k
		off += int64(k)
		if err != nil {
			return n, prefix.Error("verity", err)
		}
	}
	return n, nil
}

var errNegative = errors.New("negative offset")

// span reads and verifies some blocks that begin with the one at off.
func (r *Reader) span(w *readWorker, p []byte, off int64) (int, error) {
	size := int64(r.layout.DataBlockSize)
	first := off / size
	skip := off % size
	wanted := skip + min(int64(len(p)), int64(len(w.buf)))
	buf := w.buf[:min((wanted+size-1)/size*size, int64(len(w.buf)), r.layout.dataSize()-first*size)]
	if err := hashtree.ReadFull(r.image.Data, buf, first*size, "data"); err != nil {
		return 0, err
	}
	w.slots = w.hash.AppendData(w.slots[:0], buf)
	good, err := w.match(first)
	if good == 0 {
		return 0, err
	}
	n := copy(p, buf[skip:int64(good)*size])
	if n == len(p) {
		err = nil // what is damaged was not asked for
	}
	return n, err
}

// match compares the slots of a run of data blocks and returns how many are right.
func (w *readWorker) match(first int64) (int, error) {
	n := len(w.slots) / w.walker.Slot
	for i := range n {
		want, err := w.walker.Want(0, first+int64(i))
		if err != nil {
			return i, err
		}
		if got := w.walker.Digest(w.slots, i); !bytes.Equal(got, want) {
			return i, &BlockError{Block: first + int64(i), Want: bytes.Clone(want), Got: bytes.Clone(got), top: w.walker.Top() == 0}
		}
	}
	return n, nil
}
