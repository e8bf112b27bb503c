package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// Boot sector, fatgen103 sections 3.1 to 3.3 (offset, size, name):
//
//	 0 3 BS_jmpBoot      11 2 BPB_BytsPerSec  19 2 BPB_TotSec16    32 4 BPB_TotSec32
//	 3 8 BS_OEMName      13 1 BPB_SecPerClus  21 1 BPB_Media
//	                     14 2 BPB_RsvdSecCnt  22 2 BPB_FATSz16     FAT32 only:
//	                     16 1 BPB_NumFATs     24 2 BPB_SecPerTrk   36 4 BPB_FATSz32   44 4 BPB_RootClus
//	                     17 2 BPB_RootEntCnt  26 2 BPB_NumHeads    40 2 BPB_ExtFlags  48 2 BPB_FSInfo
//	                                          28 4 BPB_HiddSec     42 2 BPB_FSVer     50 2 BPB_BkBootSec
//	64 1 BS_DrvNum, 66 1 BS_BootSig, 67 4 BS_VolID, 71 11 BS_VolLab, 82 8 BS_FilSysType; FAT12/16 have these at 36.
//
// FSInfo: 0 0x41615252, 484 0x61417272, 488 FSI_Free_Count, 492 FSI_Nxt_Free, 508 0xaa550000.
const (
	fsInfoLead   = 0x41615252
	fsInfoStruct = 0x61417272
	fsInfoTrail  = 0xaa550000

	backupSector = 6
	mediaFixed   = 0xf8

	// Firmware takes the type of a FAT from its cluster count alone (UEFI 2.10 section 13.3.1.1;
	// fatgen103 section 3.5).
	minClusters16 = 4085
	minClusters32 = 65525
	// maxFirm16 and maxFirm12 keep away from the limits by the 16 clusters that fatgen103 section
	// 3.5 advises.
	maxFirm12 = minClusters16 - 1 - 16
	maxFirm16 = minClusters32 - 1 - 16
	// maxClusters32 leaves out the values that mean "bad" and "end" (0x0ffffff7 and up).
	maxClusters32 = 0x0ffffff5
)

// geometry says where things are. All offsets are bytes from the start of the volume.
type geometry struct {
	kind        int // 12, 16 or 32
	sectorSize  int64
	clusterSize int64
	total       int64 // bytes of the volume
	clusters    uint32
	fatOff      int64
	fatSize     int64 // bytes of one FAT
	fats        int
	active      int  // the FAT to read
	mirror      bool // all FATs are to be kept the same
	few         bool // laid out as FAT32 with fewer clusters than one has
	rootCluster uint32
	rootOff     int64 // FAT12/16: fixed root directory
	rootSize    int64 // in whole sectors
	rootEntries int   // of which so many are used
	dataOff     int64
	fsInfo      int64 // 0: none
	media       byte  // what FAT[0] begins with
	state       byte  // BS_Reserved1, in which Linux and Windows note whether the volume is in use
	volumeID    uint32
	label       [11]byte
}

// fatBytes is what the entries of so many clusters take, and of the two that are reserved.
func fatBytes(kind int, clusters int64) int64 { return ((clusters+2)*int64(kind) + 7) / 8 }

func (g *geometry) clusterOff(c uint32) int64 { return g.dataOff + int64(c-2)*g.clusterSize }

func (g *geometry) valid(c uint32) bool { return c >= 2 && c-2 < g.clusters }

// dirClusters is how many clusters a directory can have.
func (g *geometry) dirClusters() int64 { return max(maxDirBytes/g.clusterSize, 1) }

// readGeometry decodes the boot sector of the volume at the start of r. What is recognised as
// another format is a [*NotFATError] inside of the [*osmith.FormatError].
func readGeometry(r osmith.Source) (*geometry, error) {
	g, err := decodeGeometry(r)
	if bad, ok := errors.AsType[*osmith.FormatError](err); ok {
		if other := otherFormat(r); other != nil {
			return nil, &osmith.FormatError{Offset: bad.Offset, Field: bad.Field, Err: fmt.Errorf("%w (%w)", other, bad.Err)}
		}
	}
	return g, err
}

func decodeGeometry(r osmith.Source) (*geometry, error) {
	const where = "boot sector: "
	size := r.Size()
	if size < 512 {
		return nil, badFormat(0, "boot sector", "the volume has %d bytes", size)
	}
	b := make([]byte, 512)
	if err := sparse.ReadFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("boot sector: %w", err)
	}
	le := binary.LittleEndian
	if b[510] != 0x55 || b[511] != 0xaa {
		return nil, badFormat(510, where+"signature", "%#02x %#02x, want 0x55 0xaa", b[510], b[511])
	}
	ss := int64(le.Uint16(b[11:]))
	if ss != 512 && ss != 1024 && ss != 2048 && ss != 4096 {
		return nil, badFormat(11, where+"BPB_BytsPerSec", "sector size %d: want 512, 1024, 2048 or 4096", ss)
	}
	spc := int64(b[13])
	if bits.OnesCount8(b[13]) != 1 {
		return nil, badFormat(13, where+"BPB_SecPerClus", "%d is not a power of two", spc)
	}
	reserved, fats := int64(le.Uint16(b[14:])), int(b[16])
	if reserved == 0 {
		return nil, badFormat(14, where+"BPB_RsvdSecCnt", "is zero")
	}
	if fats == 0 || fats > 4 {
		return nil, badFormat(16, where+"BPB_NumFATs", "%d", fats)
	}
	rootEntries := int64(le.Uint16(b[17:]))
	total := int64(le.Uint16(b[19:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	fatSectors := int64(le.Uint16(b[22:]))
	big := fatSectors == 0
	if big {
		fatSectors = int64(le.Uint32(b[36:]))
	}
	if fatSectors == 0 {
		return nil, badFormat(36, where+"BPB_FATSz32", "is zero")
	}
	if total > size/ss {
		return nil, badFormat(32, where+"BPB_TotSec32", "%d sectors of %d bytes do not fit into %d bytes", total, ss, size)
	}
	rootSectors := (rootEntries*entrySize + ss - 1) / ss
	data := reserved + int64(fats)*fatSectors + rootSectors // fits: at most 2^16 + 2^34 + 2^12
	if data >= total {
		return nil, badFormat(36, where+"BPB_FATSz32", "FATs and root directory end at sector %d of %d", data, total)
	}
	clusters := (total - data) / spc
	g := &geometry{
		sectorSize: ss, clusterSize: ss * spc, total: total * ss,
		fatOff: reserved * ss, fatSize: fatSectors * ss, fats: fats, mirror: true,
		rootOff: (reserved + int64(fats)*fatSectors) * ss, rootSize: rootSectors * ss,
		rootEntries: int(rootEntries), dataOff: data * ss, media: b[21],
	}
	ext := b[36:]
	var fatNeed int64
	switch {
	case clusters == 0 || clusters > maxClusters32:
		return nil, badFormat(13, where+"cluster count", "%d", clusters)
	case big:
		// Linux takes BPB_FATSz16 = 0 as FAT32 even below 65,525 clusters, and mkfs.vfat -F 32
		// makes such volumes; who goes by the count alone, as the specification says, takes them
		// for FAT16; mtools refuses them.
		g.kind, fatNeed, g.few = 32, fatBytes(32, clusters), clusters < minClusters32
		ext = b[64:]
	case clusters < minClusters16:
		g.kind, fatNeed = 12, fatBytes(12, clusters)
	case clusters < minClusters32:
		g.kind, fatNeed = 16, fatBytes(16, clusters)
	default:
		return nil, badFormat(13, where+"cluster count", "%d clusters in a FAT16, which has at most %d", clusters, minClusters32-1)
	}
	if g.fatSize < fatNeed {
		return nil, badFormat(36, where+"BPB_FATSz32", "a FAT of %d bytes cannot describe %d clusters", g.fatSize, clusters)
	}
	g.clusters = uint32(clusters)
	if g.kind == 32 {
		if err := g.read32(b); err != nil {
			return nil, err
		}
	} else if rootEntries == 0 {
		return nil, badFormat(17, where+"BPB_RootEntCnt", "is zero")
	}
	g.state = ext[1]
	if ext[2] == 0x29 {
		g.volumeID = le.Uint32(ext[3:])
		copy(g.label[:], ext[7:18])
	}
	return g, nil
}

func (g *geometry) read32(b []byte) error {
	le := binary.LittleEndian
	if g.rootSize != 0 {
		return badFormat(17, "boot sector: BPB_RootEntCnt", "%d bytes of fixed root directory in a FAT32", g.rootSize)
	}
	if flags := le.Uint16(b[40:]); flags&0x80 != 0 {
		g.mirror, g.active = false, int(flags&15)
		if g.active >= g.fats {
			return badFormat(40, "boot sector: BPB_ExtFlags", "FAT %d of %d is active", g.active, g.fats)
		}
	}
	if v := le.Uint16(b[42:]); v != 0 {
		return badFormat(42, "boot sector: BPB_FSVer", "version %d.%d, want 0.0", v>>8, v&255)
	}
	g.rootCluster = le.Uint32(b[44:])
	if !g.valid(g.rootCluster) {
		return badFormat(44, "boot sector: BPB_RootClus", "cluster %d of %d", g.rootCluster, g.clusters)
	}
	if s := int64(le.Uint16(b[48:])); s != 0 && s != 0xffff && s*g.sectorSize < g.fatOff {
		g.fsInfo = s * g.sectorSize
	}
	return nil
}

// plan32 lays out a FAT32 of size bytes with the given cluster size. Its cluster count may come out
// below the minimum.
func plan32(size, sectorSize, clusterSize int64) geometry {
	total := size / sectorSize
	spc := clusterSize / sectorSize
	// Clusters that the space would hold if each cost its data, and its four bytes in two FATs. The
	// two reserved entries are part of the FAT. Rounding can only make the FAT too long, never too
	// short.
	reserved, step := int64(32), blockSize/sectorSize
	room := max(total-reserved, 0)
	perFAT := sectorSize / 4
	fatSectors := (room + 2*spc + perFAT*spc + 2 - 1) / (perFAT*spc + 2)
	fatSectors = (fatSectors + step - 1) / step * step
	// data starts at a multiple of the cluster size, and of 4 KiB as the FATs do
	reserved += (spc - (reserved+2*fatSectors)%spc) % spc
	data := reserved + 2*fatSectors
	clusters := max(total-data, 0) / spc
	return geometry{
		kind: 32, sectorSize: sectorSize, clusterSize: clusterSize, total: total * sectorSize,
		clusters: uint32(min(clusters, 1<<32-1)), fatOff: reserved * sectorSize, fatSize: fatSectors * sectorSize, fats: 2, mirror: true,
		rootCluster: 2, dataOff: data * sectorSize, fsInfo: infoSector(sectorSize) * sectorSize,
	}
}

// infoSector is where FSInfo is: every change rewrites it, so that it shares 4 KiB neither with the
// boot sector nor with the backup. fsck.fat 4.2 and mtools 4.0.32 find it by BPB_FSInfo, and so
// does edk2 (FatPkg/EnhancedFatDxe/Init.c, FatOpenDevice).
func infoSector(sectorSize int64) int64 {
	if sectorSize == blockSize {
		return 1
	}
	return 16
}

// plan16 lays out a FAT12 or FAT16 of size bytes with the given cluster size and number of root
// directory entries. Its cluster count may be that of another kind.
func plan16(kind int, size, sectorSize, clusterSize, rootEntries int64) geometry {
	total, spc := size/sectorSize, clusterSize/sectorSize
	root := rootEntries * entrySize / sectorSize
	step := blockSize / sectorSize // FATs, root directory and data start at multiples of 4 KiB
	var reserved, data, clusters int64
	fatSectors := step
	for { // a longer FAT leaves fewer clusters, so that this ends
		reserved = step
		data = reserved + 2*fatSectors + root
		pad := (spc - data%spc) % spc // data starts at a multiple of the cluster size
		reserved, data = reserved+pad, data+pad
		clusters = max(total-data, 0) / spc
		need := (fatBytes(kind, clusters) + sectorSize - 1) / sectorSize
		if need <= fatSectors {
			break
		}
		fatSectors = (need + step - 1) / step * step
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

// putEntry sets the entry of cluster c, which begins at byte at of a piece of the FAT, leaving
// alone what is not ours.
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

// bootSectors returns the reserved area of a FAT32 up to the end of FSInfo and of the backup of the
// boot sector and FSInfo.
func (g *geometry) bootSectors(hidden uint32, free, next uint32) []byte {
	le := binary.LittleEndian
	area := make([]byte, max(backupSector*g.sectorSize+3*g.sectorSize, g.fsInfo+g.sectorSize))
	b := area[:g.sectorSize]
	copy(b, "\xeb\x58\x90")
	g.putCommon(b, hidden)
	le.PutUint32(b[36:], uint32(g.fatSize/g.sectorSize))
	le.PutUint32(b[44:], g.rootCluster)
	le.PutUint16(b[48:], uint16(g.fsInfo/g.sectorSize))
	le.PutUint16(b[50:], backupSector)
	b[64] = 0x80 // first hard disk
	b[66] = 0x29 // the next three fields are there
	le.PutUint32(b[67:], g.volumeID)
	copy(b[71:], g.label[:])
	copy(b[82:], "FAT32   ")
	copy(b[90:], "\xf4\xeb\xfd") // what a BIOS would run: halt, again
	info := make([]byte, g.sectorSize)
	le.PutUint32(info, fsInfoLead)
	le.PutUint32(info[484:], fsInfoStruct)
	le.PutUint32(info[488:], free)
	le.PutUint32(info[492:], next)
	le.PutUint32(info[508:], fsInfoTrail)
	// the boot code of Windows has a third sector; its signature is expected
	third := area[2*g.sectorSize : 3*g.sectorSize]
	third[510], third[511] = 0x55, 0xaa
	copy(area[g.fsInfo:], info)
	backup := area[backupSector*g.sectorSize:]
	copy(backup, b)
	copy(backup[g.sectorSize:], info)
	copy(backup[2*g.sectorSize:], third)
	return area
}
