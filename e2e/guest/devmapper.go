//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The device-mapper's control interface is include/uapi/linux/dm-ioctl.h: a
// header, then for table commands a target spec and its parameters, all in one
// buffer that the kernel reads and overwrites.

const (
	dmBuffer   = 16 << 10
	headerSize = int(unsafe.Sizeof(unix.DmIoctl{}))
	specSize   = int(unsafe.Sizeof(unix.DmTargetSpec{}))
)

type target struct {
	kind, params string
}

// createMapping makes a read-only device of one target and returns its node.
func createMapping(name, kind string, sectors uint64, params string) (string, error) {
	if _, _, err := dmCall(unix.DM_DEV_CREATE, name, 0, nil); err != nil {
		return "", fmt.Errorf("create device: %w", err)
	}
	payload := make([]byte, (specSize+len(params)+1+7)&^7)
	binary.NativeEndian.PutUint64(payload[8:], sectors)
	binary.NativeEndian.PutUint32(payload[20:], uint32(len(payload)))
	copy(payload[24:40], kind)
	copy(payload[specSize:], params)
	if _, _, err := dmCall(unix.DM_TABLE_LOAD, name, unix.DM_READONLY_FLAG, payload); err != nil {
		return "", fmt.Errorf("load table %q: %w", params, err)
	}
	// Suspend without the suspend flag resumes, which activates the table.
	h, _, err := dmCall(unix.DM_DEV_SUSPEND, name, unix.DM_READONLY_FLAG, nil)
	if err != nil {
		return "", fmt.Errorf("activate table %q: %w", params, err)
	}
	minor := h.Dev&0xff | h.Dev>>12&^0xff
	return fmt.Sprintf("/dev/dm-%d", minor), nil
}

// tableOf returns the single target of a device, with its table or its status
// as parameters, and whether the device is read-only.
func tableOf(name string, status bool) (target, bool, error) {
	var flags uint32 = unix.DM_STATUS_TABLE_FLAG
	if status {
		flags = 0
	}
	h, b, err := dmCall(unix.DM_TABLE_STATUS, name, flags, nil)
	if err != nil {
		return target{}, false, fmt.Errorf("table of %s: %w", name, err)
	}
	if h.Target_count != 1 || len(b) < specSize {
		return target{}, false, fmt.Errorf("table of %s: %d targets", name, h.Target_count)
	}
	return target{kind: text(b[24:40]), params: text(b[specSize:])}, h.Flags&unix.DM_READONLY_FLAG != 0, nil
}

// dmCall runs one command on a device and returns the answer's header and data.
func dmCall(cmd uint, name string, flags uint32, payload []byte) (*unix.DmIoctl, []byte, error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer control.Close()
	buf := make([]byte, dmBuffer)
	if headerSize+len(payload) > len(buf) {
		return nil, nil, fmt.Errorf("a payload of %d bytes is too long", len(payload))
	}
	h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	h.Version = [3]uint32{4, 0, 0}
	h.Data_size = uint32(len(buf))
	h.Data_start = uint32(headerSize)
	h.Flags = flags
	if payload != nil {
		h.Target_count = 1
		copy(buf[headerSize:], payload)
	}
	copy(h.Name[:len(h.Name)-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), uintptr(cmd), uintptr(unsafe.Pointer(h))); errno != 0 {
		return nil, nil, errno
	}
	start, size := int(h.Data_start), int(h.Data_size)
	if start < headerSize || size < start || size > len(buf) {
		return h, nil, nil
	}
	return h, buf[start:size], nil
}
