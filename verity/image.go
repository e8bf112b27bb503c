package verity

import (
	"context"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
)

// An Image is data with its hash tree, and the root hash that vouches for both.
type Image struct {
	// Data may be larger than the superblock says, as a partition usually is; what
	// lies behind is not looked at.
	Data osmith.Source

	// Tree is the hash device, which may be the same as Data. Bytes behind the tree
	// are not looked at.
	Tree osmith.Source

	// RootHash must come from a place that is trusted: all else follows from it.
	RootHash []byte

	// HashOffset is where the superblock is on the hash device, in bytes.
	HashOffset int64

	// UUID, if it is not zero, is what the superblock must have. The root hash does
	// not protect it.
	UUID [16]byte

	// Params are the parameters of an image that has no superblock, or nil to read
	// them from the superblock. Its HashOffset is used then, and all of Data belongs
	// to the image.
	Params *Params
}

// Verify checks a whole image: every data block and every hash block against the
// root hash, by the superblock at the start of the tree. It is short for
// Image.Verify.
func Verify(ctx context.Context, data, tree osmith.Source, root []byte) error {
	return Image{Data: data, Tree: tree, RootHash: root}.Verify(ctx)
}

// layout reads the superblock, if there is to be one, and checks it and the sizes of
// both devices.
func (im Image) layout() (*layout, error) {
	l, err := im.readLayout()
	if err != nil {
		return nil, err
	}
	if len(im.RootHash) != l.algorithm.size {
		return nil, fmt.Errorf("verity: root hash: %d bytes, want %d for %s", len(im.RootHash), l.algorithm.size, l.Hash)
	}
	if have := im.Data.Size(); have < l.dataSize() {
		return nil, &ShortError{Device: "data", Need: l.dataSize(), Have: have}
	}
	if have := im.Tree.Size(); have < l.end {
		return nil, &ShortError{Device: "tree", Need: l.end, Have: have}
	}
	return l, nil
}

func (im Image) readLayout() (*layout, error) {
	if im.Params != nil {
		p := *im.Params
		p.NoSuperblock = true
		return newLayout(p, im.Data.Size())
	}
	sb, err := ReadSuperblock(im.Tree, im.HashOffset)
	if err != nil {
		return nil, err
	}
	if im.UUID != ([16]byte{}) && im.UUID != sb.UUID {
		return nil, &FormatError{Offset: im.HashOffset + sbUUID, Field: fieldName(sbUUID),
			Err: fmt.Errorf("%x, want %x", sb.UUID, im.UUID)}
	}
	if _, ok := algorithmByName(sb.Algorithm); !ok {
		return nil, &FormatError{Offset: im.HashOffset + sbAlgorithm, Field: fieldName(sbAlgorithm),
			Err: fmt.Errorf("%s: %w: want %s", sb.Algorithm, ErrNotSupported, algorithmNames())}
	}
	l, err := newLayout(sb.Params(im.HashOffset), sb.DataSize())
	if errors.Is(err, errTooLarge) {
		return nil, &FormatError{Offset: im.HashOffset + sbDataBlocks, Field: fieldName(sbDataBlocks), Err: err}
	}
	return l, err
}
