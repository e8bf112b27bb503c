package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
)

// openDisk opens an image and reads its table. A disk without one is a negative answer.
func openDisk(c *cli.Call, name string, flag int) (*cli.Input, *partition.Table, error) {
	im, err := c.OpenFile(name, flag)
	if err != nil {
		return nil, nil, err
	}
	t, err := partition.Read(im, partition.ReadOptions{})
	if err != nil {
		return nil, nil, table(name, err)
	}
	return im, t, nil
}

// find is the index of a partition by number, PARTUUID or name. A name that two partitions have is
// refused.
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
