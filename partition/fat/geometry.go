package fat

import (
	"bytes"
	"encoding/binary"
)

// plan32 lays out a FAT32 of size bytes with the given cluster size. Its cluster count may come out below the minimum.
func plan32(size, sectorSize, clusterSize int64) geometry {
	total := size / sectorSize
	spc := clusterSize / sectorSize
	// Clusters that the space would hold if each cost its data, and its four bytes in two FATs. The two reserved
	// entries are part of the FAT. Rounding can only make the FAT a sector too long, never too short.
	reserved := int64(32)
	room := max(total-reserved, 0)
	perFAT := sectorSize / 4
	fatSectors := (room + 2*spc + perFAT*spc + 2 - 1) / (perFAT*spc + 2)
	reserved += (spc - (reserved+2*fatSectors)%spc) % spc // data starts at a multiple of the cluster size
	data := reserved + 2*fatSectors
	clusters := max(total-data, 0) / spc
	return geometry{
		kind: 32, sectorSize: sectorSize, clusterSize: clusterSize, total: total * sectorSize,
		clusters: uint32(min(clusters, 1<<32-1)), fatOff: reserved * sectorSize, fatSize: fatSectors * sectorSize, fats: 2, mirror: true,
		rootCluster: 2, dataOff: data * sectorSize, fsInfo: fsInfoSector * sectorSize,
	}
}

// plan16 lays out a FAT12 or FAT16 of size bytes with the given cluster size and number of root directory entries. Its
// cluster count may be that of another kind.
func plan16(kind int, size, sectorSize, clusterSize, rootEntries int64) geometry {
	total, spc := size/sectorSize, clusterSize/sectorSize
	root := rootEntries * entrySize / sectorSize
	var reserved, data, clusters int64
	fatSectors := int64(1)
	for { // a longer FAT leaves fewer clusters, so that this ends
		reserved = 1
		data = reserved + 2*fatSectors + root
		pad := (spc - data%spc) % spc // data starts at a multiple of the cluster size
		reserved, data = reserved+pad, data+pad
		clusters = max(total-data, 0) / spc
		need := (fatBytes(kind, clusters) + sectorSize - 1) / sectorSize
		if need <= fatSectors {
			break
		}
		fatSectors = need
	}
	return geometry{
		kind: kind, sectorSize: sectorSize, clusterSize: clusterSize, total: total * sectorSize,
		clusters: uint32(min(clusters, 1<<32-1)), fatOff: reserved * sectorSize, fatSize: fatSectors * sectorSize, fats: 2, mirror: true,
		rootOff: (data - root) * sectorSize, rootSize: root * sectorSize, dataOff: data * sectorSize,
	}
}

// bootSector16 returns the boot sector of a FAT12 or FAT16.
func (g *geometry) bootSector16(hidden uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, g.sectorSize)
	copy(b, "\xeb\x3c\x90")
	g.putCommon(b, hidden)
	le.PutUint16(b[17:], uint16(g.rootSize/entrySize))
	if n := g.total / g.sectorSize; n < 1<<16 {
		le.PutUint16(b[19:], uint16(n))
		le.PutUint32(b[32:], 0)
	}
	le.PutUint16(b[22:], uint16(g.fatSize/g.sectorSize))
	b[36] = 0x80
	b[38] = 0x29
	le.PutUint32(b[39:], g.volumeID)
	copy(b[43:], g.label[:])
	copy(b[54:], "FAT12   ")
	if g.kind == 16 {
		copy(b[54:], "FAT16   ")
	}
	copy(b[62:], "\xf4\xeb\xfd")
	return b
}

// putCommon fills in what boot sectors of all kinds have at the same place.
func (g *geometry) putCommon(b []byte, hidden uint32) {
	le := binary.LittleEndian
	copy(b[3:], "MSWIN4.1") // the OEM name that fatgen103 recommends: some drivers look at it
	le.PutUint16(b[11:], uint16(g.sectorSize))
	b[13] = byte(g.clusterSize / g.sectorSize)
	le.PutUint16(b[14:], uint16(g.fatOff/g.sectorSize))
	b[16] = byte(g.fats)
	b[21] = mediaFixed
	le.PutUint16(b[24:], 63) // the usual geometry for disks that have none
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], hidden)
	le.PutUint32(b[32:], uint32(g.total/g.sectorSize))
	b[510], b[511] = 0x55, 0xaa
}

// fat16 returns the used part of the FAT of contiguous chains, in whole sectors.
func (g *geometry) fat16(chains []chain) []byte {
	end := int64(2)
	for _, k := range chains {
		end = max(end, int64(k.first+k.n))
	}
	used := (fatBytes(g.kind, end-2) + g.sectorSize - 1) / g.sectorSize * g.sectorSize
	b := make([]byte, used)
	put := func(c, v uint32) { g.putEntry(b, int64(c)*int64(g.kind)/8, c, v) }
	put(0, 0x0fffff00|mediaFixed)
	put(1, endOfChain)
	for _, k := range chains {
		for c := k.first; c < k.first+k.n; c++ {
			v := c + 1
			if v == k.first+k.n {
				v = endOfChain
			}
			put(c, v)
		}
	}
	return b
}

// putEntry sets the entry of cluster c, which begins at byte at of a piece of the FAT, leaving alone what is not ours.
func (g *geometry) putEntry(b []byte, at int64, c, v uint32) {
	le := binary.LittleEndian
	switch g.kind {
	case 12:
		old := le.Uint16(b[at:])
		if c%2 == 0 {
			le.PutUint16(b[at:], old&0xf000|uint16(v)&0xfff)
		} else {
			le.PutUint16(b[at:], old&0x000f|uint16(v)<<4)
		}
	case 16:
		le.PutUint16(b[at:], uint16(v))
	default: // the upper four bits are not ours (fatgen103, section 4)
		le.PutUint32(b[at:], le.Uint32(b[at:])&0xf0000000|v&0x0fffffff)
	}
}

// bootSectors returns the reserved area of a FAT32 up to the end of the backup of the boot sector and FSInfo.
func (g *geometry) bootSectors(hidden uint32, free, next uint32) []byte {
	le := binary.LittleEndian
	area := make([]byte, (backupSector+3)*g.sectorSize)
	b := area[:g.sectorSize]
	copy(b, "\xeb\x58\x90")
	g.putCommon(b, hidden)
	le.PutUint32(b[36:], uint32(g.fatSize/g.sectorSize))
	le.PutUint32(b[44:], g.rootCluster)
	le.PutUint16(b[48:], fsInfoSector)
	le.PutUint16(b[50:], backupSector)
	b[64] = 0x80 // first hard disk
	b[66] = 0x29 // the next three fields are there
	le.PutUint32(b[67:], g.volumeID)
	copy(b[71:], g.label[:])
	copy(b[82:], "FAT32   ")
	copy(b[90:], "\xf4\xeb\xfd") // what a BIOS would run: halt, again
	info := area[g.sectorSize : 2*g.sectorSize]
	le.PutUint32(info, fsInfoLead)
	le.PutUint32(info[484:], fsInfoStruct)
	le.PutUint32(info[488:], free)
	le.PutUint32(info[492:], next)
	le.PutUint32(info[508:], fsInfoTrail)
	third := area[2*g.sectorSize : 3*g.sectorSize] // the boot code of Windows has a third sector; its signature is expected
	third[510], third[511] = 0x55, 0xaa
	copy(area[backupSector*g.sectorSize:], bytes.Clone(area[:3*g.sectorSize]))
	return area
}
