package sparse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/osmith-dev/osmith"
)

// DataFinder is a source that knows its holes. NextData returns the first range [start, end) at or
// after off that may hold anything but zeros. When there is none it returns [io.EOF], or a start at
// or beyond the size.
type DataFinder interface {
	NextData(off int64) (start, end int64, err error)
}

// ZeroRanger is a target that can zero n bytes at off faster than by writing them. An error that
// matches [errors.ErrUnsupported] says that it cannot.
type ZeroRanger interface {
	ZeroRange(off, n int64) error
}

// NextData finds the next data of any source: through [DataFinder]; of an [io.SectionReader],
// through the source or the file that it is a section of; otherwise all the rest is data. At the
// end it returns (size, size, nil).
func NextData(src osmith.Source, off int64) (start, end int64, err error) {
	size := src.Size()
	if off >= size {
		return size, size, nil
	}
	switch s := src.(type) {
	case DataFinder:
		start, end, err = s.NextData(off)
		if err == io.EOF {
			return size, size, nil
		}
		if err != nil {
			return 0, 0, err
		}
		if start >= size {
			return size, size, nil
		}
		if start < off || end <= start {
			return 0, 0, fmt.Errorf("NextData(%d) returned [%d, %d)", off, start, end)
		}
		return start, min(end, size), nil
	case *io.SectionReader:
		r, base, _ := s.Outer()
		return NextDataWithin(r, base, size, off)
	}
	return off, size, nil
}

// NextDataWithin is [NextData] of the size bytes at base of r; off, start and end count from base.
func NextDataWithin(r io.ReaderAt, base, size, off int64) (start, end int64, err error) {
	if off >= size {
		return size, size, nil
	}
	whole, ok := r.(osmith.Source)
	if f, isFile := r.(*os.File); isFile {
		d, err := osmith.NewDevice(f)
		whole, ok = d, err == nil
	}
	// Where the section ends beyond the source, let the read say so.
	if !ok || base > whole.Size() || size > whole.Size()-base {
		return off, size, nil
	}
	if start, end, err = NextData(whole, base+off); err != nil {
		return 0, 0, err
	}
	return min(start-base, size), min(end-base, size), nil
}

const (
	bufferSize = 1 << 20
	// written to a file so far before the kernel is asked to start with the disk
	writeback = 8 << 20
	// zero runs shorter than this are written: more holes than extents are of no use
	grain = 64 << 10
)

var (
	buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}
	zeros   [grain]byte
)

// Target is where content goes.
type Target struct {
	W        io.WriterAt
	Zero     bool          // W is known to hold zeros wherever it is written to
	Progress func(n int64) // called with the bytes that are done; may be nil
	Sync     bool          // a sync follows: [StartWriteback] as the copy goes on
}

func (t *Target) progress(n int64) {
	if t.Progress != nil && n > 0 {
		t.Progress(n)
	}
}

// Zeros makes n bytes at off zero.
func (t *Target) Zeros(off, n int64) error {
	if n <= 0 {
		return nil
	}
	if t.Zero {
		t.progress(n)
		return nil
	}
	if z, ok := t.W.(ZeroRanger); ok {
		err := z.ZeroRange(off, n)
		if err == nil {
			t.progress(n)
			return nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	clear(*buf)
	for n > 0 {
		k := min(n, bufferSize)
		if err := t.put((*buf)[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
		t.progress(k)
	}
	return nil
}

// Copy writes n bytes at off: all of src, then zeros. src must not be larger than n.
func (t *Target) Copy(off int64, src osmith.Source, n int64) error {
	size := src.Size()
	if size > n {
		return fmt.Errorf("source has %d bytes, room for %d", size, n)
	}
	pos := int64(0)
	for pos < size {
		start, end, err := NextData(src, pos)
		if err != nil {
			return err
		}
		if err := t.Zeros(off+pos, start-pos); err != nil {
			return err
		}
		if err := t.copyData(off, src, start, end); err != nil {
			return err
		}
		pos = end
	}
	return t.Zeros(off+size, n-size)
}

func (t *Target) copyData(base int64, src osmith.Source, pos, end int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for begun := pos; pos < end; {
		p := (*buf)[:min(end-pos, bufferSize)]
		if err := ReadFull(src, p, pos); err != nil {
			return err
		}
		if err := t.write(p, base+pos); err != nil {
			return err
		}
		pos += int64(len(p))
		t.progress(int64(len(p)))
		if t.Sync && pos-begun >= writeback {
			StartWriteback(t.W, base+begun, pos-begun)
			begun = pos
		}
	}
	return nil
}

// write writes p, leaving out long runs of zeros where the target holds them already.
func (t *Target) write(p []byte, off int64) error {
	if !t.Zero {
		return t.put(p, off)
	}
	from := 0 // first byte not yet written
	for i := 0; i < len(p); i += grain {
		piece := p[i:min(i+grain, len(p))]
		if !bytes.Equal(piece, zeros[:len(piece)]) {
			continue
		}
		if from < i {
			if err := t.put(p[from:i], off+int64(from)); err != nil {
				return err
			}
		}
		from = i + len(piece)
	}
	if from < len(p) {
		return t.put(p[from:], off+int64(from))
	}
	return nil
}

// put writes all of p.
func (t *Target) put(p []byte, off int64) error {
	n, err := t.W.WriteAt(p, off)
	if err == nil && n < len(p) {
		return io.ErrShortWrite
	}
	return err
}

// ReadFull fills p from off. A source that ends early is [io.ErrUnexpectedEOF].
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
