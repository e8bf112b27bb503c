package verity

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// A Writer writes data to a target and makes its hash tree on the way, so that copying and hashing
// an image takes one read. It hashes in the background. Its methods must not be called
// concurrently.
type Writer struct {
	layout *layout
	data   io.Writer
	tree   io.WriterAt
	up     *builder
	room   int64 // bytes that are still to come
	buf    []byte
	queue  []*writerJob // hashing or hashed, in order
	free   []*writerJob
	limit  int
	root   []byte
	err    error
}

type writerJob struct {
	hash  *hashtree.Hasher
	buf   []byte
	slots []byte
	out   leaves
	done  chan struct{}
}

// NewWriter returns a Writer for the given size of data, on which the place of the tree depends.
// Written bytes go to data, which may be nil to make only the tree; the tree is the one that Format
// writes. It is complete when Finish has returned without an error.
func NewWriter(data io.Writer, tree io.WriterAt, size int64, p Params) (*Writer, error) {
	if tree == nil {
		return nil, prefix.Error("verity", errNone("writer for the tree"))
	}
	l, err := newLayout(p, size)
	if err != nil {
		return nil, prefix.Error("verity", err)
	}
	limit := min(runtime.GOMAXPROCS(0), 8) // of 2 MiB each
	return &Writer{layout: l, data: data, tree: tree, up: newBuilder(l, tree), room: size, limit: limit}, nil
}

// Write implements io.Writer. If p exceeds the announced size, Write returns an error and writes
// none of it. After an error, all later writes fail.
func (w *Writer) Write(b []byte) (n int, err error) {
	defer prefix.Add("verity", &err)
	if w.err != nil {
		return 0, w.err
	}
	if w.root != nil {
		return 0, errFinished
	}
	if int64(len(b)) > w.room {
		w.err = fmt.Errorf("data: %d bytes more than the announced %d", int64(len(b))-w.room, w.layout.dataSize())
		return 0, w.err
	}
	n = len(b)
	if w.data != nil {
		n, w.err = w.data.Write(b)
		if n < 0 || n > len(b) {
			n, w.err = 0, errors.New("invalid count of bytes")
		}
		if n < len(b) && w.err == nil {
			w.err = io.ErrShortWrite
		}
		if w.err != nil {
			w.err = fmt.Errorf("data: write: %w", w.err)
		}
	}
	w.room -= int64(n)
	for rest := b[:n]; len(rest) > 0 && w.err == nil; {
		if w.buf == nil {
			w.buf = w.buffer()
		}
		k := min(len(rest), jobSize-len(w.buf))
		w.buf = append(w.buf, rest[:k]...)
		rest = rest[k:]
		if len(w.buf) == jobSize {
			w.start()
		}
	}
	return n, w.err
}

var errFinished = errors.New("data: write after Finish")

// buffer returns an empty buffer for a job; it may have to wait for one.
func (w *Writer) buffer() []byte {
	if len(w.queue) > w.limit {
		w.wait()
	}
	if len(w.free) == 0 {
		w.free = append(w.free, &writerJob{hash: w.layout.NewHasher(), buf: make([]byte, 0, min(jobSize, w.layout.dataSize()))})
	}
	return w.free[len(w.free)-1].buf[:0]
}

// start hashes the buffer in the background.
func (w *Writer) start() {
	job := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	job.buf, w.buf = w.buf, nil
	job.done = make(chan struct{})
	w.queue = append(w.queue, job)
	go func() {
		defer close(job.done)
		job.slots = job.hash.AppendData(job.slots[:0], job.buf)
		w.layout.fill(job.hash, &job.out, job.slots)
	}()
}

// wait takes the result of the oldest job.
func (w *Writer) wait() {
	job := w.queue[0]
	<-job.done
	w.queue = append(w.queue[:0], w.queue[1:]...)
	w.free = append(w.free, job)
	if w.err == nil {
		w.err = w.up.take(0, &job.out)
	}
}

// Finish writes the rest of the tree and then the superblock, and returns the root hash. If there
// was less data than announced, the error has io.ErrUnexpectedEOF in its chain. Finish closes
// neither writer.
func (w *Writer) Finish() ([]byte, error) {
	if w.err == nil && w.root == nil {
		w.finish()
	}
	if w.err != nil {
		return nil, prefix.Error("verity", w.err)
	}
	return w.root, nil
}

func (w *Writer) finish() {
	if w.room > 0 {
		w.err = fmt.Errorf("data: %d of %d bytes: %w", w.layout.dataSize()-w.room, w.layout.dataSize(), io.ErrUnexpectedEOF)
		return
	}
	if len(w.buf) > 0 {
		w.start()
	}
	for len(w.queue) > 0 {
		w.wait()
	}
	if w.err != nil {
		return
	}
	root, err := w.up.finish()
	if err == nil {
		err = w.layout.writeSuperblock(w.tree)
	}
	w.root, w.err = root, err
}
