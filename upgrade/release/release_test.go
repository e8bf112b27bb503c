package release_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release"
)

func contents() *release.Release {
	return &release.Release{
		ID: "acme", Version: "2",
		UKI:      strings.NewReader("uki"),
		Root:     strings.NewReader("root"),
		Tree:     strings.NewReader("tree"),
		RootHash: bytes.Repeat([]byte{0xab}, 32),
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	d, err := release.Pack(dir, "v2", contents())
	require.NoError(t, err)
	again, err := release.Pack(t.TempDir(), "other", contents())
	require.NoError(t, err)
	require.Equal(t, d.Digest, again.Digest)

	r, err := release.Open(context.Background(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer r.Close()
	require.Equal(t, "acme", r.ID)
	require.Equal(t, "2", r.Version)
	require.Equal(t, bytes.Repeat([]byte{0xab}, 32), r.RootHash)
	b := make([]byte, r.Root.Size())
	_, err = r.Root.ReadAt(b, 0)
	require.NoError(t, err)
	require.Equal(t, "root", string(b))
}

// A UKI alone is a release, and a part of what a root file system needs is none.
func TestUKIAlone(t *testing.T) {
	dir := t.TempDir()
	alone := &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("uki")}
	d, err := release.Pack(dir, "v2", alone)
	require.NoError(t, err)
	r, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer r.Close()
	require.Nil(t, r.Root)
	require.Nil(t, r.Tree)
	require.Empty(t, r.RootHash)

	for config, want := range map[string]string{
		`{"schema":"osmith.release/1","id":"acme","version":"2","rootHash":"` + strings.Repeat("ab", 32) + `"}`: "of a root file system that is not there",
	} {
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: release.ArtifactType,
			Config: ocispec.Descriptor{MediaType: release.MediaTypeConfig, Digest: digest.FromString(config), Size: int64(len(config))},
			Layers: []ocispec.Descriptor{{MediaType: release.MediaTypeUKI, Digest: digest.FromString("uki"), Size: 3}}}
		m.SchemaVersion = 2
		b, err := json.Marshal(m)
		require.NoError(t, err)
		for name, content := range map[string]string{digest.FromString(config).Encoded(): config, digest.FromBytes(b).Encoded(): string(b)} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", name), []byte(content), 0o644))
		}
		_, err = release.Open(t.Context(), os.DirFS(dir), ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))})
		require.ErrorContains(t, err, want)
	}
	half := contents()
	half.Root = nil
	_, err = release.Pack(t.TempDir(), "v2", half)
	require.ErrorContains(t, err, "a release needs a root file system")
}

func TestOpenRefuses(t *testing.T) {
	blob := func(dir, content string) string {
		return filepath.Join(dir, "blobs", "sha256", digest.FromString(content).Encoded())
	}
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string, d digest.Digest) digest.Digest
		want   string
	}{
		{"tampered-layer", func(t *testing.T, dir string, d digest.Digest) digest.Digest {
			require.NoError(t, os.WriteFile(blob(dir, "root"), []byte("rott"), 0o644))
			return d
		}, "the content has digest"},
		{"short-layer", func(t *testing.T, dir string, d digest.Digest) digest.Digest {
			require.NoError(t, os.WriteFile(blob(dir, "uki"), []byte("uk"), 0o644))
			return d
		}, "2 bytes, want 3"},
		{"missing-layer", func(t *testing.T, dir string, d digest.Digest) digest.Digest {
			require.NoError(t, os.Remove(blob(dir, "tree")))
			return d
		}, "release: blob sha256:"},
		{"tampered-manifest", func(t *testing.T, dir string, d digest.Digest) digest.Digest {
			p := filepath.Join(dir, "blobs", "sha256", d.Encoded())
			b, err := os.ReadFile(p)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(p, append(b, ' '), 0o644))
			return d
		}, "the content has digest"},
		{"not-a-digest", func(t *testing.T, dir string, d digest.Digest) digest.Digest { return "sha256:../../etc/passwd" }, "invalid checksum digest"},
		{"not-a-release", func(t *testing.T, dir string, d digest.Digest) digest.Digest {
			other := []byte(`{"schemaVersion":2,"artifactType":"text/plain"}`)
			require.NoError(t, os.WriteFile(blob(dir, string(other)), other, 0o644))
			return digest.FromBytes(other)
		}, `got a "text/plain", want a "application/vnd.osmith.release.v1"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			d, err := release.Pack(dir, "v2", contents())
			require.NoError(t, err)
			r, err := release.Open(context.Background(), os.DirFS(dir), ocispec.Descriptor{Digest: tt.damage(t, dir, d.Digest), Size: -1})
			require.Nil(t, r)
			require.ErrorContains(t, err, tt.want)
		})
	}
	c := contents()
	c.Tree = nil
	_, err := release.Pack(t.TempDir(), "v2", c)
	require.ErrorContains(t, err, "release: pack: a release needs")
}
