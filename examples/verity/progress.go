package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A bar shows how far a verb is. It is drawn by a goroutine, so that counting costs nothing.
type bar struct {
	done    atomic.Int64
	total   int64
	stop    chan struct{}
	stopped sync.WaitGroup
	draw    func(done, total int64, last bool)
}

// watch counts what is read of the inputs until the function returned is called.
func (c *call) watch(total int64, inputs ...*input) (finish func()) {
	b := &bar{total: total, stop: make(chan struct{})}
	switch c.progress {
	case "none":
		return func() {}
	case "auto":
		if !isTerminal(c.stderr) {
			return func() {}
		}
		fallthrough
	case "bar":
		b.draw = c.drawBar
	case "json":
		b.draw = c.drawJSON
	}
	for _, in := range inputs {
		in.count = func(n int) { b.done.Add(int64(n)) }
	}
	b.stopped.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.draw(min(b.done.Load(), total), total, false)
			case <-b.stop:
				b.draw(total, total, true) // holes are not read
				return
			}
		}
	})
	return func() {
		close(b.stop)
		b.stopped.Wait()
	}
}

func (c *call) drawBar(done, total int64, last bool) {
	const width = 40
	full := int(width * done / max(total, 1))
	fmt.Fprintf(c.stderr, "\r%s [%s%s] %d / %d MiB", c.verb, strings.Repeat("=", full), strings.Repeat(" ", width-full), done>>20, total>>20)
	if last {
		fmt.Fprintln(c.stderr)
	}
}

func (c *call) drawJSON(done, total int64, _ bool) {
	// An error of stderr has nowhere to go.
	_ = json.NewEncoder(c.stderr).Encode(map[string]any{"verb": c.verb, "done": done, "total": total})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
