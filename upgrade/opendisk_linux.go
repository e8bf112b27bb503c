package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// notDisks are prefixes of block devices that firmware starts nothing from: what the kernel makes
// of others, and drives for media.
var notDisks = []string{"loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd", "mtdblock"}

// OpenDisk opens the disk that the machine was booted from, for writing: the one block device that
// has the partition, as for [FindDisk]. It reads each disk of the machine; a disk of size 0, such
// as a card reader without a card, is ignored. It needs the permission to open block devices. Close
// it after use.
func OpenDisk(bootedFrom osmith.GUID) (disk *osmith.Device, err error) {
	defer prefix.Add("upgrade", &err)
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil, err
	}
	disks := map[string]osmith.Source{}
	defer func() {
		for _, d := range disks {
			err = errors.Join(err, d.(*osmith.Device).Close())
		}
		if err != nil && disk != nil {
			err, disk = errors.Join(err, disk.Close()), nil
		}
	}()
	for _, e := range entries {
		if slices.ContainsFunc(notDisks, func(prefix string) bool { return strings.HasPrefix(e.Name(), prefix) }) {
			continue
		}
		size, err := os.ReadFile(filepath.Join("/sys/block", e.Name(), "size"))
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(string(size)) == "0" {
			continue
		}
		name := "/dev/" + strings.ReplaceAll(e.Name(), "!", "/")
		d, err := osmith.OpenFile(name)
		if err != nil {
			return nil, err
		}
		disks[name] = d
	}
	name, err := FindDisk(disks, bootedFrom)
	if err != nil {
		return nil, err
	}
	return openForWriting(name)
}

func openForWriting(name string) (*osmith.Device, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	disk, err := osmith.NewDevice(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return disk, nil
}
