package cosign_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
)

func TestResolve(t *testing.T) {
	path, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(context.Background(), dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	for _, name := range []string{"v1", "", string(artifact.Digest)} {
		got, err := dir.Resolve(name)
		require.NoError(t, err, name)
		assert.Equal(t, artifact.Digest, got.Digest)
		assert.Equal(t, artifact.Size, got.Size)
	}
	_, err := dir.Resolve("v9")
	require.ErrorIs(t, err, cosign.ErrNotFound)
	_, err = dir.Resolve("sha256:" + strings.Repeat("0", 64))
	require.ErrorIs(t, err, cosign.ErrNotFound)
	_, err = dir.Resolve("sha256:../../etc/passwd")
	require.ErrorContains(t, err, "cosign: digest \"sha256:../../etc/passwd\"")

	// What the index does not list is still found by digest.
	text, err := json.Marshal(ocispec.Index{Versioned: layoutIndex(t, path).Versioned})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(path, "index.json"), text, 0o600))
	got, err := dir.Resolve(string(artifact.Digest))
	require.NoError(t, err)
	assert.Equal(t, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: artifact.Digest, Size: artifact.Size}, got)
	result, err := cosign.Verify(context.Background(), dir, got, cosign.Policy{Keys: public("p256")})
	require.NoError(t, err)
	assert.Len(t, result.Signatures, 1, "the bundle, which names its subject")
}

func TestResolveAmbiguous(t *testing.T) {
	_, dir, _ := newArtifact(t)
	addArtifact(t, dir, "v2")
	_, err := dir.Resolve("")
	assert.EqualError(t, err, `cosign: layout: "": 2 artifacts have the name`)
}

func TestOpenLayoutErrors(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	good := file(`{"imageLayoutVersion":"1.0.0"}`)
	for message, fsys := range map[string]fstest.MapFS{
		"file does not exist":                                        {},
		`oci-layout: imageLayoutVersion: "2.0.0"`:                    {"oci-layout": file(`{"imageLayoutVersion":"2.0.0"}`)},
		"cosign: oci-layout: unexpected end of JSON":                 {"oci-layout": file(``)},
		"cosign: layout: open index.json":                            {"oci-layout": good},
		"cosign: index: schemaVersion: 0, want 2":                    {"oci-layout": good, "index.json": file(`{}`)},
		"cosign: layout: index.json: too large: more than 4194304 b": {"oci-layout": good, "index.json": file(strings.Repeat(" ", 5<<20))},
	} {
		layout, err := cosign.OpenLayout(fsys)
		assert.Nil(t, layout)
		assert.ErrorContains(t, err, message)
	}
	_, err := cosign.OpenLayout(fstest.MapFS{})
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// zeros is a source of one blob that is never in memory.
type zeros struct{ size int64 }

func (z zeros) Blob(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeroReader{}, z.size)), nil
}

func (z zeros) Signatures(context.Context, ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return nil, errors.New("registry is gone")
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestOpenBlob(t *testing.T) {
	ctx := context.Background()
	const size = 8 << 20
	want := ocispec.Descriptor{Digest: "sha256:2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74", Size: size}
	read := func(has int64, desc ocispec.Descriptor) (int64, error) {
		r, err := cosign.OpenBlob(ctx, zeros{has}, desc)
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, r)
		require.NoError(t, r.Close())
		return n, err
	}
	n, err := read(size, want)
	require.NoError(t, err)
	assert.Equal(t, int64(size), n)

	var mismatch *osmith.DigestError
	_, err = read(size-1, want)
	require.ErrorAs(t, err, &mismatch)
	assert.EqualError(t, err, "cosign: blob "+string(want.Digest)+": 8388607 bytes, want 8388608")
	n, err = read(1<<40, want)
	require.ErrorAs(t, err, &mismatch)
	assert.Equal(t, int64(size), n, "nothing beyond the size is handed out")
	assert.EqualError(t, err, "cosign: blob "+string(want.Digest)+": 8388609 bytes or more, want 8388608")

	other := want
	other.Digest = digest.Digest("sha256:" + strings.Repeat("0", 64))
	_, err = read(size, other)
	require.ErrorAs(t, err, &mismatch)
	assert.Equal(t, string(want.Digest), mismatch.Got)
	assert.EqualError(t, err, "cosign: blob "+string(other.Digest)+": the content has digest "+string(want.Digest))

	for _, bad := range []ocispec.Descriptor{
		{}, {Digest: want.Digest, Size: -1}, {Digest: "md5:00"},
		{Digest: digest.SHA512.FromString("")},
	} {
		r, err := cosign.OpenBlob(ctx, zeros{}, bad)
		assert.Nil(t, r)
		assert.ErrorContains(t, err, "cosign: ")
	}
}

func TestVerifySourceErrors(t *testing.T) {
	ctx := context.Background()
	policy := cosign.Policy{Keys: public("p256")}
	empty := digest.FromString("")
	_, err := cosign.Verify(ctx, zeros{}, ocispec.Descriptor{Digest: empty}, policy)
	assert.EqualError(t, err, "cosign: "+string(empty)+": find signatures: registry is gone")
	_, err = cosign.Verify(ctx, zeros{}, ocispec.Descriptor{Digest: empty, Size: 1 << 40}, policy)
	assert.ErrorContains(t, err, "1099511627776 bytes, at most 4194304 are allowed")

	_, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = cosign.Verify(cancelled, dir, artifact, policy)
	assert.ErrorIs(t, err, context.Canceled)
}
