package ext4

import (
	"encoding/binary"

	"github.com/osmith-dev/osmith/internal/filetree"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// resizeNode is the inode that owns the blocks which are kept for more group descriptors, so that
// the mounted file system can grow (resize_inode). It has blocks as ext2 had them: a doubly
// indirect block points to the kept blocks of the first group, and each of these to the same one in
// the groups with a copy of the superblock.
func (p *plan) resizeNode(a *allocator) *node {
	n := &node{
		File:   &filetree.File{Name: "(resize)", Mode: 0o600, Mtime: p.time},
		number: inodeResize, links: 1,
	}
	n.extents = []extent{{start: a.contiguous(1)}}
	// The size covers all that direct, indirect and doubly indirect blocks reach.
	n.Size = (12 + pointersPerBlock + pointersPerBlock*pointersPerBlock) * blockSize
	n.counted = 1 + p.reserved*int64(len(p.superblocks))
	return n
}

// resizeBlocks writes the blocks of pointers.
func (w *writer) resizeBlocks() error {
	if w.resize == nil {
		return nil
	}
	le := binary.LittleEndian
	top := make([]byte, blockSize)
	for i := range w.reserved {
		kept := 1 + w.descriptors + i
		le.PutUint32(top[4*((w.descriptors+i)%pointersPerBlock):], uint32(kept))
		b := make([]byte, blockSize)
		for k, place := range w.superblocks[1:] {
			le.PutUint32(b[4*k:], uint32(place.start+kept))
		}
		if sparse.Zero(b) {
			continue
		}
		if err := w.block(kept, b); err != nil {
			return err
		}
	}
	return w.block(w.resize.extents[0].start, top)
}
