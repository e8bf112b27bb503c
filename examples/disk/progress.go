package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progressFunc shows how far a verb is, five times a second and at the end; nil shows nothing.
func (c *call) progressFunc() (func(done, total int64), error) {
	var draw func(done, total int64)
	switch c.progress {
	case "none":
		return nil, nil
	case "auto":
		if !isTerminal(c.stderr) {
			return nil, nil
		}
		draw = c.drawBar
	case "bar":
		draw = c.drawBar
	case "json":
		draw = c.drawJSON
	default:
		return nil, usagef("-progress %q: want auto, bar, json or none", c.progress)
	}
	var last time.Time
	return func(done, total int64) {
		if now := time.Now(); done == total || now.Sub(last) >= 200*time.Millisecond {
			last = now
			draw(done, total)
		}
	}, nil
}

func (c *call) drawBar(done, total int64) {
	const width = 40
	full := int(width * float64(done) / float64(max(total, 1)))
	fmt.Fprintf(c.stderr, "\r%s [%s%s] %d / %d MiB", c.verb, strings.Repeat("=", full), strings.Repeat(" ", width-full), done>>20, total>>20)
	if done == total {
		fmt.Fprintln(c.stderr)
	}
}

func (c *call) drawJSON(done, total int64) {
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
