package oracle

import (
	"fmt"
	"hash/crc32"
)

// readUBoot is U-Boot's partition code as its answers show it; its source was not read.
func readUBoot(d *disk) (Result, error) {
	var r Result
	mbr, err := d.read(0, uint64(d.sector))
	if err != nil {
		r.Rejected = append(r.Rejected, "sector 0: "+err.Error())
		return r, nil
	}
	if !mbrSigned(mbr) {
		r.Rejected = append(r.Rejected, "sector 0 has no signature 55AA")
		return r, nil
	}
	if !protective(mbr) {
		r.Rejected = append(r.Rejected, "sector 0 has no record of type EE that starts at LBA 1")
		for _, p := range mbrRecords(mbr) {
			r.Table = TableMBR
			r.Partitions = append(r.Partitions, p.partition())
		}
		return r, nil
	}
	r.Table = TablePrimary
	h, entries, why := ubootValid(d, 1)
	if why != "" {
		r.Rejected = append(r.Rejected, "primary: "+why)
		r.Table = TableBackup
		if h, entries, why = ubootValid(d, d.lastLBA()); why != "" {
			r.Rejected = append(r.Rejected, "backup: "+why)
			r.Table = TableNone
			return r, nil // the MBR is not tried
		}
	}
	// The entries are taken to be of 128 bytes. Beyond the array there is memory of which nothing
	// is known.
	for i := 0; i < int(h.count) && (i+1)*128 <= len(entries); i++ {
		if p := entryAt(entries[i*128:], i+1); p.Type != (GUID{}) {
			r.Partitions = append(r.Partitions, p)
		}
	}
	return r, nil
}

// ubootValid reads a table and says what is wrong with it, or nothing.
func ubootValid(d *disk, lba uint64) (h header, entries []byte, why string) {
	block, err := d.read(lba, uint64(d.sector))
	if err != nil {
		return h, nil, err.Error()
	}
	h = parseHeader(block)
	sectors := uint64(d.size / d.sector)
	switch {
	case !h.signed():
		why = "no signature"
	case int64(h.size) > d.sector:
		why = fmt.Sprintf("header of %d bytes", h.size)
	case h.checksum() != h.crc:
		why = "header checksum"
	case h.myLBA != lba:
		why = fmt.Sprintf("MyLBA %d, want %d", h.myLBA, lba)
	case h.firstUsable > sectors, h.lastUsable > sectors:
		// one sector beyond the disk is still right
		why = fmt.Sprintf("usable LBA %d to %d, the disk has %d sectors", h.firstUsable, h.lastUsable, sectors)
	case h.arraySize() == 0:
		why = "no entries"
	case h.entryLBA >= sectors:
		why = "entries: " + errBeyond.Error()
	}
	if why != "" {
		return h, nil, why
	}
	if entries, err = d.read(h.entryLBA, h.arraySize()); err != nil {
		return h, nil, "entries: " + err.Error()
	}
	if crc32.ChecksumIEEE(entries) != h.entriesCRC {
		return h, nil, "entries checksum"
	}
	return h, entries, ""
}
