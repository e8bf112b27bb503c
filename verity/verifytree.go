package verity

import (
	"context"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// VerifyTree checks the hash tree of an image against the root hash, from the top down, every hash
// block. Of the data it reads only the size. Data that is read later, through a [Reader], is then
// checked with a tree that is known to be intact. The errors are those of [NewReader]. An image of
// one data block has no tree, so only the superblock is checked.
func (im Image) VerifyTree(ctx context.Context) (err error) {
	defer prefix.Add("verity", &err)
	l, err := im.layout()
	if err != nil {
		return err
	}
	if l.Top() == 0 {
		return nil
	}
	w := hashtree.Walker{
		Layout: l.Layout, Hasher: l.NewHasher(), Root: im.RootHash,
		Read: func(b []byte, level int, number int64) error {
			return hashtree.ReadFull(im.Tree, b, l.Offset(level, number), "tree")
		},
		Mismatch: l.blockError, Spare: l.heldSpare,
	}
	for leaf := range l.Blocks[1] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := w.Hold(1, leaf); err != nil {
			return err
		}
	}
	return nil
}
