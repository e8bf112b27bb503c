package verity

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is not given is an error that names it.
func TestNothingGiven(t *testing.T) {
	ctx := context.Background()
	data, tree, root := numberedMemory(t, 3)
	delta := &Delta{BlockSize: blockSize, Blocks: 3, Spans: []Span{{Origin: OriginFetch, Count: 3}}}
	for want, call := range map[string]func() error{
		"verity: writer for the tree: not given": func() error { _, err := Format(ctx, nil, data, Params{}); return err },
		"verity: data: not given":                func() error { _, err := Format(ctx, tree, nil, Params{}); return err },
		"verity: hash device: not given":         func() error { _, err := ReadSuperblock(nil, 0); return err },
		"verity: signature partition: not given": func() error { _, err := ReadSignature(nil); return err },
		"verity: patch: dst: not given": func() error {
			_, err := Patch(ctx, nil, nil, data, Tree{Source: tree, RootHash: root}, delta, PatchOptions{})
			return err
		},
		"verity: patch: no delta was given": func() error {
			_, err := Patch(ctx, data, nil, data, Tree{Source: tree, RootHash: root}, nil, PatchOptions{})
			return err
		},
	} {
		assert.EqualError(t, call(), want)
	}
	_, err := NewWriter(nil, nil, 4096, Params{})
	assert.EqualError(t, err, "verity: writer for the tree: not given")
	for _, im := range []Image{{Tree: tree, RootHash: root}, {Data: data, RootHash: root}, {Data: data, Params: &Params{}}} {
		want := "verity: tree: not given"
		if im.Data == nil {
			want = "verity: data: not given"
		}
		assert.EqualError(t, im.Verify(ctx), want)
		_, err := NewReader(im, ReaderOptions{})
		assert.EqualError(t, err, want)
	}
	assert.EqualError(t, Verify(ctx, data, tree, nil), "verity: root hash: 0 bytes, want 32 for sha256")
	_, err = SignRootHash(root, nil, nil)
	require.Error(t, err)
	_, err = PrepareSignature(root, nil)
	require.Error(t, err)
}
