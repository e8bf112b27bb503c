package partition

import (
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

// Read reads the table of a disk, the primary if it is good, else the backup (UsedBackup, PrimaryErr).
// A disk without a table is an error that matches [ErrNoTable].
//
// The backup is looked for where the primary header says, damaged or not, and in the last sector of the disk; then
// where the disk ended before it grew: where the protective MBR says, behind the last partition of primary entries that
// are left, in the last MiB, and at the end of every MiB up to 2 GiB and of every GiB up to 256 GiB. The first one
// that is whole is taken. This search needs a protective MBR or the signature of a primary header.
func Read(disk osmith.Source, o ReadOptions) (t *Table, err error) {
	defer prefix.Add("partition", &err)
	return read(disk, o.SectorSize)
}

// read takes 0 for a sector size that is to be detected.
func read(r osmith.Source, sectorSize int) (*Table, error) {
	sectorSizes := []int64{512, 4096}
	switch sectorSize {
	case 0:
	case 512, 4096:
		sectorSizes = []int64{int64(sectorSize)}
	default:
		return nil, fmt.Errorf("sector size %d: want 512 or 4096", sectorSize)
	}
	size := r.Size()
	var reasons []error
	for _, primary := range []bool{true, false} {
		for _, ss := range sectorSizes {
			if size/ss < 6 {
				reasons = append(reasons, fmt.Errorf("a disk of %d bytes is too small for a GPT with %d-byte sectors", size, ss))
				continue
			}
			t, err := readTable(r, size, ss, primary)
			if err == nil {
				return t, nil
			}
			reasons = append(reasons, fmt.Errorf("%d-byte sectors: %w", ss, err))
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrNoTable, errors.Join(reasons...))
}

// readTable reads the table from the primary or from the backup.
func readTable(r io.ReaderAt, size, ss int64, fromPrimary bool) (*Table, error) {
	sectors := uint64(size / ss)
	t := &Table{SectorSize: int(ss), Size: size}
	var h *header
	var err error
	if fromPrimary {
		if h, t.array, err = readBoth(r, 1, sectors, ss, "primary"); err != nil {
			return nil, err
		}
		t.primary = h
		var array []byte
		if t.backup, array, t.BackupErr = readBoth(r, h.alternate, sectors, ss, "backup"); t.BackupErr == nil {
			t.BackupErr = agree(h, t.backup, t.array, array)
		}
		if t.BackupErr != nil {
			t.backup = nil
		}
	} else {
		_, _, t.PrimaryErr = readBoth(r, 1, sectors, ss, "primary")
		if h, t.array, err = findBackup(r, sectors, ss); err != nil {
			return nil, err
		}
		t.backup, t.UsedBackup = h, true
		t.primaryLBA = findArray(r, h, sectors, ss)
	}
	t.DiskID, t.Entries, t.FirstUsableLBA, t.LastUsableLBA = h.diskID, int(h.count), h.firstUsable, h.lastUsable
	if err := t.readEntries(h); err != nil {
		return nil, err
	}
	t.mbr = make([]byte, ss)
	if err := sparse.ReadFull(r, t.mbr, 0); err != nil {
		return nil, fmt.Errorf("MBR: %w", err)
	}
	t.HybridMBR = isHybrid(t.mbr)
	return t, nil
}

func readBoth(r io.ReaderAt, lba, sectors uint64, ss int64, which string) (*header, []byte, error) {
	h, err := readHeader(r, lba, sectors, ss, which)
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
func agree(p, b *header, pa, ba []byte) error {
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

// findArray looks for the primary entries of a table whose primary header is damaged: they are the same as the backup's.
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
	array := make([]byte, int64(h.count)*int64(h.entrySize)) // as large as the backup's, which was read
	for _, lba := range places {
		if sparse.ReadFull(r, array, int64(lba)*ss) == nil && crc32.ChecksumIEEE(array) == h.entriesCRC {
			return lba
		}
	}
	return 0
}

// readEntries lists the entries in use.
func (t *Table) readEntries(h *header) error {
	for i := range int(h.count) {
		b := t.array[i*int(h.entrySize):][:h.entrySize]
		p := readEntry(b, i+1)
		if p.Type.IsZero() {
			continue
		}
		if p.FirstLBA > p.LastLBA || p.LastLBA >= t.sectors() {
			return &osmith.FormatError{
				Offset: int64(h.entriesLBA)*int64(t.SectorSize) + int64(i)*int64(h.entrySize) + 32,
				Field:  fmt.Sprintf("entry %d (%q): StartingLBA", i+1, p.Name),
				Err:    fmt.Errorf("sectors %d to %d on a disk of %d sectors", p.FirstLBA, p.LastLBA, t.sectors()),
			}
		}
		t.Partitions = append(t.Partitions, p)
	}
	return nil
}
