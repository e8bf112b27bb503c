//go:build linux

package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// A DiskWrite is what a machine did to its disk: a write, or a flush.
type DiskWrite struct {
	Offset int64
	Data   []byte // of a write
	// what was written before is on the medium from here on; of a write with data, that one too
	Flush bool
}

// The log of QEMU's driver blklogwrites has the format of the kernel's target dm-log-writes
// (Documentation/admin-guide/device-mapper/log-writes.rst).
const (
	writeLogMagic   = 0x6a736677736872
	writeLogVersion = 1

	logFlush   = 1
	logFUA     = 2
	logDiscard = 4
	logMark    = 8
)

// ReadWriteLog reads what [Machine].WriteLog has. A log whose end was cut off with the power ends
// before that.
func ReadWriteLog(name string) (writes []DiskWrite, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 28)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	magic, version, count, sector := le.Uint64(head), le.Uint64(head[8:]), le.Uint64(head[16:]), int64(le.Uint32(head[24:]))
	if magic != writeLogMagic || version != writeLogVersion || sector < 512 {
		return nil, fmt.Errorf("%s: magic %#x, version %d, sectors of %d bytes: no log of writes", name, magic, version, sector)
	}
	at := sector
	for range count {
		entry := make([]byte, 32)
		if _, err := f.ReadAt(entry, at); err != nil {
			return nil, fmt.Errorf("%s at %d: %w", name, at, err)
		}
		at += sector
		first, sectors, flags := int64(le.Uint64(entry)), int64(le.Uint64(entry[8:])), le.Uint64(entry[16:])
		if flags&logMark != 0 {
			return nil, fmt.Errorf("%s at %d: a mark, which QEMU does not write", name, at)
		}
		w := DiskWrite{Offset: first * sector, Flush: flags&(logFlush|logFUA) != 0}
		if flags&logDiscard == 0 && sectors > 0 {
			w.Data = make([]byte, sectors*sector)
			if _, err := f.ReadAt(w.Data, at); err != nil {
				return nil, fmt.Errorf("%s at %d: %w", name, at, err)
			}
			at += int64(len(w.Data))
		}
		writes = append(writes, w)
	}
	return writes, nil
}
