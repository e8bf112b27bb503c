package acmeos

import (
	"context"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/partition"
)

// DiskOptions are the sizes of a new disk. They are for ever: partitions do not grow, so the slots
// must hold the releases of years to come.
type DiskOptions struct {
	RootSize int64 // of each slot's root partition; 0: the root image plus half, in whole MiB
	ESPSize  int64 // 0: the loader and three UKIs of this size plus half
	Slots    int   // 0: two

	Files []osmith.ESPFile // more files of the ESP

	State osmith.Source // content of a partition that outlives every version; nil: there is none

	// Enroll puts the Secure Boot keys onto the ESP, where systemd-boot finds them and enrols them
	// into a machine in setup mode.
	Enroll bool
}

// Disk plans the first disk of a system: an ESP with the loader and the UKI of set, slot A with its
// root file system, slot B empty. The result is written with partition.WriteImage. The first
// version of a new disk has nothing to fall back to, so its tries are not counted.
func (b *Builder) Disk(set *Set, o DiskOptions) (*partition.Image, error) {
	loader, err := b.SignedLoader()
	if err != nil {
		return nil, err
	}
	d := build.DiskOptions{Seed: b.Seed, SlotSize: o.RootSize, ESPSize: o.ESPSize, Slots: o.Slots, Files: o.Files, Time: b.Time,
		Loader: &bootloader.Installation{Loader: loader, Config: &bootloader.Config{Timeout: "0"}}}
	if o.State != nil {
		d.More = []partition.Spec{{Type: partition.LinuxGeneric, Name: "state", Content: o.State}}
	}
	if o.Enroll {
		d.Enroll, d.EnrollOptions = b.Keys.SecureBoot, b.enrollOptions()
	}
	image, err := build.Disk(context.Background(), set.Release(), d)
	if err != nil {
		return nil, err
	}
	return image.Image, nil
}

// ESP is the EFI system partition of that disk.
func (b *Builder) ESP(set *Set, o DiskOptions) (osmith.Source, error) {
	image, err := b.Disk(set, o)
	if err != nil {
		return nil, err
	}
	return image.Content(0), nil
}

// PartitionOf returns the extent of a slot's root partition of a disk: to look at it, or to damage
// it.
func PartitionOf(disk osmith.Source, rootHash []byte) (off, size int64, err error) {
	t, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return 0, 0, err
	}
	data, _, err := partition.VerityIDs(rootHash)
	if err != nil {
		return 0, 0, err
	}
	i := t.Find(data)
	if i < 0 {
		return 0, 0, fmt.Errorf("no partition %s", data)
	}
	off, size = t.Extent(i)
	return off, size, nil
}
