package verity

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// A Tree is a hash tree to be compared with a second one, and its expected root hash.
type Tree struct {
	// Source is the hash device. Bytes after the tree are ignored.
	Source osmith.Source

	// RootHash is the root hash that the tree must have. Without it, the tree is only checked for
	// consistency, which does not prove that it describes a given image.
	RootHash []byte

	// HashOffset is where the superblock is on the hash device, in bytes.
	HashOffset int64

	// Params are the parameters of a tree that has no superblock, or nil to read them
	// from the superblock. Its HashOffset is used then, and DataSize must be the bytes
	// that the tree covers.
	Params   *Params
	DataSize int64
}

// An IncompatibleError names a parameter in which two trees differ, so that their digests cannot be
// compared.
type IncompatibleError struct {
	Field string // "hash", "hash format", "salt", "data block size" or "hash block size"
	Tree  string // which tree is compared with the new one: "old" or "target"
	Want  string // value of the new tree
	Got   string // value of that tree
}

func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("diff: %s: the %s tree has %s, the new tree has %s: digests can be compared only under the same parameters",
		e.Field, e.Tree, e.Got, e.Want)
}

// An openTree is a tree whose place and size are known.
type openTree struct {
	*layout
	name string // "old tree"
	src  io.ReaderAt
	root []byte
}

// open finds the levels of a tree and its root hash.
func (t Tree) open(name string) (*openTree, error) {
	o, err := t.openUnnamed()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	o.name = name
	return o, nil
}

func (t Tree) openUnnamed() (*openTree, error) {
	if t.Source == nil {
		return nil, errors.New("not given")
	}
	l, err := t.layout()
	if err != nil {
		return nil, err
	}
	if have := t.Source.Size(); have < l.End {
		return nil, &ShortError{Device: "tree", Want: l.End, Got: have}
	}
	o := &openTree{layout: l, src: t.Source, root: t.RootHash}
	if o.root == nil {
		if o.root, err = o.ownRoot(); err != nil {
			return nil, err
		}
	}
	if len(o.root) != l.DigestSize {
		return nil, fmt.Errorf("root hash: %d bytes, want %d for %s", len(o.root), l.DigestSize, l.Hash)
	}
	return o, nil
}

func (t Tree) layout() (*layout, error) {
	if t.Params != nil {
		p := *t.Params
		p.NoSuperblock = true
		return newLayout(p, t.DataSize)
	}
	sb, err := readSuperblock(t.Source, t.HashOffset)
	if err != nil {
		return nil, err
	}
	return newLayout(sb.Params(t.HashOffset), sb.DataSize())
}

// ownRoot returns the root hash of the tree as it is stored.
func (t *openTree) ownRoot() ([]byte, error) {
	if t.Top() == 0 {
		return nil, errors.New("an image of one data block has no tree, so its root hash must be given")
	}
	block := make([]byte, t.HashBlockSize)
	if err := hashtree.ReadFull(t.src, block, t.Offset(t.Top(), 0), "tree"); err != nil {
		return nil, err
	}
	return bytes.Clone(t.NewHasher().Sum(block)), nil
}

// comparable returns an error if digests of this tree mean other blocks than those
// of the new tree.
func (t *openTree) comparable(name string, to *openTree) error {
	for _, c := range []struct{ field, got, want string }{
		{"hash", t.Hash, to.Hash},
		{"hash format", t.format(), to.format()},
		{"salt", saltText(t.Salt), saltText(to.Salt)},
		{"data block size", fmt.Sprint(t.DataBlockSize), fmt.Sprint(to.DataBlockSize)},
		{"hash block size", fmt.Sprint(t.HashBlockSize), fmt.Sprint(to.HashBlockSize)},
	} {
		if c.got != c.want {
			return &IncompatibleError{Field: c.field, Tree: name, Want: c.want, Got: c.got}
		}
	}
	return nil
}

func (t *openTree) format() string {
	if t.ChromeOS {
		return "0"
	}
	return "1"
}

func saltText(salt []byte) string {
	if len(salt) == 0 {
		return "none"
	}
	return fmt.Sprintf("%x", salt)
}

// walker returns what reads the digests of the data blocks of a tree in order, and checks every
// hash block on the way from the root hash.
func (t *openTree) walker() *hashtree.Walker {
	return &hashtree.Walker{
		Layout: t.Layout, Hasher: t.NewHasher(), Root: t.root, Read: t.readBlock,
		Mismatch: func(h *hashtree.Held, want []byte) error { return fmt.Errorf("%s: %w", t.name, t.blockError(h, want)) },
		Spare:    func(h *hashtree.Held, at int) error { return fmt.Errorf("%s: %w", t.name, t.heldSpare(h, at)) },
	}
}

// again returns a walker over a tree all of which was checked before.
func (t *openTree) again() *hashtree.Walker {
	return &hashtree.Walker{Layout: t.Layout, Root: t.root, Read: t.readBlock, Trusted: true}
}

func (t *openTree) readBlock(b []byte, level int, number int64) error {
	return hashtree.ReadFull(t.src, b, t.Offset(level, number), t.name)
}
