package partition

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// RepairOptions are the options of [Repair].
type RepairOptions struct {
	// SectorSize is 512 or 4096; 0: it is detected.
	SectorSize int
	// KeepHybridMBR allows the repair of a GPT beside a hybrid MBR, which stays as it is.
	KeepHybridMBR bool
	// Seed gives new IDs to partitions without one. Of partitions with the same ID, the first in
	// entry order keeps it and the others get new IDs. Zero: all IDs stay as they are. A partition
	// with a new ID is no longer found by its old PARTUUID.
	Seed osmith.GUID
}

// Repaired says what [Repair] put right.
type Repaired struct {
	// Primary and Backup say why the primary or the backup table was rewritten; nil for a table
	// that was good.
	Primary, Backup error
	// MovedFrom and MovedTo are the sectors of the backup header before and after, if it was not at
	// the end.
	MovedFrom, MovedTo uint64
	// MBR says that the protective MBR was missing or had a wrong size.
	MBR bool
	// Usable says that FirstUsableLBA or LastUsableLBA left out sectors of a partition, or named
	// sectors beyond the disk.
	Usable bool
	// IDs are the numbers of the partitions that got new IDs.
	IDs []int
}

// Changed reports whether anything had to be written.
func (r *Repaired) Changed() bool {
	return r.Primary != nil || r.Backup != nil || r.MovedFrom != r.MovedTo || r.MBR || r.Usable || r.IDs != nil
}

// String is for people: one line for each thing put right, or "nothing to repair".
func (r *Repaired) String() string {
	var out []string
	if r.Primary != nil {
		out = append(out, "primary table written from the backup: "+r.Primary.Error())
	}
	if r.Backup != nil {
		out = append(out, "backup table written from the primary: "+r.Backup.Error())
	}
	if r.MovedFrom != r.MovedTo {
		out = append(out, fmt.Sprintf("backup table moved from sector %d to %d, the end of the disk", r.MovedFrom, r.MovedTo))
	}
	if r.MBR {
		out = append(out, "protective MBR written")
	}
	if r.Usable {
		out = append(out, "range of usable sectors fitted to the partitions and the disk")
	}
	for _, n := range r.IDs {
		out = append(out, fmt.Sprintf("number %d has a new ID", n))
	}
	if out == nil {
		return "nothing to repair"
	}
	return strings.Join(out, "\n")
}

// Repair repairs the table of a disk: a primary or backup that cannot be read, or disagrees, is
// rewritten from the other one; the backup of a disk that grew is moved to its end; the protective
// MBR is corrected; the usable sectors are extended to all partitions; and with a Seed, duplicate
// IDs are replaced. Partitions stay where they are, and so does everything that [Table.Write]
// keeps. For partitions that overlap, the error matches [ErrOverlap]: a person must decide which of
// them to remove. If there is nothing to repair, nothing is written. The writes come in the order
// of [Table.Write].
//
// If the backup is moved, its old header could later be taken for a table. It is zeroed at the end,
// unless it lies in a partition.
func Repair(disk osmith.Disk, o RepairOptions) (done *Repaired, err error) {
	defer prefix.Add("partition", &err)
	t, err := read(disk, o.SectorSize)
	if err != nil {
		return nil, err
	}
	if t.HybridMBR && !o.KeepHybridMBR {
		return nil, ErrHybridMBR
	}
	t.KeepHybridMBR = o.KeepHybridMBR
	done = &Repaired{Primary: t.PrimaryErr, Backup: t.BackupErr}
	place, end := uint64(0), t.sectors()-1
	if t.read.backup != nil {
		place = t.read.backup.myLBA
	} else {
		place = t.read.primary.alternate
	}
	moved := place != end && place > 1
	if moved {
		done.MovedFrom, done.MovedTo = place, end
		if err := t.Resize(disk.Size()); err != nil {
			return nil, err
		}
	}
	if err := t.fitUsable(done); err != nil {
		return nil, err
	}
	t.newIDs(done, o.Seed)
	if err := t.Check(); err != nil {
		return nil, err
	}
	done.MBR = t.read.mbr == nil || !bytes.Equal(updateMBR(t.read.mbr, t.sectors(), t.HybridMBR), t.read.mbr)
	if !done.Changed() {
		return done, nil
	}
	if err := t.Write(disk); err != nil {
		return nil, err
	}
	if moved {
		if err := t.forget(disk, place); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// fitUsable widens the range of usable sectors where partitions lie outside of it, and ends it on
// the disk. edk2 offers only partitions inside.
func (t *Table) fitUsable(done *Repaired) error {
	p, b, err := t.geometry()
	if err != nil {
		return err
	}
	ss := int64(t.SectorSize)
	if end := b.entriesLBA - 1; t.LastUsableLBA > end {
		t.LastUsableLBA, done.Usable = end, true
	}
	for _, e := range t.Partitions {
		if e.FirstLBA < t.FirstUsableLBA && e.FirstLBA >= p.entriesLBA+p.arraySectors(ss) {
			t.FirstUsableLBA, done.Usable = e.FirstLBA, true
		}
		if e.LastLBA > t.LastUsableLBA && e.LastLBA < b.entriesLBA {
			t.LastUsableLBA, done.Usable = e.LastLBA, true
		}
	}
	return nil
}

// newIDs gives an ID to each partition that has none of its own.
func (t *Table) newIDs(done *Repaired, seed osmith.GUID) {
	if seed.IsZero() {
		return
	}
	taken := map[osmith.GUID]bool{{}: true}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if !taken[p.ID] {
			taken[p.ID] = true
			continue
		}
		p.ID = seedGUID(seed, fmt.Appendf(nil, "repair %d %s", p.Number, p.ID))
		taken[p.ID] = true
		done.IDs = append(done.IDs, p.Number)
	}
}

// forget makes the header in a sector zero, if there is one that nothing else owns.
func (t *Table) forget(disk osmith.Disk, lba uint64) error {
	_, b, err := t.geometry()
	if err != nil {
		return err
	}
	if lba >= b.entriesLBA {
		return nil
	}
	for _, p := range t.Partitions {
		if p.FirstLBA <= lba && lba <= p.LastLBA {
			return nil
		}
	}
	ss := int64(t.SectorSize)
	sector := make([]byte, ss)
	if err := sparse.ReadFull(disk, sector, int64(lba)*ss); err != nil {
		return fmt.Errorf("old backup header: %w", err)
	}
	if string(sector[:len(signature)]) != signature {
		return nil
	}
	if err := writeAt(disk, make([]byte, ss), int64(lba)*ss, "old backup header"); err != nil {
		return err
	}
	return syncTarget(disk)
}
