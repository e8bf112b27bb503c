package sparse

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback has the kernel begin to write n bytes at off of a file to its disk, without waiting. The sync that ends the
// writing of an image then has little left to do: it takes a third of the time. It is advice, and so has no error.
func startWriteback(w io.WriterAt, off, n int64) {
	var f *os.File
	switch w := w.(type) {
	case *os.File:
		f = w
	case interface{ File() *os.File }:
		f = w.File()
	}
	if f == nil {
		return
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) { unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE) })
}
