package blockdev

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Device is a block device as sysfs shows it.
type Device struct {
	Dir  string // below /sys/devices
	ID   string // major and minor number: "8:1"
	Node string // "/dev/sda1"
}

// Partition is a partition that the kernel knows of a disk.
type Partition struct {
	Device
	Number       int   // in the table
	Offset, Size int64 // in bytes
}

// Of is the block device that a file is. One that is none is [errors.ErrUnsupported].
func Of(f *os.File) (Device, error) {
	info, err := f.Stat()
	if err != nil {
		return Device{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
		return Device{}, fmt.Errorf("%s is not a block device: %w", f.Name(), errors.ErrUnsupported)
	}
	return byNumber(uint64(stat.Rdev))
}

// Below is the block device whose file system a file or directory is on. One that is on none, as on
// a tmpfs or a file system with several devices, is [errors.ErrUnsupported].
func Below(name string) (Device, error) {
	f, err := os.Open(name) // and not stat(2), by which an automount unit mounts nothing
	if err != nil {
		return Device{}, err
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return Device{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Device{}, errors.ErrUnsupported
	}
	d, err := byNumber(uint64(stat.Dev))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is not on a block device: %w", name, errors.ErrUnsupported)
	}
	return d, err
}

func byNumber(dev uint64) (Device, error) {
	return read(filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))))
}

func read(dir string) (d Device, err error) {
	if d.Dir, err = filepath.EvalSymlinks(dir); err != nil {
		return d, err
	}
	id, err := os.ReadFile(filepath.Join(d.Dir, "dev"))
	if err != nil {
		return d, err
	}
	// A slash in the name of a node is "!" in sysfs.
	d.ID, d.Node = strings.TrimSpace(string(id)), "/dev/"+strings.ReplaceAll(filepath.Base(d.Dir), "!", "/")
	return d, nil
}

// Disk is the disk that the device is a partition of; false if it is none.
func (d Device) Disk() (disk Device, ok bool, err error) {
	if _, err := os.Stat(filepath.Join(d.Dir, "partition")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return disk, false, err
	}
	disk, err = read(filepath.Dir(d.Dir))
	return disk, err == nil, err
}

// Partitions are those that the kernel knows of the disk, which may be others than its table has by
// now.
func (d Device) Partitions() ([]Partition, error) { return PartitionsBelow(d.Dir) }

// PartitionsBelow reads the partitions of a disk from its directory in sysfs.
func PartitionsBelow(disk string) (list []Partition, err error) {
	entries, err := os.ReadDir(disk)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		dir := filepath.Join(disk, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
			continue
		}
		var p Partition
		if p.Device, err = read(dir); err != nil {
			return nil, err
		}
		var v [3]int64
		for i, attribute := range []string{"partition", "start", "size"} {
			b, err := os.ReadFile(filepath.Join(dir, attribute))
			if err != nil {
				return nil, err
			}
			if v[i], err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 54); err != nil {
				return nil, fmt.Errorf("%s of %s: %w", attribute, dir, err)
			}
		}
		// sysfs counts in 512 bytes, whatever the sector size
		p.Number, p.Offset, p.Size = int(v[0]), v[1]*512, v[2]*512
		list = append(list, p)
	}
	return list, nil
}

// exclusive opens with O_EXCL what the kernel knows of a disk in a range: partitions must be used
// by nothing, and the disk itself neither.
func exclusive(f *os.File, off, n int64) (release func() error, err error) {
	d, err := Of(f)
	if err != nil {
		return nil, err
	}
	parts, err := d.Partitions()
	if err != nil {
		return nil, err
	}
	var held []*os.File
	release = func() error {
		var errs []error
		for _, f := range held {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	for _, p := range parts {
		if off >= p.Offset+p.Size || p.Offset >= off+n {
			continue
		}
		node, err := os.OpenFile(p.Node, os.O_RDONLY|syscall.O_EXCL, 0)
		if errors.Is(err, syscall.EBUSY) {
			err = p.inUse(&InUseError{Name: p.Node})
		}
		if err != nil {
			return nil, errors.Join(err, release())
		}
		held = append(held, node)
	}
	// A program that has the whole disk open has all of its partitions.
	if err := d.inUse(nil); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// inUse finds what uses a device; otherwise is the error if nothing is found.
func (d Device) inUse(otherwise error) error {
	used := &InUseError{Name: d.Node}
	holders, err := os.ReadDir(filepath.Join(d.Dir, "holders"))
	if err != nil {
		return err
	}
	for _, h := range holders {
		used.Holders = append(used.Holders, h.Name())
	}
	mounts, err := Mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Device == d.ID && used.MountPoint == "" {
			used.MountPoint = m.Dir
		}
	}
	if used.MountPoint == "" && used.Holders == nil {
		return otherwise
	}
	return used
}

// Mount is a mount that this process sees: a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	Device  string   // "8:1"
	Root    string   // directory of the file system that is mounted
	Dir     string   // mount point
	Options []string // of the mount and of the file system
	Type    string   // "vfat"
}

// Mounts are those that this process sees, in the kernel's order.
func Mounts() ([]Mount, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(b)
}

func parseMounts(b []byte) (list []Mount, err error) {
	for line := range bytes.Lines(b) {
		of, system, ok := strings.Cut(string(line), " - ")
		f, s := strings.Fields(of), strings.Fields(system)
		if !ok || len(f) < 6 || len(s) < 3 {
			return nil, fmt.Errorf("/proc/self/mountinfo: %q: want a mount", line)
		}
		list = append(list, Mount{f[2], unescape(f[3]), unescape(f[4]), strings.Split(f[5]+","+s[2], ","), s[0]})
	}
	return list, nil
}

// unescape reads a path in which the kernel has written blanks, tabs, line ends and backslashes as
// three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
