package oracle

import (
	"encoding/binary"
	"fmt"
)

// mbrPart is a record of sector 0 that is in use. Sectors are of 512 bytes.
type mbrPart struct {
	number       int
	boot, kind   byte
	start, count uint32
}

// last is the last sector; like the firmware's, it wraps.
func (p mbrPart) last() uint32 { return p.start + p.count - 1 }

func (p mbrPart) partition() Partition {
	r := Partition{Number: p.number, FirstLBA: uint64(p.start), LastLBA: uint64(p.start) + uint64(p.count) - 1, Name: fmt.Sprintf("MBR type %02x", p.kind)}
	if p.kind == 0xef {
		r.Type = ESP
	}
	return r
}

func mbrSigned(mbr []byte) bool { return mbr[510] == 0x55 && mbr[511] == 0xaa }

// mbrRecords returns the records that have a type and a size.
func mbrRecords(mbr []byte) (all []mbrPart) {
	for i := range 4 {
		r := mbr[446+16*i:]
		p := mbrPart{
			number: i + 1, boot: r[0], kind: r[4],
			start: binary.LittleEndian.Uint32(r[8:]), count: binary.LittleEndian.Uint32(r[12:]),
		}
		if p.kind != 0 && p.count != 0 {
			all = append(all, p)
		}
	}
	return all
}
