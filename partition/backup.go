package partition

import (
	"encoding/binary"
	"io"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// Bounds of the search for a backup header on a disk that grew.
const (
	tailScan = 1 << 20   // every sector of so many bytes at the end of the disk
	mibScan  = 2 << 30   // the end of every MiB of so many bytes at the start
	gibScan  = 256 << 30 // the end of every GiB of so many bytes
)

// findBackup reads the backup table of a disk whose primary is no good. If there is none, the error is the one of the
// last sector, where it belongs.
func findBackup(r io.ReaderAt, sectors uint64, ss int64) (*header, []byte, error) {
	h, array, err := readBoth(r, sectors-1, sectors, ss, "backup")
	own := hintedBackup(r, ss)
	if own == 0 && err == nil {
		return h, array, nil
	}
	var found *header
	var entries []byte
	try := func(lba uint64) bool {
		if lba < 2 || lba >= sectors-1 {
			return false
		}
		h, array, err := readBoth(r, lba, sectors, ss, "backup")
		if err != nil || h.alternate != 1 {
			return false
		}
		found, entries = h, array
		return true
	}
	if own != 0 && try(own) {
		return found, entries, nil
	}
	if err == nil {
		return h, array, nil
	}
	if oldEnds(r, sectors, ss, try) {
		return found, entries, nil
	}
	return nil, nil, err
}

// hintedBackup is AlternateLBA of a primary header that may be damaged, 0 if there is none.
func hintedBackup(r io.ReaderAt, ss int64) uint64 {
	b := make([]byte, minHeaderSize)
	if sparse.ReadFull(r, b, ss) != nil || string(b[:8]) != signature {
		return 0
	}
	return binary.LittleEndian.Uint64(b[32:])
}

// oldEnds calls try for the sectors that may have been the last one before the disk grew, until it returns true. Only a
// disk that says it has, or had, a GPT is searched: elsewhere a header is part of somebody's data.
func oldEnds(r io.ReaderAt, sectors uint64, ss int64, try func(lba uint64) bool) bool {
	le := binary.LittleEndian
	b := make([]byte, len(signature))
	trace := sparse.ReadFull(r, b, ss) == nil && string(b) == signature
	mbr := make([]byte, mbrSize)
	if sparse.ReadFull(r, mbr, 0) == nil {
		for i := range 4 { // SizeInLBA of the protective record ends with the last sector
			rec := mbrRecord(mbr, i)
			if rec[4] != typeGPT {
				continue
			}
			trace = true
			if n := le.Uint32(rec[12:]); n != 0xffffffff && try(uint64(le.Uint32(rec[8:]))+uint64(n)-1) {
				return true
			}
		}
	}
	if !trace {
		return false
	}
	signed := func(lba uint64) bool { // cheaper than try
		return sparse.ReadFull(r, b, int64(lba)*ss) == nil && string(b) == signature && try(lba)
	}
	chunk := make([]byte, 64<<10)
	every := func(lba, n uint64) bool {
		for end := min(sectors, lba+n); lba < end; {
			p := chunk[:min(uint64(len(chunk)), (end-lba)*uint64(ss))]
			if sparse.ReadFull(r, p, int64(lba)*ss) == nil {
				for i := 0; i < len(p); i += int(ss) {
					if string(p[i:i+len(signature)]) == signature && try(lba+uint64(i)/uint64(ss)) {
						return true
					}
				}
			}
			lba += uint64(len(p)) / uint64(ss)
		}
		return false
	}
	// Images end right behind their last partition: with a whole alignment unit, or with entries and header.
	n := uint64(tailScan / ss)
	array := make([]byte, defaultCount*defaultEntry)
	if sparse.ReadFull(r, array, 2*ss) == nil {
		last := uint64(0)
		for i := range defaultCount {
			if p := readEntry(array[i*defaultEntry:], i+1); !p.Type.IsZero() && p.FirstLBA <= p.LastLBA && p.LastLBA < sectors {
				last = max(last, p.LastLBA)
			}
		}
		if last > 0 && every(last+1, 2*n) {
			return true
		}
	}
	// Storage that takes a little of the end for itself: RAID metadata, host-protected areas.
	if every(sectors-min(n, sectors), n) {
		return true
	}
	size := int64(sectors) * ss
	for _, scan := range []struct{ unit, limit int64 }{{1 << 20, mibScan}, {1 << 30, gibScan}} {
		for end := scan.unit; end <= min(size, scan.limit); end += scan.unit {
			if signed(uint64(end/ss) - 1) {
				return true
			}
		}
	}
	return false
}
