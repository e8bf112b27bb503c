package main

import (
	"fmt"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// openDiskOf opens the disk whose ESP is mounted on a directory. The directory stays open: where an
// automount unit mounts it, opening is what does, and it stays mounted.
func openDiskOf(c *cli.Call, dir string) (*osmith.Device, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	c.AtEnd(func() { _ = f.Close() }) // nothing was written through it
	return closed(c)(upgrade.OpenDiskOf(dir))
}

func openStartedDisk(c *cli.Call, startedFrom osmith.GUID) (*osmith.Device, error) {
	return closed(c)(upgrade.OpenDisk(startedFrom))
}

// closed has a disk closed when the call ends.
func closed(c *cli.Call) func(*osmith.Device, error) (*osmith.Device, error) {
	return func(d *osmith.Device, err error) (*osmith.Device, error) {
		if err == nil {
			c.AtEnd(func() { _ = d.Close() }) // what was written was synced before
		}
		return d, err
	}
}

// findMounted finds what is mounted of a disk. Reading may go through a mount that cannot be
// changed: the kernel has nothing to write there.
func findMounted(c *cli.Call, disk *osmith.Device, write bool) (map[osmith.GUID]upgrade.MountedVolume, error) {
	mounted, err := upgrade.FindMounted(disk)
	if is[*upgrade.MountError](err) && !write {
		fmt.Fprintln(c.Stderr, err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// they are synced when something is changed
	c.AtEnd(func() { _ = upgrade.CloseMounted(mounted) })
	return mounted, nil
}

// tellKernel has the kernel know the partitions of a device that was installed.
func tellKernel(disk *osmith.Device) error {
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return err
	}
	return partition.UpdateKernel(disk.File(), table)
}

// openEFIVars opens a copy of efivarfs for writing, or, for "", that of this machine.
func openEFIVars(dir string) (bootloader.VariableStore, error) { return bootloader.OpenEFIVarFS(dir) }
