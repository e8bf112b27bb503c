package fat

import (
	"encoding/binary"
	"time"

	"github.com/osmith-dev/osmith/internal/efi"
)

// Directory entries, Microsoft "FAT: General Overview of On-Disk Format" 1.03 (fatgen103), sections 6 and 7.
//
//	short entry                      long entry
//	 0 11 DIR_Name                    0  1 LDIR_Ord (0x40: last piece, stored first)
//	11  1 DIR_Attr                    1 10 LDIR_Name1, 5 units
//	12  1 DIR_NTRes (case bits)      11  1 LDIR_Attr = 0x0f
//	13  1 DIR_CrtTimeTenth           12  1 LDIR_Type = 0
//	14  4 DIR_CrtTime, DIR_CrtDate   13  1 LDIR_Chksum
//	18  2 DIR_LstAccDate             14 12 LDIR_Name2, 6 units
//	20  2 DIR_FstClusHI              26  2 LDIR_FstClusLO = 0
//	22  4 DIR_WrtTime, DIR_WrtDate   28  4 LDIR_Name3, 2 units
//	26  2 DIR_FstClusLO
//	28  4 DIR_FileSize
const (
	entrySize    = 32
	unitsPerLong = 13

	attrReadOnly  = 0x01
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLong      = 0x0f // read-only, hidden, system and volume together
	attrLongMask  = 0x3f

	entryEnd     = 0x00
	entryDeleted = 0xe5
	lastLong     = 0x40

	// maxDirBytes is the limit of a directory: 65,536 entries (fatgen103, section 6).
	maxDirBytes = 65536 * entrySize
)

// stamp is a date and time of a directory entry: UTC, from 1980 to 2107, in steps of two seconds.
type stamp struct{ date, time uint16 }

var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// stampOf encodes t; the zero time is 1980-01-01, times out of range go to the nearest end.
func stampOf(t time.Time) stamp {
	t = t.UTC()
	if t.Before(epoch) {
		t = epoch
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	return stamp{
		date: uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day()),
		time: uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2),
	}
}

func (s stamp) decode() time.Time {
	month, day := time.Month(s.date>>5&15), int(s.date&31)
	if month == 0 || day == 0 { // not set
		return epoch
	}
	return time.Date(1980+int(s.date>>9), month, day, int(s.time>>11), int(s.time>>5&63), int(s.time&31)*2, 0, time.UTC)
}

// appendShort appends one short entry.
func appendShort(b []byte, s shortName, caseBits, attr byte, cluster uint32, size uint32, t stamp) []byte {
	b = append(b, s[:]...)
	b = append(b, attr, caseBits, 0)
	b = binary.LittleEndian.AppendUint16(b, t.time)
	b = binary.LittleEndian.AppendUint16(b, t.date)
	b = binary.LittleEndian.AppendUint16(b, t.date)
	b = binary.LittleEndian.AppendUint16(b, uint16(cluster>>16))
	b = binary.LittleEndian.AppendUint16(b, t.time)
	b = binary.LittleEndian.AppendUint16(b, t.date)
	b = binary.LittleEndian.AppendUint16(b, uint16(cluster))
	return binary.LittleEndian.AppendUint32(b, size)
}

// setCluster changes the first cluster and the size of a short entry.
func setCluster(e []byte, cluster, size uint32) {
	binary.LittleEndian.PutUint16(e[20:], uint16(cluster>>16))
	binary.LittleEndian.PutUint16(e[26:], uint16(cluster))
	binary.LittleEndian.PutUint32(e[28:], size)
}

// longEntries is how many long entries hold name.
func longEntries(name string) int { return (efi.UTF16Len(name) + unitsPerLong - 1) / unitsPerLong }

// appendLong appends the long entries of name, in disk order: the last piece first.
func appendLong(b []byte, name string, sum byte) []byte {
	text := efi.AppendUTF16(nil, name)
	n := longEntries(name)
	if len(text)%(2*unitsPerLong) != 0 { // one NUL unit, then 0xffff to the end of the piece
		text = append(text, 0, 0)
		for len(text) < 2*unitsPerLong*n {
			text = append(text, 0xff, 0xff)
		}
	}
	for i := n; i > 0; i-- {
		ord := byte(i)
		if i == n {
			ord |= lastLong
		}
		p := text[(i-1)*2*unitsPerLong:]
		b = append(b, ord)
		b = append(b, p[:10]...)
		b = append(b, attrLong, 0, sum)
		b = append(b, p[10:22]...)
		b = append(b, 0, 0)
		b = append(b, p[22:26]...)
	}
	return b
}

// entrySet is what a name takes in its directory: long entries where they are needed, then the short entry.
func entrySet(name string, s shortName, short bool, attr byte, cluster, size uint32, t stamp) []byte {
	exact, bits, needLong, ok := exactShort(name)
	if ok && exact == s && (!needLong || (short && bits != 0 && s.text(bits) == name)) {
		if !needLong {
			bits = 0
		}
		return appendShort(nil, s, bits, attr, cluster, size, t)
	}
	set := appendLong(nil, name, s.checksum())
	return appendShort(set, s, 0, attr, cluster, size, t)
}
