package verity

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDigestIndexHostile(t *testing.T) {
	// All digests belong into one slot.
	x := newDigestIndex(100000)
	digest := func(n int) []byte {
		b := make([]byte, 32)
		binary.LittleEndian.PutUint32(b[12:], uint32(n))
		return b
	}
	for n := range 100000 {
		x.add(digest(n), int64(n))
		x.add(digest(n), 1<<30) // the first one counts
	}
	found := 0
	for n := range 100000 {
		if at := x.find(digest(n)); at >= 0 {
			require.Equal(t, int64(n), at)
			found++
		}
	}
	assert.Equal(t, maxProbes, found)
	assert.Equal(t, int64(-1), newDigestIndex(1<<40/4096).find(digest(1)))
}

// Of honest digests none is lost, however full the index is.
func TestDigestIndexFull(t *testing.T) {
	for _, n := range []int{1, 3, 3 << 13, 3<<13 - 1, 1 << 14} {
		x := newDigestIndex(int64(n))
		r := rand.New(rand.NewPCG(1, uint64(n)))
		digests := make([][]byte, n)
		for i := range digests {
			digests[i] = fmt.Appendf(nil, "%016x", r.Uint64())
			binary.LittleEndian.PutUint64(digests[i], r.Uint64())
			x.add(digests[i], int64(i))
		}
		for i, d := range digests {
			require.Equal(t, int64(i), x.find(d))
		}
	}
}

func FuzzDiff(f *testing.F) {
	small := treeOf(f, letters("abc..d", 512), Params{DataBlockSize: 512, HashBlockSize: 512, Hash: "sha1"})
	high := treeOf(f, newMemory(512*300), Params{DataBlockSize: 512, HashBlockSize: 512})
	f.Add([]byte(small.Source.(memory)), []byte(high.Source.(memory)), small.RootHash)
	f.Add([]byte(high.Source.(memory)), []byte(high.Source.(memory)), []byte{})
	f.Add([]byte{}, []byte(small.Source.(memory)), []byte{})
	f.Fuzz(func(t *testing.T, old, to, root []byte) {
		from, next := Tree{}, Tree{Source: memory(to)}
		if len(old) > 0 {
			from.Source = memory(old)
		}
		if len(root) > 0 {
			next.RootHash = root
		}
		d, err := Diff(context.Background(), from, next, DiffOptions{})
		if (d == nil) == (err == nil) {
			t.Fatalf("%v and %v", d, err)
		}
		if err != nil {
			if strings.Count(err.Error(), "verity: ") != 1 {
				t.Fatal(err)
			}
			return
		}
		o, err := next.open("new tree")
		require.NoError(t, err)
		require.NoError(t, d.check(o))
	})
}
