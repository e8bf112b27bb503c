package tpm

import (
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// GPT is a UEFI_GPT_DATA (Firmware Profile 1.06, section 10.2.5): the partition table of the disk that was booted from.
type GPT struct {
	Disk                    osmith.GUID
	FirstUsable, LastUsable uint64 // LBA
	Partitions              []GPTPartition
	Header                  []byte // as on disk
}

// GPTPartition is one used entry of the table.
type GPTPartition struct {
	Type, ID          osmith.GUID
	FirstLBA, LastLBA uint64
	Attributes        uint64
	Name              string
}

func (g GPT) String() string {
	return fmt.Sprintf("partition table %s with %d partitions", g.Disk, len(g.Partitions))
}

const (
	gptHeaderSize = 92  // UEFI 2.10, section 5.3.2
	gptEntrySize  = 128 // the least that an entry has
)

func readGPT(b []byte) (GPT, error) {
	if len(b) < gptHeaderSize+8 || string(b[:8]) != "EFI PART" {
		return GPT{}, dataError(0, "partition table", "%d bytes, want a GPT header and a count", len(b))
	}
	le := binary.LittleEndian
	size := le.Uint32(b[12:])
	if size < gptHeaderSize || uint64(size) > uint64(len(b)-8) {
		return GPT{}, dataError(12, "partition table header", "%d bytes, want %d or more, and %d are left", size, gptHeaderSize, len(b)-8)
	}
	each, count := uint64(le.Uint32(b[84:])), le.Uint64(b[size:])
	entries := b[size+8:]
	if each < gptEntrySize || count > uint64(len(entries))/each {
		return GPT{}, dataError(int(size), "partition count", "%d of %d bytes each, %d bytes left", count, each, len(entries))
	}
	g := GPT{Disk: efi.GUID(b[56:]), FirstUsable: le.Uint64(b[40:]), LastUsable: le.Uint64(b[48:]), Header: b[:size:size]}
	for i := range count {
		e := entries[i*each:]
		g.Partitions = append(g.Partitions, GPTPartition{
			Type: efi.GUID(e), ID: efi.GUID(e[16:]),
			FirstLBA: le.Uint64(e[32:]), LastLBA: le.Uint64(e[40:]), Attributes: le.Uint64(e[48:]), Name: efi.DecodeUTF16(e[56:128]),
		})
	}
	return g, nil
}

// gptData is what edk2 measures of a partition table: the header, the number of used entries, and these.
func gptData(header, table []byte) ([]byte, error) {
	if len(header) < gptHeaderSize || string(header[:8]) != "EFI PART" {
		return nil, fmt.Errorf("tpm: predict: GPT header of %d bytes: want the %d bytes that begin with \"EFI PART\"", len(header), gptHeaderSize)
	}
	le := binary.LittleEndian
	size, each := le.Uint32(header[12:]), uint64(le.Uint32(header[84:]))
	if size < gptHeaderSize || uint64(size) > uint64(len(header)) {
		return nil, fmt.Errorf("tpm: predict: GPT header says that it has %d bytes; %d are given", size, len(header))
	}
	if each < gptEntrySize || each > 4096 || uint64(len(table))%each != 0 || uint64(len(table))/each > uint64(le.Uint32(header[80:])) {
		return nil, fmt.Errorf("tpm: predict: GPT entries: %d bytes given, the header has up to %d entries of %d bytes", len(table), le.Uint32(header[80:]), each)
	}
	var count uint64
	var used []byte
	for ; len(table) > 0; table = table[each:] {
		if !allByte(table[:16], 0) {
			count++
			used = append(used, table[:each]...)
		}
	}
	out := append([]byte(nil), header[:size]...)
	return append(le.AppendUint64(out, count), used...), nil
}
