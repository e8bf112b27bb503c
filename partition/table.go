package partition

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Table is a GUID partition table. The zero value of every field but SectorSize, Size and
// Partitions makes a usual table.
type Table struct {
	// DiskID is the DiskGUID.
	DiskID osmith.GUID
	// SectorSize is the logical sector size of the disk, 512 or 4096 bytes.
	SectorSize int
	// DeviceSectorSize is the logical sector size of the device that the table was read from, in
	// bytes; 0: unknown. If it differs from SectorSize, neither firmware nor kernels find the
	// partitions.
	DeviceSectorSize int
	// Size is the size of the disk in bytes.
	Size int64
	// Partitions are the entries in use, in entry order when read.
	Partitions []Partition
	// BadEntries are entries in use that [Read] found to be invalid, in entry order. They are kept.
	BadEntries []BadEntry
	// Entries is how many entries the table has room for. 0: 128 in a new table. The number of a
	// table that was read cannot be changed.
	Entries int
	// FirstUsableLBA and LastUsableLBA bound the partitions. 0: next to the tables.
	FirstUsableLBA, LastUsableLBA uint64
	// UsedBackup says that the primary table was bad and the backup was read; PrimaryErr says why.
	UsedBackup bool
	// PrimaryErr and BackupErr say why the primary or the backup table of the disk could not be
	// read; nil for a good table.
	PrimaryErr, BackupErr error
	// HybridMBR says that the MBR lists partitions of its own, with a protective record or without
	// one (an old GPT on a disk that was repartitioned: most systems then use the MBR). Write
	// refuses with [ErrHybridMBR] unless KeepHybridMBR is set, and then leaves the MBR as it is.
	HybridMBR, KeepHybridMBR bool
	// AllowUnaligned lets Write accept partitions that do not start at a multiple of 4096 bytes,
	// the physical sector of today's disks; otherwise they are refused with [ErrUnaligned].
	// Partitions that were read with such a start are always kept.
	AllowUnaligned bool

	read *reading // what Read found, and Write made; nil: nothing is known of the disk
}

// Extent is the place of partition i (index in Partitions): offset and size in bytes.
func (t *Table) Extent(i int) (off, size int64) {
	p := t.Partitions[i]
	return int64(p.FirstLBA) * int64(t.SectorSize), int64(p.LastLBA-p.FirstLBA+1) * int64(t.SectorSize)
}

// Section is partition i for reading.
func (t *Table) Section(r io.ReaderAt, i int) *io.SectionReader {
	off, size := t.Extent(i)
	return io.NewSectionReader(r, off, size)
}

// Find returns the index of the partition with an ID, or -1.
func (t *Table) Find(id osmith.GUID) int {
	return slices.IndexFunc(t.Partitions, func(p Partition) bool { return p.ID == id })
}

// defaults of new tables.
const (
	defaultCount = 128
	defaultEntry = 128

	// physicalSector is what a partition starts at a multiple of: a disk with sectors of 512 bytes
	// mostly has these inside.
	physicalSector = 4096
)

func (t *Table) sectors() uint64 { return uint64(t.Size) / uint64(t.SectorSize) }

// geometry fills in what is not set and returns the headers of the table, with the primary entries
// where they are now.
func (t *Table) geometry() (primary, backup *header, err error) {
	if t.SectorSize != 512 && t.SectorSize != 4096 {
		return nil, nil, fmt.Errorf("sector size %d: want 512 or 4096", t.SectorSize)
	}
	ss := int64(t.SectorSize)
	if t.Size < 0 {
		return nil, nil, fmt.Errorf("disk size %d", t.Size)
	}
	sectors := t.sectors()
	r := t.read
	if r == nil {
		r = &reading{}
	}
	model := cmp.Or(r.primary, r.backup)
	if model == nil {
		count := cmp.Or(t.Entries, defaultCount)
		if count < 1 || count > maxArray/defaultEntry {
			return nil, nil, fmt.Errorf("a table of %d entries: want 1 to %d", count, maxArray/defaultEntry)
		}
		model = &header{sector: make([]byte, ss), size: minHeaderSize, count: uint32(count), entrySize: defaultEntry, entriesLBA: firmwareArray}
	}
	p := *model
	n := p.arraySectors(ss)
	if sectors < 2*n+4 {
		return nil, nil, fmt.Errorf("a disk of %d bytes is too small for a GPT", t.Size)
	}
	b := *cmp.Or(r.backup, model)
	if end := sectors - 1; r.backup == nil || b.myLBA != end {
		b.myLBA, b.entriesLBA = end, end-n
		for _, e := range t.BadEntries {
			if e.FirstLBA <= end && end-n <= e.LastLBA {
				return nil, nil, fmt.Errorf("%w: entry %d (%q) ends beyond the disk: the disk seems truncated", ErrNoRoom, e.Number, e.Name)
			}
		}
	}
	if r.primary == nil && r.backup != nil {
		p.entriesLBA = r.primaryArray(n, cmp.Or(t.FirstUsableLBA, p.firstUsable))
	}
	p.myLBA, p.alternate, b.alternate = 1, b.myLBA, 1
	p.firstUsable, p.lastUsable = t.FirstUsableLBA, t.LastUsableLBA
	if p.firstUsable == 0 {
		p.firstUsable = p.entriesLBA + n
	}
	switch most := b.entriesLBA - 1; {
	case p.lastUsable == 0:
		p.lastUsable = most
	case r.primary != nil && r.backup == nil && p.lastUsable == r.primary.lastUsable:
		// a table without a backup may call the sectors usable that a backup takes
		p.lastUsable = min(p.lastUsable, most)
	}
	p.diskID = t.DiskID
	b.firstUsable, b.lastUsable, b.diskID = p.firstUsable, p.lastUsable, p.diskID
	b.count, b.entrySize = p.count, p.entrySize
	switch {
	case p.firstUsable > p.lastUsable:
		err = fmt.Errorf("usable sectors %d to %d", p.firstUsable, p.lastUsable)
	case p.entriesLBA < 2 || p.entriesLBA+n > p.firstUsable:
		err = fmt.Errorf("primary entries in %d sectors from %d, but usable sectors begin at %d", n, p.entriesLBA, p.firstUsable)
	case b.entriesLBA <= p.lastUsable || b.entriesLBA+n > b.myLBA:
		err = fmt.Errorf("backup entries in %d sectors from %d, between the last usable sector %d and the header in %d",
			n, b.entriesLBA, p.lastUsable, b.myLBA)
	}
	if err != nil {
		return nil, nil, err
	}
	return &p, &b, nil
}

// Check reports the first fault for which [Table.Write] would refuse the table. Errors about one
// partition are [*EntryError].
func (t *Table) Check() (err error) {
	defer prefix.Add("partition", &err)
	p, _, err := t.geometry()
	if err != nil {
		return err
	}
	if t.HybridMBR && !t.KeepHybridMBR {
		return ErrHybridMBR
	}
	_, err = t.numbers(p)
	return err
}

// numbers checks all partitions and returns their entry numbers.
func (t *Table) numbers(h *header) ([]int, error) {
	fail := func(i, number int, err error) error {
		return &EntryError{Number: number, Name: t.Partitions[i].Name, Err: err}
	}
	taken := map[int]bool{}
	for _, e := range t.BadEntries {
		taken[e.Number] = true
	}
	for i, p := range t.Partitions {
		if p.Number < 0 || uint64(p.Number) > uint64(h.count) {
			return nil, fail(i, p.Number, fmt.Errorf("the table has %d entries", h.count))
		}
		if p.Number > 0 && taken[p.Number] {
			return nil, fail(i, p.Number, errors.New("entry number is used twice"))
		}
		taken[p.Number] = true
	}
	out := make([]int, len(t.Partitions))
	next := 1
	ids := map[osmith.GUID]bool{} // true: of a partition that was read with it
	for i := range t.Partitions {
		p := &t.Partitions[i]
		out[i] = p.Number
		for ; out[i] == 0; next++ {
			if uint64(next) > uint64(h.count) {
				return nil, fail(i, 0, fmt.Errorf("all %d entries of the table are in use", h.count))
			}
			if !taken[next] {
				out[i], taken[next] = next, true
			}
		}
		oldID := p.read != nil && p.read.id == p.ID
		otherOld, other := ids[p.ID]
		switch {
		case p.Type.IsZero():
			return nil, fail(i, out[i], errors.New("type is all zero, which marks an unused entry"))
		case p.ID.IsZero() && !oldID:
			return nil, fail(i, out[i], errors.New("ID is all zero"))
		case other && !(oldID && otherOld):
			return nil, fail(i, out[i], fmt.Errorf("%w: %s", ErrDuplicateID, p.ID))
		case p.FirstLBA > p.LastLBA:
			return nil, fail(i, out[i], fmt.Errorf("starts at sector %d and ends at %d", p.FirstLBA, p.LastLBA))
		case (p.FirstLBA < h.firstUsable || p.LastLBA > h.lastUsable) && !t.wasOutside(p):
			return nil, fail(i, out[i], fmt.Errorf("%w: sectors %d to %d of %d to %d", ErrRange, p.FirstLBA, p.LastLBA, h.firstUsable, h.lastUsable))
		case !t.AllowUnaligned && p.FirstLBA%(physicalSector/uint64(t.SectorSize)) != 0 && (p.read == nil || p.read.first != p.FirstLBA):
			return nil, fail(i, out[i], fmt.Errorf("%w: sector %d of %d bytes is at no multiple of %d bytes", ErrUnaligned, p.FirstLBA, t.SectorSize, physicalSector))
		}
		if err := p.checkName(); err != nil {
			return nil, fail(i, out[i], err)
		}
		ids[p.ID] = oldID
	}
	order := make([]int, len(t.Partitions))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(t.Partitions[a].FirstLBA, t.Partitions[b].FirstLBA) })
	for k := 1; k < len(order); k++ {
		a, b := t.Partitions[order[k-1]], t.Partitions[order[k]]
		if a.LastLBA >= b.FirstLBA {
			return nil, fail(order[k], out[order[k]], fmt.Errorf("%w number %d (%q): sectors %d to %d and %d to %d", ErrOverlap,
				out[order[k-1]], a.Name, a.FirstLBA, a.LastLBA, b.FirstLBA, b.LastLBA))
		}
	}
	return out, nil
}

// wasOutside reports whether a partition was read where it is, outside of the usable sectors that
// the table had then: it may stay, before what the backup takes.
func (t *Table) wasOutside(p *Partition) bool {
	if t.read == nil || !p.unmoved() || p.LastLBA >= t.sectors() {
		return false
	}
	h := cmp.Or(t.read.primary, t.read.backup)
	return (p.FirstLBA < h.firstUsable || p.LastLBA > h.lastUsable) && p.LastLBA < t.sectors()-1-h.arraySectors(int64(t.SectorSize))
}

// Resize sets the size of the table's disk in bytes and moves the backup to the new end. Partitions
// stay where they are; if the disk has become too small for them, Resize fails.
func (t *Table) Resize(size int64) (err error) {
	defer prefix.Add("partition", &err)
	if t.SectorSize > 0 && size/int64(t.SectorSize) < 2 {
		return fmt.Errorf("disk size %d", size)
	}
	next := *t
	next.Size, next.LastUsableLBA = size, 0
	check := next
	check.KeepHybridMBR = true
	if err := check.Check(); err != nil {
		return err
	}
	_, b, err := check.geometry()
	if err != nil {
		return err
	}
	next.LastUsableLBA = b.lastUsable
	*t = next
	return nil
}
