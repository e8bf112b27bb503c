package ext4

import "encoding/binary"

// Extents (Documentation/filesystems/ext4/ifork.rst, "Extent Tree").
const (
	maxExtent       = 1 << 15 // blocks of an initialised extent
	extentMagic     = 0xf30a
	rootEntries     = 4                            // extents in an inode
	entriesPerBlock = (blockSize - 12 - 4) / 12    // between header and checksum
	tailAt          = 12 + 12*entriesPerBlock      // of the checksum in a block
	_               = uint(blockSize - tailAt - 4) // there is room for it
)

// extent is some consecutive blocks of a file.
type extent struct {
	first int64 // block of the file
	start int64 // block of the file system
	count int64
}

// treeBlock is a block of an extent tree.
type treeBlock struct {
	at      int64
	depth   int      // 0: a leaf
	entries []extent // count counts only in leaves
}

// extentTree puts extents that do not fit into the inode into blocks. Those of one depth follow
// each other, and the last ones, at most four, are those that the inode points to.
func extentTree(list []extent, block func() int64) []treeBlock {
	var tree []treeBlock
	for depth := 0; len(list) > rootEntries; depth++ {
		var above []extent
		for i := 0; i < len(list); i += entriesPerBlock {
			b := treeBlock{at: block(), depth: depth, entries: list[i:min(i+entriesPerBlock, len(list))]}
			tree = append(tree, b)
			above = append(above, extent{first: b.entries[0].first, start: b.at})
		}
		list = above
	}
	return tree
}

// root is the part of the tree that is in the inode.
func (n *node) root() (depth int, entries []extent) {
	if len(n.tree) == 0 {
		return 0, n.extents
	}
	top := n.tree[len(n.tree)-1].depth
	for _, b := range n.tree {
		if b.depth == top {
			entries = append(entries, extent{first: b.entries[0].first, start: b.at})
		}
	}
	return top + 1, entries
}

// putExtents writes a header and the entries behind it.
func putExtents(b []byte, depth, room int, entries []extent) {
	le := binary.LittleEndian
	le.PutUint16(b, extentMagic)
	le.PutUint16(b[2:], uint16(len(entries)))
	le.PutUint16(b[4:], uint16(room))
	le.PutUint16(b[6:], uint16(depth))
	for i, e := range entries {
		to := b[12+12*i:]
		le.PutUint32(to, uint32(e.first))
		if depth == 0 {
			le.PutUint16(to[4:], uint16(e.count))
			le.PutUint16(to[6:], uint16(e.start>>32))
			le.PutUint32(to[8:], uint32(e.start))
			continue
		}
		le.PutUint32(to[4:], uint32(e.start))
		le.PutUint16(to[8:], uint16(e.start>>32))
	}
}

// extentBlocks writes the blocks of a file's extent tree.
func (w *writer) extentBlocks(n *node) error {
	for _, t := range n.tree {
		b := make([]byte, blockSize)
		putExtents(b, t.depth, entriesPerBlock, t.entries)
		binary.LittleEndian.PutUint32(b[tailAt:], checksum(w.inodeSeed(n.number), b[:tailAt]))
		if err := w.block(t.at, b); err != nil {
			return err
		}
	}
	return nil
}
