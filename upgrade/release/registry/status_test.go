package registry_test

import (
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

var statuses = []int{400, 401, 403, 405, 406, 429, 500, 501, 502, 503, 504}

// An error of one of the places where signatures can be leaves those of the others; without any,
// nothing is said to be unsigned.
func TestStatuses(t *testing.T) {
	key := newKey(t)
	store, d := signed(t, key)
	policy := cosign.Policy{Keys: public(key)}
	for place, path := range map[string]string{"API": "/referrers/sha256:", "tag of signatures": ".sig", "tag of attestations": ".att",
		"list": "/manifests/sha256-" + d.Digest.Encoded()} {
		failing := 0 // with this status
		repo := open(t, start(t, place != "list", func(w http.ResponseWriter, r *http.Request) bool {
			hit := failing != 0 && (place == "list" && strings.HasSuffix(r.URL.Path, path) || place != "list" && strings.Contains(r.URL.Path, path))
			if hit {
				w.WriteHeader(failing)
			}
			return hit
		}), func(o *registry.OpenOptions) { o.Attempts = 1 })
		require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
		for _, failing = range statuses {
			result, err := cosign.Verify(t.Context(), repo, d, policy)
			require.NoError(t, err, "%s: %d", place, failing)
			require.ErrorIs(t, result.Rejected[0].Err, cosign.ErrIncomplete)
			require.ErrorContains(t, result.Rejected[0].Err, fmt.Sprint(failing))
		}
	}
	failing := 0
	repo := open(t, start(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		hit := failing != 0 && (strings.Contains(r.URL.Path, "/referrers/") || strings.Contains(r.URL.Path, "/manifests/sha256-"))
		if hit {
			w.WriteHeader(failing)
		}
		return hit
	}), func(o *registry.OpenOptions) { o.Attempts = 1 })
	require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
	for _, failing = range append(statuses, 404) {
		_, err := cosign.Verify(t.Context(), repo, d, policy)
		if failing == 404 {
			require.ErrorIs(t, err, cosign.ErrUnsigned)
			continue
		}
		require.ErrorIs(t, err, cosign.ErrIncomplete, failing)
		require.NotErrorIs(t, err, cosign.ErrUnsigned, failing)
		require.ErrorContains(t, err, fmt.Sprint(failing))
	}
}

// A list of referrers that never ends is read up to a limit, and one that never arrives is given
// up.
func TestEndless(t *testing.T) {
	key := newKey(t)
	store, d := signed(t, key)
	var requests atomic.Int64
	page, stop := "empty", make(chan struct{})
	t.Cleanup(func() { close(stop) })
	repo := open(t, start(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/referrers/") || page == "" {
			return false
		}
		n := requests.Add(1)
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		w.Header().Set("Link", fmt.Sprintf(`<%s?n=%d>; rel="next"`, r.URL.Path, n))
		index := ocispec.Index{Manifests: []ocispec.Descriptor{}}
		switch page {
		case "full":
			for i := range 100 {
				index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(n, i)), Size: 10})
			}
		case "drip":
			for {
				if _, err := w.Write([]byte(" ")); err != nil {
					return true
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-stop:
					return true
				case <-time.After(20 * time.Millisecond):
				}
			}
		case "large":
			_, _ = w.Write([]byte(strings.Repeat(" ", 2<<20)))
		}
		_ = json.NewEncoder(w).Encode(index)
		return true
	}), func(o *registry.OpenOptions) { o.Attempts, o.Stall = 2, 500*time.Millisecond })
	page = ""
	require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
	for what, most := range map[string]int64{"empty": 64, "full": 11, "drip": 2, "large": 2} {
		page = what
		requests.Store(0)
		found, err := repo.Signatures(t.Context(), d)
		require.LessOrEqual(t, requests.Load(), most, what)
		if what == "full" {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, cosign.ErrIncomplete, what)
		}
		require.GreaterOrEqual(t, len(found), 2, "cosign's tags")
		_, err = cosign.Verify(t.Context(), repo, d, cosign.Policy{Keys: public(key)})
		require.NoError(t, err, what)
	}
}

func public(key crypto.Signer) []crypto.PublicKey { return []crypto.PublicKey{key.Public()} }
