package verity

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// reference makes a tree in the most direct way, and shares no code with the package.
// Levels are from the one over the data upwards; all parameters must be given.
func reference(data []byte, p Params) (levels [][]byte, root []byte) {
	return referenceWith(data, p, func(int, int64, []byte) {})
}

// referenceWith is reference for trees that are not as they should be: change is called with each
// hash block before it is hashed.
func referenceWith(data []byte, p Params, change func(level int, number int64, block []byte)) (levels [][]byte, root []byte) {
	h := map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}[p.Hash]()
	slot := 1
	for slot < h.Size() {
		slot *= 2
	}
	perBlock := p.HashBlockSize / slot
	if p.ChromeOS {
		slot = h.Size()
	}
	digests := func(blocks []byte, size int) (out [][]byte) {
		for ; len(blocks) > 0; blocks = blocks[size:] {
			h.Reset()
			if p.ChromeOS {
				h.Write(append(append([]byte{}, blocks[:size]...), p.Salt...))
			} else {
				h.Write(append(append([]byte{}, p.Salt...), blocks[:size]...))
			}
			out = append(out, append(h.Sum(nil), make([]byte, slot-h.Size())...))
		}
		return out
	}
	d := digests(data, p.DataBlockSize)
	for len(d) > 1 {
		var level []byte
		for ; len(d) > 0; d = d[min(len(d), perBlock):] {
			block := bytes.Join(d[:min(len(d), perBlock)], nil)
			block = append(block, make([]byte, p.HashBlockSize-len(block))...)
			change(len(levels)+1, int64(len(level)/p.HashBlockSize), block)
			level = append(level, block...)
		}
		levels = append(levels, level)
		d = digests(level, p.HashBlockSize)
	}
	return levels, d[0][:h.Size()]
}

// referenceDevice is the hash device from the hash offset on.
func referenceDevice(t testing.TB, data []byte, p Params) (device, root []byte) {
	levels, root := reference(data, p)
	return deviceOf(t, data, levels, p), root
}

// deviceOf is the hash device of these levels from the hash offset on.
func deviceOf(t testing.TB, data []byte, levels [][]byte, p Params) (device []byte) {
	if !p.NoSuperblock {
		sb, err := p.superblock(int64(len(data) / p.DataBlockSize)).AppendBinary(nil)
		require.NoError(t, err)
		device = append(sb, make([]byte, int(-(p.HashOffset+512)&int64(p.HashBlockSize-1)))...)
	}
	for i := len(levels) - 1; i >= 0; i-- {
		device = append(device, levels[i]...)
	}
	return device
}

// A case of a randomised test.
type randomCase struct {
	Params
	blocks int
	shared bool // one device for data and tree
}

// random chooses all parameters. A third of the cases uses the usual block sizes.
func random(r *rand.Rand) randomCase {
	c := randomCase{Params: Params{
		Hash:          []string{"sha1", "sha256", "sha384", "sha512"}[r.IntN(4)],
		ChromeOS:      r.IntN(3) == 0,
		DataBlockSize: 4096,
		HashBlockSize: 4096,
		NoSuperblock:  r.IntN(4) == 0,
		Salt:          make([]byte, []int{0, 1, 32, 63, 64, 65, 128, 256, r.IntN(257)}[r.IntN(9)]),
	}}
	if r.IntN(3) > 0 {
		c.DataBlockSize = 512 << r.IntN(8)
		c.HashBlockSize = 512 << r.IntN(8)
	}
	for i := range c.Salt {
		c.Salt[i] = byte(r.Uint32())
	}
	for i := range c.UUID {
		c.UUID[i] = byte(r.Uint32())
	}
	perBlock := c.HashBlockSize / 32
	most := max(1, (3<<20)/c.DataBlockSize)
	c.blocks = []int{1, 2, perBlock, perBlock + 1, perBlock * perBlock, 1 + r.IntN(most), 1 + r.IntN(most)}[r.IntN(7)]
	c.blocks = min(c.blocks, most)
	switch r.IntN(4) {
	case 0:
		c.shared = true
		c.HashOffset, _ = SharedHashOffset(int64(c.blocks*c.DataBlockSize), c.Params)
		c.HashOffset += int64(r.IntN(3) * c.HashBlockSize)
	case 1:
		c.HashOffset = int64(r.IntN(5) * 512)
		if c.NoSuperblock {
			c.HashOffset = int64(r.IntN(3) * c.HashBlockSize)
		}
	}
	return c
}

// data makes data with blocks of zeros and blocks that are nearly so.
func (c randomCase) data(r *rand.Rand) memory {
	data := make(memory, c.blocks*c.DataBlockSize)
	for b := range c.blocks {
		block := data[b*c.DataBlockSize:][:c.DataBlockSize]
		switch r.IntN(4) {
		case 0:
		case 1:
			block[r.IntN(len(block))] = byte(r.Uint32())
		default:
			for i := 0; i < len(block); i += 1 + r.IntN(64) {
				block[i] = byte(r.Uint32())
			}
		}
	}
	return data
}

func (c randomCase) String() string {
	return fmt.Sprintf("%d blocks, %s, format 0 %t, %d/%d, salt %x, offset %d, no superblock %t, shared %t", c.blocks, c.Hash,
		c.ChromeOS, c.DataBlockSize, c.HashBlockSize, c.Salt, c.HashOffset, c.NoSuperblock, c.shared)
}

// image is a formatted case.
func (c randomCase) image(t testing.TB, data memory) (device memory, root []byte) {
	size, err := TreeSize(data.Size(), c.Params)
	require.NoError(t, err, c)
	device = newMemory(c.HashOffset + size)
	if c.shared {
		clear(device[copy(device, data):c.HashOffset])
	}
	root, err = Format(context.Background(), device, data, c.Params)
	require.NoError(t, err, c)
	return device, root
}

// open returns the image for reading.
func (c randomCase) open(data, device memory, root []byte) Image {
	im := Image{Data: data, Tree: device, RootHash: root, HashOffset: c.HashOffset}
	if c.NoSuperblock {
		im.Params = &c.Params
	}
	if c.shared && !c.NoSuperblock {
		im.Data = device
	}
	return im
}

// against compares Format, Writer, Verify and Reader with the reference.
func against(t testing.TB, r *rand.Rand, c randomCase) {
	ctx := context.Background()
	data := c.data(r)
	want, wantRoot := referenceDevice(t, data, c.Params)
	device, root := c.image(t, data)
	require.Equal(t, wantRoot, root, c)
	require.True(t, bytes.Equal(want, device[c.HashOffset:]), "%v: trees differ", c)
	if !c.shared {
		require.Equal(t, []byte(newMemory(c.HashOffset)), []byte(device[:c.HashOffset]), c)
	}

	copied, device2 := new(bytes.Buffer), newMemory(device.Size())
	w, err := NewWriter(copied, device2, data.Size(), c.Params)
	require.NoError(t, err, c)
	for rest := []byte(data); len(rest) > 0; {
		n := min(len(rest), 1+r.IntN(100000))
		_, err := w.Write(rest[:n])
		require.NoError(t, err, c)
		rest = rest[n:]
	}
	root, err = w.Finish()
	require.NoError(t, err, c)
	require.Equal(t, wantRoot, root, c)
	require.True(t, bytes.Equal(want, device2[c.HashOffset:]), "%v: trees differ", c)
	require.True(t, bytes.Equal(data, copied.Bytes()), c)

	im := c.open(data, device, root)
	require.NoError(t, im.Verify(ctx), c)
	reader, err := NewReader(im, ReaderOptions{CacheSize: 1 + int64(r.IntN(1<<16))})
	require.NoError(t, err, c)
	require.Equal(t, data.Size(), reader.Size())
	for range 5 {
		got := make([]byte, r.IntN(300000))
		off := r.Int64N(data.Size())
		n, err := reader.ReadAt(got, off)
		require.True(t, bytes.Equal(data[off:off+int64(n)], got[:n]), c)
		require.Equal(t, err == nil, n == len(got), c)
	}

	damage(t, r, c, im, data, device)
}

// damage changes one bit of the data, then one of the tree, which must be found where
// they are.
func damage(t testing.TB, r *rand.Rand, c randomCase, im Image, data, device memory) {
	ctx := context.Background()
	l, err := newLayout(c.Params, data.Size())
	require.NoError(t, err)
	at := r.Int64N(data.Size())
	block := at / int64(c.DataBlockSize)
	from := data
	if c.shared {
		from = device
		im.Data = io.NewSectionReader(device, 0, data.Size())
	}
	from[at] ^= 1
	var mismatch *MismatchError
	require.ErrorAs(t, im.Verify(ctx), &mismatch, c)
	if l.Top() == 0 {
		require.ErrorIs(t, mismatch, ErrRootHash, c)
	} else {
		require.Equal(t, []Range{{0, block, 1}}, mismatch.Ranges, c)
	}
	reader, err := NewReader(im, ReaderOptions{})
	require.NoError(t, err, c)
	n, err := reader.ReadAt(make([]byte, 1), block*int64(c.DataBlockSize))
	require.Zero(t, n)
	require.ErrorIs(t, err, ErrData, c)
	from[at] ^= 1
	if l.Top() == 0 {
		return
	}

	level := 1 + r.IntN(l.Top())
	block = r.Int64N(l.Blocks[level])
	at = l.Offset(level, block) + int64(r.IntN(c.HashBlockSize))
	device[at] ^= 0x80
	require.ErrorAs(t, im.Verify(ctx), &mismatch, c)
	require.Equal(t, []Range{{level, block, 1}}, mismatch.Ranges, c)
	first := block * int64(c.DataBlockSize)
	for range level {
		first *= l.PerBlock
	}
	if reader, err = NewReader(im, ReaderOptions{}); err == nil {
		_, err = reader.ReadAt(make([]byte, 1), first)
	}
	var bad *BlockError
	require.ErrorAs(t, err, &bad, c)
	require.Equal(t, []int64{int64(level), block}, []int64{int64(bad.Level), bad.Block}, c)
	device[at] ^= 0x80
	require.NoError(t, im.Verify(ctx), c)
}

// sample is how many of n random cases are tried: a quarter under -short, which also runs where
// hashing is slow.
func sample(n int) int {
	if testing.Short() {
		return n / 4
	}
	return n
}

func TestAgainstReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range sample(150) {
		against(t, r, random(r))
	}
}

// FuzzFormat is differential: the seed chooses parameters and data.
func FuzzFormat(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		r := rand.New(rand.NewPCG(a, b))
		against(t, r, random(r))
	})
}
