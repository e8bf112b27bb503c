package ext4

import (
	"encoding/binary"

	"github.com/osmith-dev/osmith/internal/filetree"
)

// journalNode is the inode of the journal.
func (p *plan) journalNode() *node {
	return &node{
		File:   &filetree.File{Name: "(journal)", Mode: 0o600, Size: p.journalBlocks * blockSize, Mtime: p.time},
		number: inodeJournal, links: 1, data: p.journalBlocks,
	}
}

// journalSuperblock is the first block of an empty journal
// (Documentation/filesystems/ext4/journal.rst, "Super Block"). The rest of the journal is zeros.
func (w *writer) journalSuperblock() []byte {
	b := make([]byte, blockSize)
	be := binary.BigEndian
	be.PutUint32(b[0x00:], 0xc03b3998)
	be.PutUint32(b[0x04:], 4) // a superblock of version 2
	be.PutUint32(b[0x0c:], blockSize)
	be.PutUint32(b[0x10:], uint32(w.journalBlocks))
	be.PutUint32(b[0x14:], 1) // the first block with a log
	be.PutUint32(b[0x18:], 1) // the first transaction that is expected; its place, 0: none
	be.PutUint32(b[0x40:], 1) // file systems that use it
	return b
}
