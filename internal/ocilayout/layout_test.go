package ocilayout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

func TestWriter(t *testing.T) {
	write := func() string {
		dir := t.TempDir()
		w, err := Create(dir)
		require.NoError(t, err)
		blob, err := w.WriteBlob("text/plain", strings.NewReader("hello"))
		require.NoError(t, err)
		require.Equal(t, "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", blob.Digest.String())
		require.EqualValues(t, 5, blob.Size)
		_, err = w.WriteManifest(ocispec.Manifest{ArtifactType: "a/b", Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{blob}}, "v1")
		require.NoError(t, err)
		_, err = w.WriteManifest(ocispec.Manifest{ArtifactType: "a/c", Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{blob}}, "v1")
		require.NoError(t, err)
		return dir
	}
	dir := write()
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(index), `"v1"`), "the newer manifest takes the name over")
	again, err := os.ReadFile(filepath.Join(write(), "index.json"))
	require.NoError(t, err)
	require.Equal(t, string(index), string(again))

	// Opening an existing layout keeps what is listed.
	w, err := Create(dir)
	require.NoError(t, err)
	got, err := w.readIndex()
	require.NoError(t, err)
	require.Len(t, got.Manifests, 1)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), []byte("{"), 0o644))
	_, err = w.WriteManifest(ocispec.Manifest{}, "v2")
	require.ErrorContains(t, err, "index: ")
}
