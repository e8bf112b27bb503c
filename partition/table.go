package partition

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// Table is a GUID partition table. The zero value of every field but SectorSize, Size and Partitions makes a usual table.
type Table struct {
	// DiskID is the DiskGUID.
	DiskID osmith.GUID
	// SectorSize is the logical sector size of the disk, 512 or 4096 bytes.
	SectorSize int
	// Size is the size of the disk in bytes.
	Size int64
	// Partitions are the entries in use, in entry order when read.
	Partitions []Partition
	// Entries is how many entries the table has room for. 0: 128 in a new table. That of a table that was read stays.
	Entries int
	// FirstUsableLBA and LastUsableLBA bound the partitions. 0: next to the tables.
	FirstUsableLBA, LastUsableLBA uint64
	// UsedBackup says that the primary table was no good and the backup was read; PrimaryErr says why. Writing such a
	// table writes the primary first, so that the backup is there until the primary is good again.
	UsedBackup bool
	// PrimaryErr and BackupErr are why the primary or the backup table of the disk could not be read; nil for a good one.
	PrimaryErr, BackupErr error
	// HybridMBR says that the MBR lists partitions of its own, with a protective record or without one (an old GPT on
	// a disk that was partitioned anew: most systems then go by the MBR). Write refuses with [ErrHybridMBR] unless KeepHybridMBR
	// is set, and then leaves the MBR as it is.
	HybridMBR, KeepHybridMBR bool
	// AllowUnaligned lets Write take partitions that start at no multiple of 4096 bytes, the physical sector of today's
	// disks; else they are refused with [ErrUnaligned]. Those that were read with such a start are always kept.
	AllowUnaligned bool

	primary, backup *header // as read; nil: to be made
	array           []byte  // entries as read, in whole sectors
	mbr             []byte  // sector 0 as read
	primaryLBA      uint64  // UsedBackup: where the primary entries were found all the same; 0: nowhere
}

// Extent is where partition i (index in Partitions) lies: offset and size in bytes.
func (t *Table) Extent(i int) (off, size int64) {
	p := t.Partitions[i]
	return int64(p.FirstLBA) * int64(t.SectorSize), int64(p.LastLBA-p.FirstLBA+1) * int64(t.SectorSize)
}

// Section is partition i for reading.
func (t *Table) Section(r io.ReaderAt, i int) *io.SectionReader {
	off, size := t.Extent(i)
	return io.NewSectionReader(r, off, size)
}

// Window is one partition of a disk, for reading and writing: an [osmith.Disk]. Nothing outside of it can be reached
// through it. What the disk knows of its holes, and can do faster than by writing, it knows and can do, too.
type Window struct {
	disk      osmith.Disk
	off, size int64
}

// Window is partition i (index in Partitions) of disk.
func (t *Table) Window(disk osmith.Disk, i int) *Window {
	off, size := t.Extent(i)
	return &Window{disk: disk, off: off, size: size}
}

// Size is the size of the partition in bytes.
func (w *Window) Size() int64 { return w.size }

// ReadAt implements [io.ReaderAt].
func (w *Window) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(w.disk, w.off, w.size).ReadAt(p, off)
}

// NextData returns the first range [start, end) at or behind off that may hold anything but zeros, in bytes of the
// partition. When there is none, start and end are the size. Where the disk cannot tell, all the rest is data.
func (w *Window) NextData(off int64) (start, end int64, err error) {
	start, end, err = sparse.NextDataWithin(w.disk, w.off, w.size, off)
	return start, end, prefix.Error("partition", err)
}

// WriteAt implements [io.WriterAt]. A write that would leave the partition is refused whole.
func (w *Window) WriteAt(p []byte, off int64) (int, error) {
	if err := w.inside(off, int64(len(p))); err != nil {
		return 0, prefix.Error("partition", err)
	}
	return w.disk.WriteAt(p, w.off+off)
}

// ZeroRange makes n bytes zero, if the disk has such a method. The error matches [errors.ErrUnsupported] if it has not.
func (w *Window) ZeroRange(off, n int64) error {
	if err := w.inside(off, n); err != nil {
		return prefix.Error("partition", err)
	}
	z, ok := w.disk.(sparse.ZeroRanger)
	if !ok {
		return prefix.Error("partition", fmt.Errorf("zeroing a range of the disk: %w", errors.ErrUnsupported))
	}
	return z.ZeroRange(w.off+off, n)
}

// StartWriteback asks the disk to begin to put n written bytes on stable storage, if it can, and does not wait.
func (w *Window) StartWriteback(off, n int64) {
	if w.inside(off, n) == nil {
		sparse.StartWriteback(w.disk, w.off+off, n)
	}
}

func (w *Window) inside(off, n int64) error {
	if off < 0 || n < 0 || off > w.size || n > w.size-off {
		return fmt.Errorf("write of %d bytes at %d in a partition of %d bytes", n, off, w.size)
	}
	return nil
}

// Sync calls the Sync method of the disk, if it has one.
func (w *Window) Sync() error { return prefix.Error("partition", syncTarget(w.disk)) }

// Find returns the index of the partition with an ID, or -1.
func (t *Table) Find(id osmith.GUID) int {
	return slices.IndexFunc(t.Partitions, func(p Partition) bool { return p.ID == id })
}

// defaults of new tables.
const (
	defaultCount = 128
	defaultEntry = 128

	// physicalSector is what a partition starts at a multiple of: a disk with sectors of 512 bytes mostly has these inside.
	physicalSector = 4096
)

func (t *Table) sectors() uint64 { return uint64(t.Size) / uint64(t.SectorSize) }

// geometry fills in what is not set and returns the two headers that Write will write.
func (t *Table) geometry() (primary, backup *header, err error) {
	if t.SectorSize != 512 && t.SectorSize != 4096 {
		return nil, nil, fmt.Errorf("sector size %d: want 512 or 4096", t.SectorSize)
	}
	ss := int64(t.SectorSize)
	if t.Size < 0 {
		return nil, nil, fmt.Errorf("disk size %d", t.Size)
	}
	sectors := t.sectors()
	model := t.primary
	if model == nil {
		model = t.backup
	}
	if model == nil {
		count := cmp.Or(t.Entries, defaultCount)
		if count < 1 || count > maxArray/defaultEntry {
			return nil, nil, fmt.Errorf("a table of %d entries: want 1 to %d", count, maxArray/defaultEntry)
		}
		model = &header{sector: make([]byte, ss), size: minHeaderSize, count: uint32(count), entrySize: defaultEntry, entriesLBA: 2}
	}
	p := *model
	p.myLBA = 1
	n := p.arraySectors(ss)
	if sectors < 2*n+4 {
		return nil, nil, fmt.Errorf("a disk of %d bytes is too small for a GPT", t.Size)
	}
	b := p
	if t.backup != nil {
		b = *t.backup
	} else {
		b.myLBA = sectors - 1
		if t.primary != nil {
			b.myLBA = t.primary.alternate
		}
		b.entriesLBA = b.myLBA - n
	}
	if b.myLBA >= sectors || b.myLBA < n+2 {
		return nil, nil, fmt.Errorf("backup header in sector %d of %d", b.myLBA, sectors)
	}
	if t.primary == nil && t.backup != nil {
		p.entriesLBA = t.primaryArray(n)
	}
	p.alternate, b.alternate = b.myLBA, 1
	p.firstUsable, p.lastUsable = t.FirstUsableLBA, t.LastUsableLBA
	if p.firstUsable == 0 {
		p.firstUsable = p.entriesLBA + n
	}
	if p.lastUsable == 0 {
		p.lastUsable = b.entriesLBA - 1
	}
	p.diskID = t.DiskID
	b.firstUsable, b.lastUsable, b.diskID = p.firstUsable, p.lastUsable, p.diskID
	b.count, b.entrySize = p.count, p.entrySize
	switch {
	case p.firstUsable > p.lastUsable:
		err = fmt.Errorf("usable sectors %d to %d", p.firstUsable, p.lastUsable)
	case p.entriesLBA < 2 || p.entriesLBA+n > p.firstUsable:
		err = fmt.Errorf("primary entries in %d sectors from %d, but sectors are usable from %d", n, p.entriesLBA, p.firstUsable)
	case b.entriesLBA <= p.lastUsable || b.entriesLBA+n > b.myLBA:
		err = fmt.Errorf("backup entries in %d sectors from %d, between the last usable sector %d and the header in %d",
			n, b.entriesLBA, p.lastUsable, b.myLBA)
	}
	if err != nil {
		return nil, nil, err
	}
	return &p, &b, nil
}

// primaryArray says where the primary entries of a table go of which only the backup is left. Usually sector 2; but a
// table moved by sgdisk -j leaves a gap that boot code lives in, and only the first usable sector tells of it.
func (t *Table) primaryArray(n uint64) uint64 {
	if t.primaryLBA != 0 && t.primaryLBA+n <= t.FirstUsableLBA {
		return t.primaryLBA
	}
	return max(t.FirstUsableLBA-n, 2)
}

// Check reports the first thing for which [Table.Write] would refuse the table. Errors about one partition are
// [*EntryError].
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
	ids := map[osmith.GUID]bool{}
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
		switch {
		case p.Type.IsZero():
			return nil, fail(i, out[i], errors.New("type is all zero, which marks an unused entry"))
		case p.ID.IsZero():
			return nil, fail(i, out[i], errors.New("ID is all zero"))
		case ids[p.ID]:
			return nil, fail(i, out[i], fmt.Errorf("%w: %s", ErrDuplicateID, p.ID))
		case p.FirstLBA > p.LastLBA:
			return nil, fail(i, out[i], fmt.Errorf("starts at sector %d and ends at %d", p.FirstLBA, p.LastLBA))
		case p.FirstLBA < h.firstUsable || p.LastLBA > h.lastUsable:
			return nil, fail(i, out[i], fmt.Errorf("%w: sectors %d to %d of %d to %d", ErrRange, p.FirstLBA, p.LastLBA, h.firstUsable, h.lastUsable))
		case !t.AllowUnaligned && p.FirstLBA%(physicalSector/uint64(t.SectorSize)) != 0 && p.FirstLBA != p.readLBA:
			return nil, fail(i, out[i], fmt.Errorf("%w: sector %d of %d bytes is at no multiple of %d bytes", ErrUnaligned, p.FirstLBA, t.SectorSize, physicalSector))
		}
		if err := p.checkName(); err != nil {
			return nil, fail(i, out[i], err)
		}
		ids[p.ID] = true
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

// Resize tells the table that its disk now has size bytes and moves the backup to the new end. Partitions stay where
// they are; a disk that has become too small for them is refused.
func (t *Table) Resize(size int64) (err error) {
	defer prefix.Add("partition", &err)
	next := *t
	next.Size, next.LastUsableLBA = size, 0
	if next.primary == nil && next.backup != nil {
		p, _, err := t.geometry()
		if err != nil {
			return err
		}
		next.primary = p
	}
	next.backup = nil
	if next.primary != nil {
		p := *next.primary
		if size < 0 || size/int64(t.SectorSize) < 2 {
			return fmt.Errorf("disk size %d", size)
		}
		p.alternate = next.sectors() - 1
		next.primary = &p
	}
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
