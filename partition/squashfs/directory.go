package squashfs

import (
	"encoding/binary"
	"fmt"
	"math"
)

const (
	// dots is what the size of a directory has above that of its listing: Linux gives "." and ".."
	// the first offsets.
	dots = 3
	// maxRun is how many entries may follow one header.
	maxRun = 256
	// maxListing is the largest listing of which every metadata block can be in the index, whose
	// length has 16 bits.
	maxListing = math.MaxUint16 * metadataSize
	// entrySize is the size of an entry without its name.
	entrySize = 8
)

// A listing is what is known of the entries of a directory once they are in the table.
type listing struct {
	place place
	size  int64
	index []indexEntry
}

// An indexEntry is a header that begins another metadata block, and the first name behind it
// ("Directory Index").
type indexEntry struct {
	offset uint32 // from the first header of the listing
	block  uint32
	name   string
}

// writeInodes writes the inodes of everything below a directory, and their entries. Those of its
// children follow one another, behind what is below them: an inode of a directory has the place of
// its listing, and a listing has the places of inodes.
func (im *image) writeInodes(d *node) error {
	if err := im.ctx.Err(); err != nil {
		return err
	}
	for _, c := range d.children {
		if c.Mode.IsDir() {
			if err := im.writeInodes(c); err != nil {
				return err
			}
		}
	}
	for _, c := range d.children {
		if err := im.writeInode(c); err != nil {
			return err
		}
	}
	if err := im.writeListing(d); err != nil {
		return fmt.Errorf("%s: %w", d.Absolute(), err)
	}
	return nil
}

func (im *image) writeInode(n *node) error {
	n.place = im.inodes.place()
	xattrs, err := im.xattrs.of(&n.File)
	var b []byte
	if err == nil {
		b, err = n.inode(&im.owners, im.count+1, xattrs)
	}
	if err == nil {
		err = im.inodes.add(b)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.Absolute(), err)
	}
	binary.LittleEndian.PutUint64(im.exports[(n.number-1)*8:], n.place.reference())
	return nil
}

// writeListing writes the entries of a directory, in runs that have a header ("Directory Table").
func (im *image) writeListing(d *node) error {
	l := &d.listing
	entries := int64(0)
	for _, c := range d.children {
		entries += entrySize + int64(len(c.base()))
	}
	// A listing that fits in two blocks is read faster than an index.
	indexed := entries > metadataSize
	if len(d.children) > 0 {
		l.place = im.directories.place()
	}
	for rest := d.children; len(rest) > 0; {
		at := im.directories.place()
		run := rest[:im.run(rest, indexed)]
		rest = rest[len(run):]
		if last := l.lastBlock(); indexed && at.block != last {
			l.index = append(l.index, indexEntry{uint32(l.size), at.block, run[0].base()})
		}
		b := appendRun(nil, run)
		l.size += int64(len(b))
		if err := checkListing(l.size); err != nil {
			return err
		}
		if err := im.directories.add(b); err != nil {
			return err
		}
	}
	return nil
}

// lastBlock is the last metadata block that a reader finds without reading a block before it.
func (l *listing) lastBlock() uint32 {
	if n := len(l.index); n > 0 {
		return l.index[n-1].block
	}
	return l.place.block
}

// checkListing checks the size of a listing.
func checkListing(size int64) error {
	if size > maxListing {
		return fmt.Errorf("a directory whose names take %d bytes or more: want at most %d: divide it", size, maxListing)
	}
	return nil
}

// run is how many entries of a directory follow the header that comes next: inodes in one metadata
// block, and, for an index, entries that begin in the metadata block of their header.
func (im *image) run(rest []*node, indexed bool) int {
	end := int(im.directories.place().offset) + headerSize
	n := 0
	for n < len(rest) && n < maxRun && rest[n].place.block == rest[0].place.block && (n == 0 || !indexed || end < metadataSize) {
		end += entrySize + len(rest[n].base())
		n++
	}
	return n
}

// headerSize is the size of a header of entries.
const headerSize = 12

// appendRun appends a header and its entries.
func appendRun(b []byte, run []*node) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(run)-1))
	b = le.AppendUint32(b, run[0].place.block)
	b = le.AppendUint32(b, run[0].number)
	for _, c := range run {
		b = le.AppendUint16(b, c.place.offset)
		b = le.AppendUint16(b, uint16(c.number-run[0].number))
		b = le.AppendUint16(b, c.basicType())
		b = le.AppendUint16(b, uint16(len(c.base())-1))
		b = append(b, c.base()...)
	}
	return b
}
