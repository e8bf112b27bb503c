package release_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// full is a release with one of everything.
func full() *release.Release {
	c := contents()
	c.Architecture = "amd64"
	c.Root = bytes.NewReader(bytes.Repeat([]byte("0123456789abcdef"), 1<<12))
	c.RootHashSignature = strings.NewReader("signature")
	c.Loader = strings.NewReader("loader")
	c.Addons = []release.Addon{{Name: "console.addon.efi", Content: strings.NewReader("addon")}}
	c.PCRs = strings.NewReader("{}")
	c.SBOMs = []release.SBOM{{MediaType: release.MediaTypeSPDX, Name: "acme.spdx.json", Content: strings.NewReader("{}")}}
	return c
}

// server is a layout somewhere else, which may break, lie, and count.
type server struct {
	dir      string
	cut      int64                 // bytes after which a transfer breaks; 0: never
	change   func(b []byte) []byte // what arrives instead
	requests []int64               // offsets
	served   int64                 // bytes
}

// errCut is how net/http says that the line was cut.
var errCut = io.ErrUnexpectedEOF

func (s *server) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return s.BlobRange(ctx, d, 0, -1)
}

func (s *server) BlobRange(_ context.Context, d ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, "blobs", "sha256", d.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	if s.change != nil {
		b = s.change(b)
	}
	s.requests = append(s.requests, off)
	b = b[min(off, int64(len(b))):]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	var r io.Reader = bytes.NewReader(b)
	if s.cut > 0 && int64(len(b)) > s.cut {
		r = io.MultiReader(bytes.NewReader(b[:s.cut]), broken{})
		b = b[:s.cut]
	}
	s.served += int64(len(b))
	return io.NopCloser(r), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errCut }

// sequential hides that a server can begin in the middle.
type sequential struct{ s *server }

func (s sequential) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return s.s.Blob(ctx, d)
}

func serve(t *testing.T) (*server, *release.Artifact) {
	t.Helper()
	s := &server{dir: t.TempDir()}
	d, err := release.Pack(s.dir, "v2", full())
	require.NoError(t, err)
	a, err := release.Read(t.Context(), s, d)
	require.NoError(t, err)
	s.requests = nil
	return s, a
}

func open(t *testing.T, dir string, a *release.Artifact) *release.Release {
	t.Helper()
	r, err := release.Open(t.Context(), os.DirFS(dir), a.Descriptor)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func text(t *testing.T, s osmith.Source) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	require.NoError(t, err)
	return string(b)
}

func TestPullAll(t *testing.T) {
	s, a := serve(t)
	require.Equal(t, "amd64", a.Architecture)
	require.Len(t, a.Layers, 8)
	dir := t.TempDir()
	var last, total int64
	o := release.PullOptions{Ref: "v2", Progress: func(d, n int64) {
		require.GreaterOrEqual(t, d, last)
		last, total = d, n
	}}
	require.NoError(t, release.Pull(t.Context(), s, a, dir, o))
	require.Equal(t, total, last)
	require.Equal(t, a.Size()+a.Config.Size, total)
	r := open(t, dir, a)
	require.Equal(t, "signature", text(t, r.RootHashSignature))
	require.Equal(t, "loader", text(t, r.Loader))
	require.Equal(t, "console.addon.efi", r.Addons[0].Name)
	require.Equal(t, "addon", text(t, r.Addons[0].Content))
	require.Equal(t, release.MediaTypeSPDX, r.SBOMs[0].MediaType)
	require.Equal(t, "{}", text(t, r.PCRs))

	// What is there is not fetched again.
	s.requests = nil
	last = 0
	require.NoError(t, release.Pull(t.Context(), s, a, dir, o))
	require.Empty(t, s.requests)
	require.Equal(t, total, last)

	// A blob of the right size that is damaged is.
	root, ok := a.Layer(release.MediaTypeRoot)
	require.True(t, ok)
	name := filepath.Join(dir, "blobs", "sha256", root.Digest.Encoded())
	require.NoError(t, os.WriteFile(name, make([]byte, root.Size), 0o644))
	last = 0
	require.NoError(t, release.Pull(t.Context(), s, a, dir, o))
	require.Equal(t, []int64{0}, s.requests)
	open(t, dir, a)
}

// A transfer that breaks again and again gets there, without fetching anything twice.
func TestPullResumes(t *testing.T) {
	s, a := serve(t)
	dir := t.TempDir()
	s.cut = 10000
	tries := 0
	for ; ; tries++ {
		err := release.Pull(t.Context(), s, a, dir, release.PullOptions{})
		if err == nil {
			break
		}
		require.ErrorIs(t, err, errCut)
		require.Less(t, tries, 10)
	}
	require.Equal(t, 6, tries, "65536 bytes in pieces of 10000")
	require.Contains(t, s.requests, int64(60000))
	require.NotContains(t, s.requests, int64(5000))
	open(t, dir, a)
	left, err := filepath.Glob(filepath.Join(dir, ".partial-*"))
	require.NoError(t, err)
	require.Empty(t, left)

	// A server that turns out to have no ranges is not asked for one twice.
	dir = t.TempDir()
	require.ErrorIs(t, release.Pull(t.Context(), rangeless{s}, a, dir, release.PullOptions{}), errCut)
	s.cut = 0
	var last int64
	require.NoError(t, release.Pull(t.Context(), rangeless{s}, a, dir, release.PullOptions{Progress: func(done, total int64) {
		require.LessOrEqual(t, done, total)
		last = total - done
	}}))
	require.Zero(t, last)
	open(t, dir, a)
	s.cut = 10000

	// A source that knows no ranges begins at the beginning.
	dir = t.TempDir()
	require.ErrorIs(t, release.Pull(t.Context(), sequential{s}, a, dir, release.PullOptions{}), errCut)
	s.cut = 0
	require.NoError(t, release.Pull(t.Context(), sequential{s}, a, dir, release.PullOptions{}))
	open(t, dir, a)
}

// rangeless has whole blobs only, which it does not know.
type rangeless struct{ *server }

func (s rangeless) BlobRange(ctx context.Context, d ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	return nil, release.ErrNoRanges
}

// Nothing that is not what was signed gets a name, and what was kept of it does not spoil the next
// try.
func TestPullRefuses(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"tampered":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"too long":  func(b []byte) []byte { return append(b, 0) },
		"too short": func(b []byte) []byte { return b[:len(b)-1] },
		"empty":     func(b []byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			s, a := serve(t)
			dir := t.TempDir()
			s.change = change
			err := release.Pull(t.Context(), s, a, dir, release.PullOptions{Ref: "v2"})
			var wrong *osmith.DigestError
			require.ErrorAs(t, err, &wrong)
			blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
			require.NoError(t, err)
			require.Empty(t, blobs)
			_, err = release.Open(t.Context(), os.DirFS(dir), a.Descriptor)
			require.Error(t, err)
			s.change = nil
			require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{}))
		})
	}
	s, a := serve(t)
	dir := t.TempDir()
	// An altered beginning that was kept is noticed, dropped, and fetched anew.
	root, _ := a.Layer(release.MediaTypeRoot)
	partial := filepath.Join(dir, ".partial-"+root.Digest.Encoded())
	require.NoError(t, os.WriteFile(partial, []byte("something else"), 0o644))
	require.ErrorAs(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{}), new(*osmith.DigestError))
	require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{}))

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, release.Pull(gone, s, a, t.TempDir(), release.PullOptions{}), context.Canceled)
}

func TestPullSkips(t *testing.T) {
	s, a := serve(t)
	dir := t.TempDir()
	require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{Skip: []string{release.MediaTypeRoot}}))
	_, err := release.Open(t.Context(), os.DirFS(dir), a.Descriptor)
	require.ErrorIs(t, err, os.ErrNotExist)

	root, _ := a.Layer(release.MediaTypeRoot)
	r, err := release.NewBlobReader(t.Context(), s, root)
	require.NoError(t, err)
	require.Equal(t, root.Size, r.Size())
	b := make([]byte, 20)
	_, err = r.ReadAt(b, 5)
	require.NoError(t, err)
	require.Equal(t, "56789abcdef012345678", string(b))
	n, err := r.ReadAt(b, root.Size-4)
	require.Equal(t, io.EOF, err)
	require.Equal(t, "cdef", string(b[:n]))
	_, err = r.ReadAt(b, root.Size)
	require.Equal(t, io.EOF, err)
	_, err = r.ReadAt(b, -1)
	require.ErrorContains(t, err, "negative offset")
	s.change = func(b []byte) []byte { return b[:10] }
	_, err = r.ReadAt(b, 5)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = release.NewBlobReader(t.Context(), s, ocispec.Descriptor{Digest: "sha256:x"})
	require.ErrorContains(t, err, "release: digest")
}

// A layer that was fetched before the others is not fetched again, and neither is a blob that was
// put together by other means; one that was put together wrongly is.
func TestPullPartsFirst(t *testing.T) {
	s, a := serve(t)
	dir := filepath.Join(t.TempDir(), "to")
	name, err := release.PullLayer(t.Context(), s, a, dir, release.MediaTypeTree)
	require.NoError(t, err)
	tree, _ := a.Layer(release.MediaTypeTree)
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, tree.Digest, digest.FromBytes(b))
	require.Len(t, s.requests, 1)
	_, err = release.Open(t.Context(), os.DirFS(dir), a.Descriptor)
	require.Error(t, err, "nothing is listed yet")
	_, err = release.PullLayer(t.Context(), s, a, dir, "x/y")
	require.ErrorIs(t, err, fs.ErrNotExist)

	root, _ := a.Layer(release.MediaTypeRoot)
	content, err := os.ReadFile(filepath.Join(s.dir, "blobs", "sha256", root.Digest.Encoded()))
	require.NoError(t, err)
	for _, wrong := range []bool{false, true} {
		to := t.TempDir()
		require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
		f, err := release.Partial(to, root)
		require.NoError(t, err)
		b := bytes.Clone(content)
		if wrong {
			b[len(b)/2] ^= 1
		}
		_, err = f.Write(b)
		require.NoError(t, errors.Join(err, f.Close()))
		s.requests = nil
		require.NoError(t, release.Pull(t.Context(), s, a, to, release.PullOptions{}))
		different := map[digest.Digest]bool{a.Config.Digest: true, root.Digest: wrong}
		for _, l := range a.Layers {
			different[l.Digest] = different[l.Digest] || l.Digest != root.Digest && l.Digest != tree.Digest
		}
		want := 0
		for _, fetched := range different {
			if fetched {
				want++
			}
		}
		require.Len(t, s.requests, want)
		open(t, to, a)
		left, err := filepath.Glob(filepath.Join(to, ".partial-*"))
		require.NoError(t, err)
		require.Empty(t, left)
	}
	_, err = release.Partial(dir, ocispec.Descriptor{Digest: "sha256:../x"})
	require.Error(t, err)
}
