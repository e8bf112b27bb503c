package sparse

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func startWriteback(f *os.File, off, n int64) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) { unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE) })
}

// The kernel keeps a folio that lies in a range only in part, and the largest are of this size.
const largestFolio = 2 << 20

func dropCache(f *os.File, off, n int64) (known bool, err error) {
	if n <= 0 {
		return true, nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	first := off / largestFolio * largestFolio
	last := (off + n + largestFolio - 1) / largestFolio * largestFolio
	failed := conn.Control(func(fd uintptr) { err = unix.Fadvise(int(fd), first, last-first, unix.FADV_DONTNEED) })
	if err = errors.Join(failed, err); err != nil {
		return false, &os.PathError{Op: "posix_fadvise", Path: f.Name(), Err: err}
	}
	return true, nil
}
