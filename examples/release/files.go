package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// files are closed together at the end of a call, and those that are temporary are removed.
type files struct {
	all       []*os.File
	temporary []string
}

func (f *files) close() {
	for _, file := range f.all {
		_ = file.Close() // it was only read, or is temporary
	}
	for _, name := range f.temporary {
		_ = os.Remove(name)
	}
}

// create makes a temporary file.
func (f *files) create() (*os.File, error) {
	file, err := os.CreateTemp("", "release-")
	if err != nil {
		return nil, err
	}
	f.all, f.temporary = append(f.all, file), append(f.temporary, file.Name())
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
	f.all = append(f.all, file)
	return io.NewSectionReader(file, 0, size), nil
}

// readSmall reads a document of limited size.
func readSmall(name string) ([]byte, error) {
	const most = 64 << 20
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return b, err
}
