package devmapper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	control    = "/dev/mapper/control"
	headerSize = int(unsafe.Sizeof(unix.DmIoctl{}))
	specSize   = int(unsafe.Sizeof(unix.DmTargetSpec{}))

	// One buffer serves for question and answer; a table with 16 long lines fits.
	firstBuffer = 16 << 10
	maxBuffer   = 16 << 20

	// primarySource is DM_UDEV_PRIMARY_SOURCE_FLAG of libdevmapper in the upper half of the event
	// number: without it udev's rules take an event for another program's and make no link in
	// /dev/mapper.
	primarySource = 0x0040 << 16
)

// A command is one ioctl on one device.
type command struct {
	number  uint
	name    string
	uuid    string
	flags   uint32
	targets uint32
	payload []byte
}

// run executes a command and returns the answer's header and data.
func (c command) run() (*unix.DmIoctl, []byte, error) {
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	h, answer, err := c.runOn(f.Fd())
	return h, answer, errors.Join(err, f.Close())
}

func (c command) runOn(fd uintptr) (*unix.DmIoctl, []byte, error) {
	size := firstBuffer
	for size < headerSize+len(c.payload) {
		size *= 2
	}
	for ; size <= maxBuffer; size *= 2 {
		buf := make([]byte, size)
		h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
		h.Version = [3]uint32{4, 0, 0}
		h.Data_size = uint32(size)
		h.Data_start = uint32(headerSize)
		h.Target_count = c.targets
		h.Flags = c.flags
		switch c.number {
		case unix.DM_DEV_SUSPEND, unix.DM_DEV_REMOVE:
			h.Event_nr = primarySource
		}
		copy(buf[headerSize:], c.payload)
		if err := setName(h.Name[:], c.name, "name"); err != nil {
			return nil, nil, err
		}
		if err := setName(h.Uuid[:], c.uuid, "UUID"); err != nil {
			return nil, nil, err
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(c.number), uintptr(unsafe.Pointer(h))); errno != 0 {
			return nil, nil, errno
		}
		if h.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
			continue
		}
		start, end := int(h.Data_start), int(h.Data_size)
		if start < headerSize || end < start || end > size {
			return h, nil, nil
		}
		return h, buf[start:end], nil
	}
	return nil, nil, fmt.Errorf("more than %d bytes", maxBuffer)
}

// setName fills a NUL-terminated field.
func setName(field []byte, value, what string) error {
	if len(value) >= len(field) {
		return fmt.Errorf("%s of %d bytes, at most %d are allowed", what, len(value), len(field)-1)
	}
	if bytes.IndexByte([]byte(value), 0) >= 0 {
		return fmt.Errorf("%s %q contains a NUL", what, value)
	}
	copy(field, value)
	return nil
}

// text is what stands before the first NUL.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
