package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// An input is a file or block device that is read, and counts what is read for the bar.
type input struct {
	*os.File
	section *io.SectionReader
	info    os.FileInfo
	count   func(n int)
}

// How inputs are opened.
const (
	flagRead      = os.O_RDONLY
	flagReadWrite = os.O_RDWR
)

func openInput(name string, flag int) (*input, error) {
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	in := &input{File: f, count: func(int) {}}
	if in.info, err = f.Stat(); err == nil && in.info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err == nil {
		var size int64
		size, err = f.Seek(0, io.SeekEnd) // of a block device, too
		in.section = io.NewSectionReader(f, 0, size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return in, nil
}

func (in *input) Size() int64 { return in.section.Size() }

func (in *input) ReadAt(b []byte, off int64) (int, error) {
	n, err := in.section.ReadAt(b, off)
	in.count(n)
	return n, err
}

// NextData lets holes be passed over.
func (in *input) NextData(off int64) (start, end int64, err error) {
	return sparse.NextData(in.section, off)
}

func (in *input) same(other *input) bool { return os.SameFile(in.info, other.info) }

// first is the same file, cut after so many bytes.
func (in *input) first(n int64) *input {
	cut := *in
	cut.section = io.NewSectionReader(in.File, 0, min(n, in.Size()))
	return &cut
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
