package oracle

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// GUID is a GUID in the order of its text.
type GUID [16]byte

// String is the usual text in lower case.
func (g GUID) String() string {
	s := hex.EncodeToString(g[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// ParseGUID parses the usual text. It panics on anything else: tests call it with constants.
func ParseGUID(text string) (g GUID) {
	var s string
	for i, c := range []byte(text) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') {
			panic("oracle: not a GUID: " + text)
		} else if !dash {
			s += string(rune(c))
		}
	}
	if n, err := hex.Decode(g[:], []byte(s)); err != nil || n != 16 || len(s) != 32 {
		panic("oracle: not a GUID: " + text)
	}
	return g
}

// guidAt decodes the mixed-endian form that a GPT has.
func guidAt(b []byte) GUID {
	return GUID{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// ESP is the type of an EFI system partition.
var ESP = ParseGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")

// XBOOTLDR is the type of an extended boot loader partition (UAPI.1).
var XBOOTLDR = ParseGUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")

// Table says which partition table a reader uses.
type Table int

// The tables of a disk.
const (
	TableNone    Table = iota // the reader offers no partitions
	TableMBR                  // the records of sector 0
	TablePrimary              // the GPT whose header is in LBA 1
	TableBackup               // another GPT
)

// String is the table's name.
func (t Table) String() string {
	return [...]string{"no table", "MBR", "primary GPT", "backup GPT"}[t]
}

// Partition is a partition as a reader offers it.
type Partition struct {
	Number            int // from 1
	Type, ID          GUID
	Name              string
	FirstLBA, LastLBA uint64 // sectors of the disk, LastLBA included
	Attributes        uint64
}

// Write is one write that a reader does to the disk, in bytes.
type Write struct {
	Offset int64
	Data   []byte
	// What names the structure that is written.
	What string
}

// Result is what a reader makes of a disk.
type Result struct {
	Table      Table
	Partitions []Partition
	// Writes are what the reader wrote before it offered the partitions, in order. Only edk2
	// writes.
	Writes []Write
	// Rejected says why tables that were looked at are not used, in the order they were looked at.
	Rejected []string
}

// Find returns the first partition that has the type.
func (r Result) Find(typ GUID) (Partition, bool) {
	for _, p := range r.Partitions {
		if p.Type == typ {
			return p, true
		}
	}
	return Partition{}, false
}

// header is a GPT header with the fields that readers look at.
type header struct {
	raw                         []byte // the whole block
	myLBA, alternateLBA         uint64
	firstUsable, lastUsable     uint64
	entryLBA                    uint64
	revision, size, count, each uint32
	crc, entriesCRC             uint32
}

func parseHeader(block []byte) header {
	le := binary.LittleEndian
	return header{
		raw: block, revision: le.Uint32(block[8:]), size: le.Uint32(block[12:]), crc: le.Uint32(block[16:]),
		myLBA: le.Uint64(block[24:]), alternateLBA: le.Uint64(block[32:]),
		firstUsable: le.Uint64(block[40:]), lastUsable: le.Uint64(block[48:]),
		entryLBA: le.Uint64(block[72:]), count: le.Uint32(block[80:]), each: le.Uint32(block[84:]), entriesCRC: le.Uint32(block[88:]),
	}
}

func (h header) signed() bool { return string(h.raw[:8]) == "EFI PART" }

// checksum is the CRC-32 of the header's first size bytes with the checksum itself zero. size must
// not exceed the block.
func (h header) checksum() uint32 {
	b := append([]byte(nil), h.raw[:h.size]...)
	if len(b) > 16 {
		clear(b[16:min(20, len(b))])
	}
	return crc32.ChecksumIEEE(b)
}

// arraySize is the size of the entry array in bytes, which may be absurd.
func (h header) arraySize() uint64 { return uint64(h.count) * uint64(h.each) }

// disk reads sectors.
type disk struct {
	r      io.ReaderAt
	size   int64
	sector int64
	writes []Write
}

// errBeyond is the answer to a read or write that is not whole on the disk.
var errBeyond = errors.New("beyond the end of the disk")

// lastLBA is the number of the last whole sector.
func (d *disk) lastLBA() uint64 { return uint64(d.size/d.sector) - 1 }

// offset is where a sector starts. Like the firmware's, the product of an absurd LBA wraps.
func (d *disk) offset(lba uint64) uint64 { return lba * uint64(d.sector) }

// maxRead is the most that is read at once. Readers cannot allocate without bounds either.
const maxRead = 16 << 20

// read reads n bytes from the start of a sector.
func (d *disk) read(lba, n uint64) ([]byte, error) {
	off, size := d.offset(lba), uint64(d.size)
	if off > size || n > size-off {
		return nil, errBeyond
	}
	if n > maxRead {
		return nil, fmt.Errorf("%d bytes are more than memory allows", n)
	}
	b := make([]byte, n)
	if len(b) == 0 {
		return b, nil
	}
	if _, err := overlay(d.r, d.writes).ReadAt(b, int64(off)); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// write notes a write; a write that is not whole on the disk fails whole.
func (d *disk) write(lba uint64, data []byte, what string) error {
	off, size := d.offset(lba), uint64(d.size)
	if off > size || uint64(len(data)) > size-off {
		return errBeyond
	}
	d.writes = append(d.writes, Write{Offset: int64(off), Data: data, What: what})
	return nil
}

// entryAt decodes one entry.
func entryAt(b []byte, number int) Partition {
	le := binary.LittleEndian
	var name []uint16
	for i := 56; i < 128; i += 2 {
		u := le.Uint16(b[i:])
		if u == 0 {
			break
		}
		name = append(name, u)
	}
	return Partition{
		Number: number, Type: guidAt(b), ID: guidAt(b[16:]), Name: string(utf16.Decode(name)),
		FirstLBA: le.Uint64(b[32:]), LastLBA: le.Uint64(b[40:]), Attributes: le.Uint64(b[48:]),
	}
}

// protective says whether sector 0 has a record of type 0xEE that starts at LBA 1.
func protective(mbr []byte) bool {
	for i := range 4 {
		r := mbr[446+16*i:]
		if r[4] == 0xee && binary.LittleEndian.Uint32(r[8:]) == 1 {
			return true
		}
	}
	return false
}

// ReadGPT returns what a reader makes of a disk of size bytes with sectors of sectorSize bytes (512
// to 4096). The disk is not changed: see [Apply]. An error means that the arguments make no sense;
// an unreadable sector is one that the reader could not read either.
func ReadGPT(reader Reader, r io.ReaderAt, size int64, sectorSize int) (Result, error) {
	if sectorSize < 512 || sectorSize > 4096 || sectorSize&(sectorSize-1) != 0 {
		return Result{}, fmt.Errorf("oracle: sectors of %d bytes, want 512, 1024, 2048 or 4096", sectorSize)
	}
	d := &disk{r: r, size: size, sector: int64(sectorSize)}
	if size < 3*d.sector {
		return Result{}, fmt.Errorf("oracle: a disk of %d bytes, want at least three sectors", size)
	}
	row, ok := readers[reader]
	if !ok {
		return Result{}, fmt.Errorf("oracle: no reader %d", reader)
	}
	result, err := row.read(d)
	if err != nil {
		return Result{}, fmt.Errorf("oracle: %w", err)
	}
	result.Writes = d.writes
	return result, nil
}

// Apply returns the disk after a reader's writes without changing the disk itself. Part of
// [Result.Writes] gives the disk on which the firmware lost its power too.
func Apply(r io.ReaderAt, writes []Write) io.ReaderAt { return overlay(r, writes) }

func overlay(r io.ReaderAt, writes []Write) io.ReaderAt {
	if len(writes) == 0 {
		return r
	}
	return &overlaid{r, writes}
}

type overlaid struct {
	r      io.ReaderAt
	writes []Write
}

// ReadAt implements [io.ReaderAt].
func (o *overlaid) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.r.ReadAt(p, off)
	for _, w := range o.writes {
		if at := w.Offset - off; at >= 0 && at < int64(n) {
			copy(p[at:n], w.Data)
		} else if at < 0 && -at < int64(len(w.Data)) {
			copy(p[:n], w.Data[-at:])
		}
	}
	return n, err
}
