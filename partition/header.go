package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf8"

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

	// maxArray bounds the memory that a header can ask for: 32,768 entries of 128 bytes. Tables in
	// use have 128 entries, some 256.
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

// readHeader reads the header at lba of a disk of sectors sectors. AlternateLBA is not checked: no
// firmware or kernel checks it. beyond lets LastUsableLBA lie beyond the disk.
func readHeader(r io.ReaderAt, lba, sectors uint64, ss int64, which string, beyond bool) (*header, error) {
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
	if h.firstUsable < 2 || h.lastUsable >= sectors && !beyond || h.firstUsable > h.lastUsable {
		return nil, fail(40, "FirstUsableLBA", "usable sectors %d to %d on a disk of %d sectors", h.firstUsable, h.lastUsable, sectors)
	}
	if h.entrySize < minEntrySize || h.entrySize&(h.entrySize-1) != 0 {
		return nil, fail(84, "SizeOfPartitionEntry", "%d, want a power of two from 128", h.entrySize)
	}
	if n := uint64(h.count) * uint64(h.entrySize); h.count == 0 || n > maxArray {
		return nil, fail(80, "NumberOfPartitionEntries", "%d entries of %d bytes: the array would have %d bytes, want at most %d",
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

// GPT entry, UEFI 2.10 section 5.3.3, table 5.6 (offset, size):
//
//	0 16 PartitionTypeGUID   32 8 StartingLBA   48  8 Attributes
//	16 16 UniquePartitionGUID 40 8 EndingLBA     56 72 PartitionName, UTF-16LE
const (
	nameOffset = 56
	nameBytes  = 72

	// MaxName is the limit of a partition name in UTF-16 units. A character above U+FFFF takes two.
	MaxName = nameBytes / 2
)

// Partition is one entry of a table.
type Partition struct {
	// Number is the entry number, from 1, as in /dev/sda1. [Read] sets it; 0 stands for the first
	// free entry when the table is written.
	Number int
	// Type is the partition type, for example [ESP].
	Type osmith.GUID
	// ID is the UniquePartitionGUID, PARTUUID to Linux. It must be unique on the disk.
	ID osmith.GUID
	// Name has at most [MaxName] UTF-16 units. A slot without content is called [EmptyName].
	Name string
	// FirstLBA and LastLBA are the first and the last sector, both included.
	FirstLBA, LastLBA uint64
	// Attributes are the 64 flag bits; unknown ones are kept.
	Attributes uint64

	read    *origin         // as read; nil: a new partition
	rawName [nameBytes]byte // as read: it is written back if Name still is what it decodes to
}

// origin is what of a partition may stay as it was read, though it could not be made so.
type origin struct {
	first, last uint64
	id          osmith.GUID
}

// unmoved reports whether the partition was read with its sectors.
func (p *Partition) unmoved() bool {
	return p.read != nil && p.read.first == p.FirstLBA && p.read.last == p.LastLBA
}

// onDisk reports whether the sectors of the partition are sectors of a disk, in order.
func (p *Partition) onDisk(sectors uint64) bool {
	return p.FirstLBA <= p.LastLBA && p.LastLBA < sectors
}

// readEntry decodes an entry in use.
func readEntry(b []byte, number int) Partition {
	le := binary.LittleEndian
	p := Partition{
		Number: number, Type: efi.GUID(b), ID: efi.GUID(b[16:]),
		FirstLBA: le.Uint64(b[32:]), LastLBA: le.Uint64(b[40:]), Attributes: le.Uint64(b[48:]),
		Name: efi.DecodeUTF16(b[nameOffset : nameOffset+nameBytes]),
	}
	p.read = &origin{p.FirstLBA, p.LastLBA, p.ID}
	copy(p.rawName[:], b[nameOffset:])
	return p
}

// put encodes p over the entry b; bytes beyond 128 stay.
func (p *Partition) put(b []byte) {
	le := binary.LittleEndian
	efi.AppendGUID(b[:0], p.Type)
	efi.AppendGUID(b[16:16], p.ID)
	le.PutUint64(b[32:], p.FirstLBA)
	le.PutUint64(b[40:], p.LastLBA)
	le.PutUint64(b[48:], p.Attributes)
	name := b[nameOffset : nameOffset+nameBytes]
	if p.Name == efi.DecodeUTF16(p.rawName[:]) {
		copy(name, p.rawName[:])
		return
	}
	clear(name)
	copy(name, efi.AppendUTF16(nil, p.Name)) // checkName limits it
}

// checkName reports why name cannot be written. What was read may be anything and stays.
func (p *Partition) checkName() error {
	switch n := efi.UTF16Len(p.Name); {
	case p.Name == efi.DecodeUTF16(p.rawName[:]):
	case !utf8.ValidString(p.Name):
		return errors.New("name is not valid UTF-8")
	case strings.ContainsRune(p.Name, 0):
		return errors.New("name contains a NUL, which ends a name")
	case n > MaxName:
		return fmt.Errorf("name has %d UTF-16 units, want at most %d", n, MaxName)
	}
	return nil
}

// Protective MBR, UEFI 2.10 section 5.2.3: 440 bytes of boot code, 4 disk signature, 2 unknown,
// four records of 16 bytes, 0x55 0xaa. A record: 0 BootIndicator, 1 StartingCHS, 4 OSType, 5
// EndingCHS, 8 StartingLBA, 12 SizeInLBA.
const (
	mbrSize       = 512
	mbrRecords    = 446
	mbrRecordSize = 16
	typeGPT       = 0xee
)

func mbrRecord(b []byte, i int) []byte { return b[mbrRecords+i*mbrRecordSize:][:mbrRecordSize] }

// protective returns the record that covers a disk of the given number of sectors.
func protective(sectors uint64) []byte {
	le := binary.LittleEndian
	r := make([]byte, mbrRecordSize)
	copy(r[1:], []byte{0x00, 0x02, 0x00}) // CHS of LBA 1
	r[4] = typeGPT
	last := sectors - 1
	copy(r[5:], []byte{0xff, 0xff, 0xff}) // CHS cannot say it
	if cylinder := last / (255 * 63); cylinder <= 1023 {
		in := last % (255 * 63)
		r[5], r[6], r[7] = byte(in/63), byte(in%63+1)|byte(cylinder>>8<<6), byte(cylinder)
	}
	le.PutUint32(r[8:], 1)
	le.PutUint32(r[12:], uint32(min(last, 0xffffffff)))
	return r
}

// isHybrid reports whether an MBR lists partitions of its own, beside a protective record or
// without one.
func isHybrid(b []byte) bool {
	m := classify(b)
	return m.signed && m.others > 0 && !m.wrongType
}

// updateMBR returns the sector 0 that protects a GPT on a disk of the given number of sectors. Boot
// code and everything else outside of the records stays. A protective record stays too unless the
// disk has another size than it says.
func updateMBR(old []byte, sectors uint64, keep bool) []byte {
	b := append([]byte(nil), old...)
	if keep {
		return b
	}
	want := protective(sectors)
	m := classify(b)
	if m.signed && m.protective == 1 && m.records == 1 {
		for i := range 4 {
			r := mbrRecord(b, i)
			if r[4] == typeGPT && binary.LittleEndian.Uint32(r[12:]) != binary.LittleEndian.Uint32(want[12:]) {
				want[0] = r[0] // some BIOSes boot only from an "active" record
				copy(r, want)
			}
		}
		return b
	}
	clear(b[mbrRecords : mbrRecords+4*mbrRecordSize])
	copy(mbrRecord(b, 0), want)
	b[510], b[511] = 0x55, 0xaa
	return b
}
