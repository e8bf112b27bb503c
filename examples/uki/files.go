package main

import (
	"errors"
	"os"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/decompress"
)

// openKernel opens a kernel. One that is compressed as a whole is decompressed into a temporary
// file, as an image holds the plain one.
func openKernel(c *cli.Call, name string) (osmith.Source, error) {
	in, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	format, err := decompress.Format(in)
	if err != nil {
		return nil, about{name, err}
	}
	if !slices.Contains([]string{"gzip", "zstd", "xz"}, format) {
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
	if _, err = decompress.Kernel(f, in, decompress.Options{}); err != nil {
		return nil, about{name, err}
	}
	plain, err := osmith.NewDevice(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return plain, nil
}

// unameOf is the version of a kernel that package uki does not find, since it stands in what only
// package decompress reads; "" for any other.
func unameOf(kernel osmith.Source) (string, error) {
	var compressed *uki.CompressedError
	if _, err := uki.ProbeUname(kernel); err == nil || !errors.As(err, &compressed) || !compressed.Payload {
		return "", nil
	}
	return decompress.Uname(kernel)
}
