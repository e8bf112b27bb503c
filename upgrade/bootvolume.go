package upgrade

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
)

// BootVolume is a boot partition of a disk, for programs that make their own changes: each change
// is as safe as those of an upgrade, and is on the medium when its method returns. A partition that
// Machine.Mounted names is changed through the kernel, as [MountedVolume] describes; any other
// partition is opened exclusively. It is an [fs.FS] of what is on the disk. Its methods must not be
// used concurrently.
type BootVolume struct {
	volume *bootVolume
	disk   *checkedDisk
	ends   []func() error
}

// OpenBootVolume opens the partition of a disk with that unique ID, a FAT; the zero ID is the ESP,
// if the disk has exactly one. The disk must have a method Sync, and is locked until the volume is
// closed. If the partition is mounted and not named in m.Mounted, the error is an [*InUseError]; if
// it is mounted and damaged, an [*UnrepairedError].
func OpenBootVolume(disk osmith.Disk, id osmith.GUID, m Machine) (v *BootVolume, err error) {
	defer prefix.Add("upgrade", &err)
	v = &BootVolume{disk: checked(disk)}
	release, err := take(v.disk)
	if err != nil {
		return nil, err
	}
	v.ends = append(v.ends, release)
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close())
			v = nil
		}
	}()
	return v, v.open(id, m)
}

// OpenBeside opens a second partition of the same disk. The disk stays locked until the first one
// is closed.
func (v *BootVolume) OpenBeside(id osmith.GUID, m Machine) (beside *BootVolume, err error) {
	defer prefix.Add("upgrade", &err)
	beside = &BootVolume{disk: v.disk}
	if err := beside.open(id, m); err != nil {
		return nil, errors.Join(err, beside.Close())
	}
	return beside, nil
}

func (v *BootVolume) open(id osmith.GUID, m Machine) error {
	table, err := partition.Read(v.disk, partition.ReadOptions{})
	if err != nil {
		return err
	}
	i := table.Find(id)
	if id.IsZero() {
		i, err = (&Machine{}).findESP(table)
	}
	if err == nil && i < 0 {
		err = fmt.Errorf("no partition has the ID %s", id)
	}
	if err != nil {
		return err
	}
	if v.volume, err = m.openVolume(v.disk, table, i); err != nil {
		return err
	}
	only := &bootFS{esp: v.volume}
	held, err := only.exclusively(v.disk)
	if err != nil {
		return err
	}
	v.ends = append(v.ends, held)
	return only.repaired()
}

// Close releases the disk and the partition.
func (v *BootVolume) Close() error {
	var errs []error
	for i := len(v.ends) - 1; i >= 0; i-- {
		errs = append(errs, v.ends[i]())
	}
	v.ends = nil
	return prefix.Error("upgrade", errors.Join(errs...))
}

// Open implements [fs.FS].
func (v *BootVolume) Open(name string) (fs.File, error) { return v.volume.Open(name) }

// ReadDir implements [fs.ReadDirFS].
func (v *BootVolume) ReadDir(name string) ([]fs.DirEntry, error) { return v.volume.ReadDir(name) }

// Stat implements [fs.StatFS].
func (v *BootVolume) Stat(name string) (fs.FileInfo, error) { return v.volume.Stat(name) }

// WriteFile makes a file; if the file exists, the error is [fs.ErrExist]. Its directory must exist.
func (v *BootVolume) WriteFile(name string, content osmith.Source) error {
	return v.synced(v.volume.WriteFile(name, content))
}

// ReplaceFile replaces the contents of an existing file.
func (v *BootVolume) ReplaceFile(name string, content osmith.Source) error {
	return v.synced(v.volume.ReplaceFile(name, content))
}

// Rename gives a file a new name in its directory; if the name is taken, the error is
// [fs.ErrExist]. On a mounted volume it needs free space of the file's size.
func (v *BootVolume) Rename(from, to string) error { return v.synced(v.volume.Rename(from, to)) }

// Remove removes a file or an empty directory.
func (v *BootVolume) Remove(name string) error { return v.synced(v.volume.Remove(name)) }

// MkdirAll makes a directory and its missing parents. The directory may exist already.
func (v *BootVolume) MkdirAll(name string) error { return v.synced(v.volume.MkdirAll(name)) }

func (v *BootVolume) synced(err error) error {
	if err == nil {
		err = toMedium(v.disk)
	}
	return prefix.Error("upgrade", err)
}
