package partition

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
)

// A Finding is something in a partition table that firmware, kernels or tools interpret differently
// from this package, or a fault that a different tool has left.
type Finding struct {
	Code string // stable, for programs: "backup-place", "hybrid-mbr"...
	Text string // for people: what was found and its effect
}

// String is the text and, in parentheses, the code.
func (f Finding) String() string { return fmt.Sprintf("%s (%s)", f.Text, f.Code) }

// A BadEntry is an entry in use whose sectors cannot be a partition: it ends before it starts, or
// lies beyond the disk. [Table.Write] keeps it byte for byte, and does not refuse other partitions
// because of it. Remove it from [Table.BadEntries] to clear the entry.
type BadEntry struct {
	Partition
	Err error // a [*osmith.FormatError]
}

// Findings lists, in the order of the disk, what firmware, kernels and tools see differently in the
// table as it was read. A complete table as sgdisk and sfdisk write it has no findings. What edk2
// (2022.11, 2026.08), U-Boot (2025.01) and Linux (6.12, 7.2) do was tried on 115 disks.
//
//	primary, backup       the table is damaged, missing, or contradicts the other table
//	backup-place          the backup is not in the last sector
//	stale-backup          a table was left there by an earlier use of the disk
//	no-mbr, mbr           sector 0 has no protective record, or cannot be read; or it has one that some systems do not accept
//	mbr-wins, hybrid-mbr  sector 0 lists partitions, without a protective record or beside one
//	two-records           sector 0 has two protective records
//	sector-size           the device has sectors of another size than the table
//	usable                LastUsableLBA is beyond the disk
//	entry                 a [BadEntry]
//	id                    two partitions have one ID, or one has none
//	overlap, range        partitions overlap, or lie outside of the usable sectors
func (t *Table) Findings() []Finding {
	if t.read == nil {
		return nil
	}
	c := &findings{}
	c.mbr(t)
	c.tables(t)
	for _, e := range t.BadEntries {
		if e.FirstLBA > e.LastLBA {
			c.add("entry", "%v: edk2 does not offer it, U-Boot and some kernels do, with an absurd size", e.Err)
		} else {
			c.add("entry", "%v: neither edk2 nor kernels offer it", e.Err)
		}
	}
	c.partitions(t)
	return c.list
}

type findings struct{ list []Finding }

func (c *findings) add(code, format string, args ...any) {
	c.list = append(c.list, Finding{code, fmt.Sprintf(format, args...)})
}

func (c *findings) mbr(t *Table) {
	b := t.read.mbr
	if b == nil {
		c.add("no-mbr", "sector 0 cannot be read: without a protective MBR there, firmware and kernels find no partitions")
		return
	}
	m := classify(b)
	switch {
	case !m.signed && m.protective > 0:
		c.add("mbr", "sector 0 ends without 55 AA: U-Boot and Linux find no partitions, edk2 does")
	case !m.signed:
		c.add("no-mbr", "sector 0 is not a protective MBR: firmware and kernels find no partitions")
	case m.protective == 0 && m.wrongStart:
		c.add("no-mbr", "the record of type EE in sector 0 does not start at sector 1: firmware and kernels find no partitions")
	case m.wrongType:
		c.add("mbr-wins", "the protective record is of type EF, that of an ESP, instead of EE: firmware and kernels take the disk for one large ESP")
	case m.protective == 0 && m.others > 0:
		c.add("mbr-wins", "the MBR lists %d partition(s), without a protective record: firmware and kernels use the MBR instead of the GPT", m.others)
	case m.protective == 0:
		c.add("no-mbr", "the MBR has no protective record: firmware and kernels find no partitions")
	case m.others > 0:
		c.add("hybrid-mbr", "the MBR lists %d partition(s) beside the protective record: software that reads the MBR sees only those", m.others)
	case m.records > 1:
		c.add("two-records", "the MBR has %d records of type EE: some tools take it for a hybrid one", m.records)
	}
}

func (c *findings) tables(t *Table) {
	end := t.read.sectors - 1
	if t.PrimaryErr != nil {
		c.add("primary", "%v: a kernel without \"gpt\" on its command line finds no partitions", t.PrimaryErr)
	}
	switch {
	case t.BackupErr != nil:
		c.add("backup", "%v: no backup table to fall back to; edk2 writes a new one where the primary header says it belongs", t.BackupErr)
	case t.read.backup.myLBA != end:
		c.add("backup-place", "the backup table is in sector %d, want the last sector, %d: firmware looks only there", t.read.backup.myLBA, end)
	}
	if s := t.read.stale; s != nil {
		c.add("stale-backup", "the last sector holds the table of a disk %s: firmware uses that table if the primary is damaged", s.diskID)
	}
	if h := t.read.primary; h != nil && h.lastUsable > end {
		c.add("usable", "LastUsableLBA is %d, the last sector %d: U-Boot and Linux find no partitions", h.lastUsable, end)
	}
	if n := t.DeviceSectorSize; n != 0 && n != t.SectorSize {
		c.add("sector-size", "the table has sectors of %d bytes, the device of %d: firmware and kernels find no partitions", t.SectorSize, n)
	}
}

func (c *findings) partitions(t *Table) {
	h := t.read.primary
	if h == nil {
		h = t.read.backup
	}
	ids := map[osmith.GUID]int{}
	for _, p := range t.Partitions {
		switch first, twice := ids[p.ID]; {
		case p.ID.IsZero():
			c.add("id", "number %d (%q) has an ID of zeros", p.Number, p.Name)
		case twice:
			c.add("id", "number %d (%q) has the ID of number %d: which of the two a search by ID finds is undefined", p.Number, p.Name, first)
		default:
			ids[p.ID] = p.Number
		}
		if p.FirstLBA < h.firstUsable || p.LastLBA > h.lastUsable {
			c.add("range", "number %d (%q) has sectors %d to %d, usable are %d to %d: edk2 does not offer it", p.Number, p.Name, p.FirstLBA, p.LastLBA, h.firstUsable, h.lastUsable)
		}
	}
	order := slices.Clone(t.Partitions)
	slices.SortStableFunc(order, func(a, b Partition) int { return cmp.Compare(a.FirstLBA, b.FirstLBA) })
	for i := 1; i < len(order); i++ {
		if a, b := order[i-1], order[i]; a.LastLBA >= b.FirstLBA {
			c.add("overlap", "number %d (%q) overlaps number %d (%q): edk2 offers neither of them", b.Number, b.Name, a.Number, a.Name)
			order[i].LastLBA = max(a.LastLBA, b.LastLBA)
		}
	}
}

// mbrClass is what sector 0 says.
type mbrClass struct {
	signed bool // 55 AA
	// records of type EE that start at sector 1: those that firmware and kernels take
	protective int
	records    int  // records of type EE
	wrongStart bool // there are records of type EE, and none starts at sector 1
	others     int  // records of other types
	// the only record starts at sector 1 as a protective one does, but is of type EF, that of an
	// ESP
	wrongType bool
}

func classify(b []byte) (m mbrClass) {
	m.signed = b[510] == 0x55 && b[511] == 0xaa
	for i := range 4 {
		r := mbrRecord(b, i)
		switch kind := r[4]; {
		case kind == typeGPT:
			m.records++
			if binary.LittleEndian.Uint32(r[8:]) == 1 {
				m.protective++
			}
		case kind != 0:
			m.others++
			m.wrongType = kind == 0xef && binary.LittleEndian.Uint32(r[8:]) == 1
		}
	}
	m.wrongType = m.wrongType && m.others == 1 && m.records == 0
	m.wrongStart = m.records > 0 && m.protective == 0
	return m
}
