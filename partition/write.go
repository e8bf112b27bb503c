package partition

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Write writes both tables and the protective MBR. A table that [Check] refuses is not written at all.
//
// The order is backup entries, backup header, Sync, primary entries, primary header, Sync, MBR if it changes, Sync;
// Sync is called if w has a method Sync() error. A table that was read from the backup is written primary first. So
// one of the two is whole after each write, and [Read] finds the old or the new table after a power cut, whether or
// not the disk keeps the order of writes between two Syncs.
//
// What the table was read with stays: number and size of entries, the place of both entry arrays, bytes of header
// and entries that this package does not know, boot code. A table that was not read takes 128 entries at the
// usual places.
func (t *Table) Write(w io.WriterAt) (err error) {
	defer prefix.Add("partition", &err)
	if err := t.Check(); err != nil {
		return err
	}
	p, b, array, err := t.encode()
	if err != nil {
		return err
	}
	order := []*header{b, p}
	if t.UsedBackup {
		order = []*header{p, b}
	}
	ss := int64(t.SectorSize)
	for _, h := range order {
		if err := writeAt(w, array, int64(h.entriesLBA)*ss, "entries"); err != nil {
			return err
		}
		if err := writeAt(w, h.encode(), int64(h.myLBA)*ss, "header"); err != nil {
			return err
		}
		if err := syncTarget(w); err != nil {
			return err
		}
	}
	old := t.mbr
	if old == nil {
		old = make([]byte, ss)
	}
	mbr := updateMBR(old, t.sectors(), t.HybridMBR)
	if t.mbr != nil && bytes.Equal(mbr, t.mbr) {
		return nil
	}
	if err := writeAt(w, mbr, 0, "protective MBR"); err != nil {
		return err
	}
	return syncTarget(w)
}

// MarshalPrimary is the primary header, without the rest of its sector, and the array of all entries, as [Table.Write] writes
// them; those of a table that was read and not changed are as on the disk. Firmware measures them into PCR 5: they are
// Header and Entries of tpm.PartitionTable. The error is that of [Table.Check], which a hybrid MBR does not matter to here.
func (t *Table) MarshalPrimary() (header, entries []byte, err error) {
	defer prefix.Add("partition", &err)
	p, _, array, err := t.encode()
	if err != nil {
		return nil, nil, err
	}
	return p.encode()[:p.size], array[:p.count*p.entrySize], nil
}

// encode returns both headers, with all fields set, and the entries in whole sectors.
func (t *Table) encode() (primary, backup *header, array []byte, err error) {
	p, b, err := t.geometry()
	if err != nil {
		return nil, nil, nil, err
	}
	if array, err = t.encodeEntries(p); err != nil {
		return nil, nil, nil, err
	}
	p.entriesCRC = crc32.ChecksumIEEE(array[:p.count*p.entrySize])
	b.entriesCRC = p.entriesCRC
	return p, b, array, nil
}

// encodeEntries puts the partitions over the array that was read. Entries that are not in use any more become zero.
func (t *Table) encodeEntries(h *header) ([]byte, error) {
	numbers, err := t.numbers(h)
	if err != nil {
		return nil, err
	}
	array := make([]byte, int64(h.arraySectors(int64(t.SectorSize)))*int64(t.SectorSize))
	copy(array, t.array)
	kept := map[int]bool{}
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
	return array, nil
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
