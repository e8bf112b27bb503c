package release_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release"
)

// store takes blobs and no manifest.
type store struct{ t *testing.T }

func (store) WriteBlob(mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	b, err := io.ReadAll(r)
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}, err
}

func (s store) WriteManifest(ocispec.Manifest, string) (ocispec.Descriptor, error) {
	s.t.Error("a manifest was written that cannot be read")
	return ocispec.Descriptor{}, nil
}

// A release that could not be read again is not packed.
func TestPackLimits(t *testing.T) {
	small := func() *release.Release {
		return &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("uki"), Root: strings.NewReader("root"),
			Tree: strings.NewReader("tree"), RootHash: make([]byte, 32)}
	}
	config := small()
	config.RootHash = make([]byte, 2<<20)
	manifest := small()
	for i := range 20000 {
		manifest.SBOMs = append(manifest.SBOMs, release.SBOM{MediaType: release.MediaTypeSPDX, Name: fmt.Sprint(i, strings.Repeat("x", 200)), Content: strings.NewReader("{}")})
	}
	dir := t.TempDir()
	_, err := release.Pack(dir, "vX", config)
	require.ErrorIs(t, err, release.ErrTooLarge)
	_, err = release.PackInto(store{t}, "vX", manifest)
	require.ErrorIs(t, err, release.ErrTooLarge)
	manifests := map[string]ocispec.Descriptor{}
	for i := range 20000 {
		manifests[fmt.Sprint("arch", i)] = ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1}
	}
	_, err = release.PackIndex(dir, "vX", manifests)
	require.ErrorIs(t, err, release.ErrTooLarge)
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	require.NoError(t, err)
	require.NotContains(t, string(b), "vX")
}

// A link in the place of a partial file is not written through.
func TestPartialLink(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	d, err := release.Pack(from, "v2", &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("uki"), Root: strings.NewReader("root"),
		Tree: strings.NewReader("tree"), RootHash: make([]byte, 32)})
	require.NoError(t, err)
	src := source{os.DirFS(from)}
	a, err := release.Read(t.Context(), src, d)
	require.NoError(t, err)
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	for _, l := range append(a.Layers, a.Config) {
		if err := os.Symlink(victim, filepath.Join(to, ".partial-"+l.Digest.Encoded())); err != nil {
			t.Skip(err) // a system without links has nothing to follow
		}
	}
	require.NoError(t, release.Pull(t.Context(), src, a, to, release.PullOptions{Ref: "v2"}))
	b, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))
	for _, l := range a.Layers {
		info, err := os.Lstat(filepath.Join(to, "blobs", "sha256", l.Digest.Encoded()))
		require.NoError(t, err)
		require.True(t, info.Mode().IsRegular())
	}
}

type source struct{ fsys fs.FS }

func (s source) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return s.fsys.Open("blobs/sha256/" + d.Digest.Encoded())
}
