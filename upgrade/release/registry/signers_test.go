package registry_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// Six who sign at the same time, each with a connection of its own, lose nothing of each other's in
// any format.
func TestConcurrentSigners(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		name := start(t, referrers, nil)
		repo := open(t, name, nil)
		d, err := release.PackInto(repo.Writer(t.Context()), "v2", contents())
		require.NoError(t, err)
		var group sync.WaitGroup
		errs, policy := make([]error, 6), cosign.Policy{Threshold: 6}
		for i := range errs {
			key, other := newKey(t), open(t, name, nil)
			policy.Authorities = append(policy.Authorities, cosign.Authority{Name: string(rune('a' + i)), Keys: []crypto.PublicKey{key.Public()}})
			group.Go(func() {
				w := other.Writer(t.Context())
				errs[i] = errors.Join(cosign.Sign(t.Context(), w, d, key, cosign.SignOptions{}),
					cosign.Attest(t.Context(), w, d, cosign.PredicateSPDX, []byte(`{}`), key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatDSSE}}))
			})
		}
		group.Wait()
		require.NoError(t, errors.Join(errs...))
		result, err := cosign.Verify(t.Context(), repo, d, policy)
		require.NoError(t, err)
		require.Len(t, result.Signatures, 12, "in two formats; with a referrers API: %v", referrers)
		require.Len(t, result.Attestations, 6)
	}
}

// A registry that is slow lets more time pass between a look at a tag and the write: a signer that
// has written waits for as long as it took to see whether another one has.
func TestSlowSigners(t *testing.T) {
	const slow = 600 * time.Millisecond
	name := start(t, true, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".sig") {
			time.Sleep(slow)
		}
		return false
	})
	repo := open(t, name, nil)
	d, err := release.PackInto(repo.Writer(t.Context()), "v2", contents())
	require.NoError(t, err)
	var group sync.WaitGroup
	errs, policy := make([]error, 2), cosign.Policy{Threshold: 2}
	for i := range errs {
		key, other := newKey(t), open(t, name, nil)
		policy.Authorities = append(policy.Authorities, cosign.Authority{Name: string(rune('a' + i)), Keys: []crypto.PublicKey{key.Public()}})
		group.Go(func() {
			// The second one looks before the first one's write is there, and writes when that one
			// has looked several times, were it not as slow.
			time.Sleep(time.Duration(i) * slow * 11 / 12)
			errs[i] = cosign.Sign(t.Context(), other.Writer(t.Context()), d, key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}})
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	_, err = cosign.Verify(t.Context(), repo, d, policy)
	require.NoError(t, err)
}

// What has a tag that signatures go to and is none is not replaced, and what others have there
// stays.
func TestTagsOfOthers(t *testing.T) {
	key := newKey(t)
	repo := open(t, start(t, false, nil), nil)
	w := repo.Writer(t.Context())
	d, err := release.PackInto(w, "v2", contents())
	require.NoError(t, err)
	config, err := w.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	require.NoError(t, err)
	theirs, err := w.WriteBlob("application/x", strings.NewReader("theirs"))
	require.NoError(t, err)
	_, err = w.WriteManifest(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{theirs}}, "sha256-"+d.Digest.Encoded())
	require.NoError(t, err)
	err = cosign.Sign(t.Context(), w, d, key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatBundle}})
	require.ErrorContains(t, err, "the signature is not added")

	tag := "sha256-" + d.Digest.Encoded() + ".sig"
	_, err = w.WriteManifest(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{theirs}}, tag)
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(t.Context(), w, d, key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}}))
	under, err := w.ResolveTag(t.Context(), tag)
	require.NoError(t, err)
	r, err := cosign.OpenBlob(t.Context(), repo, under)
	require.NoError(t, err)
	var m ocispec.Manifest
	require.NoError(t, json.NewDecoder(r).Decode(&m))
	require.Len(t, m.Layers, 2)
	require.Equal(t, theirs.Digest, m.Layers[0].Digest)

	_, err = w.ResolveTag(t.Context(), string(d.Digest))
	require.ErrorContains(t, err, "is not a tag")
	_, err = w.ResolveTag(t.Context(), "v9")
	require.ErrorIs(t, err, registry.ErrNotFound)
}

// A write of a tag that fails, or of which the answer is lost, is not repeated from what the tag
// named a while ago: what others have put there meanwhile stays.
func TestTagIsWrittenBetweenTwoAttempts(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	for _, lost := range []bool{false, true} {
		var meanwhile func()
		to := newHandler(true)
		name := serve(t, to, func(w http.ResponseWriter, r *http.Request) bool {
			f := meanwhile
			if f == nil || r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, ".sig") {
				return false
			}
			meanwhile = nil
			if lost {
				to.ServeHTTP(httptest.NewRecorder(), r)
			}
			f()
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		})
		repo := open(t, name, nil)
		d, err := release.PackInto(repo.Writer(t.Context()), "v2", contents())
		require.NoError(t, err)
		sign := func(key crypto.Signer) {
			require.NoError(t, cosign.Sign(t.Context(), repo.Writer(t.Context()), d, key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}}))
		}
		meanwhile = func() { sign(theirs) }
		sign(ours)
		require.Nil(t, meanwhile)
		for _, key := range []crypto.Signer{ours, theirs} {
			_, err := cosign.Verify(t.Context(), repo, d, cosign.Policy{Keys: public(key)})
			require.NoError(t, err, "the answer is lost: %v", lost)
		}
	}
}
