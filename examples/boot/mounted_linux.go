package main

import (
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade"
)

// findMounted finds what is mounted on a directory, until the call ends.
func findMounted(c *cli.Call, dir string) (*mountedESP, error) {
	want, err := os.Stat(dir) // an automount unit mounts it now
	if err != nil {
		return nil, err
	}
	m := new(mountedESP)
	if m.disk, err = upgrade.OpenDiskOf(dir); err != nil {
		return nil, err
	}
	c.AtEnd(func() { _ = m.disk.Close() }) // nothing is written through it
	if m.mounted, err = upgrade.FindMounted(m.disk); err != nil {
		return nil, err
	}
	c.AtEnd(func() { _ = upgrade.CloseMounted(m.mounted) }) // each change was synced
	for id, v := range m.mounted {
		if d, ok := v.(*upgrade.MountedDirectory); ok {
			if info, err := os.Stat(d.Name()); err != nil {
				return nil, err
			} else if os.SameFile(info, want) {
				m.id = id
				return m, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: it is not where a boot partition of %s is mounted: name the mount point", dir, m.disk.File().Name())
}
