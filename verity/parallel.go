package verity

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
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
