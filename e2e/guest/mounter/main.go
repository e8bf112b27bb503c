//go:build linux

// Mounter has the kernel mount an image of a file system on a test machine, and lists what is in
// it, a file a line. Of this list it prints the SHA-256 digest, and all of it if the digest is not
// the one that is expected: the console is slow. Of an ext4 it also writes a file, has the file
// system grow while it is mounted, and mounts it once more.
//
//	mounter squashfs|erofs IMAGE DIGEST
//	mounter ext4 IMAGE DIGEST BYTES
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: mounter squashfs|erofs IMAGE DIGEST | mounter ext4 IMAGE DIGEST BYTES")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, "mounter:", err)
		os.Exit(1)
	}
}

func run(kind, image, digest string, more []string) (err error) {
	var size int64
	if kind == "ext4" {
		if size, err = strconv.ParseInt(more[0], 10, 64); err != nil {
			return err
		}
		if err := os.Truncate(image, size); err != nil {
			return err
		}
	}
	device, detach, err := loop(image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, detach()) }()
	show := func(dir string) error { return list(dir, digest) }
	dir, err := os.MkdirTemp("/run", "mounted")
	if err != nil {
		return err
	}
	if kind != "ext4" {
		return mounted(device, dir, kind, unix.MS_RDONLY, show)
	}
	if err := mounted(device, dir, kind, 0, func(dir string) error { return errors.Join(show(dir), grow(dir, size)) }); err != nil {
		return err
	}
	return mounted(device, dir, kind, unix.MS_RDONLY, func(dir string) error {
		got, err := os.ReadFile(dir + "/written")
		if err == nil && !bytes.Equal(got, written()) {
			err = errors.New("the file that was written has other bytes after the file system was mounted again")
		}
		return err
	})
}

// loop makes a block device of a file.
func loop(image string) (device string, detach func() error, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", nil, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", nil, fmt.Errorf("a free loop device: %w", err)
	}
	device = fmt.Sprintf("/dev/loop%d", n)
	back, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return "", nil, err
	}
	defer back.Close()
	var d *os.File
	for range 100 { // the node appears a moment later
		if d, err = os.OpenFile(device, os.O_RDWR, 0); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return "", nil, err
	}
	if err := unix.IoctlSetInt(int(d.Fd()), unix.LOOP_SET_FD, int(back.Fd())); err != nil {
		return "", nil, errors.Join(fmt.Errorf("%s: %w", device, err), d.Close())
	}
	return device, func() error {
		return errors.Join(unix.IoctlSetInt(int(d.Fd()), unix.LOOP_CLR_FD, 0), d.Close())
	}, nil
}

func mounted(device, dir, kind string, flags uintptr, do func(dir string) error) error {
	if err := unix.Mount(device, dir, kind, flags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", kind, err)
	}
	return errors.Join(do(dir), unix.Unmount(dir, 0))
}

// list has of each file: path, mode, owner, size, time, and its digest, target or device; then its
// extended attributes but for labels, which the kernel may make up.
func list(dir, digest string) error {
	var lines bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		info, err := e.Info()
		if err != nil || name == "" || name == "lost+found" {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		size, what := info.Size(), ""
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what = fmt.Sprintf("%x", sha256.Sum256(b))
		case info.Mode()&fs.ModeSymlink != 0:
			if what, err = os.Readlink(path); err != nil {
				return err
			}
		default:
			size = 0
			what = fmt.Sprintf("%d:%d", unix.Major(s.Rdev), unix.Minor(s.Rdev))
		}
		fmt.Fprintf(&lines, "%q %v %d:%d %d %d %s\n", name, info.Mode(), s.Uid, s.Gid, size, info.ModTime().Unix(), what)
		return listXattrs(&lines, path)
	})
	got := fmt.Sprintf("%x", sha256.Sum256(lines.Bytes()))
	if got != digest {
		fmt.Print(lines.String())
	}
	fmt.Println(got)
	return err
}

func listXattrs(lines *bytes.Buffer, path string) error {
	b := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, b)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	names := strings.Split(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if name == "security.selinux" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(lines, "  %s %x\n", name, b[:n])
	}
	return nil
}

func written() []byte { return bytes.Repeat([]byte("written by the kernel\n"), 100_000) }

// grow makes a mounted ext4 as large as its device, then writes a file.
func grow(dir string, size int64) error {
	blocks := func() (uint64, error) {
		var s unix.Statfs_t
		err := unix.Statfs(dir, &s)
		return s.Blocks * uint64(s.Bsize), err
	}
	before, err := blocks()
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	const resize = 0x40086610 // EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64)
	n := uint64(size / 4096)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), resize, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return fmt.Errorf("grow to %d blocks: %w", n, errno)
	}
	after, err := blocks()
	if err != nil {
		return err
	}
	if after <= before {
		return fmt.Errorf("the file system has %d bytes after growing, and had %d", after, before)
	}
	f, err := os.Create(dir + "/written")
	if err != nil {
		return err
	}
	_, err = f.Write(written())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	fmt.Printf("grown %v\n", after > uint64(size)*9/10)
	return nil
}
