package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
)

// maxLink is what Linux has as the target of a symbolic link (PATH_MAX, which counts a zero byte).
const maxLink = 4095

// A node is one file of the tree, and what the tables need to know of it.
type node struct {
	filetree.File
	number   uint32
	place    place    // of its inode
	content  *content // of a regular file
	children []*node  // of a directory, in the order of their names
	parent   *node
	listing  listing
}

func (n *node) base() string { return path.Base(n.Name) }

// readTree returns the root of the tree and how many files there are, each with a number. The
// numbers of the children of a directory follow one another: their entries, which have the
// difference to the number of the first, so never run out of bits.
func readTree(ctx context.Context, fsys fs.FS, o osmith.TreeOptions) (root *node, count uint32, err error) {
	directories := map[string]*node{}
	err = filetree.Walk(fsys, o, func(f *filetree.File) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := check(f); err != nil {
			return fmt.Errorf("%s: %w", f.Absolute(), err)
		}
		count++
		if err := checkCount(count); err != nil {
			return err
		}
		n := &node{File: *f}
		if f.Mode.IsDir() {
			directories[f.Name] = n
		}
		if f.Name == "." {
			root = n
			return nil
		}
		n.parent = directories[path.Dir(f.Name)]
		n.parent.children = append(n.parent.children, n)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if root == nil || !root.Mode.IsDir() {
		return nil, 0, errors.New("the root of the tree is not a directory")
	}
	root.number = 1
	root.numberChildren(2)
	return root, count, nil
}

// checkCount checks the number of files: the root has one more for its parent.
func checkCount(n uint32) error {
	if n == math.MaxUint32 {
		return fmt.Errorf("%d files or more: want fewer: make two images", n)
	}
	return nil
}

// numberChildren numbers everything below a directory from next on, and sorts it: fs.FS promises no
// order, and readers stop at a name behind the one they look for.
func (n *node) numberChildren(next uint32) uint32 {
	slices.SortFunc(n.children, func(a, b *node) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range n.children {
		c.number = next
		next++
	}
	for _, c := range n.children {
		next = c.numberChildren(next)
	}
	return next
}

// visit calls f for a node and all below it: a directory, then what is in it.
func (n *node) visit(f func(*node) error) error {
	if err := f(n); err != nil {
		return err
	}
	for _, c := range n.children {
		if err := c.visit(f); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what the format or Linux does not have.
func check(f *filetree.File) error {
	if n := len(f.Link); f.Mode.Type() == fs.ModeSymlink && (n == 0 || n > maxLink) {
		return fmt.Errorf("a symbolic link to a path of %d bytes: want 1 to %d", n, maxLink)
	}
	if err := f.Check(); err != nil {
		return err
	}
	return checkXattrs(f)
}
