package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// ErrInPlace: before the first partition there is no second place for the entries of the primary
// table, so they are overwritten in place.
var ErrInPlace = errors.New("no room for a second entry array before the first partition: after a power failure while the entries are written, firmware uses the backup, but a kernel finds no partitions")

// MeasuredTable is what firmware measures of a partition table into PCR 5: Header and Entries of
// tpm.PartitionTable.
type MeasuredTable struct {
	Header  []byte // header of the primary table, without the rest of its sector
	Entries []byte // all of the array
}

// WritePlan says what [Table.Write] is going to do.
type WritePlan struct {
	// Primary is the primary table that will be on the disk.
	Primary MeasuredTable
	// Restored is the primary table that edk2 makes from the backup if it finds the primary
	// damaged: the entries go to sector 2, and PCR 5 changes.
	Restored MeasuredTable
	// InPlace is [ErrInPlace] if the entries of the primary table are overwritten in place.
	InPlace error
	// MovedFrom and MovedTo are the sectors of the backup header before and after, if the disk has
	// grown or shrunk.
	MovedFrom, MovedTo uint64

	epochs  [][]sectorWrite // with a Sync behind each
	primary header          // as they are in the end
	backup  header
	array   []byte
	mbr     []byte
	numbers []int
}

// sectorWrite is one write of whole sectors.
type sectorWrite struct {
	what string
	lba  uint64
	data []byte
}

// Writes reports whether anything has to be written.
func (p *WritePlan) Writes() bool { return len(p.epochs) > 0 }

// PlanWrite says what [Table.Write] is going to do, and writes nothing. The error is that of Write,
// except that a hybrid MBR is not an error.
func (t *Table) PlanWrite() (plan *WritePlan, err error) {
	defer prefix.Add("partition", &err)
	return t.planWrite()
}

// Write writes both tables and the protective MBR. A table that [Table.Check] refuses is not
// written at all. Only sectors that differ from those on the disk are written. For a table that was
// read, w must be the disk from which it was read and have ReadAt: if its table has changed since,
// the error matches [ErrChanged].
//
// After a power cut at any moment, whether or not the disk keeps the order of writes between two
// Syncs (w.Sync() error, if there is one), firmware and kernels find the old or the new table: UEFI
// firmware looks for a backup only in the last sector, and a kernel does not look for one. So first
// the last sector gets a backup of the present table, if it holds a different backup or none; the
// new entries go to a second place before the first partition; and writing the header, which is one
// sector, switches to them. The new backup follows, then the MBR. FirstUsableLBA becomes the first
// sector after both places. If there is no room for a second place, the new backup is written first
// and then the entries in place ([WritePlan].InPlace): after a power cut in between, firmware uses
// the backup, and a kernel needs "gpt" on its command line. If the table was read from its backup,
// the primary is written first.
//
// On disks with sectors of 512 bytes in physical sectors of 4096, which may lose a whole physical
// sector when power fails while they write a part of it, the header and the MBR are what can be
// lost: sectors 0 to 7 are one physical sector.
//
// Properties of a table that was read stay: number and size of entries, bytes of header and entries
// that this package does not know, boot code. A table that was not read takes 128 entries at the
// usual places and is written whole, as often as it is written: this is for disks that are not
// bootable yet. To change such a table later, [Read] it from the disk.
func (t *Table) Write(w io.WriterAt) (err error) {
	defer prefix.Add("partition", &err)
	if t.HybridMBR && !t.KeepHybridMBR {
		return ErrHybridMBR
	}
	r, readable := w.(io.ReaderAt)
	if t.read != nil {
		if !readable {
			return errors.New("the disk cannot be read (no ReadAt): an updated table must be written to the disk it was read from")
		}
		now, err := read(io.NewSectionReader(r, 0, int64(t.read.sectors)*int64(t.SectorSize)), t.SectorSize)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrChanged, err)
		}
		if !now.read.same(t.read) {
			if why := errors.Join(now.PrimaryErr, now.BackupErr); why != nil {
				return fmt.Errorf("%w, or cannot be read: %w", ErrChanged, why)
			}
			return ErrChanged
		}
		t.read = now.read
	}
	plan, err := t.planWrite()
	if err != nil {
		return err
	}
	for _, epoch := range plan.epochs {
		for _, s := range epoch {
			if err := writeAt(w, s.data, int64(s.lba)*int64(t.SectorSize), s.what); err != nil {
				return err
			}
		}
		if err := syncTarget(w); err != nil {
			return err
		}
	}
	if t.read != nil {
		t.adopt(plan, r)
	}
	return nil
}

// adopt makes the table the one that was read, after it was written.
func (t *Table) adopt(plan *WritePlan, disk io.ReaderAt) {
	for i := range t.Partitions {
		p := &t.Partitions[i]
		p.Number, p.read = plan.numbers[i], &origin{p.FirstLBA, p.LastLBA, p.ID}
	}
	p, b := plan.primary, plan.backup
	p.sector, b.sector = p.encode(), b.encode()
	t.read = &reading{sectors: t.sectors(), primary: &p, backup: &b, array: plan.array, mbr: plan.mbr}
	t.read.bound(t.Partitions)
	t.read.findFree(disk, &p, int64(t.SectorSize))
	t.Entries, t.FirstUsableLBA, t.LastUsableLBA = int(p.count), p.firstUsable, p.lastUsable
	t.UsedBackup, t.PrimaryErr, t.BackupErr = false, nil, nil
}

// planWrite finds the order of writes.
func (t *Table) planWrite() (*WritePlan, error) {
	p, b, array, numbers, err := t.encode()
	if err != nil {
		return nil, err
	}
	r := t.read
	if r == nil {
		r = &reading{}
	}
	ss := int64(t.SectorSize)
	n := p.arraySectors(ss)
	sameArray := bytes.Equal(array, r.array)
	plan := &WritePlan{numbers: numbers, array: array}
	entries := func(which string, h *header, array []byte) sectorWrite {
		return sectorWrite{which + " entries", h.entriesLBA, array}
	}
	head := func(which string, h *header) sectorWrite {
		return sectorWrite{which + " header", h.myLBA, h.encode()}
	}
	epoch := func(writes ...sectorWrite) {
		if len(writes) > 0 {
			plan.epochs = append(plan.epochs, writes)
		}
	}
	backup := func() (out []sectorWrite) {
		if r.backup == nil || r.backup.entriesLBA != b.entriesLBA || !sameArray {
			out = append(out, entries("backup", b, array))
		}
		if now := head("backup", b); r.backup == nil || r.backup.myLBA != b.myLBA || !bytes.Equal(r.backup.sector, now.data) {
			out = append(out, now)
		}
		return out
	}
	switch {
	case t.read == nil: // there is no table that a machine boots from
		epoch(backup()...)
		epoch(entries("primary", p, array), head("primary", p))
	case r.primary == nil: // the backup is in force until the primary is whole
		var out []sectorWrite
		if !sameArray || r.arrayLBA != p.entriesLBA {
			out = append(out, entries("primary", p, array))
		}
		epoch(append(out, head("primary", p))...)
		epoch(backup()...)
	case sameArray && bytes.Equal(p.encode(), r.primary.sector):
		epoch(backup()...)
	default:
		var first []sectorWrite
		if !sameArray {
			limit := t.sectors() // the places that are free lie in front of the partitions in force
			for _, p := range t.Partitions {
				limit = min(limit, p.FirstLBA)
			}
			at, end, ok := r.secondArray(n, limit)
			if !ok {
				plan.InPlace = ErrInPlace
				epoch(backup()...)
				epoch(entries("primary", p, array), head("primary", p))
				break
			}
			p.entriesLBA, p.firstUsable = at, max(p.firstUsable, end)
			b.firstUsable = p.firstUsable
			first = append(first, entries("primary", p, array))
		}
		if now, err := r.backupInForce(max(t.sectors(), r.sectors)-1, n); err != nil {
			return nil, err
		} else if now != nil {
			first = append(first, entries("backup", now, r.array), head("backup", now))
		}
		epoch(first...)
		epoch(head("primary", p))
		epoch(backup()...)
	}
	old := r.mbr
	if old == nil {
		old = make([]byte, ss)
	}
	plan.mbr = updateMBR(old, t.sectors(), t.HybridMBR)
	if r.mbr == nil || !bytes.Equal(plan.mbr, r.mbr) {
		epoch(sectorWrite{"protective MBR", 0, plan.mbr})
	}
	if r.primary != nil && r.primary.alternate != b.myLBA {
		plan.MovedFrom, plan.MovedTo = r.primary.alternate, b.myLBA
	} else if r.backup != nil && r.backup.myLBA != b.myLBA {
		plan.MovedFrom, plan.MovedTo = r.backup.myLBA, b.myLBA
	}
	plan.primary, plan.backup = *p, *b
	plan.Primary = measured(p, array)
	plan.Restored = measured(restored(b, ss), array)
	return plan, nil
}

// backupInForce is the backup of the table in force that the last sector has to hold before
// anything of the primary is touched, or nil if it does.
func (r *reading) backupInForce(last, n uint64) (*header, error) {
	if r.backup != nil && r.backup.myLBA == last {
		return nil, nil
	}
	if last < n || r.lastLBA >= last-n {
		return nil, fmt.Errorf("%w, which takes %d sectors: a partition ends in sector %d of %d", ErrNoRoom, n+1, r.lastLBA, last+1)
	}
	h := *r.primary
	h.myLBA, h.alternate, h.entriesLBA = last, 1, last-n
	return &h, nil
}

// restored is the primary header that edk2 makes of a backup: it knows the first 92 bytes of a
// header.
func restored(b *header, ss int64) *header {
	h := *b
	h.sector = append(slices.Clone(b.encode()[:minHeaderSize]), make([]byte, ss-minHeaderSize)...)
	h.myLBA, h.alternate, h.entriesLBA = b.alternate, b.myLBA, firmwareArray
	return &h
}

func measured(h *header, array []byte) MeasuredTable {
	return MeasuredTable{h.encode()[:h.size], array[:h.count*h.entrySize]}
}

// MarshalPrimary returns the primary header, without the rest of its sector, and the array of all
// entries: as they are on the disk for a table that was read and not changed, otherwise as
// [Table.Write] writes them. Firmware measures them into PCR 5: they are Header and Entries of
// tpm.PartitionTable. The error is that of [Table.Check], except that a hybrid MBR is not an error.
func (t *Table) MarshalPrimary() (header, entries []byte, err error) {
	defer prefix.Add("partition", &err)
	if r := t.read; r != nil && r.primary != nil {
		same, err := t.unchanged()
		if err != nil {
			return nil, nil, err
		}
		if same {
			now := measured(r.primary, r.array)
			return now.Header, now.Entries, nil
		}
	}
	plan, err := t.planWrite()
	if err != nil {
		return nil, nil, err
	}
	return plan.Primary.Header, plan.Primary.Entries, nil
}

// unchanged reports whether the table is the one that was read, wherever its backup is.
func (t *Table) unchanged() (bool, error) {
	p, _, array, _, err := t.encode()
	if err != nil {
		return false, err
	}
	now := t.read.primary
	return bytes.Equal(array, t.read.array) && p.diskID == now.diskID && t.sectors() == t.read.sectors &&
		t.FirstUsableLBA == now.firstUsable && t.LastUsableLBA == now.lastUsable, nil
}

// encode returns both headers, with all fields set, the entries in whole sectors, and the entry
// numbers of the partitions.
func (t *Table) encode() (primary, backup *header, array []byte, numbers []int, err error) {
	p, b, err := t.geometry()
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if array, numbers, err = t.encodeEntries(p); err != nil {
		return nil, nil, nil, nil, err
	}
	p.entriesCRC = crc32.ChecksumIEEE(array[:p.count*p.entrySize])
	b.entriesCRC = p.entriesCRC
	return p, b, array, numbers, nil
}

// encodeEntries puts the partitions over the array that was read. Entries that are not in use any
// more become zero.
func (t *Table) encodeEntries(h *header) (array []byte, numbers []int, err error) {
	if numbers, err = t.numbers(h); err != nil {
		return nil, nil, err
	}
	array = make([]byte, int64(h.arraySectors(int64(t.SectorSize)))*int64(t.SectorSize))
	if t.read != nil {
		copy(array, t.read.array)
	}
	kept := map[int]bool{}
	for _, e := range t.BadEntries {
		kept[e.Number] = true
	}
	for i := range t.Partitions {
		kept[numbers[i]] = true
		n := numbers[i] - 1
		b := array[n*int(h.entrySize):][:h.entrySize]
		if t.Partitions[i].Number == 0 { // a new partition inherits nothing
			clear(b)
		}
		t.Partitions[i].put(b)
	}
	for n := range int(h.count) {
		b := array[n*int(h.entrySize):][:h.entrySize]
		if !kept[n+1] && (binary.LittleEndian.Uint64(b) != 0 || binary.LittleEndian.Uint64(b[8:]) != 0) {
			clear(b)
		}
	}
	return array, numbers, nil
}

func writeAt(w io.WriterAt, b []byte, off int64, what string) error {
	if _, err := w.WriteAt(b, off); err != nil {
		return fmt.Errorf("%s at 0x%x: %w", what, off, err)
	}
	return nil
}

func syncTarget(w io.WriterAt) error {
	if s, ok := w.(interface{ Sync() error }); ok {
		if err := s.Sync(); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	return nil
}
