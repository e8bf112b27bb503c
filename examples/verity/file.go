package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

// first is a file cut after so many bytes.
func first(in *cli.Input, n int64) osmith.Source {
	return io.NewSectionReader(in, 0, min(n, in.Size()))
}

// sameName reports whether two names are one file, which need not exist.
func sameName(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}
