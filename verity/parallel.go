package verity

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// maxWorkers bounds memory on machines with many cores; by then the device is
// slower than the hashing.
const maxWorkers = 16

// inOrder runs jobs 0 to n-1 on all cores and hands the results to consume in the
// order of the jobs, one at a time. Each goroutine calls newWorker once, for what
// it needs of its own. Results are reused, and only a few are ahead of the consumer
// at any time, so the memory does not depend on n. The error is that of the lowest
// job that failed, whatever the scheduling.
func inOrder[T any](ctx context.Context, n int64, newWorker func() func(job int64, out *T) error, consume func(job int64, out *T) error) error {
	type result struct {
		job int64
		err error
		out T
	}
	ctx, cancel := context.WithCancel(ctx)
	workers := int(min(int64(min(runtime.GOMAXPROCS(0), maxWorkers)), n))
	ahead := 4 * workers
	free := make(chan *result, ahead)
	for range ahead {
		free <- new(result)
	}
	done := make(chan *result, ahead)

	var next atomic.Int64
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range workers {
		group.Go(func() {
			work := newWorker()
			for {
				select {
				case <-ctx.Done():
					return
				case r := <-free:
					// A job is taken only with a result in hand, so the oldest
					// job that is missing is always being worked on.
					if r.job = next.Add(1) - 1; r.job >= n {
						return
					}
					r.err = work(r.job, &r.out)
					done <- r
				}
			}
		})
	}

	waiting := make(map[int64]*result, ahead)
	for job := int64(0); job < n; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-done:
			waiting[r.job] = r
		}
		for r := waiting[job]; r != nil; r = waiting[job] {
			delete(waiting, job)
			if r.err != nil {
				return r.err
			}
			if err := consume(job, &r.out); err != nil {
				return err
			}
			free <- r
			job++
		}
	}
	return ctx.Err()
}

const (
	readSize = 256 << 10 // bytes per read of the data; a larger data block is one read
	jobSize  = 2 << 20   // bytes of data per job; a power of two, as all block sizes are
)

// jobBlocks returns the number of data blocks of a job. It fills whole hash blocks,
// or a hash block is filled by whole jobs.
func (l *layout) jobBlocks() int64 { return jobSize / int64(l.DataBlockSize) }

// jobs returns the number of jobs.
func (l *layout) jobs() int64 { return (l.dataBlocks()-1)/l.jobBlocks() + 1 }

// wide reports whether a hash block of level 1 covers more than one job.
func (l *layout) wide() bool { return l.PerBlock > l.jobBlocks() }

// A dataReader hashes data, by several goroutines.
type dataReader struct {
	*layout
	src osmith.Source

	mu sync.Mutex // looking for holes may move a file's position for a moment
}

// nextData returns where data starts again at or after off, and where it ends.
func (d *dataReader) nextData(off int64) (start, end int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	start, end, err = sparse.NextData(d.src, off)
	if err != nil {
		return 0, 0, fmt.Errorf("data: find data at %#x: %w", off, err)
	}
	return start, end, nil
}

// appendSlots appends the slots of the data blocks of a job.
func (d *dataReader) appendSlots(ctx context.Context, slots []byte, job int64, hash *hashtree.Hasher, buf []byte) ([]byte, error) {
	size := int64(d.DataBlockSize)
	off := job * jobSize
	end := min(off+jobSize, d.dataSize())
	for off < end {
		start, stop, err := d.nextData(off)
		if err != nil {
			return nil, err
		}
		hole := (min(start, end) - off) / size // whole blocks
		slots = hash.AppendHole(slots, hole)
		off += hole * size
		if stop < end {
			stop = (stop + size - 1) / size * size
		}
		stop = min(stop, end)
		for off < stop {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b := buf[:min(stop-off, int64(len(buf)))]
			if err := hashtree.ReadFull(d.src, b, off, "data"); err != nil {
				return nil, err
			}
			slots = hash.AppendData(slots, b)
			off += int64(len(b))
		}
	}
	return slots, nil
}

// newBuffer returns a buffer for reading whole data blocks.
func (l *layout) newBuffer() []byte { return make([]byte, max(readSize, l.DataBlockSize)) }
