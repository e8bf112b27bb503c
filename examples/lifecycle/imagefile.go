package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith/examples/acmeos"
)

// errPowerCut is what writes meet once the power is gone.
var errPowerCut = errors.New("the power is gone")

// imageFile is a disk image as upgrade wants a disk, with a plug to pull.
type imageFile struct {
	*os.File
	size int64
	left int64 // bytes until the cut; negative: no cut
}

// createImage makes a sparse file of the size of the disk.
func createImage(name string, size int64) (*imageFile, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &imageFile{f, size, -1}, nil
}

func (d *imageFile) Size() int64 { return d.size }

func (d *imageFile) cutAfter(bytes int64) { d.left = bytes }
func (d *imageFile) restore()             { d.left = -1 }

// WriteAt writes until the power is cut, whole sectors up to there, and nothing afterwards.
func (d *imageFile) WriteAt(b []byte, off int64) (int, error) {
	if d.left < 0 {
		return d.File.WriteAt(b, off)
	}
	if int64(len(b)) <= d.left {
		d.left -= int64(len(b))
		return d.File.WriteAt(b, off)
	}
	n, err := d.File.WriteAt(b[:d.left/512*512], off)
	d.left = 0
	return n, errors.Join(errPowerCut, err)
}

// Sync succeeds at once while there is no power to fail on: the cut shows at the next write.
func (d *imageFile) Sync() error {
	if d.left == 0 {
		return errPowerCut
	}
	return d.File.Sync()
}

// layerFile is where the layout keeps the root file system of a set.
func layerFile(dir string, set *acmeos.Set) (string, error) {
	if _, err := set.Root.Seek(0, 0); err != nil {
		return "", err
	}
	d, err := digest.SHA256.FromReader(set.Root)
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
