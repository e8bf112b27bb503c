package verity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFormatGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/format.json")
	require.NoError(t, err)
	var vectors []struct {
		Blocks     int64
		Format     int
		Root, Tree string
	}
	require.NoError(t, json.Unmarshal(text, &vectors))
	require.Len(t, vectors, 9)
	for _, v := range vectors {
		t.Run(fmt.Sprintf("%d-%d", v.Blocks, v.Format), func(t *testing.T) {
			data := numbered{v.Blocks}
			p := testParams
			p.ChromeOS = v.Format == 0
			tree, root := formatMemory(t, data, p)
			assert.Equal(t, v.Root, hex.EncodeToString(root))
			sum := sha256.Sum256(tree)
			assert.Equal(t, v.Tree, hex.EncodeToString(sum[:]))
			assert.NoError(t, Verify(context.Background(), data, tree, root))
		})
	}
}

func TestFormatErrors(t *testing.T) {
	ctx := context.Background()
	for size, text := range map[int64]string{
		0:    "verity: data: 0 bytes, want at least one block of 4096 bytes",
		5000: "verity: data: 5000 bytes, want a multiple of the block size 4096: drop 904 bytes or pad with 3192",
	} {
		_, err := Format(ctx, newMemory(0), newMemory(size), Params{})
		var alignment *AlignmentError
		require.ErrorAs(t, err, &alignment)
		assert.Equal(t, size, alignment.Size)
		assert.EqualError(t, err, text)
		_, err = TreeSize(size, Params{})
		assert.ErrorAs(t, err, &alignment)
	}

	_, err := Format(ctx, newMemory(1<<20), newMemory(4096), Params{Salt: make([]byte, 257)})
	assert.EqualError(t, err, "verity: salt: 257 bytes: at most 256 are allowed")

	_, err = Format(ctx, newMemory(4096), newMemory(2*4096), Params{})
	assert.ErrorIs(t, err, io.ErrShortWrite)

	_, err = Format(ctx, newMemory(1<<20), shrunk{newMemory(100 * 4096)}, Params{})
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.ErrorContains(t, err, "verity: data: read 262144 bytes at 0x40000")
}

// shrunk claims to have twice the bytes that it has.
type shrunk struct{ memory }

func (s shrunk) Size() int64 { return 2 * s.memory.Size() }

func TestFormatCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	tree := newMemory(1 << 22)
	data := &cancelling{numbered: numbered{100000}, cancel: cancel}
	root, err := Format(ctx, tree, data, Params{})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Nil(t, root)
	assert.Equal(t, byte(0xaa), tree[0], "superblock written by an unfinished Format")
}

type cancelling struct {
	numbered
	cancel func()
}

func (c *cancelling) ReadAt(b []byte, off int64) (int, error) {
	if off > 8<<20 {
		c.cancel()
	}
	return len(b), nil
}

// The error is that of the first block in order, whichever was met first.
func TestFormatFirstError(t *testing.T) {
	for range 20 {
		_, err := Format(context.Background(), newMemory(1<<22), failing{numbered{40 * jobBlocks}}, Params{})
		assert.EqualError(t, err, "verity: data: read 262144 bytes at 0x200000: got 0: bad sector at 0x200000")
	}
}

type failing struct{ numbered }

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off >= jobBlocks*blockSize {
		return 0, fmt.Errorf("bad sector at %#x", off)
	}
	return len(b), nil
}

func TestMismatchErrorIs(t *testing.T) {
	err := error(&MismatchError{TreeBlocks: 1})
	assert.True(t, errors.Is(err, ErrTree))
	assert.False(t, errors.Is(err, ErrData))
	assert.False(t, errors.Is(err, ErrRootHash))
	assert.False(t, errors.Is(err, io.EOF))
}
