package squashfs

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
)

// xattrSpaces are the name spaces of extended attributes; an attribute is stored with the index of
// its space ("Xattr Table").
var xattrSpaces = []string{"user.", "trusted.", "security."}

// xattrIDSize is the size of a record of the lookup table: where a set of attributes is, how many
// they are, and how many bytes Linux has with their names and values.
const xattrIDSize = 16

// xattrs are the sets of extended attributes of all files. A set that several files have is stored
// once.
type xattrs struct {
	pairs metadata
	ids   []byte
	index map[string]uint32 // by the stored form
}

// of is the number of the set of a file.
func (x *xattrs) of(f *filetree.File) (uint32, error) {
	if len(f.Xattrs) == 0 {
		return noXattrs, nil
	}
	set := xattrSet(f)
	if i, ok := x.index[string(set)]; ok {
		return i, nil
	}
	i := uint32(len(x.index)) // fewer than there are files, whose number is checked
	x.index[string(set)] = i
	le := binary.LittleEndian
	x.ids = le.AppendUint64(x.ids, x.pairs.place().reference())
	x.ids = le.AppendUint32(x.ids, uint32(len(f.Xattrs)))
	x.ids = le.AppendUint32(x.ids, uint32(xattrSize(f)))
	return i, x.pairs.add(set)
}

// checkXattrs refuses what the format does not have.
func checkXattrs(f *filetree.File) error {
	for _, name := range f.XattrNames() {
		if xattrSpace(name) < 0 {
			return fmt.Errorf("%w: %s: squashfs has no access control lists: remove it from the tree", osmith.ErrXattr, name)
		}
	}
	if size := xattrSize(f); size > math.MaxInt32 {
		return fmt.Errorf("%w: all of a file have %d bytes: want at most %d", osmith.ErrXattr, size, math.MaxInt32)
	}
	return nil
}

// xattrSpace is the index of the name space of an attribute, -1 if there is none.
func xattrSpace(name string) int {
	return slices.IndexFunc(xattrSpaces, func(space string) bool { return strings.HasPrefix(name, space) })
}

// xattrSize counts each whole name with a zero byte, and the value, as mksquashfs does.
func xattrSize(f *filetree.File) (size int64) {
	for name, value := range f.Xattrs {
		size += int64(len(name) + 1 + len(value))
	}
	return size
}

// xattrSet is the stored form of the attributes of a file.
func xattrSet(f *filetree.File) (set []byte) {
	le := binary.LittleEndian
	for _, name := range f.XattrNames() {
		space, value := xattrSpace(name), f.Xattrs[name]
		short := strings.TrimPrefix(name, xattrSpaces[space])
		set = le.AppendUint16(set, uint16(space))
		set = le.AppendUint16(set, uint16(len(short)))
		set = append(set, short...)
		set = le.AppendUint32(set, uint32(len(value)))
		set = append(set, value...)
	}
	return set
}

// writeXattrs writes the attributes, their lookup table, and behind them the record that the
// superblock refers to; nothing if there are none. It must be the last table: Linux takes what is
// between the record and the end for positions.
func (im *image) writeXattrs() (position int64, err error) {
	if len(im.xattrs.ids) == 0 {
		return -1, nil
	}
	start := im.out.at
	if err := im.writeTable(&im.xattrs.pairs); err != nil {
		return 0, err
	}
	blocks, index, err := im.lookup(im.xattrs.ids)
	if err != nil {
		return 0, err
	}
	if err := im.out.write(blocks); err != nil {
		return 0, err
	}
	position = im.out.at
	le := binary.LittleEndian
	b := le.AppendUint64(nil, uint64(start))
	b = le.AppendUint32(b, uint32(len(im.xattrs.ids)/xattrIDSize))
	b = le.AppendUint32(b, 0)
	return position, im.out.write(append(b, index...))
}
