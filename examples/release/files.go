package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// files are closed at the end of a call, and those that are temporary are removed.
type files struct{ drop []func() }

func (f *files) close() {
	for _, drop := range f.drop {
		drop()
	}
}

// create makes a temporary file in a directory, or where the system has such files.
func (f *files) create(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, ".release-")
	if err != nil {
		return nil, err
	}
	f.drop = append(f.drop, func() {
		_ = file.Close() // whatever is in it was used already
		_ = os.Remove(file.Name())
	})
	return file, nil
}

// open opens a file or a block device as the packages want it.
func (f *files) open(name string) (*io.SectionReader, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	var size int64
	if err == nil {
		size, err = file.Seek(0, io.SeekEnd) // of a block device, too
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f.drop = append(f.drop, func() { _ = file.Close() }) // it was only read
	return io.NewSectionReader(file, 0, size), nil
}
