package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
)

// An input is a file or block device that is read, and counts what is read for the bar.
type input struct {
	*osmith.Device
	section *io.SectionReader // what is read of it
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
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	var device *osmith.Device
	if err == nil {
		device, err = osmith.NewDevice(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &input{Device: device, section: io.NewSectionReader(device, 0, device.Size()), info: info, count: func(int) {}}, nil
}

func (in *input) Size() int64 { return in.section.Size() }

func (in *input) ReadAt(b []byte, off int64) (int, error) {
	n, err := in.section.ReadAt(b, off)
	in.count(n)
	return n, err
}

// NextData lets holes be passed over.
func (in *input) NextData(off int64) (start, end int64, err error) {
	start, end, err = in.Device.NextData(off)
	return min(start, in.Size()), min(end, in.Size()), err
}

func (in *input) same(other *input) bool { return os.SameFile(in.info, other.info) }

// first is the same file, cut after so many bytes.
func (in *input) first(n int64) *input {
	cut := *in
	cut.section = io.NewSectionReader(in.Device, 0, min(n, in.Size()))
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
