package fec

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity"
)

// A tree that has digests of more data than it is given with is none that a repair may go by,
// whether its hash blocks are there as they were or must be corrected first.
func TestSpare(t *testing.T) {
	all := noise(rand.New(rand.NewPCG(7, 7)), 200*4096)
	p := verity.Params{Salt: []byte("salt"), DataBlockSize: 4096, HashBlockSize: 4096}
	tree, root := format(t, all, p)
	data := all[:150*4096]
	area, err := HashArea(tree, p)
	require.NoError(t, err)
	f := &imageFixture{data: data, tree: tree, params: p, root: root, roots: 2, start: len(tree) - int(area.Size())}
	f.parity = encode(t, data, area, Params{})
	for name, damage := range map[string]func(*imageFixture){
		"nothing damaged":      func(*imageFixture) {},
		"hash block damaged":   func(f *imageFixture) { copy(f.hash()[2*4096:], make([]byte, 4096)) },
		"data damaged as well": func(f *imageFixture) { f.data[9] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			got := f.clone()
			damage(got)
			before := got.clone()
			report, err := Repair(context.Background(), got.image(), got.data, got.hash())
			require.Nil(t, report)
			var spare *verity.SpareError
			require.True(t, errors.As(err, &spare), "%v", err)
			require.Equal(t, &verity.SpareError{Level: 1, Block: 1, Offset: 22 * 32, Blocks: 150}, spare)
			got.requireEqual(t, before)
			require.True(t, slices.Equal(before.parity, got.parity))
		})
	}
}
