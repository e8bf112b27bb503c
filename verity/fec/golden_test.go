package fec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGolden(t *testing.T) {
	b, err := os.ReadFile("testdata/encode.json")
	require.NoError(t, err)
	var vectors []struct {
		Blocks int
		Size   int64
		Parity string
	}
	require.NoError(t, json.Unmarshal(b, &vectors))
	require.NotEmpty(t, vectors)
	for _, v := range vectors {
		data := numbered(v.Blocks)
		tree, _ := format(t, data, testParams)
		parity := encode(t, data, tree[4096:], Params{Roots: 2})
		assert.Equal(t, v.Size, parity.Size(), "%d blocks", v.Blocks)
		sum := sha256.Sum256(parity)
		assert.Equal(t, v.Parity, hex.EncodeToString(sum[:]), "%d blocks", v.Blocks)
	}
}
