package oracle

import (
	"fmt"
	"hash/crc32"
	"slices"
)

// linux is a Linux kernel, force one with "gpt" on its command line
// (Documentation/admin-guide/kernel-parameters.txt).
type linux struct{ force bool }

// What a kernel reads at most.
const (
	linuxMaxArray      = 4 << 20
	linuxMaxPartitions = 255
)

func (l linux) read(d *disk) (Result, error) {
	var r Result
	mbr, err := d.read(0, uint64(d.sector))
	if !l.force {
		switch {
		case err != nil:
			r.Rejected = append(r.Rejected, "sector 0: "+err.Error())
			return r, nil
		case !mbrSigned(mbr):
			r.Rejected = append(r.Rejected, "sector 0 has no signature 55AA")
			return r, nil
		case !protective(mbr):
			r.Rejected = append(r.Rejected, "sector 0 has no record of type EE that starts at LBA 1")
			return linuxMBR(d, mbr, r), nil
		}
	}
	h, entries, why := l.valid(d, 1)
	r.Table = TablePrimary
	if why != "" {
		r.Rejected = append(r.Rejected, "primary: "+why)
		r.Table = TableBackup
		if l.force {
			if h, entries, why = l.valid(d, d.lastLBA()); why != "" {
				r.Rejected = append(r.Rejected, "backup: "+why)
			}
		}
	}
	if why != "" {
		r.Table = TableNone
		if err != nil {
			return r, nil
		}
		return linuxMBR(d, mbr, r), nil
	}
	for i := range min(int(h.count), linuxMaxPartitions) {
		p := entryAt(entries[i*128:], i+1)
		// A partition that ends before it starts is offered, too, with an absurd size.
		if p.Type != (GUID{}) && p.FirstLBA <= d.lastLBA() && p.LastLBA <= d.lastLBA() && p.LastLBA-p.FirstLBA+1 != 0 {
			r.Partitions = append(r.Partitions, p)
		}
	}
	return r, nil
}

// valid reads a table and says what is wrong with it, or nothing.
func (l linux) valid(d *disk, lba uint64) (h header, entries []byte, why string) {
	block, err := d.read(lba, uint64(d.sector))
	if err != nil {
		return h, nil, err.Error()
	}
	h = parseHeader(block)
	switch {
	case !h.signed():
		why = "no signature"
	case h.size < 92 || int64(h.size) > d.sector:
		why = fmt.Sprintf("header of %d bytes", h.size)
	case h.checksum() != h.crc:
		why = "header checksum"
	case h.myLBA != lba:
		why = fmt.Sprintf("MyLBA %d, want %d", h.myLBA, lba)
	case h.firstUsable > d.lastLBA(), h.lastUsable > d.lastLBA(), h.firstUsable > h.lastUsable:
		why = fmt.Sprintf("usable LBA %d to %d, the last of the disk is %d", h.firstUsable, h.lastUsable, d.lastLBA())
	case h.each != 128:
		why = fmt.Sprintf("entries of %d bytes", h.each)
	case h.arraySize() > linuxMaxArray:
		why = fmt.Sprintf("entries of %d bytes in all", h.arraySize())
	}
	if why != "" {
		return h, nil, why
	}
	if h.entryLBA > d.lastLBA() {
		return h, nil, "entries: " + errBeyond.Error()
	}
	if entries, err = d.read(h.entryLBA, h.arraySize()); err != nil {
		return h, nil, "entries: " + err.Error()
	}
	if crc32.ChecksumIEEE(entries) != h.entriesCRC {
		return h, nil, "entries checksum"
	}
	return h, entries, ""
}

// linuxMBR adds the primary partitions of the MBR, unless a record says that the disk has a GPT.
func linuxMBR(d *disk, mbr []byte, r Result) Result {
	records := mbrRecords(mbr)
	if !mbrSigned(mbr) || slices.ContainsFunc(records, func(p mbrPart) bool { return p.kind == 0xee || p.boot&0x7f != 0 }) {
		return r
	}
	for _, p := range records {
		if uint64(p.start) < uint64(d.size)/512 {
			r.Table = TableMBR
			r.Partitions = append(r.Partitions, p.partition())
		}
	}
	return r
}
