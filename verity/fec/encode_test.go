package fec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity"
)

// slowEncode follows the definition, byte by byte.
func slowEncode(data, hash device, p Params) device {
	all := append(append(device(nil), data...), hash[:len(hash)/p.BlockSize*p.BlockSize]...)
	rows := codeword - p.Roots
	rounds := (len(all)/p.BlockSize + rows - 1) / rows
	var parity device
	for column := range rounds * p.BlockSize {
		word := make([]byte, rows)
		for i := range word {
			if at := i*rounds*p.BlockSize + column; at < len(all) {
				word[i] = all[at]
			}
		}
		parity = append(parity, slowParity(word, p.Roots)...)
	}
	return parity
}

func TestEncode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct{ roots, blockSize, data, hash int }{
		{2, 512, 1, 0}, {2, 512, 252, 1 * 512}, {2, 512, 253, 1 * 512}, {3, 512, 300, 40*512 + 511},
		{24, 512, 231, 512}, {24, 1024, 500, 1024}, {7, 4096, 5, 4096}, {13, 65536, 2, 65536},
	} {
		p := Params{c.roots, c.blockSize}
		data, hash := noise(r, int64(c.data*c.blockSize)), noise(r, int64(c.hash))
		parity := encode(t, data, hash, p)
		require.True(t, bytes.Equal(slowEncode(data, hash, p), parity), "%+v", c)
		require.NoError(t, Check(context.Background(), data, hash, append(parity, 1, 2, 3), p))
	}
}

func TestCheck(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	p := Params{Roots: 4, BlockSize: 512}
	data, hash := noise(r, 1000*512), noise(r, 30*512)
	parity := encode(t, data, hash, p) // 5 rounds
	check := func() *ParityError {
		err := Check(context.Background(), data, hash, parity, p)
		var e *ParityError
		require.ErrorAs(t, err, &e)
		return e
	}
	every := 7 // all would take a while
	if testing.Short() {
		every = 61
	}
	for i := range parity {
		if i%every == 0 || i > len(parity)-20 {
			parity[i] ^= 1
			e := check()
			assert.EqualValues(t, i, e.Offset)
			assert.Equal(t, []Rounds{{int64(i / 2048), 1}}, e.Rounds)
			assert.Empty(t, e.Blocks)
			parity[i] ^= 1
		}
	}
	data[3*512+5]++
	e := check()
	assert.Equal(t, []Rounds{{3, 1}}, e.Rounds)
	assert.Equal(t, []int64{3}, e.Blocks)
	assert.EqualValues(t, 3*2048+5*4, e.Offset/4*4)
	hash[29*512]++ // block 1029, round 4
	hash[25*512]++ // block 1025, round 0
	e = check()
	assert.Equal(t, []Rounds{{0, 1}, {3, 2}}, e.Rounds)
	assert.EqualValues(t, 3, e.Differ)
	assert.EqualValues(t, 5, e.Total)
	assert.Equal(t, []int64{1025}, e.Blocks)
	assert.Equal(t, "parity: does not agree with data and hash area in 3 of 5 rounds, first at "+
		fmt.Sprintf("%#x", e.Offset)+": round 0, rounds 3-4", e.Error())
	for i := range 3 {
		data[i*5*512] ^= 0xff // more in a codeword of round 0 than can be found
	}
	assert.Empty(t, check().Blocks)
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		data, hash int64
		p          Params
		size       int64
	}{
		{4096, 0, Params{}, 8192},
		{252 * 4096, 4096, Params{}, 8192},
		{253 * 4096, 4096, Params{}, 16384},
		{253 * 4096, 4095, Params{}, 8192},
		{231 * 512, 0, Params{24, 512}, 24 * 512},
		{1 << 42, 1 << 35, Params{24, 4096}, 460509806592},
	} {
		size, err := Size(c.data, c.hash, c.p)
		require.NoError(t, err)
		assert.Equal(t, c.size, size, "%+v", c)
	}
	blocks, err := Blocks(253*4096, 4095, Params{})
	require.NoError(t, err)
	assert.EqualValues(t, 253, blocks)
}

func TestBadParams(t *testing.T) {
	for _, p := range []Params{
		{Roots: 1}, {Roots: 25}, {Roots: -1}, {Roots: math.MaxInt32},
		{BlockSize: 256}, {BlockSize: 4095}, {BlockSize: -4096}, {BlockSize: 1 << 20},
	} {
		var e *ParamError
		_, err := Size(4096, 0, p)
		require.ErrorAs(t, err, &e, "%+v", p)
		require.ErrorAs(t, Encode(context.Background(), device{}, numbered(1), nil, p), &e)
		require.ErrorAs(t, Check(context.Background(), numbered(1), nil, device{}, p), &e)
	}
	for _, size := range []int64{0, -1, 4095, 4097, math.MaxInt64, math.MinInt64} {
		var e *verity.AlignmentError
		_, err := Size(size, 0, Params{})
		require.ErrorAs(t, err, &e, "%d", size)
		assert.Equal(t, size, e.Size)
	}
	for _, size := range []int64{-1, math.MinInt64, math.MaxInt64, math.MaxInt64 - 4096} {
		var e *ParamError
		_, err := Size(4096, size, Params{})
		require.ErrorAs(t, err, &e, "%d", size)
	}
	var short *verity.ShortError
	err := Check(context.Background(), numbered(300), nil, make(device, 16383), Params{})
	require.ErrorAs(t, err, &short)
	assert.Equal(t, verity.ShortError{Device: "parity", Want: 16384, Got: 16383}, *short)
	_, err = HashArea(make(device, 4095), verity.Params{})
	require.ErrorAs(t, err, &short)
	assert.Equal(t, verity.ShortError{Device: "hash device", Want: 4096, Got: 4095}, *short)
	_, err = HashArea(make(device, 8192), verity.Params{HashOffset: 100})
	require.Error(t, err)
}

// shrunk is a device that has less than it says.
type shrunk struct {
	device
	size int64
}

func (s shrunk) Size() int64 { return s.size }

type failing struct{ err error }

func (f failing) WriteAt([]byte, int64) (int, error) { return 0, f.err }

func TestDeviceErrors(t *testing.T) {
	ctx := context.Background()
	err := Encode(ctx, newDevice(8192), shrunk{numbered(10), 11 * 4096}, nil, Params{})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Contains(t, err.Error(), "fec: data: read")
	err = Encode(ctx, newDevice(8192), numbered(10), shrunk{numbered(1), 2 * 4096}, Params{})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Contains(t, err.Error(), "fec: hash area: read")
	boom := errors.New("boom")
	require.ErrorIs(t, Encode(ctx, failing{boom}, numbered(10), nil, Params{}), boom)
	require.ErrorIs(t, Encode(ctx, newDevice(8000), numbered(10), nil, Params{}), io.ErrShortWrite)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, Encode(cancelled, newDevice(8192), numbered(10), nil, Params{}), context.Canceled)
	f := newFixture(t, numbered(10), smallParams(4096), 2)
	_, err = Repair(cancelled, f.image(), nil, nil)
	require.ErrorIs(t, err, context.Canceled)
	f.data[5]++
	_, err = Repair(ctx, f.image(), failing{boom}, failing{boom})
	require.ErrorIs(t, err, boom)
}

// endless is data of any size that takes no memory.
type endless struct{ size int64 }

func (e endless) Size() int64 { return e.size }

func (e endless) ReadAt(b []byte, off int64) (int, error) {
	for i := range b {
		b[i] = byte(off) ^ byte(off>>12)
	}
	return len(b), nil
}

type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// TestMemory encodes a GiB and looks at what was allocated for it.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("encodes a GiB")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, Encode(context.Background(), discard{}, endless{1 << 30}, nil, Params{Roots: 24}))
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(48<<20))
}
