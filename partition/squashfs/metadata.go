package squashfs

import (
	"encoding/binary"
	"fmt"
	"math"
)

const (
	// metadataSize is how many bytes of a table are compressed at a time ("Packing Metadata").
	metadataSize = 8192
	// storedMetadata marks the size of a metadata block that is not compressed.
	storedMetadata = 1 << 15
)

// A place is where a record of a table begins: the metadata block, counted in bytes from the start
// of the table, and the offset in it when it is uncompressed.
type place struct {
	block  uint32
	offset uint16
}

// reference is a place as other records name it.
func (p place) reference() uint64 { return uint64(p.block)<<16 | uint64(p.offset) }

// metadata is a table while it grows: what is stored of it, and the bytes that fill no block yet.
type metadata struct {
	encoder encoder
	stored  []byte
	starts  []int64 // of the blocks in stored
	open    []byte  // fewer than metadataSize
	space   []byte
}

// place is where the next record will begin. The size of the table has been checked.
func (m *metadata) place() place { return place{uint32(len(m.stored)), uint16(len(m.open))} }

// add appends a record, which may extend over several blocks.
func (m *metadata) add(record []byte) error {
	for len(record) > 0 {
		n := min(len(record), metadataSize-len(m.open))
		m.open = append(m.open, record[:n]...)
		record = record[n:]
		if len(m.open) == metadataSize {
			if err := m.close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// close ends the open block, if it has any bytes.
func (m *metadata) close() error {
	if len(m.open) == 0 {
		return nil
	}
	stored, compressed, err := shrink(m.encoder, m.space, m.open)
	if err != nil {
		return err
	}
	size := len(stored)
	if compressed {
		m.space = stored
	} else {
		size |= storedMetadata
	}
	m.starts = append(m.starts, int64(len(m.stored)))
	m.stored = binary.LittleEndian.AppendUint16(m.stored, uint16(size))
	m.stored = append(m.stored, stored...)
	m.open = m.open[:0]
	return checkTable(int64(len(m.stored)))
}

// checkTable checks the size of a table of inodes or of directories, in which places have 32 bits.
func checkTable(size int64) error {
	if size > math.MaxUint32 {
		return fmt.Errorf("names and attributes take %d bytes: want at most %d: make two images", size, uint32(math.MaxUint32))
	}
	return nil
}

// lookup makes a table of records of equal size, to be written next, and the positions of its
// blocks in the image ("Storing Lookup Tables").
func (im *image) lookup(records []byte) (blocks, index []byte, err error) {
	m := metadata{encoder: im.encoder}
	if err := m.add(records); err != nil {
		return nil, nil, err
	}
	if err := m.close(); err != nil {
		return nil, nil, err
	}
	for _, at := range m.starts {
		index = binary.LittleEndian.AppendUint64(index, uint64(im.out.at+at))
	}
	return m.stored, index, nil
}

// writeLookup writes such a table and the positions of its blocks behind it, by which the
// superblock refers to the table.
func (im *image) writeLookup(records []byte) (position int64, err error) {
	blocks, index, err := im.lookup(records)
	if err != nil {
		return 0, err
	}
	if err := im.out.write(blocks); err != nil {
		return 0, err
	}
	position = im.out.at
	return position, im.out.write(index)
}
