package ext4

import (
	"encoding/binary"
	"hash/crc32"
	"io/fs"
)

// Inodes (Documentation/filesystems/ext4/inodes.rst).
const (
	inlineLink = 60 // a shorter symbolic link is in the inode itself
	extraSize  = 32 // of the fields behind the first 128 bytes

	flagIndex   = 0x1000
	flagExtents = 0x80000

	maxTime = 3<<32 + 1<<31 - 1 // in the year 2446

	maxLinks = 65000 // a directory with as many has a count of 1 (dir_nlink)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is CRC-32C as ext4 has it: without the inversions at the start and at the end.
func checksum(seed uint32, b []byte) uint32 { return ^crc32.Update(^seed, castagnoli, b) }

// inodeSeed is what the checksums of all metadata of an inode start with; all generations are 0.
func (p *plan) inodeSeed(number uint32) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], number)
	return checksum(p.seed, b[:])
}

// putInode writes an inode into 256 zero bytes.
func (p *plan) putInode(b []byte, n *node) {
	le := binary.LittleEndian
	le.PutUint16(b, uint16(n.UnixMode()))
	le.PutUint16(b[2:], uint16(n.UID))
	le.PutUint16(b[0x78:], uint16(n.UID>>16))
	le.PutUint16(b[0x18:], uint16(n.GID))
	le.PutUint16(b[0x7a:], uint16(n.GID>>16))
	size, blocks := p.sizes(n)
	le.PutUint32(b[4:], uint32(size))
	le.PutUint32(b[0x6c:], uint32(size>>32))
	le.PutUint32(b[0x1c:], uint32(blocks))
	le.PutUint16(b[0x74:], uint16(blocks>>32))
	// Seconds since 1970 have 34 bits, of which the lower 32 are signed: the upper two are added to
	// them.
	mtime := min(n.Mtime, maxTime)
	epoch := uint32((mtime + 1<<31) >> 32)
	for _, at := range []struct{ seconds, extra int }{{0x08, 0x8c}, {0x0c, 0x84}, {0x10, 0x88}, {0x90, 0x94}} {
		le.PutUint32(b[at.seconds:], uint32(mtime))
		le.PutUint32(b[at.extra:], epoch)
	}
	links := n.links
	if links >= maxLinks {
		links = 1
	}
	le.PutUint16(b[0x1a:], uint16(links))
	le.PutUint16(b[0x80:], extraSize)
	switch {
	case n.xattrsApart:
		le.PutUint32(b[0x68:], uint32(n.xattrsAt))
		le.PutUint16(b[0x76:], uint16(n.xattrsAt>>32))
	case len(n.xattrs) > 0:
		le.PutUint32(b[xattrsInode:], xattrMagic)
		n.putXattrs(b[xattrsInode+4:inodeSize], 0, false)
	}
	p.putBlocks(b, n)
	sum := checksum(p.inodeSeed(n.number), b[:inodeSize])
	le.PutUint16(b[0x7c:], uint16(sum))
	le.PutUint16(b[0x82:], uint16(sum>>16))
}

// sizes are the size in bytes, and the blocks of 512 bytes that a file has.
func (p *plan) sizes(n *node) (size, blocks int64) {
	blocks = n.data + int64(len(n.tree)) + n.counted
	if n.xattrsApart {
		blocks++
	}
	blocks *= blockSize / 512
	if n.Mode.IsDir() {
		return n.data * blockSize, blocks
	}
	return n.Size, blocks
}

// putBlocks writes what an inode has in the place of its extents.
func (p *plan) putBlocks(b []byte, n *node) {
	le := binary.LittleEndian
	where := b[0x28 : 0x28+60]
	switch mode := n.Mode.Type(); {
	case n == p.resize:
		le.PutUint32(where[13*4:], uint32(n.extents[0].start)) // the doubly indirect block
		return
	case mode&fs.ModeSymlink != 0 && n.data == 0:
		copy(where, n.Link)
		return
	case mode&fs.ModeDevice != 0:
		if n.Major < 256 && n.Minor < 256 {
			le.PutUint32(where, n.Major<<8|n.Minor)
		} else {
			le.PutUint32(where[4:], n.Device())
		}
		return
	case mode != 0 && mode&(fs.ModeDir|fs.ModeSymlink) == 0:
		return // a pipe or a socket
	}
	flags := uint32(flagExtents)
	if len(n.leaves) > 1 {
		flags |= flagIndex
	}
	le.PutUint32(b[0x20:], flags)
	depth, entries := n.root()
	putExtents(where, depth, rootEntries, entries)
}
