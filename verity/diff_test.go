package verity

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// letters is an image with a block for each letter, all bytes of which are the letter;
// a dot stands for zeros.
func letters(text string, blockSize int) memory {
	var m memory
	for _, c := range []byte(text) {
		if c == '.' {
			c = 0
		}
		m = append(m, bytes.Repeat([]byte{c}, blockSize)...)
	}
	return m
}

// treeOf returns the tree of an image.
func treeOf(t testing.TB, data memory, p Params) Tree {
	t.Helper()
	size, err := TreeSize(data.Size(), p)
	require.NoError(t, err)
	device := newMemory(p.HashOffset + size)
	root, err := Format(context.Background(), device, data, p)
	require.NoError(t, err)
	tree := Tree{Source: device, RootHash: root, HashOffset: p.HashOffset}
	if p.NoSuperblock {
		tree.Params, tree.DataSize = &p, data.Size()
	}
	return tree
}

func spansText(d *Delta) string {
	var all []string
	for _, s := range d.Spans {
		all = append(all, s.String())
	}
	return strings.Join(all, ", ")
}

func TestDiff(t *testing.T) {
	for _, c := range []struct{ old, target, new, want string }{
		{"", "", "abc", "0-2 fetch"},
		{"", "", "a..b", "0 fetch, 1-2 zero, 3 fetch"},
		{"abc", "", "abc", "0-2 same"},
		{"abc", "", "abcd", "0-2 same, 3 fetch"},
		{"abcd", "", "ab", "0-1 same"},
		{"abcdef", "", "abXcdef", "0-1 same, 2 fetch, 3-6 moved from 2"},
		{"abcdef", "", "cdab", "0-1 moved from 2, 2-3 moved from 0"},
		{"ab.", "", "ba.", "0 moved from 1, 1 moved from 0, 2 same"},
		{"ab", "", "ba..", "0 moved from 1, 1 moved from 0, 2-3 zero"},
		{"abac", "", "xxxacxa", "0-2 fetch, 3 moved from 0, 4 moved from 3, 5 fetch, 6 moved from 0"},
		{"xabcabd", "", "abd", "0-1 moved from 1, 2 moved from 6"},
		{"axbxcx", "", "xxxxxx", "0 moved from 1, 1 same, 2 moved from 1, 3 same, 4 moved from 1, 5 same"},
		{"qrab", "", "abab", "0-1 moved from 2, 2-3 same"},
		{"abc", "abd", "abcd", "0-1 kept, 2 same, 3 fetch"},
		{"", "x.z", "y.zz", "0 fetch, 1-2 kept, 3 fetch"},
	} {
		t.Run(c.old+"-"+c.target+"-"+c.new, func(t *testing.T) {
			tree := func(text string) Tree {
				if text == "" {
					return Tree{}
				}
				return treeOf(t, letters(text, 4096), testParams)
			}
			d, err := Diff(context.Background(), tree(c.old), tree(c.new), DiffOptions{Target: tree(c.target)})
			require.NoError(t, err)
			assert.Equal(t, c.want, spansText(d))
			assert.Equal(t, int64(len(c.new)), d.Blocks)
			assert.Equal(t, 4096, d.BlockSize)
		})
	}
}

// naive is Diff by the contents, in quadratic time.
func naive(old, target, to memory, blockSize int) *Delta {
	block := func(m memory, n int) []byte {
		if m == nil || n < 0 || (n+1)*blockSize > len(m) {
			return nil
		}
		return m[n*blockSize : (n+1)*blockSize]
	}
	d := &Delta{BlockSize: blockSize, Blocks: int64(len(to) / blockSize)}
	after := -1 // the old block behind the one that was moved last
	for n := range len(to) / blockSize {
		want := block(to, n)
		first := -1
		for i := 0; block(old, i) != nil && first < 0; i++ {
			if bytes.Equal(block(old, i), want) {
				first = i
			}
		}
		s := Span{First: int64(n), Count: 1}
		next := -1
		switch {
		case bytes.Equal(block(target, n), want):
			s.Origin = OriginKept
		case bytes.Equal(block(old, n), want):
			s.Origin, s.From = OriginSame, int64(n)
		case first >= 0:
			if bytes.Equal(block(old, after), want) {
				first = after
			}
			s.Origin, s.From = OriginMoved, int64(first)
			next = first + 1
		case len(bytes.Trim(want, "\x00")) == 0:
			s.Origin = OriginZero
		default:
			s.Origin = OriginFetch
		}
		after = next
		if last := len(d.Spans) - 1; last >= 0 && d.Spans[last].Origin == s.Origin &&
			(s.Origin != OriginSame && s.Origin != OriginMoved || d.Spans[last].From+d.Spans[last].Count == s.From) {
			d.Spans[last].Count++
		} else {
			d.Spans = append(d.Spans, s)
		}
	}
	return d
}

// randomParams returns parameters with small blocks, so that trees are high.
func randomParams(r *rand.Rand) Params {
	p := Params{
		Salt:          make([]byte, r.IntN(40)),
		Hash:          []string{"sha1", "sha256", "sha384", "sha512"}[r.IntN(4)],
		ChromeOS:      r.IntN(4) == 0,
		DataBlockSize: 512 << r.IntN(4),
		HashBlockSize: 512 << r.IntN(4),
		NoSuperblock:  r.IntN(4) == 0,
	}
	p.HashOffset = int64(r.IntN(3) * p.HashBlockSize)
	for i := range p.Salt {
		p.Salt[i] = byte(r.Uint32())
	}
	return p
}

// randomImage returns blocks of few kinds, in runs that other images have too.
func randomImage(r *rand.Rand, blockSize int) memory {
	var text []byte
	n := 1 + r.IntN(400)
	for len(text) < n {
		switch from := r.IntN(60); r.IntN(5) {
		case 0:
			text = append(text, "..."[:1+r.IntN(3)]...)
		case 1:
			text = append(text, byte(200+r.IntN(50)))
		default:
			for i := range 1 + r.IntN(40) {
				text = append(text, byte(1+(from+i)%60))
			}
		}
	}
	return letters(string(text[:n]), blockSize)
}

func TestDiffRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for i := range sample(150) {
		p := randomParams(r)
		to := randomImage(r, p.DataBlockSize)
		var old, target memory
		var oldTree, targetTree Tree
		if r.IntN(8) > 0 {
			old = randomImage(r, p.DataBlockSize)
			oldTree = treeOf(t, old, p)
		}
		if r.IntN(2) > 0 {
			target = randomImage(r, p.DataBlockSize)
			targetTree = treeOf(t, target, p)
		}
		got, err := Diff(context.Background(), oldTree, treeOf(t, to, p), DiffOptions{Target: targetTree})
		require.NoError(t, err, "%d: %+v", i, p)
		require.Equal(t, spansText(naive(old, target, to, p.DataBlockSize)), spansText(got), "%d: %+v", i, p)
	}
}

func TestDiffLarge(t *testing.T) {
	// Hash blocks of several levels, and more blocks than fit one.
	p := Params{DataBlockSize: 512, HashBlockSize: 4096}
	old := newMemory(40000 * 512)
	for i := range int64(40000) {
		binary.LittleEndian.PutUint64(old[i*512:], uint64(i))
	}
	to := append(append(bytes.Clone(old[:512*10000]), bytes.Repeat([]byte{1}, 512)...), old[512*10000:]...)
	d, err := Diff(context.Background(), treeOf(t, old, p), treeOf(t, to, p), DiffOptions{})
	require.NoError(t, err)
	assert.Equal(t, "0-9999 same, 10000 fetch, 10001-40000 moved from 10000", spansText(d))
	assert.Equal(t, "40001 blocks of 512 bytes, same 10000 (25.0 %), moved 30000 (75.0 %), fetch 1 (0.0 %)", d.String())
}

func TestDiffIncompatible(t *testing.T) {
	data := letters("abc", 4096)
	tree := treeOf(t, data, Params{Salt: []byte{1}})
	for _, c := range []struct {
		p    Params
		text string
	}{
		{Params{Salt: []byte{2}}, "salt: the old tree has 02, the new tree has 01"},
		{Params{}, "salt: the old tree has none, the new tree has 01"},
		{Params{Salt: []byte{1}, Hash: "sha512"}, "hash: the old tree has sha512, the new tree has sha256"},
		{Params{Salt: []byte{1}, ChromeOS: true}, "hash format: the old tree has 0, the new tree has 1"},
		{Params{Salt: []byte{1}, DataBlockSize: 2048}, "data block size: the old tree has 2048, the new tree has 4096"},
		{Params{Salt: []byte{1}, HashBlockSize: 8192}, "hash block size: the old tree has 8192, the new tree has 4096"},
	} {
		other := treeOf(t, data, c.p)
		d, err := Diff(context.Background(), other, tree, DiffOptions{})
		require.Nil(t, d)
		var incompatible *IncompatibleError
		require.ErrorAs(t, err, &incompatible)
		assert.EqualError(t, err, "verity: diff: "+c.text+": digests can be compared only under the same parameters")
		_, err = Diff(context.Background(), tree, tree, DiffOptions{Target: other})
		require.ErrorAs(t, err, &incompatible)
		assert.Equal(t, "target", incompatible.Tree)
	}
	// Where a tree lies and its UUID make no difference.
	d, err := Diff(context.Background(), treeOf(t, data, Params{Salt: []byte{1}, UUID: [16]byte{9}, HashOffset: 8192}), tree, DiffOptions{})
	require.NoError(t, err)
	assert.Equal(t, int64(3), d.Total(OriginSame))
}

func TestDiffDamagedTree(t *testing.T) {
	ctx := context.Background()
	p := Params{DataBlockSize: 512, HashBlockSize: 512}
	good := treeOf(t, newMemory(512*600), p) // 38 + 3 + 1 hash blocks
	damaged := func(at int64) Tree {
		b := bytes.Clone(good.Source.(memory))
		b[at] ^= 1
		return Tree{Source: memory(b), RootHash: good.RootHash}
	}
	diff := func(old, to Tree) (*BlockError, error) {
		d, err := Diff(ctx, old, to, DiffOptions{})
		require.Error(t, err)
		require.Nil(t, d)
		var e *BlockError
		require.ErrorAs(t, err, &e)
		return e, err
	}

	e, err := diff(good, damaged(512))
	assert.ErrorIs(t, err, ErrRootHash)
	assert.Equal(t, good.RootHash, e.Want)
	assert.ErrorContains(t, err, "verity: new tree: level 3 hash block 0: digest ")

	e, err = diff(damaged(512*4), good)
	assert.ErrorIs(t, err, ErrTree)
	assert.NotErrorIs(t, err, ErrRootHash)
	assert.NotErrorIs(t, err, ErrData)
	assert.Equal(t, []any{2, int64(2)}, []any{e.Level, e.Block})
	assert.ErrorContains(t, err, "verity: old tree: level 2 hash block 2: digest ")

	e, err = diff(good, damaged(512*(5+37)))
	assert.ErrorIs(t, err, ErrTree)
	assert.Equal(t, []any{1, int64(37)}, []any{e.Level, e.Block})

	// Without a root hash, what the top block says is believed, but nothing else.
	own := damaged(512)
	own.RootHash = nil
	e, err = diff(own, good)
	assert.ErrorIs(t, err, ErrTree)
	assert.Equal(t, 2, e.Level)
	whole := good
	whole.RootHash = nil
	d, err := Diff(ctx, whole, whole, DiffOptions{})
	require.NoError(t, err)
	assert.Equal(t, int64(600), d.Total(OriginSame))
}

func TestDiffErrors(t *testing.T) {
	ctx := context.Background()
	tree := treeOf(t, letters("abc", 4096), Params{})
	device := tree.Source.(memory)
	replaced := func(f func(memory) memory) Tree {
		return Tree{Source: f(bytes.Clone(device)), RootHash: tree.RootHash}
	}
	one := treeOf(t, letters("a", 4096), Params{})
	for _, c := range []struct {
		name string
		to   Tree
		text string
	}{
		{"empty", replaced(func(memory) memory { return nil }),
			"verity: new tree: superblock at 0x0: 0 of 512 bytes: unexpected EOF"},
		{"truncated", replaced(func(m memory) memory { return m[:8191] }),
			"verity: new tree: tree: 8191 bytes: needs 8192"},
		{"many blocks", replaced(func(m memory) memory { m[sbDataBlocks+5] = 1; return m }),
			"verity: new tree: tree: 8192 bytes: needs 35461414416384"},
		{"unknown hash", replaced(func(m memory) memory { copy(m[sbAlgorithm:], "sha999"); return m }),
			"verity: new tree: "},
		{"root hash of another size", Tree{Source: device, RootHash: []byte{1}},
			"verity: new tree: root hash: 1 bytes, want 32 for sha256"},
		{"one block without root hash", Tree{Source: one.Source},
			"verity: new tree: an image of one data block has no tree, so its root hash must be given"},
		{"no source", Tree{}, "verity: new tree: not given"},
		{"no size", Tree{Source: device, Params: new(Params)},
			"verity: new tree: data: 0 bytes, want at least one block of 4096 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Diff(ctx, tree, c.to, DiffOptions{})
			require.Nil(t, d)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, 1, strings.Count(err.Error(), "verity: "), err)
		})
	}
	var format *osmith.FormatError
	_, err := Diff(ctx, replaced(func(memory) memory { return nil }), tree, DiffOptions{})
	assert.ErrorAs(t, err, &format)
	assert.ErrorContains(t, err, "verity: old tree: ")

	// One data block: its digest is the root hash.
	d, err := Diff(ctx, one, one, DiffOptions{})
	require.NoError(t, err)
	assert.Equal(t, "0 same", spansText(d))

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	d, err = Diff(cancelled, tree, tree, DiffOptions{})
	assert.Nil(t, d)
	assert.ErrorIs(t, err, context.Canceled)

	_, err = Diff(ctx, Tree{}, Tree{Source: shrunk{device[:4096]}}, DiffOptions{})
	assert.ErrorContains(t, err, "verity: new tree: tree: read 4096 bytes at 0x1000: got 0: unexpected EOF")
	assert.False(t, errors.Is(err, ErrTree))
}
