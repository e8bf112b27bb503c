package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// ReadOptions are the options of [Read].
type ReadOptions struct {
	// SectorSize is the logical sector size of the disk, 512 or 4096 bytes; 0: it is detected.
	SectorSize int
}

// Read reads the table of a disk, the primary if it is good, else the backup (UsedBackup,
// PrimaryErr). For a disk without any trace of a GPT, the error matches [ErrNoTable]; if all its
// tables are damaged, it matches [ErrDamaged]; if the disk cannot be read where a table may be, the
// error matches neither.
//
// The backup is looked for where the primary header says, damaged or not, and in the last sector of
// the disk; then where the disk ended before it grew: where the protective MBR says, after the last
// partition of readable primary entries, in the last MiB, and at the end of every MiB up to 2 GiB
// and of every GiB up to 256 GiB. The first complete one is taken. This search needs a protective
// MBR or the signature of a primary header.
//
// Read is more lenient than firmware and kernels: [Table.Findings] says where they see the table
// differently.
func Read(disk osmith.Source, o ReadOptions) (t *Table, err error) {
	defer prefix.Add("partition", &err)
	return read(disk, o.SectorSize)
}

// read takes 0 for a sector size that is to be detected.
func read(r osmith.Source, sectorSize int) (*Table, error) {
	device := 0
	if d, ok := r.(interface{ SectorSize() int }); ok {
		device = d.SectorSize()
	}
	sectorSizes := []int64{512, 4096}
	switch sectorSize {
	case 0:
		if device == 4096 {
			sectorSizes = []int64{4096, 512}
		}
	case 512, 4096:
		sectorSizes = []int64{int64(sectorSize)}
	default:
		return nil, fmt.Errorf("sector size %d: want 512 or 4096", sectorSize)
	}
	size := r.Size()
	var reasons []error
	for _, from := range []source{fromPrimary, fromBackup, fromLenient} {
		for _, ss := range sectorSizes {
			if size/ss < 6 {
				if from == fromPrimary {
					reasons = append(reasons, fmt.Errorf("a disk of %d bytes is too small for a GPT with %d-byte sectors", size, ss))
				}
				continue
			}
			t, err := readTable(r, size, ss, from)
			if err == nil {
				t.DeviceSectorSize = device
				return t, nil
			}
			if from != fromLenient {
				reasons = append(reasons, fmt.Errorf("%d-byte sectors: %w", ss, err))
			}
		}
	}
	if size/512 < 6 {
		return nil, fmt.Errorf("%w: %w", ErrNoTable, errors.Join(reasons...))
	}
	found, err := traces(r, size)
	switch {
	case err != nil: // something may be where it cannot be read
		return nil, fmt.Errorf("whether there is a GPT is unknown: %w", err)
	case !found:
		return nil, fmt.Errorf("%w: no header in sector 1 or in the last one, and no protective MBR", ErrNoTable)
	}
	other := int64(512 + 4096 - sectorSize)
	if _, _, err := readBoth(r, 1, uint64(size/other), other, "primary", false); err == nil && sectorSize != 0 {
		return nil, fmt.Errorf("%w with sectors of %d bytes: the table has sectors of %d bytes", ErrDamaged, sectorSize, other)
	}
	return nil, fmt.Errorf("%w: %w", ErrDamaged, errors.Join(reasons...))
}

// traces reports whether something says that the disk has, or had, a GPT: a header's signature
// where one belongs, or a protective record in sector 0. The error is that of a place that cannot
// be read, where nothing says so elsewhere.
func traces(r io.ReaderAt, size int64) (found bool, err error) {
	b := make([]byte, mbrSize)
	var unread []error
	for _, ss := range []int64{512, 4096} {
		for _, off := range []int64{ss, size/ss*ss - ss} {
			if off <= 0 {
				continue
			}
			if err := sparse.ReadFull(r, b[:len(signature)], off); err != nil {
				unread = append(unread, fmt.Errorf("offset %d: %w", off, err))
			} else if string(b[:len(signature)]) == signature {
				return true, nil
			}
		}
	}
	if err := sparse.ReadFull(r, b, 0); err != nil {
		unread = append(unread, fmt.Errorf("sector 0: %w", err))
	} else if classify(b).records > 0 {
		return true, nil
	}
	return false, errors.Join(unread...)
}

// source says where a table is read from.
type source int

const (
	fromPrimary source = iota
	fromBackup
	// a primary whose LastUsableLBA is beyond the disk, which kernels refuse and sgdisk reads
	fromLenient
)

// reading is what is known of a disk: what [Read] found, or [Table.Write] made.
type reading struct {
	sectors uint64 // of the disk
	// nil: not good; a backup that says something else than the primary is not good either
	primary, backup *header
	array           []byte  // the entries in force, in whole sectors
	mbr             []byte  // sector 0; nil: it cannot be read
	stale           *header // a table in the last sector that is not this one's backup
	// without a primary header: where the primary entries were found all the same; 0: nowhere
	arrayLBA uint64
	firstLBA uint64 // of all partitions in force
	lastLBA  uint64
	free     []uint64 // where entries of the primary table may be written
}

// same reports whether two readings are of one state of a disk.
func (r *reading) same(o *reading) bool {
	equal := func(a, b *header) bool {
		return (a == nil) == (b == nil) && (a == nil || a.myLBA == b.myLBA && bytes.Equal(a.sector, b.sector))
	}
	return r.sectors == o.sectors && equal(r.primary, o.primary) && equal(r.backup, o.backup) &&
		bytes.Equal(r.array, o.array) && bytes.Equal(r.mbr, o.mbr)
}

// readTable reads the table from the primary or from the backup.
func readTable(r io.ReaderAt, size, ss int64, from source) (*Table, error) {
	sectors := uint64(size / ss)
	t := &Table{SectorSize: int(ss), Size: size}
	found := &reading{sectors: sectors}
	var h *header
	var err error
	if from != fromBackup {
		if h, found.array, err = readBoth(r, 1, sectors, ss, "primary", from == fromLenient); err != nil {
			return nil, err
		}
		found.primary = h
		switch {
		case h.alternate <= 1 || h.alternate >= sectors:
			t.BackupErr = fmt.Errorf("the primary header has the backup in sector %d of %d", h.alternate, sectors)
		default:
			if found.backup, _, t.BackupErr = readBoth(r, h.alternate, sectors, ss, "backup", from == fromLenient); t.BackupErr == nil {
				t.BackupErr = agree(h, found.backup)
			}
		}
		if t.BackupErr != nil {
			found.backup = nil
		}
	} else {
		_, _, t.PrimaryErr = readBoth(r, 1, sectors, ss, "primary", false)
		if h, found.array, err = findBackup(r, sectors, ss); err != nil {
			return nil, err
		}
		found.backup, t.UsedBackup = h, true
		found.arrayLBA = findArray(r, h, sectors, ss)
	}
	if found.backup == nil || found.backup.myLBA != sectors-1 {
		if s, _, err := readBoth(r, sectors-1, sectors, ss, "backup", true); err == nil && agree(h, s) != nil {
			found.stale = s
		}
	}
	t.read = found
	t.DiskID, t.Entries, t.FirstUsableLBA, t.LastUsableLBA = h.diskID, int(h.count), h.firstUsable, h.lastUsable
	t.readEntries(h)
	found.mbr = make([]byte, ss)
	if sparse.ReadFull(r, found.mbr, 0) != nil {
		found.mbr = nil
	} else {
		t.HybridMBR = isHybrid(found.mbr)
	}
	found.bound(t.Partitions)
	found.findFree(r, h, ss)
	return t, nil
}

// bound notes where the partitions in force begin and end.
func (r *reading) bound(partitions []Partition) {
	r.firstLBA, r.lastLBA = r.sectors, 0
	for _, p := range partitions {
		r.firstLBA, r.lastLBA = min(r.firstLBA, p.FirstLBA), max(r.lastLBA, p.LastLBA)
	}
}

func readBoth(r io.ReaderAt, lba, sectors uint64, ss int64, which string, beyond bool) (*header, []byte, error) {
	h, err := readHeader(r, lba, sectors, ss, which, beyond)
	if err != nil {
		return nil, nil, err
	}
	array, err := readArray(r, h, ss, which)
	if err != nil {
		return nil, nil, err
	}
	return h, array, nil
}

// agree reports how a good backup differs from a good primary.
func agree(p, b *header) error {
	switch {
	case b.alternate != p.myLBA:
		return fmt.Errorf("backup header has the primary in sector %d", b.alternate)
	case b.diskID != p.diskID:
		return fmt.Errorf("backup header has disk ID %s, the primary %s", b.diskID, p.diskID)
	case b.count != p.count || b.entrySize != p.entrySize:
		return fmt.Errorf("backup header has %d entries of %d bytes, the primary %d of %d", b.count, b.entrySize, p.count, p.entrySize)
	case b.entriesCRC != p.entriesCRC:
		return errors.New("backup entries differ from the primary ones")
	case b.firstUsable != p.firstUsable || b.lastUsable != p.lastUsable:
		return fmt.Errorf("backup header has usable sectors %d to %d, the primary %d to %d",
			b.firstUsable, b.lastUsable, p.firstUsable, p.lastUsable)
	}
	return nil
}

// findArray looks for the primary entries of a table whose primary header is damaged: they are the
// same as the backup's.
func findArray(r io.ReaderAt, h *header, sectors uint64, ss int64) uint64 {
	n := h.arraySectors(ss)
	places := []uint64{2}
	if h.firstUsable > n+2 {
		places = append(places, h.firstUsable-n)
	}
	b := make([]byte, minHeaderSize)
	if sparse.ReadFull(r, b, ss) == nil && string(b[:8]) == signature {
		if lba := binary.LittleEndian.Uint64(b[72:]); lba >= 2 && lba < sectors && n <= sectors-lba {
			places = append(places, lba)
		}
	}
	// as large as the backup's, which was read
	array := make([]byte, int64(h.count)*int64(h.entrySize))
	for _, lba := range places {
		if sparse.ReadFull(r, array, int64(lba)*ss) == nil && crc32.ChecksumIEEE(array) == h.entriesCRC {
			return lba
		}
	}
	return 0
}

// readEntries lists the entries in use.
func (t *Table) readEntries(h *header) {
	for i := range int(h.count) {
		b := t.read.array[i*int(h.entrySize):][:h.entrySize]
		p := readEntry(b, i+1)
		if p.Type.IsZero() {
			continue
		}
		if !p.onDisk(t.sectors()) {
			t.BadEntries = append(t.BadEntries, BadEntry{p, &osmith.FormatError{
				Offset: int64(h.entriesLBA)*int64(t.SectorSize) + int64(i)*int64(h.entrySize) + 32,
				Field:  fmt.Sprintf("entry %d (%q): StartingLBA", i+1, p.Name),
				Err:    fmt.Errorf("sectors %d to %d on a disk of %d sectors", p.FirstLBA, p.LastLBA, t.sectors()),
			}})
			continue
		}
		t.Partitions = append(t.Partitions, p)
	}
}

// Bounds of the search for a backup header on a disk that grew.
const (
	tailScan = 1 << 20   // every sector of so many bytes at the end of the disk
	mibScan  = 2 << 30   // the end of every MiB of so many bytes at the start
	gibScan  = 256 << 30 // the end of every GiB of so many bytes
)

// findBackup reads the backup table of a disk whose primary is no good. If there is none, the error
// is the one of the last sector, where it belongs.
func findBackup(r io.ReaderAt, sectors uint64, ss int64) (*header, []byte, error) {
	h, array, err := readBoth(r, sectors-1, sectors, ss, "backup", false)
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
		h, array, err := readBoth(r, lba, sectors, ss, "backup", false)
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

// oldEnds calls try for the sectors that may have been the last one before the disk grew, until it
// returns true. Only a disk that says it has, or had, a GPT is searched: elsewhere a header is part
// of a partition's data.
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
	// Images end right behind their last partition: with a whole alignment unit, or with entries
	// and header.
	n := uint64(tailScan / ss)
	array := make([]byte, defaultCount*defaultEntry)
	if sparse.ReadFull(r, array, 2*ss) == nil {
		last := uint64(0)
		for i := range defaultCount {
			if p := readEntry(array[i*defaultEntry:], i+1); !p.Type.IsZero() && p.onDisk(sectors) {
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
