package ext4

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/filetree"
)

// Numbers of inodes (Documentation/filesystems/ext4/special_inodes.rst).
const (
	inodeRoot    = 2
	inodeResize  = 7
	inodeJournal = 8
	inodeFirst   = 11 // the first that is not reserved; by custom that of lost+found
)

const (
	lostFound       = "lost+found"
	lostFoundBlocks = 4 // as mkfs.ext4 makes it, so that a repair has room at once
	maxLink         = blockSize - 1
	maxFileBlocks   = 1<<32 - 1
)

// node is a file that gets an inode.
type node struct {
	*filetree.File
	number   uint32
	parent   *node
	children []*node
	links    int // of a directory

	data    int64     // blocks of its content
	leaves  [][]entry // of a directory: the entries of each block that has entries
	extents []extent
	tree    []treeBlock // blocks of the extent tree, but for its root
	counted int64       // blocks that the inode counts besides; of the resize inode alone

	xattrs      []xattr
	xattrsApart bool  // they are in a block of their own,
	xattrsAt    int64 // which is this one
}

// plan is all about a file system before a block of it is written.
type plan struct {
	Options
	geometry
	time    int64
	nodes   []*node
	journal *node // nil: none
	resize  *node // nil: none
	seed    uint32
	used    []span // allocated blocks, in order
}

func newPlan(ctx context.Context, fsys fs.FS, o Options) (*plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &plan{Options: o, time: filetree.Clamp(o.Time, o.TreeOptions)}
	p.seed = checksum(^uint32(0), o.UUID[:])
	if err := p.readTree(ctx, fsys); err != nil {
		return nil, err
	}
	var need int64
	for _, n := range p.nodes {
		if err := p.measure(n); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Absolute(), err)
		}
		need += n.data
		if n.xattrsApart {
			need++
		}
	}
	if o.Size == 0 {
		return p, p.least(need)
	}
	if p.layOut(o.Size/blockSize) && p.end <= p.blocks {
		return p, nil
	}
	if err := p.least(need); err != nil {
		return nil, err
	}
	return nil, &SizeError{Size: o.Size, Want: p.blocks * blockSize}
}

// least lays the file system out in as few blocks as it takes. What a file system needs never
// shrinks when it grows, so going from too small a size to what that size would need, and so on,
// ends at the smallest.
func (p *plan) least(need int64) error {
	for n := max(need, 1); n <= MaxSize/blockSize; n = max(n+1, p.end, p.whole) {
		if p.layOut(n) && p.blocks == n && p.end <= n {
			return nil
		}
	}
	return fmt.Errorf("the files need more than %d bytes, the largest size", int64(MaxSize))
}

// readTree reads names, modes and sizes. The numbers of inodes go by the order of the walk.
func (p *plan) readTree(ctx context.Context, fsys fs.FS) error {
	dirs := map[string]*node{}
	err := filetree.Walk(fsys, p.TreeOptions, func(f *filetree.File) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.Check(); err != nil {
			return fmt.Errorf("%s: %w", f.Absolute(), err)
		}
		n := &node{File: f, links: 1}
		if f.Mode.IsDir() {
			n.links = 2
			dirs[f.Name] = n
		}
		if f.Name != "." {
			adopt(dirs[path.Dir(f.Name)], n)
		}
		p.nodes = append(p.nodes, n)
		return nil
	})
	if err != nil {
		return err
	}
	root := p.nodes[0]
	if !root.Mode.IsDir() {
		return errors.New("the tree is not a directory")
	}
	lost := dirs[lostFound]
	switch {
	case lost != nil:
	case slices.ContainsFunc(root.children, func(n *node) bool { return n.Name == lostFound }):
		return fmt.Errorf("/%s: want a directory, in which a repair puts what it finds: rename the file", lostFound)
	default:
		lost = &node{File: &filetree.File{Name: lostFound, Mode: fs.ModeDir | 0o700, Mtime: p.time}, links: 2}
		adopt(root, lost)
		slices.SortFunc(root.children, func(a, b *node) int { return strings.Compare(a.Name, b.Name) })
		p.nodes = append(p.nodes, lost)
	}
	root.parent, root.number, lost.number = root, inodeRoot, inodeFirst
	next := uint32(inodeFirst + 1)
	for _, n := range p.nodes {
		if n.number == 0 {
			n.number = next
			next++
		}
	}
	return nil
}

func adopt(dir, n *node) {
	n.parent = dir
	dir.children = append(dir.children, n)
	if n.Mode.IsDir() {
		dir.links++
	}
}

// measure finds how many blocks the content and the attributes of a file take.
func (p *plan) measure(n *node) error {
	if err := n.readXattrs(); err != nil {
		return err
	}
	switch {
	case n.Mode.IsDir():
		return p.measureDirectory(n)
	case n.Mode.IsRegular():
		if n.data = ceil(n.Size, blockSize); n.data > maxFileBlocks {
			return fmt.Errorf("%d bytes: want at most %d", n.Size, int64(maxFileBlocks)*blockSize)
		}
	case n.Mode&fs.ModeSymlink != 0:
		if len(n.Link) > maxLink || n.Link == "" {
			return fmt.Errorf("a symbolic link of %d bytes: want 1 to %d", len(n.Link), maxLink)
		}
		if len(n.Link) >= inlineLink {
			n.data = 1
		}
	}
	return nil
}
