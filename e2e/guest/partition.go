//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/partition"
)

// settle is how long a partition may take to appear after its driver loaded.
const settle = 20 * time.Second

// diskOf opens the disk of a partition, by the name of its node, and reads its table.
func diskOf(part string) (*osmith.Device, *partition.Table, error) {
	real, err := filepath.EvalSymlinks("/sys/class/block/" + part)
	if err != nil {
		return nil, nil, err
	}
	disk, err := osmith.OpenFile("/dev/" + filepath.Base(filepath.Dir(real)))
	if err != nil {
		return nil, nil, err
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return nil, nil, errors.Join(err, disk.Close())
	}
	return disk, table, nil
}

// findPartition waits for the partition with a PARTUUID and returns the name
// of its node in /dev.
func findPartition(id string) (string, error) {
	id = strings.ToLower(id)
	for deadline := time.Now().Add(settle); ; time.Sleep(50 * time.Millisecond) {
		dirs, err := filepath.Glob("/sys/class/block/*")
		if err != nil {
			return "", err
		}
		var seen []string
		for _, dir := range dirs {
			has, err := partitionID(dir)
			if err != nil {
				// A device may go away while it is looked at; the list tells.
				has = err.Error()
			}
			if has == "" {
				continue
			}
			if has == id {
				return filepath.Base(dir), nil
			}
			seen = append(seen, filepath.Base(dir)+": "+has)
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no partition has PARTUUID %s; there are %q", id, seen)
		}
	}
}

// partitionID returns the unique GUID of a partition given its directory in
// sysfs, and "" for what is none. Kernel 7.2 tells it in the uevent file; 6.12
// does not, and there the partition table has to.
func partitionID(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "partition"))
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return "", err
	}
	b, err = os.ReadFile(filepath.Join(dir, "uevent"))
	if err != nil {
		return "", err
	}
	for _, l := range strings.Split(string(b), "\n") {
		if id, ok := strings.CutPrefix(l, "PARTUUID="); ok {
			return strings.ToLower(id), nil
		}
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return tableID(filepath.Dir(real), number)
}

// tableID reads the unique GUID of entry number (from 1) out of a disk's
// primary GPT: UEFI Specification 2.10, 5.3.2 and 5.3.3. The kernel has checked
// the table before it made partitions of it.
func tableID(disk string, number int) (string, error) {
	b, err := os.ReadFile(filepath.Join(disk, "queue/logical_block_size"))
	if err != nil {
		return "", err
	}
	sector, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return "", err
	}
	f, err := os.Open("/dev/" + filepath.Base(disk))
	if err != nil {
		return "", err
	}
	defer f.Close()
	header := make([]byte, 92)
	if _, err := f.ReadAt(header, sector); err != nil {
		return "", err
	}
	if string(header[:8]) != "EFI PART" {
		return "", fmt.Errorf("%s has no GPT", filepath.Base(disk))
	}
	le := binary.LittleEndian
	first, count, size := le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:])
	if number < 1 || number > int(count) {
		return "", fmt.Errorf("%s has %d entries, not %d", filepath.Base(disk), count, number)
	}
	entry := make([]byte, 32)
	if _, err := f.ReadAt(entry, int64(first)*sector+int64(number-1)*int64(size)); err != nil {
		return "", err
	}
	return efi.GUID(entry[16:]).String(), nil
}
