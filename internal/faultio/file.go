package faultio

import (
	"errors"
	"os"
)

// DiskOf is a disk that holds those bytes, which must not be changed afterwards.
func DiskOf(content []byte) *Disk {
	d := NewDisk(int64(len(content)))
	d.replayWrite(content, 0)
	return d
}

// Load is a disk with the content of a file.
func Load(name string) (*Disk, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return DiskOf(b), nil
}

// Save writes the disk to a file for a tool, which is as large as the disk and has holes where that
// has zeros.
func (d *Disk) Save(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = d.WriteTo(f)
	return errors.Join(err, f.Truncate(d.size), f.Close())
}
