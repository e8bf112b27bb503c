package fec

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity"
)

// FuzzRepair damages an image and its parity at will. Repair must never be silently
// wrong: all that its answer does not list must be what it was.
func FuzzRepair(f *testing.F) {
	var images []*imageFixture
	for i, roots := range []int{2, 5, 24} {
		r := rand.New(rand.NewPCG(uint64(i), 0))
		images = append(images, newFixture(f, noise(r, int64(40+i*260)*512), smallParams(512), roots))
	}
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), []byte{0, 0, 0, 1, 0, 200, 0, 2})
	f.Add(uint8(2), bytes.Repeat([]byte{1, 44, 3, 1}, 40)) // in the tree
	f.Add(uint8(1), bytes.Repeat([]byte{255, 255, 1, 7}, 3))
	f.Fuzz(func(t *testing.T, which uint8, damage []byte) {
		want := images[int(which)%len(images)]
		got := want.clone()
		// Each four bytes: which block, or parity behind the last, and where; 0 is all
		// of it.
		for ; len(damage) >= 4; damage = damage[4:] {
			n := (int(damage[0])<<8 | int(damage[1])) % (want.blocks() + want.blocks()/8)
			block := got.parity[int(damage[1])%(len(got.parity)/512)*512:][:512]
			if n < want.blocks() {
				block = got.block(n)
			}
			if damage[2] == 0 {
				copy(block, noise(rand.New(rand.NewPCG(uint64(damage[3]), uint64(n))), 512))
			} else {
				block[int(damage[2])*2] ^= damage[3]
			}
		}
		report, err := got.repair()
		if err == nil {
			got.requireEqual(t, want)
			require.Empty(t, report.Unrepaired)
			require.NoError(t, verity.Verify(t.Context(), got.data, got.tree, got.root))
			return
		}
		var left *UnrepairedError
		require.True(t, errors.As(err, &left), err)
		require.Nil(t, report)
		listed := map[int64]bool{}
		tree, err := newTree(want.params, int64(len(want.data)/512), 512, want.root)
		require.NoError(t, err)
		for _, r := range append(left.Unrepaired, left.Unproven...) {
			for n := r.First; n < r.First+r.Count; n++ {
				listed[tree.start[r.Level]+n] = true
			}
		}
		if left.UnrepairedBlocks+left.UnprovenBlocks != int64(len(listed)) {
			return // more than the lists hold
		}
		for n := range want.blocks() {
			if !listed[int64(n)] {
				require.True(t, bytes.Equal(want.block(n), got.block(n)), "block %d is damaged and not listed", n)
			}
		}
		require.Error(t, verity.Verify(t.Context(), got.data, got.tree, got.root))
	})
}
