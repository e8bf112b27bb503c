package registry_test

import (
	"context"
	"errors"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// half is a source that cannot be asked for all that refers to an artifact.
type half struct {
	*cosign.Dir
	err error
}

func (h half) Signatures(ctx context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	found, err := h.Dir.Signatures(ctx, subject)
	return found, errors.Join(err, h.err)
}

// What was found of a source with a hole is pushed, and the hole is told; a source that cannot be asked at all has nothing pushed.
func TestPushFromIncompleteSource(t *testing.T) {
	key := newKey(t)
	store, d := signed(t, key)
	repo := open(t, start(t, true, nil), nil)
	broken := errors.New("the disk is broken")
	err := repo.Push(t.Context(), half{store, &cosign.IncompleteError{Errs: []error{broken}}}, d, registry.PushOptions{Tag: "v2"})
	require.ErrorIs(t, err, cosign.ErrIncomplete)
	require.ErrorIs(t, err, broken)
	require.NoError(t, fetch(t, repo, t.TempDir(), policy(key.Public())))

	empty := open(t, start(t, true, nil), nil)
	require.ErrorIs(t, empty.Push(t.Context(), half{store, broken}, d, registry.PushOptions{Tag: "v2"}), broken)
	_, err = empty.Resolve(t.Context(), "v2")
	require.ErrorIs(t, err, registry.ErrNotFound)
}
