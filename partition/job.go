package partition

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// job is a range of the disk to be written: content, or zeros.
type job struct {
	off, size int64
	content   osmith.Source // of exactly size bytes; nil: zeros
	name      string        // of the partition; "": between partitions
}

func (j job) fail(err error) error {
	if j.name == "" {
		return fmt.Errorf("zeros at %d: %w", j.off, err)
	}
	return fmt.Errorf("content of %q: %w", j.name, err)
}

func (j job) write(w io.WriterAt, zero bool, progress func(int64)) error {
	to := sparse.Target{W: w, Zero: zero, Sync: true, Progress: progress} // WriteImage syncs
	var err error
	if j.content == nil {
		err = to.Zeros(j.off, j.size)
	} else {
		err = to.Copy(j.off, j.content, j.size)
	}
	if err != nil {
		return j.fail(err)
	}
	return nil
}

// compare reads the range back.
func (j job) compare(r io.ReaderAt, progress func(int64)) error {
	const piece = 256 << 10
	have, want := make([]byte, piece), make([]byte, piece)
	for pos := int64(0); pos < j.size; pos += piece {
		n := min(piece, j.size-pos)
		h, w := have[:n], want[:n]
		if err := sparse.ReadFull(r, h, j.off+pos); err != nil {
			return j.fail(err)
		}
		if j.content != nil {
			if err := sparse.ReadFull(j.content, w, pos); err != nil {
				return j.fail(err)
			}
		}
		if !bytes.Equal(h, w) {
			k := 0
			for h[k] == w[k] {
				k++
			}
			return &ReadBackError{Offset: j.off + pos + int64(k), Partition: j.name}
		}
		progress(n)
	}
	return nil
}

// runner does jobs with a few workers and counts what is done.
type runner struct {
	total    int64
	progress func(done, total int64)

	mu   sync.Mutex
	done int64
}

func (r *runner) add(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	if r.progress != nil {
		r.progress(r.done, r.total)
	}
}

// maxWorkers bounds memory: each worker has a buffer of 1 MiB.
const maxWorkers = 8

// all runs the jobs, taken in order. No new one starts after an error; the error of the first job in order is returned.
func (r *runner) all(jobs []job, do func(job) error) error {
	var (
		mu     sync.Mutex
		next   int
		failed = len(jobs)
		first  error
		group  sync.WaitGroup
	)
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		if first != nil || next == len(jobs) {
			return -1
		}
		next++
		return next - 1
	}
	for range min(runtime.GOMAXPROCS(0), maxWorkers, len(jobs)) {
		group.Go(func() {
			for k := take(); k >= 0; k = take() {
				if err := do(jobs[k]); err != nil {
					mu.Lock()
					if k < failed {
						failed, first = k, err
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return first
}
