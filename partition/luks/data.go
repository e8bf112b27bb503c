package luks

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/aesxts"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// chunk is what one goroutine encrypts or decrypts at a time, in bytes.
const chunk = 256 << 10

// workers is how many of them work on one call.
func workers() int { return min(runtime.GOMAXPROCS(0), 8) }

// extent is where the data of a volume lies and how it is encrypted.
type extent struct {
	cipher       *aesxts.Cipher
	offset, size int64
	sector       int64
	tweak        uint64
}

// extent checks that a key is that of the data, and that the data is there.
func (v *Volume) extent(key *Key) (*extent, error) {
	if v.h.Unsupported != nil {
		return nil, v.h.Unsupported
	}
	if v.h.Detached() {
		return nil, ErrDetached
	}
	s := v.h.Segments[0] // there is one, or the volume is not supported
	if s.Cipher != aesXTS {
		return nil, &UnsupportedError{"segment 0", "cipher " + s.Cipher}
	}
	if _, err := v.checkKey(key); err != nil {
		return nil, err
	}
	c, err := aesxts.New(key.bytes)
	if err != nil {
		return nil, err
	}
	room := v.src.Size() - s.Offset
	e := &extent{cipher: c, offset: s.Offset, size: s.Size, sector: int64(s.SectorSize), tweak: s.IVTweak}
	if s.Dynamic {
		e.size = room
	}
	switch {
	case e.size <= 0 || e.size > room:
		return nil, &SpaceError{s.Offset + max(s.Size, e.sector), v.src.Size()}
	case e.size%e.sector != 0:
		return nil, badFormat(s.Offset, "segment 0", "%d bytes of data are not a whole number of %d-byte sectors: the kernel refuses the device", e.size, e.sector)
	}
	return e, nil
}

// iv is the number of the sector at off, which counts 512 bytes whatever the size of sectors is.
func (e *extent) iv(off int64) uint64 { return uint64(off/512) + e.tweak }

// spread has pieces of whole sectors of b worked on at the same time.
func (e *extent) spread(b []byte, off int64, do func(b []byte, iv uint64)) {
	if len(b) <= chunk {
		do(b, e.iv(off))
		return
	}
	var done sync.WaitGroup
	slots := make(chan struct{}, workers())
	for len(b) > 0 {
		n := min(len(b), chunk)
		piece, iv := b[:n], e.iv(off)
		slots <- struct{}{}
		done.Go(func() {
			do(piece, iv)
			<-slots
		})
		b, off = b[n:], off+int64(n)
	}
	done.Wait()
}

func (e *extent) decrypt(b []byte, off int64) {
	e.spread(b, off, func(b []byte, iv uint64) { e.cipher.Decrypt(b, b, int(e.sector), iv) })
}

func (e *extent) encrypt(b []byte, off int64) {
	e.spread(b, off, func(b []byte, iv uint64) { e.cipher.Encrypt(b, b, int(e.sector), iv) })
}

// A Reader is the data of a volume, decrypted: an [osmith.Source], safe for concurrent use.
// Encryption does not authenticate: if a different program has written to the disk, the data reads
// as noise, without an error.
type Reader struct {
	e   *extent
	src io.ReaderAt
}

var _ osmith.Source = (*Reader)(nil)

// NewReader returns a reader of the data.
func (v *Volume) NewReader(key *Key) (r *Reader, err error) {
	defer prefix.Add(pkg, &err)
	e, err := v.extent(key)
	if err != nil {
		return nil, err
	}
	return &Reader{e, v.src}, nil
}

// Size is the size of the data in bytes.
func (r *Reader) Size() int64 { return r.e.size }

// SectorSize is the size of a sector in bytes, as what is inside sees it.
func (r *Reader) SectorSize() int { return int(r.e.sector) }

// ReadAt implements [io.ReaderAt], at any place. Large pieces that begin and end at sector
// boundaries are decrypted in place and in parallel.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("luks: data: read at %d", off)
	}
	if off >= r.e.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	atEnd := int64(len(p)) > r.e.size-off
	if atEnd {
		p = p[:r.e.size-off]
	}
	for n < len(p) && err == nil {
		var k int
		at := off + int64(n)
		if rest := int64(len(p) - n); at%r.e.sector == 0 && rest >= r.e.sector {
			k, err = r.whole(p[n:n+int(rest/r.e.sector*r.e.sector)], at)
		} else {
			k, err = r.part(p[n:], at)
		}
		n += k
	}
	if err == nil && atEnd {
		return n, io.EOF
	}
	if err != nil {
		err = prefix.Error(pkg, fmt.Errorf("data: %w", err))
	}
	return n, err
}

// whole reads whole sectors into place.
func (r *Reader) whole(p []byte, off int64) (int, error) {
	n, err := r.src.ReadAt(p, r.e.offset+off)
	if n == len(p) {
		err = nil
	} else if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	n = int(int64(n) / r.e.sector * r.e.sector)
	r.e.decrypt(p[:n], off)
	return n, err
}

// part reads a part of one sector.
func (r *Reader) part(p []byte, off int64) (int, error) {
	b := make([]byte, r.e.sector)
	start := off / r.e.sector * r.e.sector
	if _, err := r.whole(b, start); err != nil {
		return 0, err
	}
	return copy(p, b[off-start:]), nil
}

// A Writer writes the data of a volume: by Write from the start on, in one pass, or by WriteAt
// anywhere. Write encrypts in the background, so call [Writer.Close] at the end. Its methods must
// not be called concurrently.
type Writer struct {
	r     *Reader
	v     *Volume
	off   int64 // of the next Write
	buf   []byte
	queue []*writeJob // being encrypted, in their order
	free  [][]byte
	err   error
}

type writeJob struct {
	b    []byte
	off  int64
	done chan struct{}
}

// NewWriter returns a writer of the data.
func (v *Volume) NewWriter(key *Key) (w *Writer, err error) {
	defer prefix.Add(pkg, &err)
	if v.disk == nil {
		return nil, ErrReadOnly
	}
	e, err := v.extent(key)
	if err != nil {
		return nil, err
	}
	return &Writer{r: &Reader{e, v.src}, v: v}, nil
}

// Size is the size of the data in bytes.
func (w *Writer) Size() int64 { return w.r.e.size }

// SectorSize is the size of a sector in bytes, as what is inside sees it.
func (w *Writer) SectorSize() int { return int(w.r.e.sector) }

// Write encrypts the next bytes, from the start of the data on. If p does not fit, Write returns an
// error and writes none of it.
func (w *Writer) Write(p []byte) (n int, err error) {
	defer prefix.Add(pkg, &err)
	if w.err != nil {
		return 0, w.err
	}
	if room := w.r.e.size - w.off - int64(len(w.buf)); int64(len(p)) > room {
		return 0, fmt.Errorf("data: %d bytes, but there is room for %d", len(p), room)
	}
	for len(p) > 0 && w.err == nil {
		if w.buf == nil {
			w.buf = w.buffer()
		}
		k := min(len(p), chunk-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p, n = p[k:], n+k
		if len(w.buf) == chunk {
			w.start()
		}
	}
	return n, w.err
}

// buffer is an empty one; it may have to wait for it.
func (w *Writer) buffer() []byte {
	if len(w.queue) > workers() {
		w.wait()
	}
	if n := len(w.free); n > 0 {
		b := w.free[n-1]
		w.free = w.free[:n-1]
		return b[:0]
	}
	return make([]byte, 0, chunk)
}

// start has the buffer encrypted.
func (w *Writer) start() {
	job := &writeJob{w.buf, w.off, make(chan struct{})}
	w.off, w.buf = w.off+int64(len(w.buf)), nil
	w.queue = append(w.queue, job)
	go func() {
		defer close(job.done)
		w.r.e.encrypt(job.b, job.off)
	}()
}

// wait writes what has been encrypted first.
func (w *Writer) wait() {
	job := w.queue[0]
	<-job.done
	w.queue = append(w.queue[:0], w.queue[1:]...)
	if w.err == nil {
		w.err = w.write(job.b, job.off)
	}
	w.free = append(w.free, job.b)
}

// write puts encrypted bytes on the disk.
func (w *Writer) write(b []byte, off int64) error {
	n, err := w.v.disk.WriteAt(b, w.r.e.offset+off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	return nil
}

// Close writes what is pending from calls of Write, with the last sector filled up with zeros, and
// syncs the disk, if the disk supports that. The disk stays open. Data after the last written
// sector is unchanged.
func (w *Writer) Close() (err error) {
	defer prefix.Add(pkg, &err)
	if w.err == errClosed {
		return nil
	}
	if n := int64(len(w.buf)) % w.r.e.sector; n > 0 {
		w.buf = append(w.buf, make([]byte, w.r.e.sector-n)...)
	}
	if len(w.buf) > 0 {
		w.start()
	}
	for len(w.queue) > 0 {
		w.wait()
	}
	if w.err == nil {
		w.err = w.v.sync()
	}
	err, w.err = w.err, errClosed
	return err
}

var errClosed = errors.New("data: the writer is closed")

// ReadAt implements [io.ReaderAt]: with it, a Writer is an [osmith.Disk] that a file system can be
// made on. It does not return data that is still pending from Write.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.r.ReadAt(p, off) }

var _ osmith.Disk = (*Writer)(nil)

// Sync returns when all data written by WriteAt is on stable storage, if the disk supports that.
func (w *Writer) Sync() error { return prefix.Error(pkg, w.v.sync()) }

// WriteAt implements [io.WriterAt], at any place. If only a part of a sector is written, the rest
// is read and written again: a power cut leaves the old or the new sector, provided that the disk's
// sectors are at least as large. p is not changed.
func (w *Writer) WriteAt(p []byte, off int64) (n int, err error) {
	defer prefix.Add(pkg, &err)
	if off < 0 || off > w.r.e.size || int64(len(p)) > w.r.e.size-off {
		return 0, fmt.Errorf("data: %d bytes at %d, but there are %d", len(p), off, w.r.e.size)
	}
	if w.err == errClosed {
		return 0, w.err
	}
	sector := w.r.e.sector
	buf := make([]byte, min(int64(len(p))+2*sector, int64(workers())*chunk)/sector*sector)
	for n < len(p) {
		at := off + int64(n)
		start := at / sector * sector
		skip := int(at - start)
		k := min(len(p)-n, len(buf)-skip)
		end := (int64(skip+k) + sector - 1) / sector * sector
		b := buf[:end]
		if err := w.fill(b, start, skip, k); err != nil {
			return n, err
		}
		copy(b[skip:], p[n:n+k])
		w.r.e.encrypt(b, start)
		if err := w.write(b, start); err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// fill reads the first and the last sector of b where k bytes from skip on do not cover them.
func (w *Writer) fill(b []byte, start int64, skip, k int) error {
	sector := int(w.r.e.sector)
	if skip > 0 || k < sector {
		if _, err := w.r.whole(b[:sector], start); err != nil {
			return fmt.Errorf("data: %w", err)
		}
	}
	if last := len(b) - sector; last > 0 && skip+k < len(b) {
		if _, err := w.r.whole(b[last:], start+int64(last)); err != nil {
			return fmt.Errorf("data: %w", err)
		}
	}
	return nil
}
