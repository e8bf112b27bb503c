package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

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
	// Number is the entry number, from 1, as in /dev/sda1. [Read] sets it; 0 stands for the first free entry when the
	// table is written.
	Number int
	// Type is the partition type, for example [ESP].
	Type osmith.GUID
	// ID is the UniquePartitionGUID, PARTUUID to Linux. No two partitions may have the same.
	ID osmith.GUID
	// Name has at most [MaxName] UTF-16 units. A slot without content is called [EmptyName].
	Name string
	// FirstLBA and LastLBA are the first and the last sector, both included.
	FirstLBA, LastLBA uint64
	// Attributes are the 64 flag bits; unknown ones are kept.
	Attributes uint64

	readLBA uint64          // FirstLBA as read
	rawName [nameBytes]byte // as read: it is written back if Name still is what it decodes to
}

// readEntry decodes an entry in use.
func readEntry(b []byte, number int) Partition {
	le := binary.LittleEndian
	p := Partition{
		Number: number, Type: efi.GUID(b), ID: efi.GUID(b[16:]),
		FirstLBA: le.Uint64(b[32:]), LastLBA: le.Uint64(b[40:]), Attributes: le.Uint64(b[48:]),
		Name: efi.DecodeUTF16(b[nameOffset : nameOffset+nameBytes]),
	}
	p.readLBA = p.FirstLBA
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
		return errors.New("name contains a NUL, which would end it")
	case n > MaxName:
		return fmt.Errorf("name has %d UTF-16 units, at most %d fit", n, MaxName)
	}
	return nil
}
