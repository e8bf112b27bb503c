package verity

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// The geometry of a tree with default parameters.
const (
	blockSize  = 4096
	digestSize = 32
	perBlock   = blockSize / digestSize
	jobBlocks  = jobSize / blockSize
)

// memory is a device in memory. Unwritten bytes are 0xaa, so that a
// skipped write shows.
type memory []byte

func newMemory(size int64) memory { return bytes.Repeat([]byte{0xaa}, int(size)) }

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(b, off)
}

func (m memory) WriteAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], b), nil
}

// numbered is data whose block b holds the number b, 1024 times.
type numbered struct{ blocks int64 }

func (d numbered) Size() int64 { return d.blocks * blockSize }

func (d numbered) ReadAt(b []byte, off int64) (int, error) {
	n := int(min(int64(len(b)), d.Size()-off))
	var word [4]byte
	for i := range n {
		at := off + int64(i)
		if i == 0 || at%blockSize == 0 {
			binary.LittleEndian.PutUint32(word[:], uint32(at/blockSize))
		}
		b[i] = word[at%4]
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

var testParams = Params{
	Salt: []byte{1, 2, 3, 4, 5, 6, 7, 8},
	UUID: [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
}

// formatMemory returns the tree and root hash of the data.
func formatMemory(t testing.TB, data osmith.Source, p Params) (memory, []byte) {
	t.Helper()
	size, err := TreeSize(data.Size(), p)
	require.NoError(t, err)
	tree := newMemory(size)
	root, err := Format(context.Background(), tree, data, p)
	require.NoError(t, err)
	return tree, root
}

// numberedMemory returns numbered data, its tree and root hash.
func numberedMemory(t testing.TB, blocks int64) (data, tree memory, root []byte) {
	t.Helper()
	data = newMemory(blocks * blockSize)
	_, err := numbered{blocks}.ReadAt(data, 0)
	require.NoError(t, err)
	tree, root = formatMemory(t, data, testParams)
	return data, tree, root
}
