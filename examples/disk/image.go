package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
)

// An image is a disk image or block device.
type image struct {
	*os.File
	size int64
}

func openImage(name string, flag int) (*image, error) {
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	size, err := sizeOf(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &image{f, size}, nil
}

// openDisk opens an image and reads its table. A disk without one is a negative answer.
func openDisk(name string, flag int) (*image, *partition.Table, error) {
	im, err := openImage(name, flag)
	if err != nil {
		return nil, nil, err
	}
	t, err := partition.Read(im, im.size)
	if err != nil {
		return nil, nil, errors.Join(table(name, err), im.Close())
	}
	return im, t, nil
}

// sizeOf is the size of a regular file or block device.
func sizeOf(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.IsDir() {
		return 0, fmt.Errorf("%s is a directory", f.Name())
	}
	return f.Seek(0, io.SeekEnd)
}

// find is the index of a partition by number, PARTUUID or name. A name that two partitions have is refused.
func find(t *partition.Table, part string) (int, error) {
	if n, err := strconv.Atoi(part); err == nil {
		for i, p := range t.Partitions {
			if p.Number == n {
				return i, nil
			}
		}
	}
	if id, err := osmith.ParseGUID(part); err == nil {
		if i := t.Find(id); i >= 0 {
			return i, nil
		}
	}
	found := -1
	for i, p := range t.Partitions {
		if p.Name != part {
			continue
		}
		if found >= 0 {
			return 0, cli.No{Err: fmt.Errorf("partitions %d and %d are both called %q: use a number or a PARTUUID", t.Partitions[found].Number, p.Number, part)}
		}
		found = i
	}
	if found < 0 {
		return 0, cli.No{Err: fmt.Errorf("no partition %q", part)}
	}
	return found, nil
}

// findESP is the partition of a type when there is only one.
func findESP(t *partition.Table) (int, error) {
	found := -1
	for i, p := range t.Partitions {
		if p.Type != partition.ESP {
			continue
		}
		if found >= 0 {
			return 0, cli.No{Err: fmt.Errorf("partitions %d and %d are both EFI system partitions: name one, as in IMG:%d", t.Partitions[found].Number, p.Number, p.Number)}
		}
		found = i
	}
	if found < 0 {
		return 0, cli.No{Err: errors.New("no EFI system partition")}
	}
	return found, nil
}

// splitPart takes IMG:PART apart, unless a file has the whole name.
func splitPart(operand string) (name, part string) {
	if _, err := os.Stat(operand); err == nil {
		return operand, ""
	}
	if i := strings.LastIndexByte(operand, ':'); i > 1 { // not C:\disk.img
		return operand[:i], operand[i+1:]
	}
	return operand, ""
}
