package main

import "sync/atomic"

// watch counts what is read of the inputs until the function returned is called, and shows it.
func (c *call) watch(total int64, inputs ...*input) (finish func()) {
	var done atomic.Int64
	for _, in := range inputs {
		in.count = func(n int) { done.Add(int64(n)) }
	}
	return c.Watch(total, done.Load)
}
