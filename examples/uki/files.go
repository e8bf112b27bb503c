package main

import (
	"bytes"
	"errors"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/uki"
)

// openKernel opens a kernel. One that is compressed with gzip is decompressed into a temporary file, as an image holds the
// plain one.
func openKernel(c *cli.Call, name string) (osmith.Source, error) {
	in, err := c.Open(name)
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
	c.AtEnd(func() {
		_ = f.Close() // it is not kept
		_ = os.Remove(f.Name())
	})
	if _, err = uki.DecompressKernel(f, in); err != nil {
		return nil, about{name, err}
	}
	plain, err := osmith.NewDevice(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return plain, nil
}
