package partition

import (
	"bytes"
	"io"
	"slices"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// This file finds room for the entries of the primary table. A kernel reads no other table, so that
// its entries cannot be written over: new ones go to a second place, and the header, which is one
// sector, switches to them.

const (
	// firmwareArray is where edk2 puts the entries of a primary table that it restores from the
	// backup, whatever is there (MdeModulePkg/Universal/Disk/PartitionDxe/Gpt.c), and where those
	// of a new table are.
	firmwareArray = 2

	// arrayRoom is how much of the start of a disk is searched for room, in bytes.
	arrayRoom = 1 << 20
)

// places lists the sectors before limit at which n sectors of entries may begin, best first. All
// but the last lie in physical sectors of their own, apart from that of the header (LBA 0 to 7) and
// from what edk2 may write over.
func places(n uint64, ss int64, limit uint64) []uint64 {
	unit := physicalSector / uint64(ss)
	up := func(n uint64) uint64 { return (n + unit - 1) / unit * unit }
	limit = min(limit, uint64(arrayRoom/ss))
	var out []uint64
	for at := up(firmwareArray + n); at+n <= limit; at += up(n) {
		out = append(out, at)
	}
	if firmwareArray+n <= limit {
		out = append(out, firmwareArray)
	}
	return out
}

// findFree notes the places in which entries may be written: those that hold zeros, or entries that
// are out of use. Anything else may be a boot loader that a vendor put in front of the first
// partition.
func (r *reading) findFree(disk io.ReaderAt, h *header, ss int64) {
	n := h.arraySectors(ss)
	b := make([]byte, int64(n)*ss)
	for _, at := range places(n, ss, r.firstLBA) {
		if sparse.ReadFull(disk, b, int64(at)*ss) == nil && r.outOfUse(b, h) {
			r.free = append(r.free, at)
		}
	}
}

// outOfUse reports whether b holds nothing, or the entries of an earlier state of the table.
func (r *reading) outOfUse(b []byte, h *header) bool {
	zero := make([]byte, h.entrySize)
	for i := 0; i < len(b); i += int(h.entrySize) {
		e := b[i:min(i+int(h.entrySize), len(b))]
		if bytes.Equal(e, zero[:len(e)]) || bytes.Equal(e, r.array[i:i+len(e)]) {
			continue
		}
		if len(e) < minEntrySize || !plausible(readEntry(e, 1), r.sectors) {
			return false
		}
	}
	return true
}

func plausible(p Partition, sectors uint64) bool {
	return !p.Type.IsZero() && !p.ID.IsZero() && p.onDisk(sectors)
}

// secondArray is where the entries go that are to replace those in force, and the first sector
// behind all that has to stay free for entries. limit is the first sector of a partition, old or
// new. ok is false if there is no room.
func (r *reading) secondArray(n, limit uint64) (at, end uint64, ok bool) {
	now := r.primary.entriesLBA
	apart := func(at uint64) bool { return at+n <= now || now+n <= at }
	for _, at := range r.free {
		if at+n > limit || !apart(at) {
			continue
		}
		end = max(now, at) + n
		for _, other := range r.free { // the next change needs room, too
			if other != firmwareArray && other+n <= limit && (other+n <= at || at+n <= other) {
				end = max(end, other+n)
				break
			}
		}
		return at, end, true
	}
	return 0, 0, false
}

// primaryArray says where the primary entries of a table go of which only the backup is left. A
// table that sgdisk -j moved has boot code in the usual place, and only its first usable sector
// tells where the entries were.
func (r *reading) primaryArray(n, firstUsable uint64) uint64 {
	if r.arrayLBA != 0 && r.arrayLBA+n <= firstUsable {
		return r.arrayLBA
	}
	if slices.Contains(r.free, firmwareArray) && firmwareArray+n <= firstUsable {
		return firmwareArray
	}
	return max(firstUsable-min(n, firstUsable), firmwareArray)
}
