package squashfs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// every has all compressions and sizes of blocks, and levels of which the superblock is followed by
// options.
var every = []Options{
	{}, {BlockSize: 4096}, {BlockSize: 1 << 20}, {Level: 3},
	{Compression: Gzip}, {Compression: Gzip, BlockSize: 4096, Level: 6}, {Compression: Gzip, BlockSize: 1 << 20},
	{Compression: None, BlockSize: 8192},
}

func init() {
	for i := range every {
		every[i].TreeOptions = osmith.TreeOptions{Time: latest}
	}
}

func (o Options) name() string { return fmt.Sprintf("%s-%d-%d", o.Compression, o.Level, o.BlockSize) }

func (o Options) block() int { return cmp.Or(o.BlockSize, blockSizeUsual) }

// go-diskfs, which shares no code with the writer, reads what was written.
func TestReadBack(t *testing.T) {
	for _, o := range every {
		t.Run(o.name(), func(t *testing.T) {
			tree := contentsTree(o.block())
			requireSame(t, describePlain(t, tree, o.TreeOptions), readBack(t, write(t, tree, o)))
		})
	}
	t.Run("kinds", func(t *testing.T) {
		requireSame(t, describePlain(t, kindsTree(), every[0].TreeOptions), readBack(t, write(t, kindsTree(), every[0])))
	})
	t.Run("empty", func(t *testing.T) {
		require.Empty(t, readBack(t, write(t, fstest.MapFS{}, Options{})))
	})
}

// The superblock says what the image has.
func TestSuperblock(t *testing.T) {
	tree := fstest.MapFS{"a": regular([]byte("a")), "b": {Data: []byte("b"), Mode: 0o600, Sys: &osmith.Node{UID: 5, GID: 6}}}
	var m memory
	size, err := Write(t.Context(), &m, tree, Options{TreeOptions: osmith.TreeOptions{Time: latest}, Compression: Gzip, BlockSize: 1 << 16})
	require.NoError(t, err)
	require.EqualValues(t, 4096, size)
	le := binary.LittleEndian
	require.Equal(t, "hsqs", string(m.b[:4]))
	require.EqualValues(t, 3, le.Uint32(m.b[4:]), "inodes")
	require.EqualValues(t, latest.Unix(), le.Uint32(m.b[8:]))
	require.EqualValues(t, 1<<16, le.Uint32(m.b[12:]))
	require.EqualValues(t, 1, le.Uint32(m.b[16:]), "fragments")
	require.EqualValues(t, 1, le.Uint16(m.b[20:]), "gzip")
	require.EqualValues(t, 16, le.Uint16(m.b[22:]))
	require.EqualValues(t, 0x2e0, le.Uint16(m.b[24:]))
	require.EqualValues(t, 3, le.Uint16(m.b[26:]), "owners")
	require.EqualValues(t, 4, le.Uint32(m.b[28:]), "version 4.0")
	used := le.Uint64(m.b[40:])
	require.EqualValues(t, ^uint64(0), le.Uint64(m.b[56:]), "no extended attributes")
	// The kernel refuses tables that do not follow one another without a gap: that of the owners is
	// the last, and has one position.
	require.Equal(t, used, le.Uint64(m.b[48:])+8)
	require.Equal(t, make([]byte, size-int64(used)), m.b[used:])
	// Before the last write there is no file system.
	require.Zero(t, m.writes[len(m.writes)-1])
	require.NotContains(t, m.writes[:len(m.writes)-1], int64(0))
	for _, c := range []struct {
		o    Options
		want []byte
	}{
		{Options{Compression: Gzip, Level: 1}, []byte{8, 0x80, 1, 0, 0, 0, 15, 0, 0, 0}},
		{Options{Compression: Zstd, Level: 22}, []byte{4, 0x80, 22, 0, 0, 0}},
	} {
		b := write(t, tree, c.o)
		require.NotZero(t, le.Uint16(b[24:])&flagOptions)
		require.Equal(t, c.want, b[superblockSize:][:len(c.want)])
	}
	require.EqualValues(t, 0xaeb, le.Uint16(write(t, tree, Options{Compression: None})[24:]))
}
