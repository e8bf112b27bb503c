package sparse

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lseek(2), since Linux 3.1.
const (
	seekData = 3
	seekHole = 4
)

// fileData finds the first data in [off, end) of a file by SEEK_DATA. ok is false when r is no file or its file system
// cannot say. The file position, which ReadAt does not use, is put back.
func fileData(r io.ReaderAt, off, end int64) (start, stop int64, ok bool) {
	f, isFile := r.(*os.File)
	if !isFile {
		return 0, 0, false
	}
	old, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, 0, false
	}
	defer f.Seek(old, io.SeekStart)
	start, err = f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) { // nothing but a hole up to the end of the file
		if info, err := f.Stat(); err != nil || info.Size() < end {
			return 0, 0, false // the section ends beyond the file: let the read say so
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

// startWriteback has the kernel begin to write n bytes at off of a file to its disk, without waiting. The sync that ends the
// writing of an image then has little left to do: it takes a third of the time. It is advice, and so has no error.
func startWriteback(w io.WriterAt, off, n int64) {
	f, ok := w.(*os.File)
	if !ok {
		return
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) { unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE) })
}
