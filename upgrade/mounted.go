package upgrade

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/blockdev"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// InUseError says that the kernel uses a partition that is to be written: writing below a mounted
// file system destroys it.
type InUseError struct {
	Name string // of the block device, "/dev/sda1"
	// where it is mounted; "": it is not, or that cannot be seen from here, as in another mount
	// namespace
	MountPoint string
	Holders    []string // devices that are made of it: "dm-0"
}

func (e *InUseError) Error() string {
	switch {
	case e.MountPoint != "":
		return fmt.Sprintf("%s is mounted on %s: unmount it first", e.Name, e.MountPoint)
	case len(e.Holders) > 0:
		return fmt.Sprintf("%s is in use by %s", e.Name, strings.Join(e.Holders, " and "))
	}
	return fmt.Sprintf("%s is in use by the kernel or by another program: its mount point is not visible from here", e.Name)
}

// MountedVolume is a boot partition that the kernel has mounted, so that nothing but the kernel may
// write to it ([Machine].Mounted). What is on it is read from the disk, as firmware reads it, after
// each Sync. Paths have slashes and begin below the root of the file system. What a method does may
// reach the medium late and in any order; Sync returns when it has.
//
// What a mounted FAT promises. The vfat driver of Linux has no journal: a power cut leaves any of
// the sectors that it has changed since the last sync. So it may lose a file that is renamed, under
// both of its names; leave one that is removed under its 8.3 name, without its boot counter; and
// free the clusters of what is replaced before the new file has the name. Changes are made here so
// that none of that happens to a file at which the loader looks: contents are written under another
// name; an empty file takes the final name; and then the two are exchanged (RENAME_EXCHANGE, Linux
// 6.0), which changes where two directory entries begin, each in one sector, and frees nothing.
// What goes is exchanged for an empty file in the same way. Between all of these everything is
// synced. So each power cut leaves the loader's menu as it was, or as it shall be. It may also
// leave two names on one chain of clusters, and clusters without a name, which the kernel does not
// see: that is an [*UnrepairedError] until fsck.fat, or an operation that has the partition for
// itself, has repaired it. A commit copies the UKI and takes its room.
type MountedVolume interface {
	// Create makes a file; one that is there is [fs.ErrExist].
	Create(name string, content osmith.Source) error
	// Exchange gives each of two files the name of the other.
	Exchange(a, b string) error
	// Remove removes a file, or an empty directory. The clusters of a file are free only after its
	// name is gone from the medium: it is unlinked, all is synced, and then it is closed.
	Remove(name string) error
	// Mkdir makes a directory, whose parent is there.
	Mkdir(name string) error
	// Sync returns when the whole file system is on the medium.
	Sync() error
}

// UnrepairedError says that a mounted file system has damage that nothing repairs while it is
// mounted.
type UnrepairedError struct {
	Volume string // "the ESP"
	Damage string
}

func (e *UnrepairedError) Error() string {
	return fmt.Sprintf("%s is mounted and damaged: %s; unmount it and try again without Machine.Mounted, or run fsck.fat", e.Volume, e.Damage)
}

// bootVolume is a file system that the loader reads: of a partition that is ours alone, or of one
// that is mounted.
type bootVolume struct {
	*fat.FS
	table   *partition.Table
	index   int // of the partition
	window  *partition.Window
	sector  int
	mounted MountedVolume // nil: only we write
}

// openBoot opens the partitions that the loader reads. An extended boot loader partition that
// cannot be read is an error of its own.
func (m *Machine) openBoot(disk osmith.Disk, t *partition.Table) (b *bootFS, xbootldr error, err error) {
	i, err := m.findESP(t)
	if err != nil {
		return nil, nil, err
	}
	b = new(bootFS)
	if b.esp, err = m.openVolume(disk, t, i); err != nil {
		return nil, nil, err
	}
	if i := findXBOOTLDR(t); i >= 0 {
		if b.xbootldr, err = m.openVolume(disk, t, i); err != nil {
			xbootldr = fmt.Errorf("%w: %w", ErrXBOOTLDR, err)
		}
	}
	return b, xbootldr, nil
}

func (m *Machine) openVolume(disk osmith.Disk, t *partition.Table, i int) (v *bootVolume, err error) {
	v = &bootVolume{table: t, index: i, window: t.Window(disk, i), sector: t.SectorSize, mounted: m.Mounted[t.Partitions[i].ID]}
	if err := v.reload(); err != nil {
		return nil, err
	}
	return v, nil
}

// reload reads the volume anew. What the kernel was told reaches the medium before, and is read
// from there.
func (v *bootVolume) reload() (err error) {
	if v.mounted != nil {
		if err := v.mounted.Sync(); err != nil {
			return fmt.Errorf("sync of the mounted boot partition: %w", err)
		}
		if err := pastCache(v.window); err != nil {
			return err
		}
	}
	v.FS, err = openESP(v.window, v.sector)
	return err
}

// then reloads the volume behind a change by the kernel.
func (v *bootVolume) then(err error) error {
	if err != nil {
		return err
	}
	return v.reload()
}

// isStagedName reports whether a file is one of ours at which the loader does not look. Of a
// removal that was cut its 8.3 name may be left, ACME_2~1.OSM.
func isStagedName(name string) bool {
	name = path.Base(fold(name))
	return strings.HasSuffix(name, stagedSuffix) || path.Ext(name) == stagedSuffix[:4] && strings.Contains(name, "~") && len(name) <= len("acme_2~1.osm")
}

// WriteFile makes a file: a power cut leaves it whole, or not at all.
func (v *bootVolume) WriteFile(name string, content osmith.Source) error {
	if v.mounted == nil {
		return v.FS.WriteFile(name, content)
	}
	if isStagedName(name) {
		return v.then(v.mounted.Create(name, content))
	}
	if err := v.free(name); err != nil {
		return err
	}
	staged, err := v.stage(name, content)
	if err != nil {
		return err
	}
	return v.appear(staged, name)
}

// stage writes what a file shall hold under another name, where the loader does not look, and reads
// it back.
func (v *bootVolume) stage(name string, content osmith.Source) (staged string, err error) {
	staged = name + stagedSuffix
	if err := v.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := v.then(v.mounted.Create(staged, content)); err != nil {
		return "", err
	}
	want, err := digest(content)
	if err != nil {
		return "", err
	}
	have, err := openFile(v.FS, staged)
	if err != nil {
		return "", err
	}
	got, err := digest(have)
	if err == nil && got != want {
		err = &ReadBackError{Path: staged, Want: want}
	}
	return staged, err
}

// free is an error for a name that a file has. An empty one is what a power cut has left, and has
// no meaning to the loader.
func (v *bootVolume) free(name string) error {
	info, err := v.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir() || info.Size() > 0:
		return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	return nil
}

// appear gives a staged file its name. The name is there before it, with an empty file, so that
// what makes the difference is one sector: the start and the size of the file.
func (v *bootVolume) appear(staged, name string) error {
	if err := v.free(name); err != nil {
		return err
	}
	if _, err := v.Stat(name); errors.Is(err, fs.ErrNotExist) {
		if err := v.then(v.mounted.Create(name, bytes.NewReader(nil))); err != nil {
			return err
		}
	}
	if err := v.then(v.mounted.Exchange(staged, name)); err != nil {
		return err
	}
	return v.Remove(staged)
}

// ReplaceFile gives a file other contents: a power cut leaves the old ones or the new ones.
func (v *bootVolume) ReplaceFile(name string, content osmith.Source) error {
	if v.mounted == nil {
		return v.FS.ReplaceFile(name, content)
	}
	staged, err := v.stage(name, content)
	if err != nil {
		return err
	}
	if err := v.then(v.mounted.Exchange(staged, name)); err != nil {
		return err
	}
	return v.Remove(staged)
}

// Rename gives a file another name in its directory: a power cut leaves it under the old name or
// the new one. Of a mounted volume it may leave both, with the same contents: the kernel renames in
// two places, and so one that the loader knows is copied.
func (v *bootVolume) Rename(from, to string) error {
	if v.mounted == nil {
		return v.FS.Rename(from, to)
	}
	if isStagedName(from) {
		return v.appear(from, to)
	}
	src, err := openFile(v.FS, from)
	if err != nil {
		return err
	}
	if err := v.WriteFile(to, src); err != nil {
		return err
	}
	return v.Remove(from)
}

// Remove removes a file or an empty directory. Of a mounted volume a power cut leaves the file
// whole, or empty, or none.
func (v *bootVolume) Remove(name string) error {
	if v.mounted == nil {
		return v.FS.Remove(name)
	}
	info, err := v.Stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Size() == 0 || isStagedName(name) {
		return v.then(v.mounted.Remove(name))
	}
	// Where the loader looks at it, an empty file takes its place first: of a removal a power cut
	// may leave the 8.3 name.
	staged, err := v.stage(name, bytes.NewReader(nil))
	if err != nil {
		return err
	}
	if err := v.then(v.mounted.Exchange(name, staged)); err != nil {
		return err
	}
	if err := v.then(v.mounted.Remove(staged)); err != nil {
		return err
	}
	return v.then(v.mounted.Remove(name))
}

// MkdirAll makes a directory and its parents.
func (v *bootVolume) MkdirAll(name string) error {
	if v.mounted == nil {
		return v.FS.MkdirAll(name)
	}
	info, err := v.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: name, Err: fat.ErrNotDirectory}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if dir := path.Dir(name); dir != "." {
		if err := v.MkdirAll(dir); err != nil {
			return err
		}
	}
	return v.then(v.mounted.Mkdir(name))
}

// Repair puts right what a power cut has left. Of a mounted volume the kernel has its own idea,
// which nothing may contradict.
func (v *bootVolume) Repair() (done fat.Repaired, err error) {
	if v.mounted != nil {
		return done, nil
	}
	if done, err = v.FS.Repair(); err != nil {
		done, err = v.RepairWith(discardStaged)
	}
	return done, err
}

// exclusively keeps the kernel from using partitions while they are written: those of the loader
// that are not said to be mounted, and others by their indices.
func (b *bootFS) exclusively(disk osmith.Disk, others ...int) (release func() error, err error) {
	_ = b.each(func(_ string, v *bootVolume) error {
		if v.mounted == nil {
			others = append(others, v.index)
		}
		return nil
	})
	return hold(disk, b.esp.table, others...)
}

// holdRange keeps the kernel from using a range of a disk.
func holdRange(disk osmith.Disk, off, size int64) (release func() error, err error) {
	release, err = blockdev.Exclusive(disk, off, size)
	if used, ok := errors.AsType[*blockdev.InUseError](err); ok {
		err = &InUseError{used.Name, used.MountPoint, used.Holders}
	}
	return release, err
}

// hold keeps the kernel from using partitions of a disk. Numbers below 0 are none.
func hold(disk osmith.Disk, table *partition.Table, parts ...int) (release func() error, err error) {
	var held []func() error
	release = func() error {
		var errs []error
		for _, r := range held {
			errs = append(errs, r())
		}
		return errors.Join(errs...)
	}
	for _, i := range parts {
		if i < 0 {
			continue
		}
		off, size := table.Extent(i)
		r, err := holdRange(disk, off, size)
		if err != nil {
			return nil, errors.Join(err, release())
		}
		held = append(held, r)
	}
	return release, nil
}

// repaired refuses a volume that is mounted and has damage.
func (b *bootFS) repaired() error {
	return b.each(func(volume string, v *bootVolume) error {
		if v.mounted == nil {
			return nil
		}
		return new(leftover).add(volume, v)
	})
}

// checkMounted refuses what Machine.Mounted has that the disk has not.
func (s *State) checkMounted() error {
	for id := range s.machine.Mounted {
		if s.table.Find(id) < 0 {
			return &NotRunningError{"the mounted partition", id.String()}
		}
	}
	return nil
}
