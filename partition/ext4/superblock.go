package ext4

import "encoding/binary"

// Features (Documentation/filesystems/ext4/super.rst).
const (
	compatJournal     = 0x4
	compatXattr       = 0x8
	compatResizeInode = 0x10
	compatDirIndex    = 0x20

	incompatFileType = 0x2
	incompatExtents  = 0x40
	incompat64Bit    = 0x80
	incompatFlexBG   = 0x200

	roCompatSparseSuper  = 0x1
	roCompatLargeFile    = 0x2
	roCompatHugeFile     = 0x8
	roCompatDirNlink     = 0x20
	roCompatExtraIsize   = 0x40
	roCompatMetadataCsum = 0x400
)

// superblock is the superblock, or the copy of it in a group, in 1024 bytes.
func (w *writer) superblock(group, freeBlocks, freeInodes int64) []byte {
	b := make([]byte, 1024)
	le := binary.LittleEndian
	u16 := func(at int, v uint16) { le.PutUint16(b[at:], v) }
	u32 := func(at int, v uint32) { le.PutUint32(b[at:], v) }
	u32(0x00, uint32(w.groupCount*w.inodesPerGroup))
	u32(0x04, uint32(w.blocks))
	u32(0x150, uint32(w.blocks>>32))
	u32(0x0c, uint32(freeBlocks))
	u32(0x158, uint32(freeBlocks>>32))
	u32(0x10, uint32(freeInodes))
	u32(0x18, log2(blockSize)-10)
	u32(0x1c, log2(blockSize)-10) // clusters are blocks
	u32(0x20, blocksPerGroup)
	u32(0x24, blocksPerGroup)
	u32(0x28, uint32(w.inodesPerGroup))
	u32(0x30, uint32(w.time)) // last write
	u16(0x36, 0xffff)         // no check after some number of mounts
	u16(0x38, 0xef53)
	u16(0x3a, 1)              // clean
	u16(0x3c, 1)              // go on after an error
	u32(0x40, uint32(w.time)) // last check; none is due after some time
	u32(0x4c, 1)              // inodes of variable size
	u32(0x54, inodeFirst)
	u16(0x58, inodeSize)
	u16(0x5a, uint16(group))
	compat := uint32(compatXattr | compatDirIndex)
	if w.resize != nil {
		compat |= compatResizeInode
		u16(0xce, uint16(w.reserved))
	}
	if w.journal != nil {
		compat |= compatJournal
		u32(0xe0, inodeJournal)
		inode := make([]byte, inodeSize)
		w.putInode(inode, w.journal)
		b[0xfd] = 1 // a copy of the inode's blocks and size follows
		copy(b[0x10c:], inode[0x28:0x28+60])
		copy(b[0x10c+60:], inode[0x6c:0x70])
		copy(b[0x10c+64:], inode[0x04:0x08])
	}
	u32(0x5c, compat)
	u32(0x60, incompatFileType|incompatExtents|incompat64Bit|incompatFlexBG)
	u32(0x64, roCompatSparseSuper|roCompatLargeFile|roCompatHugeFile|roCompatDirNlink|roCompatExtraIsize|roCompatMetadataCsum)
	copy(b[0x68:], w.UUID[:])
	copy(b[0x78:0x88], w.Label)
	copy(b[0xec:], w.UUID[:]) // of the hashes of names
	b[0xfc] = hashHalfMD4
	u16(0xfe, descriptorSize)
	u32(0x100, 0xc)                                 // mount with user_xattr and acl
	u32(0x108, uint32(w.time))                      // when it was made
	for _, at := range []int{0x274, 0x276, 0x277} { // the upper bits of these three times
		b[at] = byte(w.time >> 32)
	}
	u16(0x15c, extraSize)
	u16(0x15e, extraSize)
	u32(0x160, 2) // names are hashed as unsigned bytes
	b[0x174] = byte(log2(groupsPerFlex))
	b[0x175] = 1 // CRC-32C
	u32(0x3fc, checksum(^uint32(0), b[:0x3fc]))
	return b
}
