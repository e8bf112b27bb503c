package hashtree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A built tree is one over numbered data blocks, made level by level, with blocks of 512 bytes.
type built struct {
	*Layout
	root    []byte
	data    []byte
	device  []byte
	digests [][]byte // of the data blocks
	reads   int      // hash blocks read
}

var testParams = Params{Hash: "sha256", Salt: []byte("salt"), DataBlockSize: 512, HashBlockSize: 512}

func build(t *testing.T, p Params, blocks int64) *built {
	t.Helper()
	l, err := New(p, blocks, 1024)
	require.NoError(t, err)
	b := &built{Layout: l, data: make([]byte, blocks*512), device: make([]byte, l.End)}
	for i := range blocks {
		binary.LittleEndian.PutUint32(b.data[i*512:], uint32(i))
	}
	h := l.NewHasher()
	slots := h.AppendData(nil, b.data)
	for i := range blocks {
		b.digests = append(b.digests, bytes.Clone(l.Digest(slots, int(i))))
	}
	for level := 1; level <= l.Top(); level++ {
		content := l.AppendBlocks(nil, slots)
		require.Len(t, content, int(l.Blocks[level])*512)
		copy(b.device[l.Offset(level, 0):], content)
		slots = h.AppendTree(nil, content)
	}
	b.root = bytes.Clone(l.Digest(slots, 0))
	return b
}

func (b *built) walker() *Walker {
	return &Walker{
		Layout: b.Layout, Hasher: b.NewHasher(), Root: b.root,
		Read: func(p []byte, level int, number int64) error {
			b.reads++
			return ReadFull(bytes.NewReader(b.device), p, b.Offset(level, number), "tree")
		},
		Mismatch: func(h *Held, want []byte) error { return errDamaged },
	}
}

var errDamaged = errors.New("damaged")

func TestWalker(t *testing.T) {
	b := build(t, testParams, 16*16*3+5)
	require.Equal(t, 3, b.Top())
	w := b.walker()
	for i, want := range b.digests {
		got, err := w.Want(0, int64(i))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.Equal(t, len(b.device[1024:])/512, b.reads, "each block once, in order")

	// Format 1: H(salt ‖ block), as the kernel's documentation has it.
	sum := sha256.Sum256(append([]byte("salt"), b.data[512:1024]...))
	require.Equal(t, sum[:], b.digests[1])

	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		i := r.IntN(len(b.digests))
		got, err := w.Want(0, int64(i))
		require.NoError(t, err)
		require.Equal(t, b.digests[i], got)
	}

	// Damage is found on every level, and only where it is.
	for level := 1; level <= b.Top(); level++ {
		block := r.Int64N(b.Blocks[level])
		at := b.Offset(level, block)
		b.device[at] ^= 1
		first := block
		for range level {
			first *= b.PerBlock
		}
		w := b.walker()
		_, err := w.Want(0, first)
		require.ErrorIs(t, err, errDamaged)
		_, err = w.Want(0, first) // again: what failed is not kept
		require.ErrorIs(t, err, errDamaged)
		b.device[at] ^= 1
		got, err := w.Want(0, first)
		require.NoError(t, err)
		require.Equal(t, b.digests[first], got)
	}
}

// A mismatch may be repaired by the visitor.
func TestWalkerGoesOn(t *testing.T) {
	b := build(t, testParams, 16*3)
	good := bytes.Clone(b.device[b.Offset(1, 1):][:512])
	b.device[b.Offset(1, 1)] ^= 1
	w := b.walker()
	w.Mismatch = func(h *Held, want []byte) error {
		require.Equal(t, []int64{1, 1}, []int64{int64(h.Level), h.Number})
		require.Equal(t, want, b.Digest(b.NewHasher().AppendTree(nil, good), 0))
		require.NotEqual(t, want, h.Got)
		copy(h.Content, good)
		return nil
	}
	got, err := w.Want(0, 17)
	require.NoError(t, err)
	require.Equal(t, b.digests[17], got)
}

func TestWalkerPut(t *testing.T) {
	b := build(t, testParams, 16*16*2)
	w := b.walker()
	for leaf := range b.Blocks[1] {
		content := b.device[b.Offset(1, leaf):][:512]
		h, err := w.Put(1, leaf, content, w.Hasher.Sum(content))
		require.NoError(t, err)
		require.Equal(t, content, h.Content)
		got, err := w.Want(0, leaf*16+3)
		require.NoError(t, err)
		require.Equal(t, b.digests[leaf*16+3], got)
	}
	require.Equal(t, int(b.Blocks[2]+b.Blocks[3]), b.reads, "those of level 1 were given")
	_, err := w.Put(1, 5, make([]byte, 512), w.Hasher.Sum(make([]byte, 512)))
	require.ErrorIs(t, err, errDamaged)
}

// A trusted tree is neither hashed nor traced: one read for each digest, whatever the order.
func TestWalkerTrusted(t *testing.T) {
	b := build(t, testParams, 16*16*3)
	w := &Walker{Layout: b.Layout, Root: b.root, Read: b.walker().Read, Trusted: true}
	for i := len(b.digests) - 1; i >= 0; i-- {
		got, err := w.Want(0, int64(i))
		require.NoError(t, err)
		require.Equal(t, b.digests[i], got)
	}
	require.Equal(t, int(b.Blocks[1]), b.reads)
	got, err := w.Want(b.Top(), 0)
	require.NoError(t, err)
	require.Equal(t, b.root, got)
}

func TestCache(t *testing.T) {
	b := build(t, testParams, 16*16*3)
	cache := NewCache(0)
	require.Equal(t, 1, cache.max)
	cache = NewCache(7)
	var group sync.WaitGroup
	for n := range uint64(4) {
		group.Go(func() {
			w := b.walker()
			w.Cache = cache
			w.Read = func(p []byte, level int, number int64) error {
				return ReadFull(bytes.NewReader(b.device), p, b.Offset(level, number), "tree")
			}
			r := rand.New(rand.NewPCG(n, 1))
			for range 500 {
				i := r.IntN(len(b.digests))
				if got, err := w.Want(0, int64(i)); err != nil || !bytes.Equal(got, b.digests[i]) {
					t.Errorf("block %d: %x, %v", i, got, err)
				}
			}
		})
	}
	group.Wait()
	require.Equal(t, 7, cache.recent.Len())
	require.Len(t, cache.at, 7)

	// What one walker has verified, another does not read.
	cache = NewCache(1000)
	for range 2 {
		w := b.walker()
		w.Cache = cache
		for i := range b.digests {
			_, err := w.Want(0, int64(i))
			require.NoError(t, err)
		}
	}
	require.Equal(t, int(b.Blocks[1]+b.Blocks[2]+b.Blocks[3]), b.reads)
}

func TestLayout(t *testing.T) {
	for _, name := range []string{"sha1", "sha256", "sha384", "sha512"} {
		for _, format0 := range []bool{false, true} {
			b := build(t, Params{Hash: name, Format0: format0, DataBlockSize: 512, HashBlockSize: 512}, 100)
			w := b.walker()
			for i := range b.digests {
				got, err := w.Want(0, int64(i))
				require.NoError(t, err)
				require.Equal(t, b.digests[i], got)
			}
		}
	}
	one := build(t, testParams, 1)
	require.Zero(t, one.Top())
	require.Equal(t, int64(1024), one.End)
	require.Equal(t, one.root, one.digests[0])
	require.False(t, Known("md5"))
	_, err := New(testParams, 1<<50, math.MaxInt64)
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestReadFull(t *testing.T) {
	err := ReadFull(bytes.NewReader(make([]byte, 10)), make([]byte, 8), 5, "tree")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.EqualError(t, err, "tree: read 8 bytes at 0x5: got 5: unexpected EOF")
}
