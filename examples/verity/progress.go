package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// watch counts what is read of the inputs until the function returned is called, and shows it. A goroutine draws, so that
// counting costs nothing.
func (c *call) watch(total int64, inputs ...*input) (finish func()) {
	draw := c.Progress()
	if draw == nil {
		return func() {}
	}
	var done atomic.Int64
	for _, in := range inputs {
		in.count = func(n int) { done.Add(int64(n)) }
	}
	stop := make(chan struct{})
	var stopped sync.WaitGroup
	stopped.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				draw(min(done.Load(), total-1), total)
			case <-stop:
				draw(total, total) // holes are not read
				return
			}
		}
	})
	return func() {
		close(stop)
		stopped.Wait()
	}
}
