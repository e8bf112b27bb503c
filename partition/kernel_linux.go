package partition

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/internal/blockdev"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// UpdateKernel tells Linux which partitions the disk has, disk being its open block device. It
// reports each new, removed or changed partition separately (ioctl BLKPG,
// include/uapi/linux/blkpg.h), so that the others may be in use, unlike with BLKRRPART. A partition
// in use may grow or shrink; a partition in use that was removed or moved stays as the kernel knows
// it, and is part of the error, an [*EntryError] with EBUSY. All others are reported nevertheless.
func UpdateKernel(disk *os.File, t *Table) (err error) {
	defer prefix.Add("partition", &err)
	info, err := disk.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Mode&syscall.S_IFMT != syscall.S_IFBLK {
		return fmt.Errorf("%s is not a block device", disk.Name())
	}
	rdev := uint64(st.Rdev)
	have, err := kernelPartitions(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev)))
	if err != nil {
		return err
	}
	h, _, err := t.geometry()
	if err != nil {
		return err
	}
	numbers, err := t.numbers(h)
	if err != nil {
		return err
	}
	conn, err := disk.SyscallConn()
	if err != nil {
		return err
	}
	var failed []error
	gone := map[int]bool{} // could not be deleted: do not add it again
	for _, c := range kernelChanges(have, t, numbers) {
		if gone[c.number] {
			continue
		}
		var told error
		if err := conn.Control(func(fd uintptr) { told = c.tell(fd) }); err != nil {
			return err
		}
		if told != nil {
			gone[c.number] = true
			failed = append(failed, &EntryError{Number: c.number, Name: c.name, Err: fmt.Errorf("%s in the kernel: %w", c.verb(), told)})
		}
	}
	return errors.Join(failed...)
}

// extent is a partition as the kernel knows it, in bytes.
type extent struct {
	number      int
	start, size int64
}

// kernelPartitions reads the partitions of a disk from its directory in sysfs.
func kernelPartitions(dir string) (list []extent, err error) {
	parts, err := blockdev.PartitionsBelow(dir)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		list = append(list, extent{number: p.Number, start: p.Offset, size: p.Size})
	}
	return list, nil
}

// kernelChange is one BLKPG call.
type kernelChange struct {
	op int32 // unix.BLKPG_*
	extent
	name string
}

func (c *kernelChange) verb() string {
	switch c.op {
	case unix.BLKPG_DEL_PARTITION:
		return "removing"
	case unix.BLKPG_RESIZE_PARTITION:
		return "resizing"
	}
	return "adding"
}

// kernelChanges lists the calls that make the kernel know the partitions of t: deletions and what
// shrinks first, so that there is room for the others.
func kernelChanges(have []extent, t *Table, numbers []int) []kernelChange {
	known := map[int]extent{}
	for _, e := range have {
		known[e.number] = e
	}
	var out []kernelChange
	add := func(op int32, e extent, name string) { out = append(out, kernelChange{op, e, name}) }
	wanted := map[int]bool{}
	for i, p := range t.Partitions {
		off, size := t.Extent(i)
		want := extent{numbers[i], off, size}
		wanted[want.number] = true
		e, ok := known[want.number]
		switch {
		case !ok:
			add(unix.BLKPG_ADD_PARTITION, want, p.Name)
		case e.start != off:
			add(unix.BLKPG_DEL_PARTITION, e, p.Name)
			add(unix.BLKPG_ADD_PARTITION, want, p.Name)
		case e.size != size:
			add(unix.BLKPG_RESIZE_PARTITION, want, p.Name)
		}
	}
	for _, e := range have {
		if !wanted[e.number] {
			add(unix.BLKPG_DEL_PARTITION, e, "")
		}
	}
	rank := func(c kernelChange) int {
		switch {
		case c.op == unix.BLKPG_DEL_PARTITION:
			return 0
		case c.op == unix.BLKPG_RESIZE_PARTITION && c.size < known[c.number].size:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(out, func(a, b kernelChange) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.number, b.number))
	})
	return out
}

// arg is the struct blkpg_partition of the call; the kernel does not look at the names.
func (c *kernelChange) arg() unix.BlkpgPartition {
	return unix.BlkpgPartition{Start: c.start, Length: c.size, Pno: int32(c.number)}
}

func (c *kernelChange) tell(fd uintptr) error {
	part := c.arg()
	arg := unix.BlkpgIoctlArg{Op: c.op, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}
