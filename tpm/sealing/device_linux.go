package sealing

import (
	"io"
	"syscall"
)

// deviceFile is a TPM's character device, read and written with blocking calls. Go's os.File would
// wait for it with epoll, which the kernel's TPM driver answers in ways that lose responses.
type deviceFile int

func openDevice(name string) (io.ReadWriteCloser, error) {
	for {
		fd, err := syscall.Open(name, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return deviceFile(fd), nil
	}
}

func (f deviceFile) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(f), b)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.ErrUnexpectedEOF
		}
		return n, nil
	}
}

// Write hands over a whole command; the driver takes nothing less.
func (f deviceFile) Write(b []byte) (int, error) {
	for {
		n, err := syscall.Write(int(f), b)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case n != len(b):
			return n, io.ErrShortWrite
		}
		return n, nil
	}
}

func (f deviceFile) Close() error { return syscall.Close(int(f)) }
