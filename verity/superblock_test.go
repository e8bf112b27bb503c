package verity

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

func testSuperblock() *Superblock {
	return &Superblock{
		HashType: 1, UUID: testParams.UUID, Algorithm: "sha256",
		DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 300, Salt: testParams.Salt,
	}
}

func TestSuperblockRoundTrip(t *testing.T) {
	b, err := testSuperblock().AppendBinary(make([]byte, 64))
	require.NoError(t, err)
	require.Len(t, b, 64+SuperblockSize)
	sb, err := ReadSuperblock(bytes.NewReader(b), 64)
	require.NoError(t, err)
	assert.Equal(t, testSuperblock(), sb)
	assert.Equal(t, int64(300*4096), sb.DataSize())
}

func TestReadSuperblockStrict(t *testing.T) {
	good, err := testSuperblock().AppendBinary(nil)
	require.NoError(t, err)
	for _, test := range []struct {
		at      int
		put     string // hex
		message string
	}{
		{0, "00", "verity: superblock: signature at 0x1000: no verity superblock"},
		{8, "02", "verity: superblock: version at 0x1008: unknown version 2, want 1"},
		{12, "02", "verity: superblock: hash_type at 0x100c: unknown hash format 2, want 0 or 1"},
		{32, "00", "verity: superblock: algorithm at 0x1020: "},
		{32, "53", "verity: superblock: algorithm at 0x1020: \"Sha256\" is not the name of a hash"},
		{39, "61", "verity: superblock: algorithm at 0x1020: "},
		{63, "61", "verity: superblock: algorithm at 0x1020: "},
		{64, "00000000", "verity: superblock: data_block_size at 0x1040: 0 bytes, want 512 to 524288"},
		{64, "01100000", "verity: superblock: data_block_size at 0x1040: 4097 bytes is not a power of two"},
		{68, "ffffffff", "verity: superblock: hash_block_size at 0x1044: 4294967295 bytes, want 512 to 524288"},
		{72, "0000000000000000", "verity: superblock: data_blocks at 0x1048: 0 blocks, want at least one"},
		{72, "ffffffffffffffff", "verity: superblock: data_blocks at 0x1048: 18446744073709551615 blocks: a device cannot be that large"},
		{72, "0000000000000800", "verity: superblock: data_blocks at 0x1048: 2251799813685248 blocks of 4096 bytes: a device cannot be that large"},
		{80, "0101", "verity: superblock: salt_size at 0x1050: 257 bytes, at most 256 are allowed"},
		{80, "07", "verity: superblock: salt at 0x105f: byte 0x08 where zero is required"},
		{85, "01", "verity: superblock: _pad1 at 0x1055: byte 0x01 where zero is required"},
		{88 + 8, "01", "verity: superblock: salt at 0x1060: byte 0x01 where zero is required"},
		{511, "80", "verity: superblock: _pad2 at 0x11ff: byte 0x80 where zero is required"},
	} {
		b := append(make([]byte, 4096), good...)
		put, err := hex.DecodeString(test.put)
		require.NoError(t, err)
		copy(b[4096+test.at:], put)
		sb, err := ReadSuperblock(bytes.NewReader(b), 4096)
		assert.Nil(t, sb)
		assert.ErrorContains(t, err, test.message)
		var format *osmith.FormatError
		assert.ErrorAs(t, err, &format)
	}
}

func TestReadSuperblockShort(t *testing.T) {
	_, err := ReadSuperblock(bytes.NewReader(make([]byte, 100)), 0)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = ReadSuperblock(bytes.NewReader(nil), -1)
	assert.Error(t, err)
}

func TestAppendBinaryErrors(t *testing.T) {
	for name, change := range map[string]func(*Superblock){
		"hash_type":       func(sb *Superblock) { sb.HashType = 7 },
		"algorithm":       func(sb *Superblock) { sb.Algorithm = "SHA256" },
		"data_block_size": func(sb *Superblock) { sb.DataBlockSize = 1000 },
		"hash_block_size": func(sb *Superblock) { sb.HashBlockSize = 1 << 20 },
		"data_blocks":     func(sb *Superblock) { sb.DataBlocks = -1 },
		"salt_size":       func(sb *Superblock) { sb.Salt = make([]byte, 300) },
	} {
		sb := testSuperblock()
		change(sb)
		b, err := sb.AppendBinary(nil)
		assert.Nil(t, b)
		var format *osmith.FormatError
		require.True(t, errors.As(err, &format))
		assert.Equal(t, "superblock: "+name, format.Field)
	}
}

func FuzzReadSuperblock(f *testing.F) {
	good, err := testSuperblock().AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:100])
	f.Add(append(good, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		sb, err := ReadSuperblock(bytes.NewReader(b), 0)
		if (sb == nil) != (err != nil) {
			t.Fatalf("superblock %v with error %v", sb, err)
		}
		if err != nil {
			return
		}
		again, err := sb.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b[:SuperblockSize]) {
			t.Fatalf("encoded differently: %v", err)
		}
	})
}

// FuzzVerify opens small devices with any superblock: no panic, and memory and time
// bounded by the devices.
func FuzzVerify(f *testing.F) {
	good, err := testSuperblock().AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, []byte("tree"))
	data := make(memory, 300*blockSize)
	f.Fuzz(func(t *testing.T, superblock, rest []byte) {
		tree := make(memory, 64<<10)
		copy(tree[blockSize:], rest)
		copy(tree, superblock)
		for _, size := range []int{20, 32, 48, 64} { // of the four hashes
			im := Image{Data: data, Tree: tree, RootHash: make([]byte, size)}
			if err := im.Verify(context.Background()); err == nil {
				t.Fatal("a root hash of zeros fits")
			}
			if r, err := NewReader(im, ReaderOptions{}); err == nil {
				if n, err := r.ReadAt(make([]byte, 1), 0); n > 0 || err == nil {
					t.Fatal("a byte that no root hash vouches for")
				}
			}
		}
	})
}
