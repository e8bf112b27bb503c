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
// file system destroys it. Unmount the partition, or name it in Machine.Mounted.
type InUseError struct {
	Name string // name of the block device: "/dev/sda1"
	// where it is mounted; "": it is not mounted, or not in this mount namespace
	MountPoint string
	Holders    []string // devices that use it: "dm-0"
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

// MountedVolume is a boot partition that the kernel has mounted, so only the kernel may write to it
// ([Machine].Mounted). Its contents are read from the disk, as firmware reads them, after each
// Sync. Paths have slashes and begin below the root of the file system. Changes may reach the
// medium late and in any order; Sync returns when all are on the medium.
//
// What a mounted FAT guarantees. The vfat driver of Linux has no journal: after a power cut, any of
// the sectors changed since the last sync may be old or new. So a renamed file may be lost under
// both names; a removed file may stay under its 8.3 name, without its boot counter; and the
// clusters of a replaced file may be free before the new file has the name. This package makes
// changes so that this does not happen to files that the loader reads: it writes the contents under
// a temporary name; creates an empty file with the final name; and then exchanges the two
// (RENAME_EXCHANGE, Linux 6.0), which changes the start clusters of two directory entries, each in
// one sector, and frees no clusters. A file to be removed is exchanged with an empty file in the
// same way. After each of these steps the file system is synced. So after a power cut the loader's
// menu is either the old or the new one. A power cut may also leave two names on one chain of
// clusters, or clusters without a name, which the kernel does not detect: the error is an
// [*UnrepairedError] until fsck.fat, or an operation on the unmounted partition, has repaired it. A
// commit copies the UKI and needs free space of its size.
type MountedVolume interface {
	// Create makes a file; if the file exists, the error is [fs.ErrExist].
	Create(name string, content osmith.Source) error
	// Exchange exchanges the names of two files.
	Exchange(a, b string) error
	// Remove removes a file, or an empty directory. The clusters of a file become free only after
	// its name is gone from the medium: the file is unlinked, the file system synced, and then the
	// file closed.
	Remove(name string) error
	// Mkdir makes a directory whose parent exists.
	Mkdir(name string) error
	// Sync returns when the whole file system is on the medium.
	Sync() error
}

// UnrepairedError says that a mounted file system has damage that cannot be repaired while it is
// mounted: unmount it, then call again or run fsck.fat.
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
