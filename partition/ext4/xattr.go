package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
)

// Extended attributes (Documentation/filesystems/ext4/attributes.rst): behind the fields of an
// inode if all have room there, else in a block of their own.
const (
	xattrMagic      = 0xea020000
	xattrEntry      = 16 // of an entry without its name
	xattrHeader     = 32 // of a block
	xattrEnd        = 4  // zero bytes behind the last entry
	xattrsInode     = 128 + extraSize
	xattrsInodeRoom = inodeSize - xattrsInode - 4
	xattrsBlockRoom = blockSize - xattrHeader
)

// xattr is an attribute as it is stored: the number of its name space, and the rest of its name.
type xattr struct {
	space byte
	name  string
	value []byte
}

// xattrSpaces are the numbers of the name spaces.
var xattrSpaces = []struct {
	number byte
	prefix string
}{{1, "user."}, {2, filetree.ACLAccess}, {3, filetree.ACLDefault}, {4, "trusted."}, {6, "security."}}

// readXattrs finds how the attributes of a file are stored.
func (n *node) readXattrs() error {
	for _, name := range n.XattrNames() {
		x := xattr{value: n.Xattrs[name]}
		for _, s := range xattrSpaces {
			if rest, ok := strings.CutPrefix(name, s.prefix); ok {
				x.space, x.name = s.number, rest
				break
			}
		}
		if name == filetree.ACLAccess || name == filetree.ACLDefault {
			acl, err := storedACL(x.value)
			if err != nil {
				return fmt.Errorf("%w: %s: %w", osmith.ErrXattr, name, err)
			}
			x.value = acl
		}
		n.xattrs = append(n.xattrs, x)
	}
	slices.SortFunc(n.xattrs, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.space, b.space), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
	size := n.xattrSize()
	if size > xattrsBlockRoom {
		return fmt.Errorf("%w: all of a file take %d bytes: want at most %d", osmith.ErrXattr, size, xattrsBlockRoom)
	}
	n.xattrsApart = size > xattrsInodeRoom
	return nil
}

// xattrSize is how many bytes all entries and values take.
func (n *node) xattrSize() int {
	size := xattrEnd
	for _, x := range n.xattrs {
		size += xattrEntry + up4(len(x.name)) + up4(len(x.value))
	}
	return size
}

// putXattrs writes entries to the start of a room and values to its end. Offsets of values count
// from base bytes before the room. It returns the hash of all entries, each of which has its own if
// the room is a block.
func (n *node) putXattrs(room []byte, base int, hashed bool) (all uint32) {
	le := binary.LittleEndian
	at, end := 0, len(room)
	for _, x := range n.xattrs {
		e := room[at:]
		e[0], e[1] = byte(len(x.name)), x.space
		if len(x.value) > 0 {
			end -= up4(len(x.value))
			copy(room[end:], x.value)
			le.PutUint16(e[2:], uint16(base+end))
		}
		le.PutUint32(e[8:], uint32(len(x.value)))
		copy(e[xattrEntry:], x.name)
		if hashed {
			h := x.hash()
			le.PutUint32(e[12:], h)
			all = bits.RotateLeft32(all, 16) ^ h
		}
		at += xattrEntry + up4(len(x.name))
	}
	return all
}

// hash is the hash of a name and a value.
func (x *xattr) hash() (h uint32) {
	for i := range len(x.name) {
		h = bits.RotateLeft32(h, 5) ^ uint32(x.name[i])
	}
	padded := make([]byte, up4(len(x.value)))
	copy(padded, x.value)
	for ; len(padded) > 0; padded = padded[4:] {
		h = bits.RotateLeft32(h, 16) ^ binary.LittleEndian.Uint32(padded)
	}
	return h
}

// xattrBlock is the block with the attributes of a file.
func (p *plan) xattrBlock(n *node) []byte {
	le := binary.LittleEndian
	b := make([]byte, blockSize)
	le.PutUint32(b, xattrMagic)
	le.PutUint32(b[4:], 1) // files that have it
	le.PutUint32(b[8:], 1) // blocks
	le.PutUint32(b[12:], n.putXattrs(b[xattrHeader:], xattrHeader, true))
	var where [8]byte
	le.PutUint64(where[:], uint64(n.xattrsAt))
	le.PutUint32(b[16:], checksum(checksum(p.seed, where[:]), b))
	return b
}

// up4 is a size in whole words of 32 bits.
func up4(n int) int { return (n + 3) &^ 3 }

// storedACL converts an access control list from what getxattr(2) has (include/uapi/linux/
// posix_acl_xattr.h) to what ext4 stores, in which only the entries of named users and groups have
// an ID (fs/ext4/acl.h).
func storedACL(value []byte) ([]byte, error) {
	const version, storedVersion, header, entry = 2, 1, 4, 8
	const namedUser, namedGroup = 0x02, 0x08
	le := binary.LittleEndian
	if len(value) < header || (len(value)-header)%entry != 0 || le.Uint32(value) != version {
		return nil, fmt.Errorf("%d bytes: want an access control list of version %d", len(value), version)
	}
	b := le.AppendUint32(nil, storedVersion)
	for e := value[header:]; len(e) > 0; e = e[entry:] {
		b = append(b, e[:4]...)
		if tag := le.Uint16(e); tag == namedUser || tag == namedGroup {
			b = append(b, e[4:8]...)
		}
	}
	return b, nil
}
