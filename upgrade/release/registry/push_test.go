package registry_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"strings"
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

// What was found of a source with a hole is pushed, and the hole is told; a source that cannot be
// asked at all has nothing pushed.
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

// A registry that does not see a blob yet, as docker-registry while another client uploads the same
// one, is given the manifest again, as often as OpenOptions says; what is wrong with a manifest
// itself is not.
func TestBlobIsNotSeenYet(t *testing.T) {
	const refused = `{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"},{"code":%q,"message":"blob unknown to registry"}]}`
	key := newKey(t)
	store, d := signed(t, key)
	for _, c := range []struct {
		code      string
		times     int
		requests  int
		wantError bool
	}{
		{"MANIFEST_BLOB_UNKNOWN", 2, 3, false},
		{"MANIFEST_BLOB_UNKNOWN", 3, 3, true},
		{"MANIFEST_INVALID", 1, 1, true},
	} {
		requests := 0
		repo := open(t, start(t, true, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/manifests/v2") {
				return false
			}
			if requests++; requests > c.times {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, refused, c.code)
			return true
		}), nil)
		err := repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"})
		require.Equal(t, c.requests, requests, c.code)
		if c.wantError {
			require.ErrorContains(t, err, "blob unknown to registry")
			continue
		}
		require.NoError(t, err)
		require.NoError(t, fetch(t, repo, t.TempDir(), policy(key.Public())))
	}
}

// Pushing a release leaves the signatures that others have added to it in the repository.
func TestPushKeepsSignatures(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	store, d := signed(t, ours)
	for _, referrers := range []bool{true, false} {
		repo := open(t, start(t, referrers, nil), nil)
		require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
		for _, format := range []cosign.Format{cosign.FormatSimpleSigning, cosign.FormatBundle} {
			require.NoError(t, cosign.Sign(t.Context(), repo.Writer(t.Context()), d, theirs, cosign.SignOptions{Formats: []cosign.Format{format}}))
		}
		require.NoError(t, cosign.Attest(t.Context(), repo.Writer(t.Context()), d, cosign.PredicateSPDX, []byte(`{"b":2}`), theirs, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatDSSE}}))
		for range 2 {
			require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
			for _, key := range []crypto.Signer{ours, theirs} {
				result, err := cosign.Verify(t.Context(), repo, d, cosign.Policy{Keys: public(key)})
				require.NoError(t, err)
				require.Len(t, result.Signatures, 2)
				require.NotEmpty(t, result.Attestations)
			}
		}
	}
}
