// Package blockdev says what the kernel does with a block device: its partitions, what is mounted
// of them, and whether something uses them.
package blockdev

import (
	"errors"
	"fmt"
	"os"
)

// InUseError says that the kernel uses a part of a disk that is to be written: who writes below a
// mounted file system destroys it.
type InUseError struct {
	Name string // of the block device, "/dev/sda1"
	// where it is mounted; "": it is not, or that cannot be seen from here, as in another mount
	// namespace
	MountPoint string
	Holders    []string // devices that are made of it: "dm-0"
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use: mounted on %q, by %q", e.Name, e.MountPoint, e.Holders)
}

// Excluder is a disk that can keep the kernel from using n bytes at off of it until release is
// called: what is mounted of that, or made of it, is an [*InUseError]. An error that matches
// [errors.ErrUnsupported] says that this is not known.
type Excluder interface {
	Exclusive(off, n int64) (release func() error, err error)
}

// Exclusive keeps the kernel from using n bytes at off of a disk until release is called. Of one
// that is neither an [Excluder] nor a block device, as of an image in a file, it is not known what
// uses it, and nothing is held.
func Exclusive(disk any, off, n int64) (release func() error, err error) {
	switch disk := disk.(type) {
	case Excluder:
		release, err = disk.Exclusive(off, n)
	case interface{ File() *os.File }:
		release, err = exclusive(disk.File(), off, n)
	default:
		err = errors.ErrUnsupported
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return func() error { return nil }, nil
	}
	return release, err
}
