package weblayout_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

func contents() *release.Release {
	return &release.Release{
		ID: "acme", Version: "2", UKI: strings.NewReader("uki"), Root: strings.NewReader(strings.Repeat("root", 5000)),
		Tree: strings.NewReader("tree"), RootHash: make([]byte, 32),
	}
}

// signed is a layout with a signed release of the name v2.
func signed(t testing.TB) (dir string, d ocispec.Descriptor, key crypto.PublicKey) {
	t.Helper()
	dir = t.TempDir()
	d, err := release.Pack(dir, "v2", contents())
	require.NoError(t, err)
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	store, err := cosign.OpenDir(dir)
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(t.Context(), store, d, signer, cosign.SignOptions{}))
	return dir, d, signer.Public()
}

// serve is nothing but a file server, with something in front of it.
func serve(t testing.TB, dir string, front func(n int, w http.ResponseWriter, r *http.Request) bool) *weblayout.Layout {
	t.Helper()
	files, n := http.FileServer(http.Dir(dir)), 0
	server := httptest.NewServer(http.StripPrefix("/os/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		if front == nil || !front(n, w, r) {
			files.ServeHTTP(w, r)
		}
	})))
	t.Cleanup(server.Close)
	src, err := weblayout.Open(server.URL+"/os/", weblayout.OpenOptions{Client: server.Client(), Attempts: 3, Wait: func(int) time.Duration { return 0 }})
	require.NoError(t, err)
	return src
}

func fetch(t testing.TB, src *weblayout.Layout, dir string, key crypto.PublicKey) error {
	t.Helper()
	ctx := t.Context()
	d, err := src.Resolve(ctx, "v2")
	if err != nil {
		return err
	}
	result, err := cosign.Verify(ctx, src, d, cosign.Policy{Keys: []crypto.PublicKey{key}})
	if err != nil {
		return err
	}
	a, err := release.Read(ctx, src, result.Subject)
	if err != nil {
		return err
	}
	return release.Pull(ctx, src, a, dir, release.PullOptions{Ref: "v2"})
}

// A release goes from a plain file server to a disk, verified.
func TestFileServer(t *testing.T) {
	from, d, key := signed(t)
	dir := t.TempDir()
	require.NoError(t, fetch(t, serve(t, from, nil), dir, key))
	r, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	require.Equal(t, int64(20000), r.Root.Size())
	require.NoError(t, r.Close())

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	require.ErrorIs(t, fetch(t, serve(t, from, nil), t.TempDir(), other.Public()), cosign.ErrUntrusted)
}

// A server that fails every other time only takes longer.
func TestFailures(t *testing.T) {
	from, _, key := signed(t)
	src := serve(t, from, func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n%2 == 1
	})
	require.NoError(t, fetch(t, src, t.TempDir(), key))
	src = serve(t, from, func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	require.ErrorContains(t, fetch(t, src, t.TempDir(), key), "weblayout: http://")
}

// breaking sends so many bytes of an answer, and cuts the line.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		_, _ = b.ResponseWriter.Write(p[:max(0, len(p)+b.left)]) // the line is cut in any case
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

// A UKI that stays on a server whose lines are cut is read twice all the same, and fetched where
// there are no ranges.
func TestStreamOverBadLines(t *testing.T) {
	from, image := t.TempDir(), make([]byte, 3<<20)
	_, _ = mathrand.NewChaCha8([32]byte{7}).Read(image) // it has no errors
	d, err := release.Pack(from, "v2", &release.Release{ID: "acme", Version: "2", UKI: bytes.NewReader(image)})
	require.NoError(t, err)
	files := http.FileServer(http.Dir(from))
	for name, front := range map[string]func(w http.ResponseWriter, r *http.Request){
		"cut":       func(w http.ResponseWriter, r *http.Request) { files.ServeHTTP(&breaking{w, 200_000}, r) },
		"no ranges": func(w http.ResponseWriter, r *http.Request) { r.Header.Del("Range"); files.ServeHTTP(w, r) },
	} {
		t.Run(name, func(t *testing.T) {
			src := serve(t, from, func(_ int, w http.ResponseWriter, r *http.Request) bool { front(w, r); return true })
			a, err := release.Read(t.Context(), src, d)
			require.NoError(t, err)
			r, err := release.Stream(t.Context(), src, a, t.TempDir(), release.PullOptions{})
			require.NoError(t, err)
			defer r.Close()
			got, err := io.ReadAll(io.NewSectionReader(r.UKI, 0, r.UKI.Size()))
			require.NoError(t, err)
			require.True(t, bytes.Equal(image, got))
		})
	}
}

// A blob that was altered on the server is refused, and so is an index that leads elsewhere.
func TestTampered(t *testing.T) {
	from, _, key := signed(t)
	var wrong *osmith.DigestError
	root := filepath.Join(from, "blobs", "sha256")
	src := serve(t, from, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if b, err := os.ReadFile(filepath.Join(root, filepath.Base(r.URL.Path))); err == nil && len(b) == 20000 {
			b[10000] ^= 1
			_, _ = w.Write(b)
			return true
		}
		return false
	})
	require.ErrorAs(t, fetch(t, src, t.TempDir(), key), &wrong)

	c := contents()
	c.Version = "3"
	_, err := release.Pack(from, "v2", c) // takes the name over
	require.NoError(t, err)
	err = fetch(t, serve(t, from, nil), t.TempDir(), key)
	require.ErrorIs(t, err, cosign.ErrUnsigned, "the signatures there are of another release")
}

func TestErrors(t *testing.T) {
	for _, base := range []string{"", "updates.example", "file:///os", "https://", "https://x/?a", "https://x/#a", "https://x\x00"} {
		_, err := weblayout.Open(base, weblayout.OpenOptions{Client: http.DefaultClient})
		require.ErrorContains(t, err, "weblayout: ", base)
	}
	_, err := weblayout.Open("https://x", weblayout.OpenOptions{})
	require.ErrorContains(t, err, "no HTTP client")

	from, d, _ := signed(t)
	src := serve(t, from, nil)
	_, err = src.Resolve(t.Context(), "v9")
	require.ErrorIs(t, err, weblayout.ErrNotFound)
	got, err := src.Resolve(t.Context(), d.Digest.String())
	require.NoError(t, err)
	require.Equal(t, d.Digest, got.Digest)
	_, err = src.Blob(t.Context(), ocispec.Descriptor{Digest: "sha256:../../../etc/passwd"})
	require.ErrorContains(t, err, "weblayout: digest")
	gone := ocispec.Descriptor{Digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000", Size: 1}
	_, err = src.Blob(t.Context(), gone)
	require.True(t, errors.Is(err, os.ErrNotExist), "%v", err)
	src = serve(t, t.TempDir(), func(_ int, w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "{"); return true })
	_, err = src.Resolve(t.Context(), "v2")
	require.ErrorContains(t, err, "index.json: unexpected")
	_, err = src.Signatures(t.Context(), d)
	require.Error(t, err)

	// A server without ranges serves whole blobs.
	src = serve(t, from, func(_ int, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false })
	_, err = src.BlobRange(t.Context(), d, 1, 10)
	require.ErrorIs(t, err, release.ErrNoRanges)
	whole, err := src.Blob(t.Context(), d)
	require.NoError(t, err)
	require.NoError(t, whole.Close())
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "layout")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if _, err := release.Pack(dir, "v2", contents()); err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()

	ctx := context.Background()
	src, err := weblayout.Open(server.URL, weblayout.OpenOptions{Client: server.Client()})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := src.Resolve(ctx, "v2")
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := release.Read(ctx, src, d) // after cosign.Verify of d
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.ID, a.Version, a.Size(), "bytes")
	// Output: acme 2 20007 bytes
}

// With a thousand releases in a layout, a verification fetches no more than with one.
func TestManyReleases(t *testing.T) {
	from, d, key := signed(t)
	text, err := os.ReadFile(filepath.Join(from, "index.json"))
	require.NoError(t, err)
	var index ocispec.Index
	require.NoError(t, json.Unmarshal(text, &index))
	own := index.Manifests
	// Entries as Pack and Sign write them, of releases that are not looked at.
	for i := range 1000 {
		other := digest.FromString(fmt.Sprint("release ", i))
		index.Manifests = append(index.Manifests,
			ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: other, Size: 1000, ArtifactType: release.ArtifactType,
				Annotations: map[string]string{ocispec.AnnotationRefName: fmt.Sprint("v", i+10)}},
			ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint("tag ", i)), Size: 1000,
				Annotations: map[string]string{ocispec.AnnotationRefName: "sha256-" + other.Encoded() + ".sig"}})
		for j := range 2 {
			index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint("bundle ", i, j)), Size: 1000,
				ArtifactType: own[2].ArtifactType, Annotations: map[string]string{"dev.osmith.subject": string(other)}})
		}
	}
	text, err = json.Marshal(index)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(from, "index.json"), text, 0o600))
	requests := 0
	src := serve(t, from, func(int, http.ResponseWriter, *http.Request) bool { requests++; return false })
	found, err := src.Signatures(t.Context(), d)
	require.NoError(t, err)
	require.Len(t, found, 2)
	requests = 0
	require.NoError(t, fetch(t, src, t.TempDir(), key))
	require.LessOrEqual(t, requests, 14)

	// Entries that say nothing come last, and not without end.
	for i := range 2000 {
		index.Manifests = append([]ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint("unsaid ", i)), Size: 1}}, index.Manifests...)
	}
	text, err = json.Marshal(index)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(from, "index.json"), text, 0o600))
	found, err = src.Signatures(t.Context(), d)
	require.NoError(t, err)
	require.Len(t, found, 1024)
	require.ElementsMatch(t, []digest.Digest{own[1].Digest, own[2].Digest}, []digest.Digest{found[0].Digest, found[1].Digest})
}

// Names, passwords and tokens get to the server and into no error.
func TestSecrets(t *testing.T) {
	from, _, key := signed(t)
	var user, password string
	files := http.FileServer(http.Dir(from))
	away := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ = r.BasicAuth()
		switch {
		case away != "":
			http.Redirect(w, r, away, http.StatusFound)
		case user != "reader" || password != "s3cret":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	openAt := func(base string) (*weblayout.Layout, error) {
		return weblayout.Open(base, weblayout.OpenOptions{Client: server.Client(), Attempts: 1})
	}
	src, err := openAt(strings.Replace(server.URL, "://", "://reader:s3cret@", 1))
	require.NoError(t, err)
	require.NoError(t, fetch(t, src, t.TempDir(), key))
	_, err = src.Resolve(t.Context(), "v9")
	require.ErrorContains(t, err, server.URL)
	require.NotContains(t, err.Error(), "s3cret")
	away = "http://tok3n@127.0.0.1:1/?sig=tok3n#tok3n"
	_, err = src.Resolve(t.Context(), "v2")
	require.ErrorContains(t, err, "127.0.0.1:1")
	require.NotContains(t, err.Error(), "tok3n")
	for _, base := range []string{"ftp://reader:s3cret@x", "https://reader:s3cret@x/\x00", "https://x/?s3cret"} {
		_, err := openAt(base)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

// Headers without end are one request and a typed error.
func TestEndlessHeaders(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		for i := range 200_000 {
			w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("a", 100))
		}
		w.WriteHeader(http.StatusOK)
	}))
	defer server.Close()
	layout, err := weblayout.Open(server.URL, weblayout.OpenOptions{Client: http.DefaultClient})
	require.NoError(t, err)
	_, err = layout.Resolve(t.Context(), "2")
	require.ErrorIs(t, err, release.ErrTooLarge)
	require.Equal(t, 1, requests)
}
