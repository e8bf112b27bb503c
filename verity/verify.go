package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// An Image is data with its hash tree, and the root hash that vouches for both.
type Image struct {
	// Data may be larger than the superblock says, as a partition usually is; bytes after that are
	// ignored.
	Data osmith.Source

	// Tree is the hash device, which may be the same as Data. Bytes after the tree are ignored.
	Tree osmith.Source

	// RootHash must come from a trusted place: everything else is verified by it.
	RootHash []byte

	// HashOffset is where the superblock is on the hash device, in bytes.
	HashOffset int64

	// UUID, if it is not zero, is the UUID that the superblock must have. The root hash does not
	// protect it.
	UUID [16]byte

	// Params are the parameters of an image that has no superblock, or nil to read
	// them from the superblock. Its HashOffset is used then, and all of Data belongs
	// to the image.
	Params *Params
}

// Verify checks a whole image: every data block and every hash block against the root hash, by the
// superblock at the start of the tree. It is a shorthand for Image.Verify.
func Verify(ctx context.Context, data, tree osmith.Source, root []byte) error {
	return Image{Data: data, Tree: tree, RootHash: root}.Verify(ctx)
}

// layout reads the superblock, if there is to be one, and checks it and the sizes of
// both devices.
func (im Image) layout() (*layout, error) {
	switch {
	case im.Data == nil:
		return nil, errNone("data")
	case im.Tree == nil:
		return nil, errNone("tree")
	}
	l, err := im.readLayout()
	if err != nil {
		return nil, err
	}
	if len(im.RootHash) != l.DigestSize {
		return nil, fmt.Errorf("root hash: %d bytes, want %d for %s", len(im.RootHash), l.DigestSize, l.Hash)
	}
	if have := im.Data.Size(); have < l.dataSize() {
		return nil, &ShortError{Device: "data", Want: l.dataSize(), Got: have}
	}
	if have := im.Tree.Size(); have < l.End {
		return nil, &ShortError{Device: "tree", Want: l.End, Got: have}
	}
	return l, nil
}

func (im Image) readLayout() (*layout, error) {
	if im.Params != nil {
		p := *im.Params
		p.NoSuperblock = true
		return newLayout(p, im.Data.Size())
	}
	sb, err := readSuperblock(im.Tree, im.HashOffset)
	if err != nil {
		return nil, err
	}
	if im.UUID != ([16]byte{}) && im.UUID != sb.UUID {
		return nil, superblockError(im.HashOffset, sbUUID, fmt.Errorf("%x, want %x", sb.UUID, im.UUID))
	}
	if !hashtree.Known(sb.Algorithm) {
		return nil, superblockError(im.HashOffset, sbAlgorithm, fmt.Errorf("%s: %w: want %s", sb.Algorithm, ErrNotSupported, hashtree.Names()))
	}
	l, err := newLayout(sb.Params(im.HashOffset), sb.DataSize())
	if errors.Is(err, hashtree.ErrTooLarge) {
		return nil, superblockError(im.HashOffset, sbDataBlocks, err)
	}
	return l, err
}

// Verify checks a whole image, in parallel: every data block and every hash block against the root
// hash. It returns nil only if all of them match the root hash.
//
// A *MismatchError says what is wrong and where. A *SpareError says that nothing is damaged, but
// that the tree has digests of more data than the superblock says, or other bytes that must be
// zero. If a device is too small, the error is a *ShortError; if the superblock is invalid, or its
// UUID differs from UUID, a *osmith.FormatError. The superblock is not protected by the root hash;
// only its block count, sizes and salt, which determine it, are.
func (im Image) Verify(ctx context.Context) (err error) {
	defer prefix.Add("verity", &err)
	l, err := im.layout()
	if err != nil {
		return err
	}
	v := &verifier{layout: l, data: &dataReader{layout: l, src: im.Data}, hashes: im.Tree, root: im.RootHash}
	if l.Top() == 0 {
		return v.single(ctx)
	}
	return v.image(ctx)
}

type verifier struct {
	*layout
	data   *dataReader
	hashes osmith.Source
	root   []byte
}

// single verifies an image of one data block. There is no tree that could tell a
// damaged block from a wrong root hash.
func (v *verifier) single(ctx context.Context) error {
	got, err := build(ctx, nil, v.data.src, v.layout)
	if err != nil {
		return err
	}
	if bytes.Equal(got, v.root) {
		return nil
	}
	return &MismatchError{Want: v.root, Got: got, root: true}
}

// image verifies an image that has a tree.
func (v *verifier) image(ctx context.Context) error {
	p := v.newPath(ctx, v.NewHasher())
	top, err := p.walker.Hold(v.Top(), 0)
	if err != nil {
		return err
	}
	found := &findings{levels: make([]ranges, len(v.Blocks))}
	err = inOrder(ctx, v.jobs(), func() func(int64, *findings) error {
		return v.newWorker(ctx)
	}, func(_ int64, out *findings) error {
		found.merge(out)
		return nil
	})
	if err != nil {
		return err
	}
	e := found.mismatch(v.root, top.Got)
	if p.state(v.Top(), 0) == doubtful {
		// The top block neither has the root hash nor can be inferred. Either the
		// root hash is another image's, or more than the top block is damaged.
		if e.TreeBlocks == 1 && e.DataBlocks == 0 {
			e.TreeBlocks, e.Ranges, e.root = 0, nil, true
			return e
		}
		rebuilt, err := build(ctx, nil, v.data.src, v.layout)
		if err != nil {
			return err
		}
		if !bytes.Equal(rebuilt, v.root) {
			e.root = true
			return e
		}
		found.levels[0] = ranges{} // the data is intact after all
		e = found.mismatch(v.root, top.Got)
	}
	switch {
	case e.TreeBlocks > 0 || e.DataBlocks > 0:
		return e
	case found.spare != nil:
		return found.spare
	}
	return nil
}

// newWorker returns the function of one goroutine. It checks the data blocks of a
// job, and every hash block whose first data block is among them.
func (v *verifier) newWorker(ctx context.Context) func(int64, *findings) error {
	hash, buf := v.NewHasher(), v.newBuffer()
	path := v.newPath(ctx, hash)
	var slots, leaves, leafSlots []byte
	return func(job int64, out *findings) error {
		out.reset(len(v.Blocks))
		var err error
		if slots, err = v.data.appendSlots(ctx, slots[:0], job, hash, buf); err != nil {
			return err
		}
		first := job * v.jobBlocks()
		leaf := first / v.PerBlock
		if v.wide() {
			block, err := path.walker.Hold(1, leaf)
			if err != nil {
				return err
			}
			path.report(first, out)
			v.compare(block.Content[int(first%v.PerBlock)*v.Slot:], slots, first, &out.levels[0])
			return nil
		}
		n := (len(slots)/v.Slot-1)/int(v.PerBlock) + 1
		leaves = hashtree.AppendZeros(leaves[:0], n*v.HashBlockSize)
		if err := hashtree.ReadFull(v.hashes, leaves, v.Offset(1, leaf), "tree"); err != nil {
			return err
		}
		leafSlots = hash.AppendTree(leafSlots[:0], leaves)
		rest := slots
		for i := range n {
			under := rest[:min(len(rest), int(v.PerBlock)*v.Slot)]
			rest = rest[len(under):]
			path.under = under
			block, err := path.walker.Put(1, leaf, leaves[i*v.HashBlockSize:][:v.HashBlockSize], v.Digest(leafSlots, i))
			path.under = nil
			if err != nil {
				return err
			}
			path.report(first, out)
			v.compare(block.Content, under, first, &out.levels[0])
			first += v.PerBlock
			leaf++
		}
		return nil
	}
}

// compare adds the blocks whose digest is not the one their hash block has.
func (v *verifier) compare(block, slots []byte, first int64, to *ranges) {
	if bytes.Equal(block[:len(slots)], slots) {
		return
	}
	for i := range len(slots) / v.Slot {
		if !bytes.Equal(v.Digest(block, i), v.Digest(slots, i)) {
			to.add(first+int64(i), 1)
		}
	}
}
