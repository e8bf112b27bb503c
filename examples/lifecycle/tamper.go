package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith/examples/acmeos"
)

// layerFile is where the layout keeps the root file system of a set.
func layerFile(dir string, set *acmeos.Set) (string, error) {
	d, err := digest.SHA256.FromReader(io.NewSectionReader(set.Root, 0, set.Root.Size()))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "blobs", "sha256", d.Encoded()), nil
}

// flip changes one bit of a file and returns how to change it back.
func flip(name string, off int64) (undo func() error, err error) {
	change := func() error {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		var b [1]byte
		if _, err := f.ReadAt(b[:], off); err != nil {
			return errors.Join(err, f.Close())
		}
		b[0] ^= 1
		_, err = f.WriteAt(b[:], off)
		return errors.Join(err, f.Close())
	}
	return change, change()
}
