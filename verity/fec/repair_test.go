package fec

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity"
)

// An imageFixture is an image as it was made.
type imageFixture struct {
	data, tree, parity device
	root               []byte
	params             verity.Params
	roots, start       int // start of the hash area in the tree
}

func newFixture(t testing.TB, data device, p verity.Params, roots int) *imageFixture {
	t.Helper()
	f := &imageFixture{data: data, params: p, roots: roots}
	f.tree, f.root = format(t, data, p)
	area, err := HashArea(f.tree, p)
	require.NoError(t, err)
	f.start = len(f.tree) - int(area.Size())
	f.parity = encode(t, data, area, Params{Roots: roots, BlockSize: p.DataBlockSize})
	return f
}

func (f *imageFixture) clone() *imageFixture {
	c := *f
	c.data, c.tree, c.parity = slices.Clone(f.data), slices.Clone(f.tree), slices.Clone(f.parity)
	return &c
}

func (f *imageFixture) hash() device { return f.tree[f.start:] }

func (f *imageFixture) image() Image {
	return Image{Data: f.data, Hash: f.hash(), Parity: f.parity, Params: f.params, RootHash: f.root, Roots: f.roots}
}

// repair repairs in place.
func (f *imageFixture) repair() (*Report, error) {
	return Repair(context.Background(), f.image(), f.data, f.hash())
}

// block returns a block, counted through data and hash area.
func (f *imageFixture) block(n int) device {
	bs := f.params.DataBlockSize
	if n*bs < len(f.data) {
		return f.data[n*bs:][:bs]
	}
	return f.hash()[n*bs-len(f.data):][:bs]
}

func (f *imageFixture) blocks() int { return (len(f.data) + len(f.hash())) / f.params.DataBlockSize }

func (f *imageFixture) requireEqual(t testing.TB, want *imageFixture) {
	t.Helper()
	require.True(t, bytes.Equal(want.data, f.data), "data")
	require.True(t, bytes.Equal(want.tree, f.tree), "tree")
}

func smallParams(blockSize int) verity.Params {
	return verity.Params{Salt: []byte("salt"), DataBlockSize: blockSize, HashBlockSize: blockSize}
}

// TestRepairEveryBlock damages every block of an image, one at a time: one byte, all
// bytes, and with zeros.
func TestRepairEveryBlock(t *testing.T) {
	for _, roots := range []int{2, 24} {
		r := rand.New(rand.NewPCG(1, uint64(roots)))
		want := newFixture(t, noise(r, 300*512), smallParams(512), roots)
		got := want.clone()
		every := 1
		if testing.Short() {
			every = 3
		}
		for n := 0; n < want.blocks(); n += every {
			for _, damage := range []func(b device){
				func(b device) { b[r.IntN(len(b))] ^= byte(1 + r.IntN(255)) },
				func(b device) { copy(b, noise(r, int64(len(b)))) },
				func(b device) { clear(b) },
			} {
				damage(got.block(n))
				report, err := got.repair()
				require.NoError(t, err, "roots %d, block %d", roots, n)
				require.EqualValues(t, 1, report.RepairedBlocks)
				require.Len(t, report.Repaired, 1)
				got.requireEqual(t, want)
			}
		}
		report, err := got.repair()
		require.NoError(t, err)
		assert.Equal(t, &Report{}, report)
	}
}

// TestRepairCapacity damages as many blocks of each round as there are roots, and one
// more in one round.
func TestRepairCapacity(t *testing.T) {
	for _, roots := range []int{2, 5, 24} {
		for _, name := range []string{"sha1", "sha256", "sha384", "sha512"} {
			r := rand.New(rand.NewPCG(2, uint64(roots)))
			p := smallParams(1024)
			p.Hash, p.ChromeOS = name, roots == 5
			want := newFixture(t, noise(r, 900*1024), p, roots)
			got := want.clone()
			g, err := newGeometry(int64(len(got.data)), int64(len(got.hash())), Params{roots, 1024})
			require.NoError(t, err)
			for round := range int(g.rounds) {
				for _, row := range r.Perm(g.rows())[:roots] {
					if n := row*int(g.rounds) + round; n < got.blocks() {
						copy(got.block(n), noise(r, 1024))
					}
				}
			}
			_, err = got.repair()
			require.NoError(t, err, "%s, %d roots", name, roots)
			got.requireEqual(t, want)

			// Rows 0 to roots of round 1: all data.
			for row := range roots + 1 {
				copy(got.block(row*int(g.rounds)+1), noise(r, 1024))
			}
			got.block(0)[5] ^= 1 // round 0
			_, err = got.repair()
			var left *UnrepairedError
			require.ErrorAs(t, err, &left)
			assert.EqualValues(t, roots+1, left.UnrepairedBlocks)
			assert.Equal(t, []verity.Range{{First: 0, Count: 1}}, left.Repaired)
			assert.Equal(t, verity.Range{First: 1, Count: 1}, left.Unrepaired[0])
			assert.ErrorIs(t, err, verity.ErrData)
			assert.NotErrorIs(t, err, verity.ErrTree)
			assert.NotErrorIs(t, err, verity.ErrRootHash)
		}
	}
}

// TestRepairScattered has more damaged blocks in a round than there are roots, but not
// in the same places, and damaged parity.
func TestRepairScattered(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	want := newFixture(t, noise(r, 200*4096), smallParams(4096), 4)
	got := want.clone()
	for i, n := range r.Perm(want.blocks())[:60] {
		got.block(n)[i] ^= 0x55
		got.parity[i*4+r.IntN(4)] ^= 0xaa
	}
	_, err := got.repair()
	require.NoError(t, err)
	got.requireEqual(t, want)
}

// TestRepairTree loses all of the tree, which only the data can give back.
func TestRepairTree(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	want := newFixture(t, noise(r, 3000*512), smallParams(512), 2)
	got := want.clone()
	copy(got.hash(), noise(r, int64(len(got.hash()))))
	report, err := got.repair()
	require.NoError(t, err)
	got.requireEqual(t, want)
	assert.EqualValues(t, len(got.hash())/512, report.RepairedBlocks)
	require.NoError(t, verity.Verify(context.Background(), got.data, got.tree, got.root))
}

func TestRepairToCopy(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	want := newFixture(t, noise(r, 600*512), smallParams(512), 6)
	broken := want.clone()
	for _, n := range []int{0, 5, 601, 602, 603} {
		copy(broken.block(n), noise(r, 512))
	}
	// The top block, too: 600 data blocks, then the tree.
	copy(broken.block(600), noise(r, 512))
	before, out := broken.clone(), broken.clone()
	dry, err := Repair(context.Background(), broken.image(), nil, nil)
	require.NoError(t, err)
	report, err := Repair(context.Background(), broken.image(), out.data, out.hash())
	require.NoError(t, err)
	assert.Equal(t, dry, report)
	broken.requireEqual(t, before)
	out.requireEqual(t, want)
	assert.EqualValues(t, 6, report.RepairedBlocks)
	assert.Equal(t, []verity.Range{{First: 0, Count: 1}, {First: 5, Count: 1}}, report.Repaired[:2])
}

func TestRepairWrongRoot(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for _, blocks := range []int64{1, 2, 40} {
		f := newFixture(t, noise(r, blocks*512), smallParams(512), 2)
		before := f.clone()
		f.root[3] ^= 1
		_, err := f.repair()
		require.ErrorIs(t, err, verity.ErrRootHash)
		f.requireEqual(t, before)
	}
}

// TestRepairBeyond damages the top block and all blocks of its round, so that nothing
// can be proven.
func TestRepairBeyond(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	want := newFixture(t, noise(r, 200*512), smallParams(512), 2)
	got := want.clone()
	for n := range got.blocks() { // one round
		if n%2 == 0 && n != 202 || n == 203 {
			copy(got.block(n), noise(r, 512))
		}
	}
	_, err := got.repair()
	var left *UnrepairedError
	require.ErrorAs(t, err, &left)
	assert.Empty(t, left.Repaired)
	assert.False(t, left.RootHash)
	assert.ErrorIs(t, err, verity.ErrData)
	assert.ErrorIs(t, err, verity.ErrTree)
	assert.Equal(t, verity.Range{First: 0, Count: 1}, left.Unrepaired[0])
	assert.NotEmpty(t, left.Unproven)
	assert.Regexp(t, `^fec: repair: \d+ blocks have more damage than the parity can correct; 0 blocks were repaired; left: data blocks? .*, \.\.\.; \d+ blocks under them cannot be verified$`, err.Error())
}

// TestRepairOneBlock has no tree.
func TestRepairOneBlock(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	want := newFixture(t, noise(r, 4096), smallParams(4096), 2)
	require.Empty(t, want.hash())
	got := want.clone()
	copy(got.data, noise(r, 4096))
	im := got.image()
	im.Hash = nil
	_, err := Repair(context.Background(), im, got.data, nil)
	require.NoError(t, err)
	got.requireEqual(t, want)
}

// TestRepairPadding covers what follows the tree without a digest.
func TestRepairPadding(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	want := newFixture(t, noise(r, 300*512), smallParams(512), 4)
	want.tree = append(want.tree, noise(r, 100*512+17)...)
	want.parity = encode(t, want.data, want.hash(), Params{4, 512})
	got := want.clone()
	copy(got.block(0), noise(r, 512))
	g, err := newGeometry(int64(len(got.data)), int64(len(got.hash())), Params{4, 512})
	require.NoError(t, err)
	// Damage behind the tree in the same round: one error more, in an unknown place.
	row := (int64(got.blocks()) - 1) / g.rounds
	got.block(int(row * g.rounds))[7] ^= 9
	_, err = got.repair()
	require.NoError(t, err)
	require.True(t, bytes.Equal(want.data, got.data))
}

func TestRepairBadInput(t *testing.T) {
	f := newFixture(t, numbered(10)[:10*512], smallParams(512), 2)
	for name, change := range map[string]func(im *Image){
		"parity too short":    func(im *Image) { im.Parity = f.parity[:len(f.parity)-1] },
		"hash area too short": func(im *Image) { im.Hash = f.hash()[:len(f.hash())-1] },
		"no hash area":        func(im *Image) { im.Hash = nil },
	} {
		im := f.image()
		change(&im)
		var short *verity.ShortError
		_, err := Repair(context.Background(), im, nil, nil)
		require.ErrorAs(t, err, &short, name)
		assert.Less(t, short.Got, short.Want)
	}
	for name, change := range map[string]func(im *Image){
		"data":        func(im *Image) { im.Data = f.data[:100] },
		"empty":       func(im *Image) { im.Data = device{} },
		"roots":       func(im *Image) { im.Roots = 25 },
		"block size":  func(im *Image) { im.Params.DataBlockSize = 1000 },
		"block sizes": func(im *Image) { im.Params.HashBlockSize = 1024 },
		"hash":        func(im *Image) { im.Params.Hash = "md5" },
		"root":        func(im *Image) { im.RootHash = f.root[1:] },
		"salt":        func(im *Image) { im.Params.Salt = make([]byte, 257) },
	} {
		im := f.image()
		change(&im)
		_, err := Repair(context.Background(), im, nil, nil)
		require.Error(t, err, name)
		assert.False(t, errors.Is(err, verity.ErrRootHash), name)
	}
}
