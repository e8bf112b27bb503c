package cosign_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// What a machine fetches it can verify again, with whatever was signed in between.
func TestCopySignatures(t *testing.T) {
	ctx := context.Background()
	_, from, artifact := newArtifact(t)
	path, to, same := newArtifact(t)
	require.Equal(t, artifact.Digest, same.Digest)
	other := addArtifact(t, from, "v2")
	require.NoError(t, cosign.Sign(ctx, from, artifact, testKeys()["p256"], cosign.SignOptions{}))
	require.NoError(t, cosign.Sign(ctx, from, other, testKeys()["p256"], cosign.SignOptions{}))
	require.NoError(t, cosign.Attest(ctx, from, artifact, cosign.PredicateSPDX, []byte(`{"a":1}`), testKeys()["p256"],
		cosign.SignOptions{Formats: []cosign.Format{cosign.FormatBundle, cosign.FormatDSSE}}))
	require.NoError(t, cosign.Sign(ctx, to, artifact, testKeys()["rsa"], cosign.SignOptions{}))

	for range 2 { // again changes nothing
		n, err := cosign.CopySignatures(ctx, to, from, artifact)
		require.NoError(t, err)
		assert.Equal(t, 4, n)
	}
	for _, name := range []string{"p256", "rsa"} {
		policy := cosign.Policy{Keys: public(name)}
		if name == "p256" {
			policy.Attestations = []cosign.AttestationRule{{PredicateTypes: []string{cosign.PredicateSPDX}}}
		}
		result, err := cosign.Verify(ctx, to, artifact, policy)
		require.NoError(t, err, name)
		assert.Len(t, result.Signatures, 2, name)
	}
	_, err := to.Resolve(string(other.Digest))
	require.ErrorIs(t, err, cosign.ErrNotFound, "nothing of another artifact comes along")

	entries, err := os.ReadDir(filepath.Join(path, "blobs", "sha256"))
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			assert.NotZero(t, info.Mode().Perm()&0o044, "a web server must be able to read it")
		}
	}
}

func TestCopySpoiled(t *testing.T) {
	ctx := context.Background()
	path, from, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, from, artifact, testKeys()["p256"], cosign.SignOptions{}))
	require.NoError(t, cosign.Sign(ctx, from, artifact, testKeys()["ed25519"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatBundle}}))
	result, err := cosign.Verify(ctx, from, artifact, cosign.Policy{Keys: public("ed25519")})
	require.NoError(t, err)
	name := filepath.Join(path, "blobs", "sha256", result.Signatures[0].Manifest.Encoded())
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, append(b, ' '), 0o644))

	_, to, _ := newArtifact(t)
	n, err := cosign.CopySignatures(ctx, to, from, artifact)
	require.NoError(t, err)
	assert.Equal(t, 2, n)

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = cosign.CopySignatures(canceled, to, from, artifact)
	require.ErrorIs(t, err, context.Canceled)
	artifact.Digest = "sha256:../x"
	_, err = cosign.CopySignatures(ctx, to, from, artifact)
	require.ErrorContains(t, err, "digest")
}

func TestLayoutRange(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	whole, err := cosign.OpenBlob(ctx, dir, artifact)
	require.NoError(t, err)
	want, err := io.ReadAll(whole)
	require.NoError(t, err)
	require.NoError(t, whole.Close())
	r, err := dir.BlobRange(ctx, artifact, 3, 5)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.Equal(t, want[3:8], got)
	for _, bad := range [][2]int64{{-1, 1}, {0, -1}, {1, artifact.Size}, {artifact.Size + 1, 0}} {
		_, err := dir.BlobRange(ctx, artifact, bad[0], bad[1])
		require.ErrorContains(t, err, "bytes at", bad)
	}
}
