package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Directories (Documentation/filesystems/ext4/directory.rst).
const (
	directoryTail = 12 // bytes of the entry that has the checksum of a block
	entriesRoom   = blockSize - directoryTail
	indexTail     = 8
	indexRoot     = (blockSize - 32 - indexTail) / 8 // entries of the root of an index
	indexNode     = (blockSize - 8 - indexTail) / 8  // entries of another node
)

// entry is a file in a directory, with the hash of its name.
type entry struct {
	*node
	name  string
	as    *node // whose number it has; differs from node in ".."
	hash  uint32
	minor uint32
}

// room is how many bytes an entry takes.
func (e *entry) room() int { return (8 + len(e.name) + 3) &^ 3 }

// fileType is the type in an entry.
func fileType(m fs.FileMode) byte {
	switch m.Type() {
	case fs.ModeDir:
		return 2
	case fs.ModeDevice | fs.ModeCharDevice:
		return 3
	case fs.ModeDevice:
		return 4
	case fs.ModeNamedPipe:
		return 5
	case fs.ModeSocket:
		return 6
	case fs.ModeSymlink:
		return 7
	}
	return 1
}

// measureDirectory shares the entries of a directory among blocks: one, or an index and those with
// the entries in the order of hashes.
func (p *plan) measureDirectory(n *node) error {
	list := make([]entry, 0, len(n.children))
	total := 12 + 12
	for _, c := range n.children {
		e := entry{node: c, name: path.Base(c.Name)}
		list = append(list, e)
		total += e.room()
	}
	if total <= entriesRoom {
		n.leaves, n.data = [][]entry{list}, 1
		if n.number == inodeFirst {
			n.data = lostFoundBlocks
		}
		return nil
	}
	for i := range list {
		list[i].hash, list[i].minor = hashName(list[i].name, p.UUID)
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.minor, b.minor), strings.Compare(a.name, b.name))
	})
	n.leaves = nil
	for len(list) > 0 {
		used, k := 0, 0
		for k < len(list) && used+list[k].room() <= entriesRoom {
			used += list[k].room()
			k++
		}
		n.leaves = append(n.leaves, list[:k])
		list = list[k:]
	}
	if len(n.leaves) == 1 {
		// "." and ".." alone were too much: the index needs two leaves to be one.
		half := len(n.leaves[0]) / 2
		n.leaves = [][]entry{n.leaves[0][:half], n.leaves[0][half:]}
	}
	leaves := int64(len(n.leaves))
	n.data = 1 + leaves
	if leaves > indexRoot {
		nodes := ceil(leaves, indexNode)
		if nodes > indexRoot {
			return fmt.Errorf("%d files in one directory: want less", len(n.children))
		}
		n.data += nodes
	}
	return nil
}

// putEntry writes an entry, whose record has n bytes.
func putEntry(b []byte, e *entry, n int) {
	le := binary.LittleEndian
	number := e.number
	if e.as != nil {
		number = e.as.number
	}
	le.PutUint32(b, number)
	le.PutUint16(b[4:], uint16(n))
	b[6] = byte(len(e.name))
	b[7] = fileType(e.Mode)
	copy(b[8:], e.name)
}

// directory writes the blocks of a directory.
func (w *writer) directory(n *node) error {
	dots := []entry{{node: n, name: "."}, {node: n, name: "..", as: n.parent}}
	if len(n.leaves) == 1 {
		list := append(dots, n.leaves[0]...)
		for i := range n.data {
			b := make([]byte, blockSize)
			w.leaf(b, n, list)
			if err := w.pieces(n, b, i, blockSize); err != nil {
				return err
			}
			list = nil
		}
		return nil
	}
	return w.indexed(n, dots)
}

// leaf fills a block with entries; without any, with an unused one.
func (w *writer) leaf(b []byte, n *node, list []entry) {
	le := binary.LittleEndian
	at := 0
	for i := range list {
		size := list[i].room()
		if i == len(list)-1 {
			size = entriesRoom - at
		}
		putEntry(b[at:], &list[i], size)
		at += size
	}
	if len(list) == 0 {
		le.PutUint16(b[4:], entriesRoom)
	}
	tail := b[entriesRoom:]
	le.PutUint16(tail[4:], directoryTail)
	tail[7] = 0xde
	le.PutUint32(tail[8:], checksum(w.inodeSeed(n.number), b[:entriesRoom]))
}

// pointer is an entry of an index: names with this hash and above are in a block of the directory.
type pointer struct{ hash, block uint32 }

// indexed writes a directory with an index: its root, the other nodes, the leaves.
func (w *writer) indexed(n *node, dots []entry) error {
	le := binary.LittleEndian
	nodes := n.data - 1 - int64(len(n.leaves))
	var list []pointer
	for i, leaf := range n.leaves {
		p := pointer{block: uint32(1 + nodes + int64(i))}
		if i > 0 {
			p.hash = leaf[0].hash
			if before := n.leaves[i-1]; before[len(before)-1].hash == p.hash {
				p.hash |= 1 // names with this hash begin in the leaf before
			}
		}
		list = append(list, p)
		b := make([]byte, blockSize)
		w.leaf(b, n, leaf)
		if err := w.pieces(n, b, int64(p.block), blockSize); err != nil {
			return err
		}
	}
	levels := byte(0)
	if nodes > 0 {
		levels = 1
		var above []pointer
		for i := range nodes {
			part := list[i*indexNode : min((i+1)*indexNode, int64(len(list)))]
			above = append(above, pointer{part[0].hash, uint32(1 + i)})
			b := make([]byte, blockSize)
			le.PutUint16(b[4:], blockSize) // an unused entry for those who know no index
			w.index(b, n, 8, indexNode, part)
			if err := w.pieces(n, b, 1+i, blockSize); err != nil {
				return err
			}
		}
		list = above
	}
	b := make([]byte, blockSize)
	putEntry(b, &dots[0], 12)
	putEntry(b[12:], &dots[1], blockSize-12)
	b[28], b[29], b[30] = hashHalfMD4, 8, levels
	w.index(b, n, 32, indexRoot, list)
	return w.pieces(n, b, 0, blockSize)
}

// index writes the pointers of a node of an index from a byte on. The first has no hash: limit and
// count are in its place.
func (w *writer) index(b []byte, n *node, at, limit int, list []pointer) {
	le := binary.LittleEndian
	for i, p := range list {
		le.PutUint32(b[at+8*i:], p.hash)
		le.PutUint32(b[at+8*i+4:], p.block)
	}
	le.PutUint16(b[at:], uint16(limit))
	le.PutUint16(b[at+2:], uint16(len(list)))
	sum := checksum(w.inodeSeed(n.number), b[:at+8*len(list)])
	le.PutUint32(b[at+8*limit+4:], checksum(sum, make([]byte, 8)))
}
