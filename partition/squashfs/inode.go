package squashfs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
)

// The types of inodes ("Common Inode Header"). An extended one has its basic one's number and
// extended.
const (
	inodeDirectory = 1 + iota
	inodeFile
	inodeSymlink
	inodeBlockDevice
	inodeCharDevice
	inodeFIFO
	inodeSocket

	extended = 7
)

// noFragment and noXattrs say that an inode has none.
const (
	noFragment = math.MaxUint32
	noXattrs   = math.MaxUint32
)

// maxIDs is how many different users and groups the count in the superblock can tell.
const maxIDs = math.MaxUint16

// owners are the users and groups of the files, which inodes name by their index.
type owners struct {
	ids   []uint32
	index map[uint32]uint16
}

func (o *owners) of(id uint32) (uint16, error) {
	if i, ok := o.index[id]; ok {
		return i, nil
	}
	if len(o.ids) == maxIDs {
		return 0, fmt.Errorf("more than %d different users and groups: want fewer", maxIDs)
	}
	i := uint16(len(o.ids))
	o.ids = append(o.ids, id)
	o.index[id] = i
	return i, nil
}

// basicType is the type of a node in its directory, and in its inode if that is not extended.
func (n *node) basicType() uint16 {
	switch n.Mode.Type() {
	case fs.ModeDir:
		return inodeDirectory
	case fs.ModeSymlink:
		return inodeSymlink
	case fs.ModeDevice:
		return inodeBlockDevice
	case fs.ModeDevice | fs.ModeCharDevice:
		return inodeCharDevice
	case fs.ModeNamedPipe:
		return inodeFIFO
	case fs.ModeSocket:
		return inodeSocket
	}
	return inodeFile
}

// inode returns the inode of a node: of a directory, once its listing is written; of a file, once
// its content is. rootParent is the number that the root has for its parent, xattrs that of the
// set of attributes.
func (n *node) inode(o *owners, rootParent, xattrs uint32) ([]byte, error) {
	uid, err := o.of(n.UID)
	if err != nil {
		return nil, err
	}
	gid, err := o.of(n.GID)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	b := le.AppendUint16(nil, n.basicType())
	b = le.AppendUint16(b, uint16(n.UnixMode()&0o7777))
	b = le.AppendUint16(b, uid)
	b = le.AppendUint16(b, gid)
	b = le.AppendUint32(b, seconds(n.Mtime))
	b = le.AppendUint32(b, n.number)
	const links = 1
	switch n.basicType() {
	case inodeDirectory:
		return n.appendDirectory(b, rootParent, xattrs), nil
	case inodeFile:
		return n.appendFile(b, xattrs), nil
	case inodeSymlink:
		b = le.AppendUint32(b, links)
		b = le.AppendUint32(b, uint32(len(n.Link)))
		b = append(b, n.Link...)
	case inodeBlockDevice, inodeCharDevice:
		b = le.AppendUint32(b, links)
		b = le.AppendUint32(b, n.Device())
	default:
		b = le.AppendUint32(b, links)
	}
	if xattrs != noXattrs {
		extend(b)
		b = le.AppendUint32(b, xattrs)
	}
	return b, nil
}

// extend makes an inode, of which there is the header, an extended one.
func extend(b []byte) {
	binary.LittleEndian.PutUint16(b, binary.LittleEndian.Uint16(b)+extended)
}

// appendDirectory completes the inode of a directory ("Directory Inodes").
func (n *node) appendDirectory(b []byte, rootParent, xattrs uint32) []byte {
	le := binary.LittleEndian
	links, parent := uint32(2), rootParent
	for _, c := range n.children {
		if c.Mode.IsDir() {
			links++
		}
	}
	if n.parent != nil {
		parent = n.parent.number
	}
	l := &n.listing
	size := l.size + dots
	if size <= math.MaxUint16 && len(l.index) == 0 && xattrs == noXattrs {
		b = le.AppendUint32(b, l.place.block)
		b = le.AppendUint32(b, links)
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, l.place.offset)
		return le.AppendUint32(b, parent)
	}
	extend(b)
	b = le.AppendUint32(b, links)
	b = le.AppendUint32(b, uint32(size))
	b = le.AppendUint32(b, l.place.block)
	b = le.AppendUint32(b, parent)
	b = le.AppendUint16(b, uint16(len(l.index)))
	b = le.AppendUint16(b, l.place.offset)
	b = le.AppendUint32(b, xattrs)
	for _, e := range l.index {
		b = le.AppendUint32(b, e.offset)
		b = le.AppendUint32(b, e.block)
		b = le.AppendUint32(b, uint32(len(e.name)-1))
		b = append(b, e.name...)
	}
	return b
}

// appendFile completes the inode of a regular file ("File Inodes"). Only an extended one has 64
// bits for size and position, and tells how many bytes are holes and which attributes there are.
func (n *node) appendFile(b []byte, xattrs uint32) []byte {
	le := binary.LittleEndian
	c := n.content
	if n.Size <= math.MaxUint32 && c.start <= math.MaxUint32 && c.holes == 0 && xattrs == noXattrs {
		b = le.AppendUint32(b, uint32(c.start))
		b = le.AppendUint32(b, c.fragment)
		b = le.AppendUint32(b, c.offset)
		b = le.AppendUint32(b, uint32(n.Size))
	} else {
		extend(b)
		b = le.AppendUint64(b, uint64(c.start))
		b = le.AppendUint64(b, uint64(n.Size))
		b = le.AppendUint64(b, uint64(c.holes))
		b = le.AppendUint32(b, 1) // links
		b = le.AppendUint32(b, c.fragment)
		b = le.AppendUint32(b, c.offset)
		b = le.AppendUint32(b, xattrs)
	}
	for _, size := range c.blocks {
		b = le.AppendUint32(b, size)
	}
	return b
}

// seconds is a time as the format has it, in 32 bits without a sign. Times that do not fit, after
// 2106, become the last one that does.
func seconds(unix int64) uint32 { return uint32(min(unix, math.MaxUint32)) }
