package upgrade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/blockdev"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
)

// MountedDirectory is a [MountedVolume] of Linux at its mount point. Close it after use.
type MountedDirectory struct {
	root *os.Root
}

// OpenMountedDirectory opens the directory on which a FAT is mounted, as /efi. It does not check
// that: [FindMounted] does.
func OpenMountedDirectory(dir string) (*MountedDirectory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, prefix.Error("upgrade", err)
	}
	return &MountedDirectory{root}, nil
}

// Name is the path of the directory.
func (d *MountedDirectory) Name() string { return d.root.Name() }

// Close closes the directory.
func (d *MountedDirectory) Close() error { return d.root.Close() }

// Create implements [MountedVolume]. A file that cannot be written completely is removed again, if
// that is possible.
func (d *MountedDirectory) Create(name string, content osmith.Source) (err error) {
	f, err := d.root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(f, io.NewSectionReader(content, 0, content.Size()), make([]byte, copyChunk))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, d.root.Remove(filepath.FromSlash(name)))
	}
	return nil
}

// Exchange implements [MountedVolume]. If the kernel or the file system does not support it, the
// error is a [*MountError].
func (d *MountedDirectory) Exchange(a, b string) (err error) {
	var dirs [2]*os.File
	for i, name := range []string{a, b} {
		if dirs[i], err = d.root.Open(filepath.Dir(filepath.FromSlash(name))); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, dirs[i].Close()) }()
	}
	err = unix.Renameat2(int(dirs[0].Fd()), path.Base(a), int(dirs[1].Fd()), path.Base(b), unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		return &MountError{d.Name(), "the kernel cannot exchange two names of a FAT, which takes Linux 6.0: unmount the boot partition"}
	case err != nil:
		return &os.LinkError{Op: "renameat2", Old: a, New: b, Err: err}
	}
	return nil
}

// Remove implements [MountedVolume]. An open file keeps its clusters until it is closed.
func (d *MountedDirectory) Remove(name string) error {
	f, err := d.root.Open(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	err = d.root.Remove(filepath.FromSlash(name))
	if err == nil {
		err = d.Sync()
	}
	return errors.Join(err, f.Close())
}

// Mkdir implements [MountedVolume].
func (d *MountedDirectory) Mkdir(name string) error {
	return d.root.Mkdir(filepath.FromSlash(name), 0o700)
}

// Sync implements [MountedVolume] by syncfs(2).
func (d *MountedDirectory) Sync() (err error) {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failed := conn.Control(func(fd uintptr) { err = unix.Syncfs(int(fd)) })
	if err = errors.Join(failed, err); err != nil {
		return &os.PathError{Op: "syncfs", Path: d.Name(), Err: err}
	}
	return nil
}

// MountError says why a mounted boot partition cannot be changed through its mount point.
type MountError struct {
	Directory string
	Reason    string
}

func (e *MountError) Error() string { return fmt.Sprintf("%s: %s", e.Directory, e.Reason) }

// FindMounted finds the boot partitions of a disk that are mounted here, for [Machine].Mounted; an
// empty map if none is mounted, or if the disk is not a block device. If a mount cannot be used for
// changes, because it is read-only or shows only a part of the file system, the error is a
// [*MountError]. An automount unit without a mount does not count. Close the directories after use
// ([CloseMounted]).
func FindMounted(disk *osmith.Device) (mounted map[osmith.GUID]MountedVolume, err error) {
	defer prefix.Add("upgrade", &err)
	mounted = map[osmith.GUID]MountedVolume{}
	defer func() {
		if err != nil {
			err = errors.Join(err, CloseMounted(mounted))
			mounted = nil
		}
	}()
	device, err := blockdev.Of(disk.File())
	if errors.Is(err, errors.ErrUnsupported) {
		return mounted, nil
	}
	if err != nil {
		return mounted, err
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return mounted, err
	}
	parts, err := device.Partitions()
	if err != nil {
		return mounted, err
	}
	mounts, err := blockdev.Mounts()
	if err != nil {
		return mounted, err
	}
	for i, p := range table.Partitions {
		if p.Type != partition.ESP && p.Type != partition.XBOOTLDR {
			continue
		}
		off, _ := table.Extent(i)
		k := slices.IndexFunc(parts, func(known blockdev.Partition) bool { return known.Offset == off })
		if k < 0 {
			continue
		}
		dir, err := mountedOn(mounts, parts[k].ID)
		if err != nil {
			return mounted, err
		}
		if dir == "" {
			continue
		}
		d, err := OpenMountedDirectory(dir)
		if err != nil {
			return mounted, err
		}
		mounted[p.ID] = d
	}
	return mounted, nil
}

// mountedOn is the directory on which a device is mounted whole, for writing; "" if it is mounted
// nowhere.
func mountedOn(mounts []blockdev.Mount, device string) (dir string, err error) {
	for _, m := range mounts {
		if m.Device != device {
			continue
		}
		switch {
		case m.Type != "vfat":
			err = &MountError{m.Dir, fmt.Sprintf("the boot partition is mounted as %s, want vfat", m.Type)}
		case m.Root != "/":
			err = &MountError{m.Dir, fmt.Sprintf("only the directory %s of the boot partition is mounted", m.Root)}
		case slices.Contains(m.Options, "ro"):
			err = &MountError{m.Dir, "the boot partition is mounted read-only: remount it for writing, or unmount it"}
		default:
			return m.Dir, nil
		}
	}
	return "", err
}

// CloseMounted closes the directories of [FindMounted].
func CloseMounted(mounted map[osmith.GUID]MountedVolume) error {
	var errs []error
	for _, v := range mounted {
		if c, ok := v.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// OpenDiskOf opens, for writing, the disk whose partition is mounted on a directory, as on /efi.
// Close it after use.
func OpenDiskOf(dir string) (disk *osmith.Device, err error) {
	defer prefix.Add("upgrade", &err)
	part, err := blockdev.Below(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, &MountError{dir, "not on a block device: name the directory on which the ESP is mounted"}
	}
	if err != nil {
		return nil, err
	}
	whole, ok, err := part.Disk()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &MountError{dir, part.Node + " is not a partition of a disk"}
	}
	return openForWriting(whole.Node)
}
