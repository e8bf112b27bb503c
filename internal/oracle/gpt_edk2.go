package oracle

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

// edk2 is the partition driver of edk2. Its rules are those of
// MdeModulePkg/Universal/Disk/PartitionDxe/Gpt.c of edk2-stable202211 and, strict, of
// MdeModulePkg/Library/GptLib/Gpt.c of 2026-08-06.
type edk2 struct{ strict bool }

// edk2Header is how much of a header edk2 keeps.
const edk2Header = 92

// maxUsedEntries bounds the search for overlaps.
const maxUsedEntries = 8192

func (e edk2) read(d *disk) (Result, error) {
	var r Result
	mbr, err := d.read(0, uint64(d.sector))
	if err != nil {
		r.Rejected = append(r.Rejected, "sector 0: "+err.Error())
		return r, nil
	}
	if !protective(mbr) {
		r.Rejected = append(r.Rejected, "sector 0 has no record of type EE that starts at LBA 1")
		return edk2MBR(d, mbr, r), nil
	}
	var primary, backup header
	r.Table = TablePrimary
	if why := e.valid(d, 1, &primary); why != "" {
		r.Rejected = append(r.Rejected, "primary: "+why)
		r.Table = TableBackup
		if why := e.valid(d, d.lastLBA(), &backup); why != "" {
			r.Rejected = append(r.Rejected, "backup: "+why)
			r.Table = TableNone
			return edk2MBR(d, mbr, r), nil
		}
		why := ""
		if err := e.restore(d, backup); err != nil {
			why = "restored primary: " + err.Error()
		}
		if why == "" || !e.strict {
			if bad := e.valid(d, backup.alternateLBA, &primary); bad != "" {
				why = "restored primary: " + bad
			}
		}
		if why != "" {
			r.Rejected = append(r.Rejected, why)
			if e.strict {
				r.Table = TableNone
				return edk2MBR(d, mbr, r), nil
			}
		}
	} else if why := e.valid(d, primary.alternateLBA, &backup); why != "" {
		r.Rejected = append(r.Rejected, fmt.Sprintf("backup in LBA %d: %s", primary.alternateLBA, why))
		if err := e.restore(d, primary); err != nil {
			r.Rejected = append(r.Rejected, "restored backup: "+err.Error())
		}
	}
	if primary.raw == nil { // a header that was never read: edk2 goes on with zeros, and no entries
		return r, nil
	}
	entries, err := d.read(primary.entryLBA, uint64(primary.count*primary.each))
	if err != nil {
		r.Rejected = append(r.Rejected, "entries: "+err.Error())
		r.Table = TableNone
		return edk2MBR(d, mbr, r), nil
	}
	r.Partitions, err = edk2Entries(primary, entries)
	return r, err
}

// valid reads a table and says what is wrong with it, or nothing. A header that is right is kept in
// h even if its entries are not.
func (e edk2) valid(d *disk, lba uint64, h *header) string {
	block, err := d.read(lba, uint64(d.sector))
	if err != nil {
		return err.Error()
	}
	got := parseHeader(block)
	switch {
	case !got.signed():
		return "no signature"
	case e.strict && got.revision != 0x10000:
		return fmt.Sprintf("revision %#x", got.revision)
	case e.strict && got.size < 92, got.size == 0, int64(got.size) > d.sector:
		return fmt.Sprintf("header of %d bytes", got.size)
	case got.checksum() != got.crc:
		return "header checksum"
	case got.myLBA != lba:
		return fmt.Sprintf("MyLBA %d, want %d", got.myLBA, lba)
	case e.strict && got.count == 0:
		return "no entries"
	case got.each < 128, e.strict && got.each&(got.each-1) != 0:
		return fmt.Sprintf("entries of %d bytes", got.each)
	case e.strict && got.entryLBA > ^uint64(0)/uint64(d.sector):
		return fmt.Sprintf("PartitionEntryLBA %d", got.entryLBA)
	}
	got.raw = got.raw[:edk2Header]
	*h = got
	entries, err := d.read(got.entryLBA, uint64(got.count*got.each)) // 32 bits, as there
	if err != nil {
		return "entries: " + err.Error()
	}
	if crc32.ChecksumIEEE(entries) != got.entriesCRC {
		return "entries checksum"
	}
	return ""
}

// restore writes a table to the place of the other one: the header, then the entries.
func (e edk2) restore(d *disk, from header) error {
	entryLBA, name := uint64(2), "primary"
	if from.myLBA == 1 {
		entryLBA, name = from.lastUsable+1, "backup"
	}
	block := make([]byte, d.sector)
	copy(block, from.raw)
	le := binary.LittleEndian
	le.PutUint64(block[24:], from.alternateLBA)
	le.PutUint64(block[32:], from.myLBA)
	le.PutUint64(block[72:], entryLBA)
	le.PutUint32(block[16:], parseHeader(block).checksum())
	if err := d.write(from.alternateLBA, block, name+" header"); err != nil {
		return err
	}
	entries, err := d.read(from.entryLBA, uint64(from.count*from.each))
	if err != nil {
		return err
	}
	return d.write(entryLBA, entries, name+" entries")
}

// edk2Entries returns the entries that are offered.
func edk2Entries(h header, array []byte) ([]Partition, error) {
	type entry struct {
		Partition
		hidden bool
	}
	var used []entry
	for i := uint64(0); i < uint64(h.count) && (i+1)*uint64(h.each) <= uint64(len(array)); i++ {
		if p := entryAt(array[i*uint64(h.each):], int(i)+1); p.Type != (GUID{}) {
			used = append(used, entry{Partition: p})
		}
	}
	if len(used) > maxUsedEntries {
		return nil, fmt.Errorf("%d used entries, at most %d can be judged", len(used), maxUsedEntries)
	}
	for i := range used {
		p := &used[i]
		if p.FirstLBA > p.LastLBA || p.FirstLBA < h.firstUsable || p.LastLBA > h.lastUsable {
			p.hidden = true
			continue
		}
		if p.Attributes&2 != 0 {
			p.hidden = true
		}
		for j := i + 1; j < len(used); j++ {
			if q := &used[j]; q.LastLBA >= p.FirstLBA && q.FirstLBA <= p.LastLBA {
				p.hidden, q.hidden = true, true
			}
		}
	}
	used = slices.DeleteFunc(used, func(e entry) bool { return e.hidden })
	var all []Partition
	for _, e := range used {
		all = append(all, e.Partition)
	}
	return all, nil
}

// edk2MBR adds the records of the MBR, which are offered if they are on the disk and do not
// overlap.
func edk2MBR(d *disk, mbr []byte, r Result) Result {
	records := mbrRecords(mbr)
	if !mbrSigned(mbr) {
		return r
	}
	for i, p := range records {
		if uint64(p.last()) > uint64(d.size)/512-1 {
			return r
		}
		for _, q := range records[i+1:] {
			if q.last() >= p.start && q.start <= p.last() {
				return r
			}
		}
	}
	for _, p := range records {
		if p.kind != 0xee {
			r.Table = TableMBR
			r.Partitions = append(r.Partitions, p.partition())
		}
	}
	return r
}
