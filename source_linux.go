package osmith

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// lseek(2), since Linux 3.1.
const (
	seekData = 3
	seekHole = 4
)

// nextData finds the first data in [off, end) of a file by SEEK_DATA. ok is false when its file
// system cannot say. The file position, which ReadAt does not use, is put back.
func nextData(f *os.File, off, end int64) (start, stop int64, ok bool) {
	old, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, 0, false
	}
	defer f.Seek(old, io.SeekStart)
	start, err = f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) { // nothing but a hole up to the end of the file
		if info, err := f.Stat(); err != nil || info.Size() < end {
			return 0, 0, false // the file has become shorter: let the read say so
		}
		return end, end, true
	}
	if err != nil || start < off {
		return 0, 0, false
	}
	if start >= end {
		return end, end, true
	}
	stop, err = f.Seek(start, seekHole)
	if err != nil || stop <= start {
		return 0, 0, false
	}
	return start, min(stop, end), true
}

// blkSSZGet is BLKSSZGET of include/uapi/linux/fs.h: the logical sector size as an int.
const blkSSZGet = 0x1268

// sectorSize asks a block device. Anything else does not know the request.
func sectorSize(f *os.File) int {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	var size int32
	var failed syscall.Errno
	err = conn.Control(func(fd uintptr) {
		_, _, failed = syscall.Syscall(syscall.SYS_IOCTL, fd, blkSSZGet, uintptr(unsafe.Pointer(&size)))
	})
	if err != nil || failed != 0 || size < 512 {
		return 0
	}
	return int(size)
}

// flock locks the file without waiting.
func flock(f *os.File) error {
	err := control(f, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return &LockedError{f.Name()}
	}
	if err != nil {
		return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

func funlock(f *os.File) error {
	if err := control(f, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_UN) }); err != nil {
		return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

// control calls do with the file's descriptor, again where a signal interrupts it.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failed := conn.Control(func(fd uintptr) {
		for err = do(int(fd)); err == syscall.EINTR; err = do(int(fd)) {
		}
	})
	return errors.Join(failed, err)
}
