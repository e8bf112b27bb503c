package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/osmith-dev/osmith/uki"
)

// An input is a file as the packages want one. It counts what is read.
type input struct {
	file *os.File
	size int64
	name string
	read *atomic.Int64 // of all inputs of a call

	temporary bool
}

func (in *input) Size() int64 { return in.size }

func (in *input) ReadAt(b []byte, off int64) (int, error) {
	n, err := in.file.ReadAt(b, off)
	in.read.Add(int64(n))
	return n, err
}

// The inputs of a call are closed together.
type inputs struct {
	all  []*input
	read atomic.Int64
}

func (ins *inputs) open(name string) (*input, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd) // of a block device, too
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	in := &input{f, size, name, &ins.read, false}
	ins.all = append(ins.all, in)
	return in, nil
}

// openKernel opens a kernel. One that is compressed with gzip is decompressed into a temporary file, as an image holds the
// plain one.
func (ins *inputs) openKernel(name string) (*input, error) {
	in, err := ins.open(name)
	if err != nil {
		return nil, err
	}
	magic := make([]byte, 2)
	if _, err := in.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return in, nil // whatever it is, package uki says more about it
	}
	f, err := os.CreateTemp("", "kernel-")
	if err != nil {
		return nil, err
	}
	plain := &input{file: f, name: name, read: new(atomic.Int64), temporary: true}
	ins.all = append(ins.all, plain)
	if plain.size, err = uki.DecompressKernel(f, in); err != nil {
		return nil, about{name, err}
	}
	return plain, nil
}

// watch shows how much is read, of about total bytes, until the function returned is called.
func (c *call) watch(total int64) (finish func()) {
	start := c.read.Load()
	return c.Watch(total, func() int64 { return c.read.Load() - start })
}

// total is how many bytes the inputs have.
func (ins *inputs) total() (n int64) {
	for _, in := range ins.all {
		if !in.temporary {
			n += in.size
		}
	}
	return n
}

func (ins *inputs) close() {
	for _, in := range ins.all {
		_ = in.file.Close() // it was only read
		if in.temporary {
			_ = os.Remove(in.file.Name())
		}
	}
	ins.all = nil
}
