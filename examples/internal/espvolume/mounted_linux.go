package espvolume

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade"
)

// fatMagic is MSDOS_SUPER_MAGIC of statfs(2).
const fatMagic = 0x4d44

// isMountedFAT reports whether a directory is on a FAT, which the kernel has mounted then.
func isMountedFAT(dir string) (bool, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return false, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return s.Type == fatMagic, nil
}

// FindMounted finds what is mounted on a directory, until the call ends.
func FindMounted(c *cli.Call, dir string) (*Mounted, error) {
	m := new(Mounted)
	disk, err := upgrade.OpenDiskOf(dir) // an automount unit mounts it now
	if err != nil {
		return nil, err
	}
	m.Disk = disk
	want, err := os.Stat(dir)
	if err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	c.AtEnd(func() { _ = m.Disk.Close() }) // nothing is written through it
	if m.Mounted, err = upgrade.FindMounted(m.Disk); err != nil {
		return nil, err
	}
	c.AtEnd(func() { _ = upgrade.CloseMounted(m.Mounted) }) // each change was synced
	for id, v := range m.Mounted {
		if d, ok := v.(*upgrade.MountedDirectory); ok {
			if info, err := os.Stat(d.Name()); err != nil {
				return nil, err
			} else if os.SameFile(info, want) {
				m.ID = id
				return m, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: it is not where a boot partition of %s is mounted: name the mount point", dir, m.Disk.File().Name())
}
