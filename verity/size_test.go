package verity

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

func TestSizing(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		p := random(r).Params
		p.HashOffset = 0
		size := int64(p.DataBlockSize)
		slot := size*(1+r.Int64N(1<<r.IntN(30))) + r.Int64N(size)

		tree, err := MaxTreeSize(slot, p)
		require.NoError(t, err)
		want, err := TreeSize(slot/size*size, p)
		require.NoError(t, err)
		require.Equal(t, want, tree)

		if tree > 0 {
			data, err := MaxDataSize(tree, p)
			require.NoError(t, err)
			require.GreaterOrEqual(t, data, slot/size*size)
			fits(t, data, tree, p)
		}

		slot += 1 << 21
		data, offset, err := MaxSharedDataSize(slot, p)
		require.NoError(t, err)
		require.GreaterOrEqual(t, offset, data)
		shared := p
		shared.HashOffset = offset
		tree, err = TreeSize(data, shared)
		require.NoError(t, err)
		require.LessOrEqual(t, offset+tree, slot)
		shared.HashOffset, err = SharedHashOffset(data+size, p)
		require.NoError(t, err)
		tree, err = TreeSize(data+size, shared)
		require.NoError(t, err)
		require.Greater(t, shared.HashOffset+tree, slot)
	}
}

// fits checks that so much data, but not a block more, has a tree of so many bytes.
func fits(t *testing.T, data, tree int64, p Params) {
	n, err := TreeSize(data, p)
	require.NoError(t, err)
	require.LessOrEqual(t, n, tree)
	n, err = TreeSize(data+int64(p.DataBlockSize), p)
	require.NoError(t, err)
	require.Greater(t, n, tree)
}

func TestSizingErrors(t *testing.T) {
	_, err := MaxTreeSize(100, Params{})
	var alignment *AlignmentError
	assert.ErrorAs(t, err, &alignment)
	_, err = MaxDataSize(100, Params{})
	assert.EqualError(t, err, "verity: tree: 100 bytes: needs 4096")
	_, _, err = MaxSharedDataSize(4096, Params{})
	assert.EqualError(t, err, "verity: data: 4096 bytes: needs 8192")
	_, err = MaxDataSize(4096, Params{Hash: "md5"})
	assert.EqualError(t, err, `verity: hash: "md5": not supported: want sha1, sha256, sha384, sha512`)

	_, err = TreeSize(math.MaxInt64/4096*4096, Params{HashOffset: math.MaxInt64 / 4096 * 4096})
	assert.ErrorIs(t, err, hashtree.ErrTooLarge)
	_, err = SharedHashOffset(math.MaxInt64/4096*4096, Params{HashBlockSize: 8192})
	assert.ErrorIs(t, err, hashtree.ErrTooLarge)
	data, offset, err := MaxSharedDataSize(math.MaxInt64, Params{})
	require.NoError(t, err)
	assert.Equal(t, data, offset)
}

func TestParamsErrors(t *testing.T) {
	for text, p := range map[string]Params{
		"verity: data block size: 1000 bytes is not a power of two":                  {DataBlockSize: 1000},
		"verity: hash block size: 256 bytes, want 512 to 524288":                     {HashBlockSize: 256},
		"verity: hash offset: 100 is not a multiple of 512":                          {HashOffset: 100},
		"verity: hash offset: -512 is not a multiple of 512":                         {HashOffset: -512},
		"verity: hash offset: 512 is not a multiple of 4096":                         {HashOffset: 512, NoSuperblock: true},
		"verity: hash: \"SHA256\": not supported: want sha1, sha256, sha384, sha512": {Hash: "SHA256"},
	} {
		_, err := TreeSize(1<<20, p)
		assert.EqualError(t, err, text)
	}
	start, err := TreeStart(Params{HashOffset: 8192 + 512, HashBlockSize: 2048})
	require.NoError(t, err)
	assert.Equal(t, int64(10240), start)
}
