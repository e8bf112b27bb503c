package verity

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nothingTree is the hash device of data that is one hole. Its hash blocks of a level are all the
// same but for the last one, which has the digests of fewer blocks.
type nothingTree struct {
	*layout
	superblock []byte
	full, last [][]byte // by level
}

// newNothingTree returns the tree over so many bytes and its root hash.
func newNothingTree(t testing.TB, size int64, p Params) (tree *nothingTree, root []byte) {
	l, err := newLayout(p, size)
	require.NoError(t, err)
	tree = &nothingTree{layout: l, full: make([][]byte, l.Top()+1), last: make([][]byte, l.Top()+1)}
	tree.superblock, err = l.superblock(l.dataBlocks()).AppendBinary(nil)
	require.NoError(t, err)
	hash := l.NewHasher()
	full, last := hash.AppendHole(nil, 1), hash.AppendHole(nil, 1)
	for level := 1; level <= l.Top(); level++ {
		end := bytes.Repeat(full, l.Children(level, l.Blocks[level]-1)-1)
		tree.full[level] = l.AppendBlocks(nil, bytes.Repeat(full, int(l.PerBlock)))
		tree.last[level] = l.AppendBlocks(nil, append(end, last...))
		full, last = hash.AppendTree(nil, tree.full[level]), hash.AppendTree(nil, tree.last[level])
	}
	return tree, last[:l.DigestSize]
}

func (n *nothingTree) Size() int64 { return n.End }

func (n *nothingTree) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off == 0 {
		return copy(b, n.superblock), nil
	}
	done := 0
	for level := n.Top(); level > 0; level-- {
		size := int64(n.HashBlockSize)
		for done < len(b) && off >= n.Offset(level, 0) && off < n.Offset(level, n.Blocks[level]) {
			number := (off - n.Offset(level, 0)) / size
			block := n.full[level]
			if number == n.Blocks[level]-1 {
				block = n.last[level]
			}
			k := copy(b[done:], block[(off-n.Offset(level, 0))%size:])
			done, off = done+k, off+int64(k)
		}
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// All that Verify allocates, for as long as it takes, stays within a budget that an image 64 times
// as large does not exceed.
func TestVerifyMemoryIsConstant(t *testing.T) {
	const budget = 32 << 20
	for _, size := range []int64{1 << 30, 64 << 30} {
		tree, root := newNothingTree(t, size, Params{})
		data := &holed{t: t, size: size}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.NoError(t, Verify(context.Background(), data, tree, root))
		runtime.ReadMemStats(&after)
		t.Logf("%d GiB: %d KiB allocated", size>>30, (after.TotalAlloc-before.TotalAlloc)>>10)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(budget), "%d GiB", size>>30)
	}
}
