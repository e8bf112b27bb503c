package uki

import (
	"errors"
	"fmt"
	"io"
	"sort"
)

// A piece is a run of bytes of a view that comes from one source.
type piece struct {
	name string // for errors
	off  int64  // in the view
	size int64
	src  io.ReaderAt // from its offset 0
}

// A view is a file put together from pieces of other files, read when it is read. Pieces are in
// order and do not overlap; what lies between them is zero.
type view struct {
	pieces []piece
	size   int64
}

func (v *view) add(name string, src io.ReaderAt, size int64) {
	if size > 0 {
		v.pieces = append(v.pieces, piece{name, v.size, size, src})
		v.size += size
	}
}

// padTo appends zeros up to the next multiple of align.
func (v *view) padTo(align int64) { v.size = roundUp(v.size, align) }

// Size is the length in bytes.
func (v *view) Size() int64 { return v.size }

func (v *view) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	for n < len(b) {
		if off >= v.size {
			return n, io.EOF
		}
		chunk := b[n:min(int64(len(b)), int64(n)+v.size-off)]
		i := sort.Search(len(v.pieces), func(i int) bool { return v.pieces[i].off+v.pieces[i].size > off })
		if i == len(v.pieces) || v.pieces[i].off > off { // a gap
			if i < len(v.pieces) {
				chunk = chunk[:min(int64(len(chunk)), v.pieces[i].off-off)]
			}
			clear(chunk)
		} else {
			p := v.pieces[i]
			chunk = chunk[:min(int64(len(chunk)), p.off+p.size-off)]
			if m, err := p.src.ReadAt(chunk, off-p.off); m < len(chunk) {
				if err == nil || err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return n + max(m, 0), fmt.Errorf("reading %s at %d of %d bytes: %w", p.name, off-p.off+int64(max(m, 0)), p.size, err)
			}
		}
		n += len(chunk)
		off += int64(len(chunk))
	}
	return n, nil
}

// copyBuffer is how much is read at a time when an image is written or hashed.
const copyBuffer = 256 << 10

// WriteTo is one sequential pass over the sources.
func (v *view) WriteTo(w io.Writer) (int64, error) {
	buf := make([]byte, min(copyBuffer, v.size))
	var done int64
	for done < v.size {
		b := buf[:min(int64(len(buf)), v.size-done)]
		if _, err := v.ReadAt(b, done); err != nil {
			return done, err
		}
		n, err := w.Write(b)
		done += int64(n)
		if err != nil {
			return done, fmt.Errorf("writing at %d of %d bytes: %w", done, v.size, err)
		}
	}
	return done, nil
}

func roundUp(n, align int64) int64 { return (n + align - 1) / align * align }

// readAll reads a small source completely; more than limit bytes are refused before anything is
// allocated.
func readAll(r io.ReaderAt, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%d bytes are more than the limit of %d", size, limit)
	}
	b := make([]byte, size)
	if n, err := r.ReadAt(b, 0); int64(n) < size {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

// offsetReader is a source from a fixed offset on.
type offsetReader struct {
	r   io.ReaderAt
	off int64
}

func (o offsetReader) ReadAt(b []byte, off int64) (int, error) { return o.r.ReadAt(b, o.off+off) }
