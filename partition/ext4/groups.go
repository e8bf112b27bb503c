package ext4

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Flags of a group (Documentation/filesystems/ext4/group_descr.rst).
const (
	groupInodesUnused = 0x1 // the bitmap of inodes is not written: none is used
	groupBlocksUnused = 0x2 // the bitmap of blocks is not written: only its own metadata is used
	groupTableZeroed  = 0x4 // the inode table has zeros where it has no inodes
)

// group is what is counted in a group of blocks.
type group struct {
	flags                       uint16
	freeBlocks, freeInodes      int64
	directories, unusedInodes   int64
	blockChecksum, inodChecksum uint32
}

// groups writes all metadata that is not of one file: bitmaps, inode tables, group descriptors and
// superblocks, the first of these last.
func (w *writer) groups() error {
	if err := w.resizeBlocks(); err != nil {
		return err
	}
	inodes := slices.Clone(w.nodes)
	if w.resize != nil {
		inodes = append(inodes, w.resize)
	}
	if w.journal != nil {
		inodes = append(inodes, w.journal)
	}
	slices.SortFunc(inodes, func(a, b *node) int { return cmp.Compare(a.number, b.number) })
	table := make([]byte, w.descriptors*blockSize)
	var freeBlocks, freeInodes int64
	used := w.used
	for g := range w.groupCount {
		var s group
		k, _ := slices.BinarySearchFunc(inodes, (g+1)*w.inodesPerGroup+1, func(n *node, first int64) int { return cmp.Compare(int64(n.number), first) })
		if err := w.inodes(g, inodes[:k], &s); err != nil {
			return err
		}
		inodes = inodes[k:]
		var err error
		if used, err = w.blocksOf(g, used, &s); err != nil {
			return err
		}
		freeBlocks += s.freeBlocks
		freeInodes += s.freeInodes
		w.descriptor(table[g*descriptorSize:], g, &s)
	}
	if w.end < w.blocks {
		// The file is as long as the file system.
		if err := w.block(w.blocks-1, make([]byte, blockSize)); err != nil {
			return err
		}
	}
	for _, place := range slices.Backward(w.superblocks) {
		at, b := place.start, make([]byte, blockSize)
		if err := w.block(at+1, table); err != nil {
			return err
		}
		if sb := w.superblock(at/blocksPerGroup, freeBlocks, freeInodes); at == 0 {
			copy(b[1024:], sb) // firmware's room is in front of it
		} else {
			copy(b, sb)
		}
		if err := w.block(at, b); err != nil {
			return err
		}
	}
	return nil
}

// inodes writes the inodes of a group and their bitmap.
func (w *writer) inodes(g int64, list []*node, s *group) error {
	first := g * w.inodesPerGroup // the number of the first inode, less 1
	s.flags |= groupTableZeroed
	s.freeInodes, s.unusedInodes = w.inodesPerGroup, w.inodesPerGroup
	if g > 0 && len(list) == 0 {
		s.flags |= groupInodesUnused
		return nil
	}
	bitmap := make([]byte, blockSize)
	highest := int64(0)
	use := func(n int64) {
		bitmap[n/8] |= 1 << (n % 8)
		s.freeInodes--
		highest = max(highest, n+1)
	}
	if g == 0 {
		for n := range int64(inodeFirst - 1) {
			use(n)
		}
	}
	for _, n := range list {
		if i := int64(n.number) - 1 - first; bitmap[i/8]&(1<<(i%8)) == 0 {
			use(i)
		}
		if n.Mode.IsDir() {
			s.directories++
		}
	}
	s.unusedInodes = w.inodesPerGroup - highest
	table := make([]byte, ceil(highest, inodesPerBlock)*blockSize)
	if g == 0 {
		for n := range int64(inodeFirst - 1) {
			w.putReserved(table[n*inodeSize:][:inodeSize], uint32(n+1))
		}
	}
	for _, n := range list {
		b := table[(int64(n.number)-1-first)*inodeSize:][:inodeSize]
		clear(b)
		w.putInode(b, n)
	}
	if err := w.block(w.inodeTable[g], table); err != nil {
		return err
	}
	s.inodChecksum = checksum(w.seed, bitmap[:w.inodesPerGroup/8])
	fill(bitmap, w.inodesPerGroup, 8*blockSize)
	return w.block(w.inodeBitmap[g], bitmap)
}

// putReserved writes a reserved inode that is not used.
func (w *writer) putReserved(b []byte, number uint32) {
	le := binary.LittleEndian
	sum := checksum(w.inodeSeed(number), b)
	le.PutUint16(b[0x7c:], uint16(sum))
}

// blocksOf writes the bitmap of the blocks of a group. It returns the spans that are not wholly in
// front of the end of the group.
func (w *writer) blocksOf(g int64, used []span, s *group) ([]span, error) {
	start := g * blocksPerGroup
	end := min(start+blocksPerGroup, w.blocks)
	bitmap := make([]byte, blockSize)
	s.freeBlocks = end - start
	for len(used) > 0 && used[0].start < end {
		from, to := max(used[0].start, start), min(used[0].end(), end)
		fill(bitmap, from-start, to-start)
		s.freeBlocks -= to - from
		if used[0].end() > end {
			break
		}
		used = used[1:]
	}
	if g > 0 && g < w.groupCount-1 && s.freeBlocks == end-start-w.superblockRoom(g) && g%groupsPerFlex != 0 {
		s.flags |= groupBlocksUnused
		return used, nil
	}
	fill(bitmap, end-start, blocksPerGroup)
	s.blockChecksum = checksum(w.seed, bitmap)
	return used, w.block(w.blockBitmap[g], bitmap)
}

// fill sets the bits of a range.
func fill(bitmap []byte, from, to int64) {
	for from < to {
		if from%8 == 0 && to-from >= 8 {
			bitmap[from/8] = 0xff
			from += 8
			continue
		}
		bitmap[from/8] |= 1 << (from % 8)
		from++
	}
}

// descriptor writes a group descriptor into 64 zero bytes.
func (w *writer) descriptor(b []byte, g int64, s *group) {
	b = b[:descriptorSize]
	le := binary.LittleEndian
	low, high := func(at int, v int64) { le.PutUint32(b[at:], uint32(v)) }, func(at int, v int64) { le.PutUint32(b[at:], uint32(v>>32)) }
	low(0x00, w.blockBitmap[g])
	high(0x20, w.blockBitmap[g])
	low(0x04, w.inodeBitmap[g])
	high(0x24, w.inodeBitmap[g])
	low(0x08, w.inodeTable[g])
	high(0x28, w.inodeTable[g])
	half := func(lo, hi int, v int64) {
		le.PutUint16(b[lo:], uint16(v))
		le.PutUint16(b[hi:], uint16(v>>16))
	}
	half(0x0c, 0x2c, s.freeBlocks)
	half(0x0e, 0x2e, s.freeInodes)
	half(0x10, 0x30, s.directories)
	half(0x1c, 0x32, s.unusedInodes)
	half(0x18, 0x38, int64(s.blockChecksum))
	half(0x1a, 0x3a, int64(s.inodChecksum))
	le.PutUint16(b[0x12:], s.flags)
	var number [4]byte
	le.PutUint32(number[:], uint32(g))
	le.PutUint16(b[0x1e:], uint16(checksum(checksum(w.seed, number[:]), b)))
}
