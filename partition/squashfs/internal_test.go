package squashfs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/filetree"
)

// What a block is compressed to does not depend on the blocks before it.
func TestEncodersForget(t *testing.T) {
	for _, c := range []Compression{Zstd, Gzip} {
		for level := 1; level <= compressions[c].limit; level++ {
			fresh := func(b []byte) []byte {
				e, err := c.newEncoder(level, 1<<16)
				require.NoError(t, err)
				out, err := e.encode(nil, b)
				require.NoError(t, err)
				return out
			}
			e, err := c.newEncoder(level, 1<<16)
			require.NoError(t, err)
			for i, b := range [][]byte{text(1, 1<<16), noise(1, 1<<16), text(2, 70), text(1, 1<<16), {1}, text(3, 5000)} {
				out, err := e.encode(nil, b)
				require.NoError(t, err)
				require.Equal(t, fresh(b), out, "%s, level %d, block %d", c, level, i)
			}
		}
	}
}

// The kernel has a window of one block, or of one metadata block if that is larger.
func TestZstdWindow(t *testing.T) {
	for _, blockSize := range []int{4096, 1 << 17, 1 << 20} {
		e, err := Zstd.newEncoder(15, blockSize)
		require.NoError(t, err)
		for _, n := range []int{100, 1025, metadataSize, blockSize} {
			b, err := e.encode(nil, text(1, n))
			require.NoError(t, err)
			require.Equal(t, []byte{0x28, 0xb5, 0x2f, 0xfd}, b[:4])
			descriptor := b[4]
			require.Zero(t, descriptor&0b111, "checksum or dictionary")
			if descriptor&0x20 != 0 {
				continue // a single segment: the window is the content
			}
			exponent, mantissa := b[5]>>3, b[5]&7
			window := 1 << (10 + exponent)
			window += window / 8 * int(mantissa)
			require.LessOrEqual(t, window, max(blockSize, metadataSize))
		}
	}
}

// A block that does not become smaller is stored as it is.
func TestShrink(t *testing.T) {
	for _, c := range []Compression{Zstd, Gzip, None} {
		e, err := c.newEncoder(compressions[c].level, 4096)
		require.NoError(t, err)
		b := noise(1, 4096)
		stored, compressed, err := shrink(e, nil, b)
		require.NoError(t, err)
		require.False(t, compressed)
		require.Equal(t, b, stored)
		stored, compressed, err = shrink(e, nil, text(1, 4096))
		require.NoError(t, err)
		require.Equal(t, c != None, compressed)
		require.Equal(t, c != None, len(stored) < 4096)
	}
}

// Memory is bounded by the number of workers.
func TestBlocksAreReused(t *testing.T) {
	var m memory
	o := Options{Compression: None, Workers: 3, BlockSize: 4096}
	encoders := make([]encoder, o.Workers)
	out := &output{bufio.NewWriter(io.NewOffsetWriter(&m, 0)), 0}
	b := newBlocks(out, o.BlockSize, encoders)
	defer b.close()
	seen := map[*block]bool{}
	placed := []int64{}
	for i := range 1000 {
		tk, err := b.take()
		require.NoError(t, err)
		seen[tk] = true
		tk.in[0] = byte(i)
		b.submit(tk, 1, func(start int64, size uint32) {
			placed = append(placed, start)
			require.EqualValues(t, 1|storedBlock, size)
		})
	}
	require.NoError(t, b.flush())
	require.NoError(t, out.w.Flush())
	require.Len(t, seen, 2*o.Workers+2)
	require.Len(t, placed, 1000)
	for i, at := range placed {
		require.EqualValues(t, i, at)
		require.Equal(t, byte(i), m.b[i])
	}
}

// What has more than 32 bits is in an extended inode.
func TestExtendedInodes(t *testing.T) {
	inode := func(n *node) []byte {
		b, err := n.inode(&owners{index: map[uint32]uint16{}}, 1, noXattrs)
		require.NoError(t, err)
		return b
	}
	le := binary.LittleEndian
	for _, c := range []struct {
		size    int64
		content content
		want    uint16
	}{
		{math.MaxUint32, content{start: math.MaxUint32}, inodeFile},
		{math.MaxUint32 + 1, content{start: 96}, inodeFile + extended},
		{1, content{start: math.MaxUint32 + 1}, inodeFile + extended},
		{4096, content{holes: 4096}, inodeFile + extended},
	} {
		c.content.blocks, c.content.fragment, c.content.offset = []uint32{7}, 3, 4
		b := inode(&node{File: filetree.File{Size: c.size}, content: &c.content})
		require.Equal(t, c.want, le.Uint16(b))
		if c.want == inodeFile {
			require.Len(t, b, 16+16+4)
			require.EqualValues(t, c.content.start, le.Uint32(b[16:]))
			require.EqualValues(t, c.size, le.Uint32(b[28:]))
			continue
		}
		require.Len(t, b, 16+40+4)
		require.EqualValues(t, c.content.start, le.Uint64(b[16:]))
		require.EqualValues(t, c.size, le.Uint64(b[24:]))
		require.EqualValues(t, c.content.holes, le.Uint64(b[32:]))
		require.EqualValues(t, 7, le.Uint32(b[56:]))
	}
	directory := func(size int64, index []indexEntry) []byte {
		return inode(&node{File: filetree.File{Mode: 1 << 31}, listing: listing{size: size, index: index}})
	}
	require.EqualValues(t, inodeDirectory, le.Uint16(directory(math.MaxUint16-dots, nil)))
	b := directory(math.MaxUint16-dots+1, nil)
	require.EqualValues(t, inodeDirectory+extended, le.Uint16(b))
	require.EqualValues(t, math.MaxUint16+1, le.Uint32(b[20:]))
	b = directory(10_000, []indexEntry{{9000, 5000, "name"}})
	require.EqualValues(t, inodeDirectory+extended, le.Uint16(b))
	require.EqualValues(t, 1, le.Uint16(b[32:]))
	require.Equal(t, append([]byte{0x28, 0x23, 0, 0, 0x88, 0x13, 0, 0, 3, 0, 0, 0}, "name"...), b[40:])
}

// The index of a directory leads to headers, each of them the first in its metadata block.
func TestDirectoryIndex(t *testing.T) {
	im := &image{ctx: t.Context(), exports: make([]byte, 1<<20), owners: owners{index: map[uint32]uint16{}}}
	require.NoError(t, im.directories.add(make([]byte, 5000)))
	d := &node{File: filetree.File{Name: ".", Mode: 1 << 31}}
	for i := range 3000 {
		d.children = append(d.children, &node{File: filetree.File{Name: fmt.Sprintf("name %04d", i), Mode: 1 << 25}, number: uint32(i + 2)})
	}
	require.NoError(t, im.writeInodes(d))
	require.NoError(t, im.directories.close())
	l := d.listing
	require.Equal(t, place{0, 5000}, l.place)
	require.Len(t, l.index, int(l.size+5000)/metadataSize)
	require.NotEmpty(t, l.index)
	plain := func(at int64) []byte { // nothing is compressed
		block, in := at/metadataSize, at%metadataSize
		return im.directories.stored[block*(metadataSize+2)+2+in:]
	}
	for i, e := range l.index {
		at := 5000 + int64(e.offset)
		require.EqualValues(t, (i+1)*(metadataSize+2), e.block)
		require.EqualValues(t, i+1, at/metadataSize, "in its block")
		b := plain(at)
		require.Less(t, binary.LittleEndian.Uint32(b), uint32(maxRun))
		require.Equal(t, e.name, string(b[headerSize+entrySize:][:len(e.name)]))
		require.Less(t, at%metadataSize, int64(300), "the first header of its block")
	}
}

// Limits of the format that no test can reach with files.
func TestLimits(t *testing.T) {
	require.NoError(t, checkTable(math.MaxUint32))
	require.EqualError(t, checkTable(math.MaxUint32+1), "names and attributes take 4294967296 bytes: want at most 4294967295: make two images")
	require.NoError(t, checkListing(maxListing))
	require.ErrorContains(t, checkListing(maxListing+1), "a directory whose names take 536862721 bytes or more: want at most 536862720")
	require.NoError(t, checkCount(math.MaxUint32-1))
	require.ErrorContains(t, checkCount(math.MaxUint32), "4294967295 files or more")
	o := owners{index: map[uint32]uint16{}}
	for i := range uint32(maxIDs) {
		index, err := o.of(i * 3)
		require.NoError(t, err)
		require.EqualValues(t, i, index)
	}
	index, err := o.of(3)
	require.NoError(t, err)
	require.EqualValues(t, 1, index)
	_, err = o.of(1)
	require.EqualError(t, err, "more than 65535 different users and groups: want fewer")
	n := &node{File: filetree.File{Name: "a"}}
	n.UID = 1
	_, err = n.inode(&o, 1, noXattrs)
	require.Error(t, err)
	n.UID, n.GID = 3, 1
	_, err = n.inode(&o, 1, noXattrs)
	require.Error(t, err)
}

// A table is stored in blocks of 8 KiB, whatever the records are.
func TestMetadata(t *testing.T) {
	var m metadata
	want := noise(1, 3*metadataSize+5)
	for i := 0; i < len(want); i += 1000 {
		p := m.place()
		require.EqualValues(t, i/metadataSize*(metadataSize+2), p.block)
		require.EqualValues(t, i%metadataSize, p.offset)
		require.NoError(t, m.add(want[i:min(i+1000, len(want))]))
	}
	require.NoError(t, m.close())
	require.NoError(t, m.close())
	var got []byte
	for b := m.stored; len(b) > 0; {
		size := binary.LittleEndian.Uint16(b)
		require.NotZero(t, size&storedMetadata)
		n := int(size &^ storedMetadata)
		got = append(got, b[2:2+n]...)
		b = b[2+n:]
	}
	require.True(t, bytes.Equal(want, got))
	require.Equal(t, []int64{0, metadataSize + 2, 2 * (metadataSize + 2), 3 * (metadataSize + 2)}, m.starts)
}
