package verity

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// panicking is data of which nothing may be read.
type panicking int64

func (p panicking) Size() int64                       { return int64(p) }
func (p panicking) ReadAt([]byte, int64) (int, error) { panic("data was read") }

// A tree is checked without the data: every byte of it that is changed is found, on every level,
// but for the superblock's UUID.
func TestVerifyTree(t *testing.T) {
	for _, size := range []int64{4096, 2 * 4096, 128 * 4096, 129 * 4096, (128*128 + 1) * 4096} {
		data := bytes.Repeat([]byte("data"), int(size/4))
		treeSize, err := TreeSize(size, Params{})
		require.NoError(t, err)
		tree := newMemory(treeSize)
		root, err := Format(t.Context(), tree, bytes.NewReader(data), Params{})
		require.NoError(t, err)
		check := func(b []byte) error {
			return Image{Data: panicking(size), Tree: bytes.NewReader(b), RootHash: root}.VerifyTree(t.Context())
		}
		require.NoError(t, check(tree))
		if size == 4096 {
			continue // it has none
		}
		for at := 4096; at < len(tree); at += 1 + len(tree)/97 {
			wrong := bytes.Clone(tree)
			wrong[at] ^= 1
			err := check(wrong)
			var block *BlockError
			require.ErrorAs(t, err, &block, "byte %d of %d", at, len(tree))
			require.Positive(t, block.Level)
		}
		require.ErrorAs(t, check(tree[:len(tree)-1]), new(*ShortError))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, Image{Data: panicking(size), Tree: bytes.NewReader(tree), RootHash: root}.VerifyTree(ctx), context.Canceled)
	}
}
