package espvolume

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// A Volume is a file system that the loader reads, and where changes of it go. A method that
// changes something returns when that is on the medium.
type Volume interface {
	fs.FS

	// Put gives a file its content, whether it is there or not. Directories above it are made.
	Put(name string, content osmith.Source) error

	// Rename gives a file another name in its directory. One that is taken is an [fs.ErrExist].
	Rename(from, to string) error

	// Remove removes a file, or an empty directory.
	Remove(name string) error
}

// A fatVolume is a FAT of an image or a device, which nothing else writes to. A power cut leaves a
// file as it was, or as it shall be.
type fatVolume struct {
	*fat.FS
	sync func() error
}

// Put implements [Volume].
func (v *fatVolume) Put(name string, content osmith.Source) error {
	_, err := v.Stat(name)
	if err == nil {
		return v.synced(v.ReplaceFile(name, content))
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err = v.MkdirAll(path.Dir(name)); err == nil {
			err = v.WriteFile(name, content)
		}
	}
	return v.synced(err)
}

// Rename implements [Volume].
func (v *fatVolume) Rename(from, to string) error { return v.synced(v.FS.Rename(from, to)) }

// Remove implements [Volume].
func (v *fatVolume) Remove(name string) error { return v.synced(v.FS.Remove(name)) }

func (v *fatVolume) synced(err error) error {
	if err != nil {
		return err
	}
	return v.sync()
}

// A mountedVolume is a boot partition that the kernel has mounted, and writes to. A power cut
// leaves a file as it was, or as it shall be.
type mountedVolume struct{ *upgrade.BootVolume }

// Put implements [Volume].
func (v *mountedVolume) Put(name string, content osmith.Source) error {
	_, err := v.Stat(name)
	switch {
	case err == nil:
		return v.ReplaceFile(name, content)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := v.MkdirAll(path.Dir(name)); err != nil {
		return err
	}
	return v.WriteFile(name, content)
}

// A Directory is a directory. What a power cut leaves of a change is up to its file system.
type Directory struct {
	fs.FS
	root *os.Root
}

// Put implements [Volume]: beside the name, synced, renamed, and the directories synced.
func (v *Directory) Put(name string, content osmith.Source) error {
	if err := v.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	partial := name + bootloader.PartialSuffix
	err := v.write(partial, content)
	if err == nil {
		err = v.root.Rename(partial, name)
	}
	if err != nil {
		gone := v.root.Remove(partial)
		if errors.Is(gone, fs.ErrNotExist) {
			gone = nil
		}
		return errors.Join(err, gone)
	}
	return v.syncAbove(name)
}

func (v *Directory) write(name string, content osmith.Source) error {
	f, err := v.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.NewSectionReader(content, 0, content.Size()))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Rename implements [Volume].
func (v *Directory) Rename(from, to string) error {
	if _, err := v.root.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := v.root.Rename(from, to); err != nil {
		return err
	}
	return v.syncAbove(to)
}

// Remove implements [Volume].
func (v *Directory) Remove(name string) error {
	if err := v.root.Remove(name); err != nil {
		return err
	}
	return v.syncAbove(name)
}

// syncAbove syncs the directories above a name, the innermost first. Windows cannot sync one.
func (v *Directory) syncAbove(name string) error {
	for dir := path.Dir(name); runtime.GOOS != "windows"; dir = path.Dir(dir) {
		f, err := v.root.Open(filepath.FromSlash(dir))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
		if dir == "." {
			break
		}
	}
	return nil
}

// Mounted is the partition that is mounted on a directory, and its disk.
type Mounted struct {
	Disk    *osmith.Device
	Mounted map[osmith.GUID]upgrade.MountedVolume
	ID      osmith.GUID
}
