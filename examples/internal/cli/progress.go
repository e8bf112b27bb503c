package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// interval is how often progress is shown.
const interval = 200 * time.Millisecond

func validProgress(how string) bool {
	return slices.Contains([]string{"auto", "bar", "json", "none"}, how)
}

// Progress is how the verb shows how far it is: some times a second and at the end, a bar if stderr
// is a terminal, JSON lines with -progress json. It is nil if nothing is to be shown. Done and
// total are bytes; the function is not for several goroutines.
func (c *Call) Progress() func(done, total int64) {
	draw := c.drawBar
	switch c.progress {
	case "none":
		return nil
	case "auto":
		if !isTerminal(c.Stderr) {
			return nil
		}
	case "json":
		draw = c.drawJSON
	}
	c.reportEnd()
	var last time.Time
	return func(done, total int64) {
		if done == total && c.Err() != nil {
			return // the end of a job that is cancelled is not reached
		}
		if now := time.Now(); done == total || now.Sub(last) >= interval {
			last = now
			draw(done, total)
		}
	}
}

// Watch shows how much of total is done until the function returned is called, for work whose
// progress is a number that can be read at any time. A goroutine draws, so that counting costs
// nothing. The end is shown when the work is known to have succeeded: with the next one, with the
// answer, or when the call ends without an error.
func (c *Call) Watch(total int64, done func() int64) (finish func()) {
	draw := c.Progress()
	if draw == nil {
		return func() {}
	}
	stop := make(chan struct{})
	var stopped sync.WaitGroup
	stopped.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				draw(min(done(), total-1), total)
			case <-stop:
				return
			}
		}
	})
	return func() {
		close(stop)
		stopped.Wait()
		c.end = func() { draw(total, total) } // what is skipped is not counted
	}
}

// reportEnd shows the end of work that was watched, unless the call is cancelled.
func (c *Call) reportEnd() {
	if c.end != nil && c.Err() == nil {
		c.end()
	}
	c.end = nil
}

func (c *Call) drawBar(done, total int64) {
	const width = 40
	full := int(width * float64(done) / float64(max(total, 1)))
	fmt.Fprintf(c.Stderr, "\r%s [%s%s] %d / %d MiB", c.Verb, strings.Repeat("=", full), strings.Repeat(" ", width-full), done>>20, total>>20)
	if done == total {
		fmt.Fprintln(c.Stderr)
	}
}

func (c *Call) drawJSON(done, total int64) {
	// An error of stderr has nowhere to go.
	_ = json.NewEncoder(c.Stderr).Encode(map[string]any{"verb": c.Verb, "done": done, "total": total})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
