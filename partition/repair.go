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
}

// Repaired says what [Repair] put right.
type Repaired struct {
	// Primary and Backup are why the primary or the backup table was written anew; nil for one that was good.
	Primary, Backup error
	// MovedFrom and MovedTo are the sectors of the backup header before and after, if it was not at the end.
	MovedFrom, MovedTo uint64
	// MBR says that the protective MBR was missing or had another size.
	MBR bool
}

// Changed reports whether anything had to be written.
func (r *Repaired) Changed() bool {
	return r.Primary != nil || r.Backup != nil || r.MovedFrom != r.MovedTo || r.MBR
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
	if out == nil {
		return "nothing to repair"
	}
	return strings.Join(out, "\n")
}

// Repair makes the table of a disk whole: a primary or backup that cannot be read, or disagrees, is
// written anew from the other one; the backup of a disk that grew is moved to its end; the protective MBR is put right.
// Partitions stay as they are, and so does everything that [Table.Write] keeps. If there is nothing to repair, nothing
// is written. The writes come in such an order that after a power cut at any of them the table can be read, and repaired.
//
// A table that was moved leaves its old backup header behind, which could be taken for a table later. It is made zero in
// the end, unless it lies in a partition.
func Repair(disk osmith.Disk, o RepairOptions) (done *Repaired, err error) {
	defer prefix.Add("partition", &err)
	t, err := read(disk, o.SectorSize)
	if err != nil {
		return nil, err
	}
	t.KeepHybridMBR = o.KeepHybridMBR
	done = &Repaired{Primary: t.PrimaryErr, Backup: t.BackupErr}
	place, end := uint64(0), t.sectors()-1
	if t.read.backup != nil {
		place = t.read.backup.myLBA
	} else {
		place = t.read.primary.alternate
	}
	if place != end {
		done.MovedFrom, done.MovedTo = place, end
		if err := t.Resize(disk.Size()); err != nil {
			return nil, err
		}
	}
	done.MBR = !bytes.Equal(updateMBR(t.read.mbr, t.sectors(), t.HybridMBR), t.read.mbr)
	if !done.Changed() {
		return done, nil
	}
	if err := t.Write(disk); err != nil {
		return nil, err
	}
	if place != end {
		if err := t.forget(disk, place); err != nil {
			return nil, err
		}
	}
	return done, nil
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
