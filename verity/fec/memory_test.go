package fec

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity"
)

// device is a device in memory. Writes must lie in it.
type device []byte

// newDevice returns a device of unwritten bytes, which are 0xaa, so that a
// skipped write shows.
func newDevice(size int64) device { return bytes.Repeat([]byte{0xaa}, int(size)) }

func (d device) Size() int64 { return int64(len(d)) }

func (d device) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(d).ReadAt(b, off)
}

func (d device) WriteAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > int64(len(d)) {
		return 0, io.ErrShortWrite
	}
	return copy(d[off:], b), nil
}

// numbered is data whose block b holds the number b, 1024 times.
func numbered(blocks int) device {
	d := make(device, blocks*4096)
	for i := 0; i < len(d); i += 4 {
		binary.LittleEndian.PutUint32(d[i:], uint32(i/4096))
	}
	return d
}

func noise(r *rand.Rand, size int64) device {
	d := make(device, size)
	for i := range d {
		d[i] = byte(r.Uint32())
	}
	return d
}

var testParams = verity.Params{
	Salt: []byte{1, 2, 3, 4, 5, 6, 7, 8},
	UUID: [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
}

// format returns the hash device and the root hash of the data.
func format(t testing.TB, data osmith.Source, p verity.Params) (device, []byte) {
	t.Helper()
	size, err := verity.TreeSize(data.Size(), p)
	require.NoError(t, err)
	tree := newDevice(size)
	root, err := verity.Format(context.Background(), tree, data, p)
	require.NoError(t, err)
	return tree, root
}

// encode returns the parity.
func encode(t testing.TB, data, hash osmith.Source, p Params) device {
	t.Helper()
	var hashSize int64
	if hash != nil {
		hashSize = hash.Size()
	}
	size, err := Size(data.Size(), hashSize, p)
	require.NoError(t, err)
	parity := newDevice(size)
	require.NoError(t, Encode(context.Background(), parity, data, hash, p))
	return parity
}
