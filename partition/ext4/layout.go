package ext4

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// Sizes that do not depend on that of the file system (mke2fs.conf of e2fsprogs).
const (
	blocksPerGroup   = 8 * blockSize
	inodeSize        = 256
	inodesPerBlock   = blockSize / inodeSize
	groupsPerFlex    = 16
	descriptorSize   = 64
	descriptorsBlock = blockSize / descriptorSize
	pointersPerBlock = blockSize / 4
)

// geometry is where the metadata of a file system is. Blocks are counted from its start.
type geometry struct {
	blocks int64 // of the file system
	end    int64 // behind the last block that is needed
	// blocks with which a last group that was left out has room for itself; 0: none was
	whole          int64
	groupCount     int64
	inodesPerGroup int64
	descriptors    int64 // blocks with group descriptors
	reserved       int64 // blocks kept for more of them
	blockBitmap    []int64
	inodeBitmap    []int64
	inodeTable     []int64
	journalBlocks  int64
	superblocks    []span // each copy of the superblock, with the descriptors behind it
}

// span is some consecutive blocks.
type span struct{ start, count int64 }

func (s span) end() int64 { return s.start + s.count }

// layOut places all in a file system of at most n blocks. It is false if not even the metadata
// fits. If p.end is beyond p.blocks, all needs that many blocks at least.
func (p *plan) layOut(n int64) bool {
	if !p.size(n) {
		return false
	}
	p.blockBitmap, p.inodeBitmap, p.inodeTable = nil, nil, nil
	// The bitmaps and inode tables of 16 groups are together, so that files have long extents.
	var metadata []span
	for g := int64(0); g < p.groupCount; g += groupsPerFlex {
		a := &allocator{taken: p.superblocks, next: g * blocksPerGroup}
		last := min(g+groupsPerFlex, p.groupCount)
		for range last - g {
			p.blockBitmap = append(p.blockBitmap, a.contiguous(1))
		}
		for range last - g {
			p.inodeBitmap = append(p.inodeBitmap, a.contiguous(1))
		}
		for range last - g {
			p.inodeTable = append(p.inodeTable, a.contiguous(p.inodesPerGroup/inodesPerBlock))
		}
		p.end = a.next
		metadata = append(metadata, a.got...)
	}
	if p.end > p.blocks {
		return false
	}
	p.used = merge(p.superblocks, metadata)
	a := &allocator{taken: p.used}
	p.journal, p.resize = nil, nil
	if p.journalBlocks > 0 {
		p.journal = p.journalNode()
		p.allocate(a, p.journal)
	}
	if p.reserved > 0 {
		p.resize = p.resizeNode(a)
	}
	for _, n := range p.nodes {
		if n.Mode.IsDir() {
			p.allocate(a, n)
		}
	}
	for _, n := range p.nodes {
		if !n.Mode.IsDir() {
			p.allocate(a, n)
		}
	}
	p.end = max(p.end, a.next)
	p.used = merge(p.used, a.got)
	return true
}

// size decides what follows from the number of blocks alone. It is false, and p.end the least
// number to try, if there are more files than inodes.
func (p *plan) size(n int64) bool {
	inodes := int64(len(p.nodes)) + inodeFirst - 2 // root and lost+found are not counted twice
	whole := int64(0)
	for n > 0 {
		p.geometry = geometry{blocks: n, whole: whole, groupCount: ceil(n, blocksPerGroup)}
		p.inodesPerGroup = p.inodes(inodes)
		p.descriptors = ceil(p.groupCount, descriptorsBlock)
		p.reserved = reservedDescriptors(n, p.descriptors)
		p.journalBlocks = 0
		if !p.NoJournal {
			p.journalBlocks = journalBlocks(n)
		}
		for g := range p.groupCount {
			if own := p.superblockRoom(g); own > 0 {
				p.superblocks = append(p.superblocks, span{g * blocksPerGroup, own})
			}
		}
		if p.groupCount*p.inodesPerGroup < inodes {
			p.end = p.groupCount*blocksPerGroup + 1
			return false
		}
		// The last group needs room for its own metadata and some files, as mkfs.ext4 has it.
		before := (p.groupCount - 1) * blocksPerGroup
		need := p.superblockRoom(p.groupCount-1) + 2 + p.inodesPerGroup/inodesPerBlock + 50
		if before == 0 || n-before >= need {
			return true
		}
		n, whole = before, before+need
	}
	return false
}

// superblockRoom is how many blocks the superblock and the descriptors take in a group.
func (g *geometry) superblockRoom(group int64) int64 {
	if !hasSuperblock(group) {
		return 0
	}
	return 1 + g.descriptors + g.reserved
}

// inodes is how many inodes a group has: whole blocks of them, as many as a bitmap has bits at
// most, and in all no more than 32 bits can count.
func (p *plan) inodes(least int64) int64 {
	each := p.BytesPerInode
	if each == 0 {
		each = 16384
	}
	total := max(p.blocks*blockSize/each, least)
	perGroup := ceil(ceil(total, p.groupCount), inodesPerBlock) * inodesPerBlock
	return min(perGroup, 8*blockSize, math.MaxUint32/p.groupCount/inodesPerBlock*inodesPerBlock)
}

// reservedDescriptors is for how many more blocks of group descriptors there is room: those of a
// file system that is 1024 times as large, at most as many as one block points to (mke2fs(8),
// "resize=").
func reservedDescriptors(blocks, have int64) int64 {
	largest := min(blocks*1024, 1<<32-1)
	return min(ceil(ceil(largest, blocksPerGroup), descriptorsBlock)-have, pointersPerBlock)
}

// journalBlocks is the size of the journal in blocks that mkfs.ext4 chooses (e2fsprogs 1.47,
// ext2fs_default_journal_size).
func journalBlocks(blocks int64) int64 {
	for _, s := range []struct{ less, journal int64 }{
		{2048, 0}, {32768, 1024}, {256 << 10, 4096}, {512 << 10, 8192}, {4096 << 10, 16384},
		{8192 << 10, 32768}, {16384 << 10, 65536}, {32768 << 10, 131072},
	} {
		if blocks < s.less {
			return s.journal
		}
	}
	return 262144
}

// hasSuperblock tells the groups with a copy of the superblock and the group descriptors: 0, 1 and
// the powers of 3, 5 and 7 (sparse_super).
func hasSuperblock(g int64) bool {
	if g <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := g
		for n%base == 0 {
			n /= base
		}
		if n == 1 {
			return true
		}
	}
	return false
}

// allocator gives out blocks in rising order, around those that are taken.
type allocator struct {
	taken []span // in order
	i     int    // the first of taken that may be at or behind next
	next  int64
	got   []span
}

// piece gives at most n consecutive blocks.
func (a *allocator) piece(n int64) span {
	a.skip(1)
	s := span{a.next, n}
	if a.i < len(a.taken) {
		s.count = min(n, a.taken[a.i].start-a.next)
	}
	a.take(s)
	return s
}

// contiguous gives n consecutive blocks.
func (a *allocator) contiguous(n int64) int64 {
	a.skip(n)
	s := span{a.next, n}
	a.take(s)
	return s.start
}

// skip goes on to where n blocks are free.
func (a *allocator) skip(n int64) {
	for ; a.i < len(a.taken); a.i++ {
		t := a.taken[a.i]
		if t.start >= a.next+n {
			return
		}
		a.next = max(a.next, t.end())
	}
}

func (a *allocator) take(s span) {
	a.next = s.end()
	if k := len(a.got) - 1; k >= 0 && a.got[k].end() == s.start {
		a.got[k].count += s.count
		return
	}
	a.got = append(a.got, s)
}

// merge joins two lists of spans, neither of which overlaps the other.
func merge(a, b []span) []span {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y span) int { return cmp.Compare(x.start, y.start) })
	return all
}

// allocate gives a file its blocks: those of its content, those of its extent tree, and that of its
// attributes.
func (p *plan) allocate(a *allocator, n *node) {
	n.extents, n.tree = nil, nil
	for first := int64(0); first < n.data; {
		s := a.piece(min(n.data-first, maxExtent))
		if k := len(n.extents) - 1; k >= 0 && n.extents[k].start+n.extents[k].count == s.start && n.extents[k].count+s.count <= maxExtent {
			n.extents[k].count += s.count
		} else {
			n.extents = append(n.extents, extent{first, s.start, s.count})
		}
		first += s.count
	}
	n.tree = extentTree(n.extents, func() int64 { return a.piece(1).start })
	if n.xattrsApart {
		n.xattrsAt = a.piece(1).start
	}
}

// ceil is n/d, rounded up.
func ceil(n, d int64) int64 { return (n + d - 1) / d }

func log2(n int) uint32 { return uint32(bits.TrailingZeros(uint(n))) }
