package registry_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// start runs a registry in this process, with something in front of it.
func start(t testing.TB, referrers bool, front func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	return serve(t, newHandler(referrers), front)
}

func newHandler(referrers bool) http.Handler {
	return ggcr.New(ggcr.WithReferrersSupport(referrers), ggcr.Logger(log.New(io.Discard, "", 0)))
}

func serve(t testing.TB, handler http.Handler, front func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if front == nil || !front(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/os/acme"
}

func open(t testing.TB, name string, change func(o *registry.OpenOptions)) *registry.Repository {
	t.Helper()
	o := registry.OpenOptions{Client: http.DefaultClient, PlainHTTP: true, Attempts: 3, Wait: func(int) time.Duration { return 0 }}
	if change != nil {
		change(&o)
	}
	repo, err := registry.Open(name, o)
	require.NoError(t, err)
	return repo
}

func contents() *release.Release {
	return &release.Release{
		ID: "acme", Version: "2", UKI: strings.NewReader("uki"), Root: strings.NewReader(strings.Repeat("root", 50000)),
		Tree: strings.NewReader("tree"), RootHash: make([]byte, 32),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// signed is a layout with a release that was signed and attested in every format.
func signed(t testing.TB, key crypto.Signer) (*cosign.Dir, ocispec.Descriptor) {
	t.Helper()
	dir := t.TempDir()
	d, err := release.Pack(dir, "v2", contents())
	require.NoError(t, err)
	store, err := cosign.OpenDir(dir)
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(t.Context(), store, d, key, cosign.SignOptions{}))
	require.NoError(t, cosign.Attest(t.Context(), store, d, cosign.PredicateSPDX, []byte(`{"a":1}`), key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatBundle}}))
	require.NoError(t, cosign.Attest(t.Context(), store, d, cosign.PredicateCycloneDX, []byte(`{"a":1}`), key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatDSSE}}))
	return store, d
}

func policy(key crypto.PublicKey) cosign.Policy {
	return cosign.Policy{Keys: []crypto.PublicKey{key}, Attestations: []cosign.AttestationRule{
		{PredicateTypes: []string{cosign.PredicateSPDX}}, {PredicateTypes: []string{cosign.PredicateCycloneDX}}}}
}

func fetch(t testing.TB, repo *registry.Repository, dir string, p cosign.Policy) error {
	t.Helper()
	ctx := t.Context()
	d, err := repo.Resolve(ctx, "v2")
	if err != nil {
		return err
	}
	result, err := cosign.Verify(ctx, repo, d, p)
	if err != nil {
		return err
	}
	a, err := release.Read(ctx, repo, result.Subject)
	if err != nil {
		return err
	}
	return release.Pull(ctx, repo, a, dir, release.PullOptions{})
}

// A signed release goes into a registry and comes out on another machine, with and without a
// referrers API.
func TestPushAndPull(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers=%t", referrers), func(t *testing.T) {
			key := newKey(t)
			store, d := signed(t, key)
			var puts atomic.Int64
			name := start(t, referrers, func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/") {
					puts.Add(1)
				}
				return false
			})
			repo := open(t, name, nil)
			require.Equal(t, name, repo.Name())
			var last int64
			require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2", Progress: func(done, total int64) {
				require.Greater(t, done, last)
				require.LessOrEqual(t, done, total)
				last = done
			}}))
			dir := t.TempDir()
			require.NoError(t, fetch(t, repo, dir, policy(key.Public())))
			r, err := release.Open(t.Context(), os.DirFS(dir), d)
			require.NoError(t, err)
			require.Equal(t, "2", r.Version)
			require.NoError(t, r.Close())
			require.ErrorIs(t, fetch(t, repo, t.TempDir(), policy(newKey(t).Public())), cosign.ErrUntrusted)

			// Again, and nothing is sent twice.
			before := puts.Load()
			require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
			require.Equal(t, before, puts.Load())
		})
	}
}

// Releases and signatures can be written where they will be read.
func TestWriter(t *testing.T) {
	key := newKey(t)
	repo := open(t, start(t, true, nil), nil)
	w := repo.Writer(t.Context())
	d, err := release.PackInto(w, "v2", contents())
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, cosign.Sign(t.Context(), w, d, key, cosign.SignOptions{}))
	}
	require.NoError(t, fetch(t, repo, t.TempDir(), cosign.Policy{Keys: []crypto.PublicKey{key.Public()}}))
}

// Blocks are read where they are, and a connection that breaks is no matter.
func TestRangesAndFailures(t *testing.T) {
	key := newKey(t)
	store, d := signed(t, key)
	var n atomic.Int64
	failing := false
	name := start(t, true, func(w http.ResponseWriter, _ *http.Request) bool {
		if failing && n.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	var retries atomic.Int64
	repo := open(t, name, func(o *registry.OpenOptions) {
		o.OnRetry = func(int, time.Duration, error) { retries.Add(1) }
	})
	require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
	failing = true
	require.NoError(t, fetch(t, repo, t.TempDir(), policy(key.Public())))
	require.Greater(t, retries.Load(), int64(5))

	a, err := release.Read(t.Context(), repo, d)
	require.NoError(t, err)
	root, _ := a.Layer(release.MediaTypeRoot)
	r, err := release.NewBlobReader(t.Context(), repo, root)
	require.NoError(t, err)
	b := make([]byte, 6)
	_, err = r.ReadAt(b, 100001)
	require.NoError(t, err)
	require.Equal(t, "ootroo", string(b))
}

func TestCredentials(t *testing.T) {
	key := newKey(t)
	store, d := signed(t, key)
	name := start(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, ok := r.BasicAuth(); ok && user == "acme" && password == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="os"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	with := func(password string) *registry.Repository {
		return open(t, name, func(o *registry.OpenOptions) {
			o.Credentials = func(_ context.Context, host string) (registry.Credentials, error) {
				require.True(t, strings.HasPrefix(name, host))
				return registry.Credentials{Username: "acme", Password: password}, nil
			}
		})
	}
	require.NoError(t, with("secret").Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
	require.NoError(t, fetch(t, with("secret"), t.TempDir(), policy(key.Public())))
	for _, repo := range []*registry.Repository{with("wrong"), open(t, name, nil)} {
		err := fetch(t, repo, t.TempDir(), policy(key.Public()))
		require.Error(t, err)
		require.NotErrorIs(t, err, registry.ErrNotFound)
	}
	asked := errors.New("no keyring")
	repo := open(t, name, func(o *registry.OpenOptions) {
		o.Credentials = func(context.Context, string) (registry.Credentials, error) { return registry.Credentials{}, asked }
	})
	require.ErrorIs(t, fetch(t, repo, t.TempDir(), policy(key.Public())), asked)
}

// A registry that serves something else than was signed is refused, wherever it lies.
func TestTampered(t *testing.T) {
	key := newKey(t)
	store, d := signed(t, key)
	var lie string
	name := start(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if lie == "" || r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, lie) {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		fmt.Fprint(w, `{"schemaVersion":2}`)
		return true
	})
	repo := open(t, name, nil)
	require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
	a, err := release.Read(t.Context(), repo, d)
	require.NoError(t, err)
	for _, l := range append(a.Layers, a.Config, d) {
		lie = l.Digest.String()
		require.Error(t, fetch(t, repo, t.TempDir(), policy(key.Public())), l.MediaType)
	}
	lie = ""
	require.NoError(t, fetch(t, repo, t.TempDir(), policy(key.Public())))
}

func TestErrors(t *testing.T) {
	for _, name := range []string{"", "registry.example", "registry.example/os:v2", "registry.example/OS", "registry.example/os@sha256:00"} {
		_, err := registry.Open(name, registry.OpenOptions{Client: http.DefaultClient})
		require.ErrorContains(t, err, "registry: ", name)
	}
	_, err := registry.Open("registry.example/os", registry.OpenOptions{})
	require.ErrorContains(t, err, "no HTTP client")
	repo := open(t, start(t, true, nil), nil)
	_, err = repo.Resolve(t.Context(), "v9")
	require.ErrorIs(t, err, registry.ErrNotFound)
	_, err = repo.Resolve(t.Context(), "not a tag!")
	require.Error(t, err)
	_, err = repo.Blob(t.Context(), ocispec.Descriptor{Digest: "sha256:../x", MediaType: "x"})
	require.ErrorContains(t, err, "registry: digest")
	_, err = repo.Signatures(t.Context(), ocispec.Descriptor{Digest: "x"})
	require.ErrorContains(t, err, "registry: digest")
	gone := ocispec.Descriptor{MediaType: "x", Digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000", Size: 1}
	_, err = repo.Blob(t.Context(), gone)
	require.ErrorIs(t, err, registry.ErrNotFound)
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = repo.Resolve(cut, "v2")
	require.ErrorIs(t, err, context.Canceled)
	store, d := signed(t, newKey(t))
	d.Digest = gone.Digest
	require.Error(t, repo.Push(t.Context(), store, d, registry.PushOptions{}))
}
