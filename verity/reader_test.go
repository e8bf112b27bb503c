package verity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every byte of a 1 MiB image, of its tree, its salt and its parameters matters:
// whichever is changed, reading the block that it is part of fails.
func TestReaderEveryByte(t *testing.T) {
	data, tree, root := numberedMemory(t, 256)
	open := func() *Reader {
		r, err := NewReader(Image{Data: data, Tree: tree, RootHash: root, UUID: testParams.UUID}, ReaderOptions{})
		require.NoError(t, err)
		return r
	}
	block := make([]byte, blockSize)

	r := open()
	_, err := r.ReadAt(make([]byte, len(data)), 0) // the cache has the tree
	require.NoError(t, err)
	everyData, everyTree := 1, 1
	if testing.Short() {
		everyData, everyTree = 17, 5 // odd, so that every place in a block is met
	}
	for at := 0; at < len(data); at += everyData {
		data[at] ^= byte(1 + at%255)
		n, err := r.ReadAt(block, int64(at)/blockSize*blockSize)
		data[at] ^= byte(1 + at%255)
		if n != 0 || !errors.Is(err, ErrData) {
			t.Fatalf("byte %d of the data: %d bytes, %v", at, n, err)
		}
	}

	// The superblock and its salt, the tree, and the padding of its blocks. What is
	// between superblock and tree has no meaning.
	for at := 0; at < len(tree); at += everyTree {
		if at >= SuperblockSize && at < blockSize {
			continue
		}
		tree[at] ^= byte(1 + at%255)
		r, err := NewReader(Image{Data: data, Tree: tree, RootHash: root, UUID: testParams.UUID}, ReaderOptions{})
		for b := range int64(256) {
			if err != nil {
				break
			}
			if b%perBlock == 0 { // one block for each hash block
				_, err = r.ReadAt(block, b*blockSize)
			}
		}
		tree[at] ^= byte(1 + at%255)
		if err == nil {
			t.Fatalf("byte %d of the tree", at)
		}
	}
	for i := range root {
		root[i] ^= 1
		_, err := NewReader(Image{Data: data, Tree: tree, RootHash: root}, ReaderOptions{})
		require.ErrorIs(t, err, ErrRootHash)
		root[i] ^= 1
	}
}

// Parameters that come without a superblock are protected by the root hash too.
func TestReaderEveryParameter(t *testing.T) {
	p := Params{Salt: []byte{1, 2, 3}, NoSuperblock: true}
	data, _, _ := numberedMemory(t, 256)
	tree, root := formatMemory(t, data, p)
	try := func(change func(im *Image, p *Params)) error {
		q := p
		im := Image{Data: data, Tree: append(tree, newMemory(1<<20)...), RootHash: root, Params: &q}
		change(&im, &q)
		r, err := NewReader(im, ReaderOptions{})
		if err == nil {
			_, err = r.ReadAt(make([]byte, 1), 0)
		}
		return err
	}
	require.NoError(t, try(func(*Image, *Params) {}))
	for name, change := range map[string]func(im *Image, p *Params){
		"salt":            func(_ *Image, p *Params) { p.Salt = []byte{1, 2, 4} },
		"salt size":       func(_ *Image, p *Params) { p.Salt = []byte{1, 2, 3, 0} },
		"hash":            func(_ *Image, p *Params) { p.Hash = "sha1" },
		"format":          func(_ *Image, p *Params) { p.ChromeOS = true },
		"data block size": func(_ *Image, p *Params) { p.DataBlockSize = 8192 },
		"hash block size": func(_ *Image, p *Params) { p.HashBlockSize = 2048 },
		"hash offset":     func(_ *Image, p *Params) { p.HashOffset = 4096 },
		"data size":       func(im *Image, _ *Params) { im.Data = data[:100*blockSize] },
	} {
		assert.Error(t, try(change), name)
	}
}

func TestReaderNeverReturnsDamage(t *testing.T) {
	data, tree, root := numberedMemory(t, 300)
	r, err := NewReader(Image{Data: data, Tree: tree, RootHash: root}, ReaderOptions{})
	require.NoError(t, err)
	data[100*blockSize+17] ^= 1
	got := newMemory(int64(len(data)))
	n, err := r.ReadAt(got, 0)
	require.Equal(t, 100*blockSize, n)
	require.Equal(t, []byte(data[:n]), []byte(got[:n]))
	require.Equal(t, []byte(newMemory(int64(len(got)-n))), []byte(got[n:]))
	var block *BlockError
	require.ErrorAs(t, err, &block)
	assert.Equal(t, 0, block.Level)
	assert.Equal(t, int64(100), block.Block)
	want := sha256.Sum256(append(bytes.Clone(testParams.Salt), bytes.Repeat([]byte{100, 0, 0, 0}, blockSize/4)...))
	assert.Equal(t, want[:], block.Want)
	assert.ErrorIs(t, err, ErrData)
	assert.NotErrorIs(t, err, ErrTree)
	assert.ErrorContains(t, err, "verity: data block 100: digest ")

	// A hash block that was read before it was damaged is still good; others are not.
	tree[len(tree)-1] ^= 1
	_, err = r.ReadAt(got[:1], 299*blockSize)
	require.ErrorIs(t, err, ErrTree)
	require.NotErrorIs(t, err, ErrRootHash)
	_, err = r.ReadAt(got[:1], 0)
	require.NoError(t, err)
}

func TestReaderEnds(t *testing.T) {
	data, tree, root := numberedMemory(t, 300)
	r, err := NewReader(Image{Data: append(data, 1, 2, 3), Tree: tree, RootHash: root}, ReaderOptions{})
	require.NoError(t, err)
	require.Equal(t, int64(300*blockSize), r.Size())
	n, err := r.ReadAt(make([]byte, 10), r.Size()-4)
	assert.Equal(t, 4, n)
	assert.Equal(t, io.EOF, err)
	n, err = r.ReadAt(make([]byte, 4), r.Size()-4)
	assert.Equal(t, 4, n)
	assert.NoError(t, err)
	_, err = r.ReadAt(make([]byte, 4), r.Size()+4)
	assert.Equal(t, io.EOF, err)
	_, err = r.ReadAt(nil, -1)
	assert.EqualError(t, err, "verity: data: read at -1: negative offset")
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[:r.Size()], got))
}

func TestReaderOneBlock(t *testing.T) {
	data, tree, root := numberedMemory(t, 1)
	r, err := NewReader(Image{Data: data, Tree: tree, RootHash: root}, ReaderOptions{})
	require.NoError(t, err)
	_, err = r.ReadAt(make([]byte, 1), 5)
	require.NoError(t, err)
	data[4095] ^= 1
	_, err = r.ReadAt(make([]byte, 1), 5)
	require.ErrorIs(t, err, ErrData)
	require.ErrorIs(t, err, ErrRootHash)
}

// counting counts what is read of a device.
type counting struct {
	memory
	bytes atomic.Int64
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	c.bytes.Add(int64(len(b)))
	return c.memory.ReadAt(b, off)
}

func TestReaderCache(t *testing.T) {
	data, memoryTree, root := numberedMemory(t, 3000)
	tree := &counting{memory: memoryTree}
	for _, size := range []int64{1, 8 * blockSize, 0} {
		r, err := NewReader(Image{Data: data, Tree: tree, RootHash: root}, ReaderOptions{CacheSize: size})
		require.NoError(t, err)
		tree.bytes.Store(0)
		for range 3 {
			_, err = r.ReadAt(make([]byte, len(data)), 0)
			require.NoError(t, err)
		}
		switch size {
		case 0:
			assert.Equal(t, int64(24*blockSize), tree.bytes.Load())
		case 1:
			assert.GreaterOrEqual(t, tree.bytes.Load(), int64(3*24*blockSize))
		}
	}
}

func TestReaderConcurrent(t *testing.T) {
	data, tree, root := numberedMemory(t, 2000)
	r, err := NewReader(Image{Data: data, Tree: tree, RootHash: root}, ReaderOptions{CacheSize: 5 * blockSize})
	require.NoError(t, err)
	var group sync.WaitGroup
	for worker := range uint64(8) {
		group.Go(func() {
			random := rand.New(rand.NewPCG(worker, 0))
			got := make([]byte, 20000)
			for range 200 {
				off := random.Int64N(int64(len(data) - len(got)))
				n := random.IntN(len(got))
				if _, err := r.ReadAt(got[:n], off); err != nil || !bytes.Equal(got[:n], data[off:off+int64(n)]) {
					t.Errorf("%d bytes at %d: %v", n, off, err)
				}
			}
		})
	}
	group.Wait()
}

// A source that shrinks while it is read is an error, with the place.
func TestShrinkingSources(t *testing.T) {
	ctx := context.Background()
	data, tree, root := numberedMemory(t, 1000)
	for _, im := range []Image{
		{Data: shrunk{data[:len(data)/2]}, Tree: tree, RootHash: root},
		{Data: data, Tree: shrunk{tree[:len(tree)/2]}, RootHash: root},
	} {
		err := im.Verify(ctx)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.ErrorContains(t, err, " at 0x")
		r, err := NewReader(im, ReaderOptions{})
		require.NoError(t, err)
		n, err := r.ReadAt(make([]byte, len(data)), 0)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Less(t, n, len(data))
	}
}

func TestExpectedUUID(t *testing.T) {
	data, tree, root := numberedMemory(t, 5)
	im := Image{Data: data, Tree: tree, RootHash: root, UUID: testParams.UUID}
	require.NoError(t, im.Verify(context.Background()))
	im.UUID[15] ^= 1
	err := im.Verify(context.Background())
	assert.EqualError(t, err, "verity: superblock: uuid at 0x10: 00112233445566778899aabbccddeeff, want 00112233445566778899aabbccddeefe")
}
