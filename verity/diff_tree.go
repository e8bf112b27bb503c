package verity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/osmith-dev/osmith"
)

// A Tree is a hash tree to compare with another, and what it must be.
type Tree struct {
	// Source is the hash device. Bytes behind the tree are not looked at.
	Source osmith.Source

	// RootHash is what the tree must have. Without it, a tree is only checked against
	// itself, and says nothing about the image that it is believed to describe.
	RootHash []byte

	// HashOffset is where the superblock is on the hash device, in bytes.
	HashOffset int64

	// Params are the parameters of a tree that has no superblock, or nil to read them
	// from the superblock. Its HashOffset is used then, and DataSize must be the bytes
	// that the tree covers.
	Params   *Params
	DataSize int64
}

// An IncompatibleError says in what two trees differ that must be the same for their
// digests to be comparable.
type IncompatibleError struct {
	Field string // "hash", "hash format", "salt", "data block size" or "hash block size"
	Tree  string // which tree is compared with the new one: "old" or "target"
	Have  string // what that tree has
	Want  string // what the new tree has
}

func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("verity: diff: %s: the %s tree has %s, the new tree has %s: digests can be compared only under the same parameters",
		e.Field, e.Tree, e.Have, e.Want)
}

// A sideError is an error of this package about one of several trees or sources.
type sideError struct {
	side string // such as "old tree"
	err  error
}

func (e *sideError) Error() string {
	return "verity: " + e.side + ": " + strings.TrimPrefix(e.err.Error(), "verity: ")
}

func (e *sideError) Unwrap() error { return e.err }

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
		return nil, &sideError{name, err}
	}
	o.name = name
	return o, nil
}

func (t Tree) openUnnamed() (*openTree, error) {
	if t.Source == nil {
		return nil, errors.New("there is none")
	}
	l, err := t.layout()
	if err != nil {
		return nil, err
	}
	if have := t.Source.Size(); have < l.end {
		return nil, &ShortError{Device: "tree", Need: l.end, Have: have}
	}
	o := &openTree{layout: l, src: t.Source, root: t.RootHash}
	if o.root == nil {
		if o.root, err = o.ownRoot(); err != nil {
			return nil, err
		}
	}
	if len(o.root) != l.algorithm.size {
		return nil, fmt.Errorf("root hash: %d bytes, want %d for %s", len(o.root), l.algorithm.size, l.Hash)
	}
	return o, nil
}

func (t Tree) layout() (*layout, error) {
	if t.Params != nil {
		p := *t.Params
		p.NoSuperblock = true
		return newLayout(p, t.DataSize)
	}
	sb, err := ReadSuperblock(t.Source, t.HashOffset)
	if err != nil {
		return nil, err
	}
	return newLayout(sb.Params(t.HashOffset), sb.DataSize())
}

// ownRoot returns the root hash of the tree as it is stored.
func (t *openTree) ownRoot() ([]byte, error) {
	if t.top() == 0 {
		return nil, errors.New("one data block has no tree, and its digest, the root hash, is not given")
	}
	block := make([]byte, t.HashBlockSize)
	if err := readFull(t.src, block, t.offset(t.top(), 0), "tree"); err != nil {
		return nil, err
	}
	return t.digest(newHasher(t.layout).appendTree(nil, block), 0), nil
}

// comparable returns an error if digests of this tree mean other blocks than those
// of the new tree.
func (t *openTree) comparable(name string, to *openTree) error {
	for _, c := range []struct{ field, have, want string }{
		{"hash", t.Hash, to.Hash},
		{"hash format", t.format(), to.format()},
		{"salt", saltText(t.Salt), saltText(to.Salt)},
		{"data block size", fmt.Sprint(t.DataBlockSize), fmt.Sprint(to.DataBlockSize)},
		{"hash block size", fmt.Sprint(t.HashBlockSize), fmt.Sprint(to.HashBlockSize)},
	} {
		if c.have != c.want {
			return &IncompatibleError{Field: c.field, Tree: name, Have: c.have, Want: c.want}
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

// A digestReader reads the digests of data blocks, and checks every hash block on the
// way from the root hash. It keeps one block of each level, so reading in order reads
// and checks each block once.
type digestReader struct {
	*openTree
	hash   *hasher
	levels []hashBlock // by level; the first is unused
	slot   []byte      // of the block that was read last
}

type hashBlock struct {
	number  int64 // which block of its level this is; -1 for none
	content []byte
}

func (t *openTree) reader() *digestReader {
	r := &digestReader{openTree: t, hash: newHasher(t.layout), levels: make([]hashBlock, len(t.blocks))}
	for i := range r.levels {
		r.levels[i].number = -1
		if i > 0 {
			r.levels[i].content = make([]byte, t.HashBlockSize)
		}
	}
	return r
}

// want returns the digest that a data block must have; it is valid up to the next call.
func (r *digestReader) want(block int64) ([]byte, error) {
	return r.at(0, block)
}

// at returns what the digest of a block must be.
func (r *digestReader) at(level int, block int64) ([]byte, error) {
	if level == r.top() {
		return r.root, nil
	}
	number := block / r.perBlock
	over := &r.levels[level+1]
	if over.number != number {
		want, err := r.at(level+1, number)
		if err != nil {
			return nil, err
		}
		if err := r.load(over, level+1, number, want); err != nil {
			return nil, err
		}
	}
	return r.digest(over.content, int(block%r.perBlock)), nil
}

// again is want for a tree all of which was checked before. It reads one hash block and
// checks nothing, so reading out of order costs no more than reading.
func (r *digestReader) again(block int64) ([]byte, error) {
	if r.top() == 0 {
		return r.root, nil
	}
	leaf := &r.levels[1]
	if number := block / r.perBlock; leaf.number != number {
		leaf.number = -1
		if err := readFull(r.src, leaf.content, r.offset(1, number), r.name); err != nil {
			return nil, err
		}
		leaf.number = number
	}
	return r.digest(leaf.content, int(block%r.perBlock)), nil
}

// load reads and checks a hash block.
func (r *digestReader) load(to *hashBlock, level int, number int64, want []byte) error {
	to.number = -1
	if err := readFull(r.src, to.content, r.offset(level, number), r.name); err != nil {
		return err
	}
	r.slot = r.hash.appendTree(r.slot[:0], to.content)
	if got := r.digest(r.slot, 0); !bytes.Equal(got, want) {
		return &sideError{r.name, &BlockError{
			Level: level, Block: number, Want: bytes.Clone(want), Got: bytes.Clone(got), top: level == r.top(),
		}}
	}
	to.number = number
	return nil
}
