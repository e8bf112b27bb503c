package release_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func TestIndex(t *testing.T) {
	dir := t.TempDir()
	manifests := map[string]ocispec.Descriptor{}
	for _, arch := range []string{"amd64", "arm64"} {
		c := full()
		c.Architecture = arch
		d, err := release.Pack(dir, "", c)
		require.NoError(t, err)
		manifests[arch] = d
	}
	index, err := release.PackIndex(dir, "v2", manifests)
	require.NoError(t, err)
	src := &server{dir: dir}
	for arch, want := range manifests {
		d, err := release.Select(t.Context(), src, index, arch)
		require.NoError(t, err)
		require.Equal(t, want.Digest, d.Digest)
		a, err := release.Read(t.Context(), src, d)
		require.NoError(t, err)
		require.Equal(t, arch, a.Architecture)
		// A release is its own choice.
		d, err = release.Select(t.Context(), src, want, arch)
		require.NoError(t, err)
		require.Equal(t, want, d)
	}
	_, err = release.Select(t.Context(), src, index, "riscv64")
	require.ErrorIs(t, err, release.ErrNoArchitecture)
	require.ErrorContains(t, err, `"riscv64"; there are amd64, arm64`)
	_, err = release.Read(t.Context(), src, index)
	require.ErrorContains(t, err, "an index must be narrowed down")
	_, err = release.PackIndex(dir, "v2", nil)
	require.ErrorContains(t, err, "needs a release")
	_, err = release.PackIndex(dir, "v2", map[string]ocispec.Descriptor{"": index})
	require.ErrorContains(t, err, "the architecture of each")
}

// The index that a release was chosen from comes along, under the name.
func TestPullIndex(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	d, err := release.Pack(dir, "", full())
	require.NoError(t, err)
	index, err := release.PackIndex(dir, "v2", map[string]ocispec.Descriptor{"amd64": d})
	require.NoError(t, err)
	src := &server{dir: dir}
	a, err := release.Read(t.Context(), src, d)
	require.NoError(t, err)
	require.NoError(t, release.Pull(t.Context(), src, a, to, release.PullOptions{Ref: "v2", Index: &index}))
	want, err := os.ReadFile(dir + "/index.json")
	require.NoError(t, err)
	got, err := os.ReadFile(to + "/index.json")
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
	other := index
	other.Digest = digest.FromString("something else")
	require.ErrorIs(t, release.Pull(t.Context(), src, a, to, release.PullOptions{Index: &other}), os.ErrNotExist)
}

// A document that could be read in two ways is refused, whatever its signatures.
func TestAmbiguous(t *testing.T) {
	dir := t.TempDir()
	d, err := release.Pack(dir, "v2", full())
	require.NoError(t, err)
	src := &server{dir: dir}
	r, err := src.Blob(t.Context(), d)
	require.NoError(t, err)
	good, err := io.ReadAll(r)
	require.NoError(t, err)
	for _, more := range []string{`"layers":[],`, `"Layers":[],`, `"artifactType":"x",`, `"manifests":[],`} {
		b := bytes.Replace(good, []byte("{"), []byte("{"+more), 1)
		d := ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
		_, err := release.Read(t.Context(), both{one{b}, src}, d)
		var format *osmith.FormatError
		if more == `"manifests":[],` {
			_, err = release.Select(t.Context(), one{b}, d, "amd64")
		}
		require.ErrorAs(t, err, &format, more)
		require.Contains(t, format.Field, d.Digest)
	}
}

func TestTooLarge(t *testing.T) {
	b := append([]byte("{}"), bytes.Repeat([]byte(" "), 4<<20)...)
	d := ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
	_, err := release.Read(t.Context(), one{b}, d)
	require.ErrorIs(t, err, release.ErrTooLarge)
	require.ErrorContains(t, err, d.Digest.String())
	d.Size = -1 // not known
	_, err = release.Select(t.Context(), one{b}, d, "amd64")
	require.ErrorIs(t, err, release.ErrTooLarge)
}

func TestPackErrors(t *testing.T) {
	for message, change := range map[string]func(c *release.Release){
		"needs an ID and a version":                             func(c *release.Release) { c.ID = "" },
		"a release with a root file system needs its root hash": func(c *release.Release) { c.RootHash = nil },
		"a release needs a hash tree":                           func(c *release.Release) { c.Tree = nil },
		`add-on "a/b": character '/'`:                           func(c *release.Release) { c.Addons[0].Name = "a/b" },
		`add-on "": 0 characters`:                               func(c *release.Release) { c.Addons[0].Name = "" },
		`add-on ".x": character '.'`:                            func(c *release.Release) { c.Addons[0].Name = ".x" },
		`there are two of the name`:                             func(c *release.Release) { c.Addons = append(c.Addons, c.Addons[0]) },
		`add-on "console.addon.efi": no content`:                func(c *release.Release) { c.Addons[0].Content = nil },
		`SBOM "acme.spdx.json": media type "x"`:                 func(c *release.Release) { c.SBOMs[0].MediaType = "x" },
		"release: pack: acme_2.efi: read 4 bytes, want 9":       func(c *release.Release) { c.UKI = sized{strings.NewReader("four"), 9} },
	} {
		c := full()
		change(c)
		_, err := release.Pack(t.TempDir(), "v2", c)
		require.ErrorContains(t, err, message)
		require.ErrorContains(t, err, "release: pack: ")
	}
}

// sized promises more than there is.
type sized struct {
	io.ReaderAt
	size int64
}

func (s sized) Size() int64 { return s.size }

// one is a source with the same bytes for every digest that they have.
type one struct{ b []byte }

func (o one) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.Digest != digest.FromBytes(o.b) {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(o.b)), nil
}

// Manifests of strangers are read to the end or refused, and never lead to a name that is no file
// name.
func FuzzRead(f *testing.F) {
	s := &server{dir: f.TempDir()}
	d, err := release.Pack(s.dir, "v2", full())
	if err != nil {
		f.Fatal(err)
	}
	r, err := s.Blob(f.Context(), d)
	if err != nil {
		f.Fatal(err)
	}
	manifest, err := io.ReadAll(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(manifest)
	f.Add([]byte(`{"mediaType":"x","manifests":[{"platform":{"architecture":"amd64"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
		// With the true config behind it a manifest can get further.
		a, err := release.Read(t.Context(), both{one{b}, s}, d)
		require.Equal(t, a == nil, err != nil)
		if err == nil {
			for _, l := range a.Layers {
				if l.MediaType == release.MediaTypeAddon {
					require.NotContains(t, l.Annotations[ocispec.AnnotationTitle], "/")
				}
			}
			a.Size()
			_, ok := a.Layer(release.MediaTypeUKI)
			require.True(t, ok)
		}
		_, err = release.Select(t.Context(), one{b}, d, "amd64")
		if err == nil {
			require.True(t, json.Valid(b))
		}
	})
}

type both struct {
	first, second release.BlobSource
}

func (b both) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if r, err := b.first.Blob(ctx, d); err == nil {
		return r, nil
	}
	return b.second.Blob(ctx, d)
}
