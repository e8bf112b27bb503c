package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// GPT header, UEFI 2.10 section 5.3.2, table 5.5 (offset, size):
//
//	 0 8 Signature "EFI PART"      32 8 AlternateLBA             72 8 PartitionEntryLBA
//	 8 4 Revision 0x00010000       40 8 FirstUsableLBA           80 4 NumberOfPartitionEntries
//	12 4 HeaderSize >= 92          48 8 LastUsableLBA            84 4 SizeOfPartitionEntry
//	16 4 HeaderCRC32               56 16 DiskGUID                88 4 PartitionEntryArrayCRC32
//	24 8 MyLBA                                                   92 - reserved
const (
	signature     = "EFI PART"
	revision1     = 0x00010000
	minHeaderSize = 92
	minEntrySize  = 128

	// maxArray bounds the memory that a header can ask for: 32,768 entries of 128 bytes. Tables in use have 128
	// entries, some 256.
	maxArray = 4 << 20
)

// header is a decoded GPT header with the sector that it was read from.
type header struct {
	sector      []byte // whole sector: what we do not know is written back as it was
	size        uint32
	myLBA       uint64
	alternate   uint64
	firstUsable uint64
	lastUsable  uint64
	diskID      osmith.GUID
	entriesLBA  uint64
	count       uint32
	entrySize   uint32
	entriesCRC  uint32
}

// arraySectors is the size of the entry array in sectors.
func (h *header) arraySectors(ss int64) uint64 {
	return (uint64(h.count)*uint64(h.entrySize) + uint64(ss) - 1) / uint64(ss)
}

// readHeader reads the header at lba of a disk of sectors sectors.
func readHeader(r io.ReaderAt, lba, sectors uint64, ss int64, which string) (*header, error) {
	off := int64(lba) * ss
	fail := func(at int64, field, format string, args ...any) error {
		return &osmith.FormatError{Offset: off + at, Field: which + " header: " + field, Err: fmt.Errorf(format, args...)}
	}
	b := make([]byte, ss)
	if err := sparse.ReadFull(r, b, off); err != nil {
		return nil, fmt.Errorf("%s header at 0x%x: %w", which, off, err)
	}
	le := binary.LittleEndian
	if string(b[:8]) != signature {
		return nil, fail(0, "Signature", "%q, want %q", b[:8], signature)
	}
	if rev := le.Uint32(b[8:]); rev>>16 != 1 {
		return nil, fail(8, "Revision", "0x%08x, want 0x%08x", rev, revision1)
	}
	h := &header{
		sector: b, size: le.Uint32(b[12:]), myLBA: le.Uint64(b[24:]), alternate: le.Uint64(b[32:]),
		firstUsable: le.Uint64(b[40:]), lastUsable: le.Uint64(b[48:]), diskID: efi.GUID(b[56:]),
		entriesLBA: le.Uint64(b[72:]), count: le.Uint32(b[80:]), entrySize: le.Uint32(b[84:]), entriesCRC: le.Uint32(b[88:]),
	}
	if h.size < minHeaderSize || int64(h.size) > ss {
		return nil, fail(12, "HeaderSize", "%d bytes, want 92 to %d", h.size, ss)
	}
	if want, got := le.Uint32(b[16:]), headerCRC(b[:h.size]); want != got {
		return nil, fail(16, "HeaderCRC32", "0x%08x, computed 0x%08x", want, got)
	}
	if h.myLBA != lba {
		return nil, fail(24, "MyLBA", "%d in sector %d", h.myLBA, lba)
	}
	if h.alternate == 0 || h.alternate >= sectors || h.alternate == lba {
		return nil, fail(32, "AlternateLBA", "%d on a disk of %d sectors", h.alternate, sectors)
	}
	if h.firstUsable < 2 || h.lastUsable >= sectors || h.firstUsable > h.lastUsable {
		return nil, fail(40, "FirstUsableLBA", "usable sectors %d to %d on a disk of %d sectors", h.firstUsable, h.lastUsable, sectors)
	}
	if h.entrySize < minEntrySize || h.entrySize&(h.entrySize-1) != 0 {
		return nil, fail(84, "SizeOfPartitionEntry", "%d, want a power of two from 128", h.entrySize)
	}
	if n := uint64(h.count) * uint64(h.entrySize); h.count == 0 || n > maxArray {
		return nil, fail(80, "NumberOfPartitionEntries", "%d entries of %d bytes: the array would have %d bytes, at most %d are read",
			h.count, h.entrySize, n, maxArray)
	}
	if n := h.arraySectors(ss); h.entriesLBA < 2 || h.entriesLBA >= sectors || n > sectors-h.entriesLBA {
		return nil, fail(72, "PartitionEntryLBA", "%d sectors from %d on a disk of %d sectors", n, h.entriesLBA, sectors)
	}
	return h, nil
}

// headerCRC is the CRC-32 of a header with its own CRC field as zero.
func headerCRC(b []byte) uint32 {
	crc := crc32.ChecksumIEEE(b[:16])
	crc = crc32.Update(crc, crc32.IEEETable, make([]byte, 4))
	return crc32.Update(crc, crc32.IEEETable, b[20:])
}

var errArrayCRC = errors.New("checksum does not match")

// readArray reads the entry array of h, in whole sectors.
func readArray(r io.ReaderAt, h *header, ss int64, which string) ([]byte, error) {
	off := int64(h.entriesLBA) * ss
	b := make([]byte, int64(h.arraySectors(ss))*ss) // at most maxArray and a sector
	if err := sparse.ReadFull(r, b, off); err != nil {
		return nil, fmt.Errorf("%s entries at 0x%x: %w", which, off, err)
	}
	if got := crc32.ChecksumIEEE(b[:h.count*h.entrySize]); got != h.entriesCRC {
		return nil, &osmith.FormatError{Offset: off, Field: which + " entries: PartitionEntryArrayCRC32",
			Err: fmt.Errorf("%w: 0x%08x, computed 0x%08x", errArrayCRC, h.entriesCRC, got)}
	}
	return b, nil
}

// encode returns the sector of h: known fields set, everything else as it was.
func (h *header) encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), h.sector...)
	copy(b, signature)
	if le.Uint32(b[8:])>>16 != 1 {
		le.PutUint32(b[8:], revision1)
	}
	le.PutUint32(b[12:], h.size)
	le.PutUint64(b[24:], h.myLBA)
	le.PutUint64(b[32:], h.alternate)
	le.PutUint64(b[40:], h.firstUsable)
	le.PutUint64(b[48:], h.lastUsable)
	efi.AppendGUID(b[56:56], h.diskID)
	le.PutUint64(b[72:], h.entriesLBA)
	le.PutUint32(b[80:], h.count)
	le.PutUint32(b[84:], h.entrySize)
	le.PutUint32(b[88:], h.entriesCRC)
	le.PutUint32(b[16:], headerCRC(b[:h.size]))
	return b
}
