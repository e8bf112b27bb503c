package verity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/osmith-dev/osmith"
)

// DefaultCacheSize is how much a Reader keeps of the tree if nothing else is asked
// for, in bytes. With default parameters it covers 512 MiB of data.
const DefaultCacheSize = 4 << 20

// ReaderOptions are the choices of a Reader. The zero value is good.
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
	cache   cache
	workers sync.Pool // of *readWorker
}

type readWorker struct {
	hash  *hasher
	buf   []byte
	slots []byte
}

var _ osmith.Source = (*Reader)(nil)

// NewReader returns a reader of the image. It reads the superblock, if there is to be
// one, and the top block of the tree; one that does not have the root hash is a
// *BlockError. The errors are otherwise those of Image.Verify.
func NewReader(im Image, o ReaderOptions) (*Reader, error) {
	l, err := im.layout()
	if err != nil {
		return nil, err
	}
	im.RootHash = bytes.Clone(im.RootHash)
	size := o.CacheSize
	if size <= 0 {
		size = DefaultCacheSize
	}
	r := &Reader{layout: l, image: im}
	r.cache.max = int(max(1, min(size/int64(l.HashBlockSize), 1<<30)))
	r.workers.New = func() any { return &readWorker{hash: newHasher(l), buf: l.newBuffer()} }
	if l.top() > 0 {
		w := r.workers.Get().(*readWorker)
		defer r.workers.Put(w)
		if _, err := r.block(w, l.top(), 0); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Size returns the number of bytes that the tree covers.
func (r *Reader) Size() int64 { return r.layout.dataSize() }

// ReadAt implements io.ReaderAt. At the first block that does not match it returns
// what lies before it, and a *BlockError.
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
			return n, err
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
	if err := readFull(r.image.Data, buf, first*size, "data"); err != nil {
		return 0, err
	}
	w.slots = w.hash.appendData(w.slots[:0], buf)
	good, err := r.match(w, first)
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
func (r *Reader) match(w *readWorker, first int64) (int, error) {
	var block []byte
	leaf := int64(-1)
	for i := range len(w.slots) / r.layout.slot {
		n := first + int64(i)
		want := r.image.RootHash
		if r.layout.top() > 0 {
			if n/r.layout.perBlock != leaf {
				leaf = n / r.layout.perBlock
				var err error
				if block, err = r.block(w, 1, leaf); err != nil {
					return i, err
				}
			}
			want = r.layout.digest(block, int(n%r.layout.perBlock))
		}
		if got := r.layout.digest(w.slots, i); !bytes.Equal(got, want) {
			return i, &BlockError{Block: n, Want: bytes.Clone(want), Got: bytes.Clone(got), top: r.layout.top() == 0}
		}
	}
	return len(w.slots) / r.layout.slot, nil
}

// block returns a verified hash block. It must not be changed.
func (r *Reader) block(w *readWorker, level int, number int64) ([]byte, error) {
	at := r.layout.offset(level, number)
	if b := r.cache.get(at); b != nil {
		return b, nil
	}
	want := r.image.RootHash
	if level < r.layout.top() {
		above, err := r.block(w, level+1, number/r.layout.perBlock)
		if err != nil {
			return nil, err
		}
		want = r.layout.digest(above, int(number%r.layout.perBlock))
	}
	b := make([]byte, r.layout.HashBlockSize)
	if err := readFull(r.image.Tree, b, at, "tree"); err != nil {
		return nil, err
	}
	got := r.layout.digest(w.hash.appendTree(nil, b), 0)
	if !bytes.Equal(got, want) {
		return nil, &BlockError{Level: level, Block: number, Want: bytes.Clone(want), Got: got, top: level == r.layout.top()}
	}
	r.cache.put(at, b)
	return b, nil
}
