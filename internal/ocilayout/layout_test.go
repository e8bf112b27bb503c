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

// What a reader would not take is not written, and the index stays as it is.
func TestLimits(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir)
	require.NoError(t, err)
	unchanged := func() {
		b, err := os.ReadFile(filepath.Join(dir, "index.json"))
		require.NoError(t, err)
		require.NotContains(t, string(b), "vX")
		blobs, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
		require.NoError(t, err)
		require.Len(t, blobs, 0)
	}
	large := map[string]string{"a": strings.Repeat("x", 4<<20)}
	_, err = w.WriteManifest(ocispec.Manifest{Annotations: large}, "vX")
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = w.WriteIndex(ocispec.Index{Annotations: large}, "vX")
	require.ErrorIs(t, err, ErrTooLarge)
	unchanged()
	index := ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: strings.Repeat("x", 4<<20-200)}}}
	require.NoError(t, w.writeIndex(&index))
	_, err = w.WriteManifest(ocispec.Manifest{}, "vX")
	require.ErrorIs(t, err, ErrTooLarge)
	unchanged()
	require.ErrorContains(t, w.WriteRaw(ocispec.Descriptor{Digest: "sha256:00", Size: 1}, []byte("a"), "vX"), "described as")
	unchanged()
}

// The entry of a manifest that refers to another one says to which.
func TestSubjectListed(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir)
	require.NoError(t, err)
	subject := ocispec.Descriptor{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
	d, err := w.WriteManifest(ocispec.Manifest{Subject: &subject}, "")
	require.NoError(t, err)
	require.Nil(t, d.Annotations)
	_, err = w.WriteManifest(ocispec.Manifest{Subject: &subject, ArtifactType: "x"}, "v1")
	require.NoError(t, err)
	index, err := w.readIndex()
	require.NoError(t, err)
	require.Equal(t, map[string]string{AnnotationSubject: string(subject.Digest)}, index.Manifests[0].Annotations)
	require.Equal(t, map[string]string{AnnotationSubject: string(subject.Digest), ocispec.AnnotationRefName: "v1"}, index.Manifests[1].Annotations)
}

func TestValues(t *testing.T) {
	require.Equal(t, 0, Values(nil))
	require.Equal(t, 5, Values([]byte(`{"a,{[\"":[1,2],"b":{"c":3}}`)))
	require.NoError(t, CheckIndex([]byte(`{"manifests":[{}]}`)))
	require.ErrorIs(t, CheckIndex([]byte(`{"manifests":[{}`+strings.Repeat(",{}", 1<<16)+`]}`)), ErrTooLarge)
	require.ErrorIs(t, CheckIndex(make([]byte, 4<<20+1)), ErrTooLarge)
}

// Links that an attacker has put into the directory are replaced, and what they lead to is left
// alone.
func TestLinksAreNotWrittenThrough(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o644))
	w, err := Create(dir)
	require.NoError(t, err)
	for _, name := range []string{"index.json.new", "oci-layout.new"} {
		if err := os.Symlink(precious, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	for _, name := range []string{"index.json", "oci-layout"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
		require.NoError(t, os.WriteFile(filepath.Join(outside, name), b, 0o644))
		require.NoError(t, os.Symlink(filepath.Join(outside, name), filepath.Join(dir, name)))
	}
	before, err := os.ReadFile(filepath.Join(outside, "index.json"))
	require.NoError(t, err)
	_, err = w.WriteManifest(ocispec.Manifest{}, "v1")
	require.NoError(t, err)
	_, err = Create(dir)
	require.NoError(t, err)
	after, err := os.ReadFile(filepath.Join(outside, "index.json"))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
	b, err := os.ReadFile(precious)
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))
	info, err := os.Lstat(filepath.Join(dir, "index.json"))
	require.NoError(t, err)
	require.True(t, info.Mode().IsRegular())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, e.Name(), ".new-", "nothing is left behind")
	}
}
