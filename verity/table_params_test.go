package verity

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParamsTable(t *testing.T) {
	for _, tt := range []struct {
		p     Params
		start int64
	}{
		{Params{}, 1},
		{Params{HashBlockSize: 512}, 1},
		{Params{HashOffset: 1 << 20}, 257},
		{Params{HashOffset: 1<<20 + 512}, 257},
		{Params{HashOffset: 1 << 20, NoSuperblock: true}, 256},
		{Params{HashOffset: 1 << 20, HashBlockSize: 65536}, 17},
	} {
		table, err := tt.p.Table("/dev/a", "/dev/a", 300*4096, signedRoot)
		require.NoError(t, err)
		assert.Equal(t, tt.start, table.HashStart, "%+v", tt.p)
		assert.Equal(t, int64(300), table.DataBlocks)
	}
	table, err := Params{ChromeOS: true, Salt: []byte{1}}.Table("/dev/a", "/dev/b", 4096, signedRoot)
	require.NoError(t, err)
	assert.Equal(t, "0 /dev/a /dev/b 4096 4096 1 1 sha256 "+digest32+" 01", table.String())

	_, err = Params{}.Table("/dev/a", "/dev/b", 4095, signedRoot)
	require.Error(t, err)
	_, err = Params{}.Table("/dev/a", "/dev/b", 4096, signedRoot[1:])
	require.ErrorContains(t, err, "root digest: 31 bytes")
	_, err = Params{}.Table("", "/dev/b", 4096, signedRoot)
	require.ErrorContains(t, err, "data device: no name")
}
