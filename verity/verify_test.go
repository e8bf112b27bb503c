package verity

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVerifyDamage(t *testing.T) {
	const blocks = 3*perBlock*perBlock/2 + 7 // three levels
	data, tree, root := numberedMemory(t, blocks)
	layout, err := newLayout(Params{}, blocks*blockSize)
	require.NoError(t, err)
	require.Equal(t, 3, layout.Top())
	flip := func(m memory, off int64) { m[off] ^= 0x10 }
	hash := func(level int, block, at int64) int64 { return layout.Offset(level, block) + at }
	last := layout.Blocks[1] - 1

	for name, test := range map[string]struct {
		damage  func(data, tree memory, root []byte)
		ranges  []Range
		is      []error
		message string
	}{
		"data": {
			damage: func(d, _ memory, _ []byte) {
				flip(d, 5*blockSize+7)
				flip(d, 6*blockSize)
				flip(d, (blocks-1)*blockSize)
			},
			ranges:  []Range{{0, 5, 2}, {0, blocks - 1, 1}},
			is:      []error{ErrData},
			message: "verity: image: data is damaged: 3 blocks: data blocks 5-6, data block 24582",
		},
		"data over a job's end": {
			damage: func(d, _ memory, _ []byte) {
				flip(d, (jobBlocks-1)*blockSize)
				flip(d, jobBlocks*blockSize)
			},
			ranges: []Range{{0, jobBlocks - 1, 2}},
			is:     []error{ErrData},
		},
		"level 1": {
			damage: func(_, tr memory, _ []byte) { flip(tr, hash(1, 130, 64)) },
			ranges: []Range{{1, 130, 1}},
			is:     []error{ErrTree},
		},
		"padding of level 1": {
			damage: func(_, tr memory, _ []byte) { flip(tr, hash(1, last, blockSize-1)) },
			ranges: []Range{{1, last, 1}},
			is:     []error{ErrTree},
		},
		"level 2": {
			damage: func(_, tr memory, _ []byte) { flip(tr, hash(2, 1, 100)) },
			ranges: []Range{{2, 1, 1}},
			is:     []error{ErrTree},
		},
		"top": {
			damage: func(_, tr memory, _ []byte) { flip(tr, hash(3, 0, 32)) },
			ranges: []Range{{3, 0, 1}},
			is:     []error{ErrTree},
		},
		"padding of top": {
			damage: func(_, tr memory, _ []byte) { flip(tr, hash(3, 0, 4000)) },
			ranges: []Range{{3, 0, 1}},
			is:     []error{ErrTree},
		},
		"tree and data apart": {
			damage: func(d, tr memory, _ []byte) {
				flip(tr, hash(1, 3, 0))
				flip(d, 20000*blockSize)
			},
			ranges:  []Range{{0, 20000, 1}, {1, 3, 1}},
			is:      []error{ErrTree, ErrData},
			message: "verity: image: hash tree is damaged: 1 of its blocks; data is damaged: 1 blocks: data block 20000, level 1 hash block 3",
		},
		"root hash": {
			damage: func(_, _ memory, r []byte) { r[31] ^= 1 },
			is:     []error{ErrRootHash},
		},
		"whole tree": {
			damage: func(_, tr memory, _ []byte) { clear(tr[blockSize:]) },
			ranges: []Range{{1, 0, layout.Blocks[1]}, {2, 0, 2}, {3, 0, 1}},
			is:     []error{ErrTree},
		},
		"top and data": {
			damage: func(d, tr memory, _ []byte) {
				flip(tr, hash(3, 0, 32))
				flip(tr, hash(2, 0, 32))
				flip(d, 9*blockSize)
			},
			is: []error{ErrRootHash, ErrTree, ErrData},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, tr, r := bytes.Clone(data), bytes.Clone(tree), bytes.Clone(root)
			test.damage(d, tr, r)
			err := Verify(context.Background(), memory(d), memory(tr), r)
			var mismatch *MismatchError
			require.ErrorAs(t, err, &mismatch)
			if test.ranges != nil {
				assert.Equal(t, test.ranges, mismatch.Ranges)
			}
			for _, finding := range []error{ErrRootHash, ErrTree, ErrData} {
				wanted := false
				for _, f := range test.is {
					wanted = wanted || f == finding
				}
				assert.Equal(t, wanted, mismatch.Is(finding), "%v: %v", finding, err)
			}
			if test.message != "" {
				assert.EqualError(t, err, test.message)
			}
		})
	}
}

func TestVerifyCapsTheList(t *testing.T) {
	data, tree, root := numberedMemory(t, 3000)
	for block := 0; block < 3000; block += 2 {
		data[block*blockSize] ^= 1
	}
	err := Verify(context.Background(), data, tree, root)
	var mismatch *MismatchError
	require.ErrorAs(t, err, &mismatch)
	assert.Equal(t, int64(1500), mismatch.DataBlocks)
	assert.Zero(t, mismatch.TreeBlocks)
	assert.Len(t, mismatch.Ranges, MaxRanges)
	assert.Equal(t, Range{0, 126, 1}, mismatch.Ranges[MaxRanges-1])
}

func TestVerifyLargerDevices(t *testing.T) {
	data, tree, root := numberedMemory(t, 300)
	data = append(data, 1, 2, 3)
	tree = append(tree, 4, 5, 6)
	assert.NoError(t, Verify(context.Background(), data, tree, root))
}

// Bytes all over the data and the tree matter, in every block of them.
func TestVerifyEveryBlock(t *testing.T) {
	data, tree, root := numberedMemory(t, 150)
	for off := 0; off < len(data); off += 2039 {
		data[off] ^= 1
		require.ErrorIs(t, Verify(context.Background(), data, tree, root), ErrData)
		data[off] ^= 1
	}
	for off := blockSize; off < len(tree); off += 61 {
		tree[off] ^= 1
		require.ErrorIs(t, Verify(context.Background(), data, tree, root), ErrTree)
		tree[off] ^= 1
	}
	require.NoError(t, Verify(context.Background(), data, tree, root))
}

func TestVerifyErrors(t *testing.T) {
	ctx := context.Background()
	data, tree, root := numberedMemory(t, 300)
	var short *ShortError

	err := Verify(ctx, data[:len(data)-1], tree, root)
	require.ErrorAs(t, err, &short)
	assert.Equal(t, ShortError{"data", 300 * 4096, 300*4096 - 1}, *short)

	err = Verify(ctx, data, tree[:len(tree)-1], root)
	require.ErrorAs(t, err, &short)
	assert.EqualError(t, err, "verity: tree: 20479 bytes: needs 20480")

	assert.EqualError(t, Verify(ctx, data, tree, root[:20]), "verity: root hash: 20 bytes, want 32 for sha256")
	assert.ErrorIs(t, Verify(ctx, data, memory(make([]byte, 8192)), root), ErrNoSuperblock)

	other := bytes.Clone(tree)
	copy(other[sbAlgorithm:], "blake2b")
	assert.ErrorIs(t, Verify(ctx, data, memory(other), root), ErrNotSupported)

	hostile := bytes.Clone(tree)
	// 2^51 - 1 blocks
	copy(hostile[sbDataBlocks:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x07, 0})
	err = Verify(ctx, data, memory(hostile), root)
	require.ErrorAs(t, err, &short)
	assert.Equal(t, "data", short.Device)

	salted := bytes.Clone(tree)
	salted[sbSalt] ^= 1
	assert.ErrorIs(t, Verify(ctx, data, memory(salted), root), ErrRootHash)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorIs(t, Verify(cancelled, data, tree, root), context.Canceled)
}

func TestVerifyOneBlock(t *testing.T) {
	data, tree, root := numberedMemory(t, 1)
	require.Len(t, tree, blockSize)
	require.NoError(t, Verify(context.Background(), data, tree, root))
	data[0] ^= 1
	require.ErrorIs(t, Verify(context.Background(), data, tree, root), ErrRootHash)
}
