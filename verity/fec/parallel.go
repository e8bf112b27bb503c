package fec

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// maxWorkers bounds memory on machines with many cores; by then the device is
// slower than the arithmetic.
const maxWorkers = 16

func workers() int { return min(runtime.GOMAXPROCS(0), maxWorkers) }

// parallel runs jobs 0 to n-1 in so many goroutines. Each calls newWorker once, for
// what it needs of its own. No job starts after one has failed; the error is that of
// the lowest job among those that did.
func parallel(ctx context.Context, workers int, n int64, newWorker func() func(job int64) error) error {
	var (
		group   sync.WaitGroup
		next    atomic.Int64
		mu      sync.Mutex
		failed  = n
		failure error
		stop    atomic.Bool
	)
	for range min(int64(workers), n) {
		group.Go(func() {
			work := newWorker()
			for !stop.Load() && ctx.Err() == nil {
				job := next.Add(1) - 1
				if job >= n {
					return
				}
				if err := work(job); err != nil {
					stop.Store(true)
					mu.Lock()
					if job < failed {
						failed, failure = job, err
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	if failure != nil {
		return failure
	}
	return ctx.Err()
}
