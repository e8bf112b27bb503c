package cosign_test

import (
	"context"
	"crypto"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/cosign"
)

var update = flag.Bool("update", false, "replace testdata/cosign by what the real cosign makes now")

// interopKeys are the keys that cosign can import.
var interopKeys = []string{"p256", "p384", "ed25519", "rsa"}

// runCosign runs cosign with the passphrase of the test keys.
func runCosign(t testing.TB, root testtools.Root, dir string, args ...string) string {
	t.Helper()
	return root.Run(t, dir, "env", append([]string{"COSIGN_PASSWORD=secret", "cosign"}, args...)...)
}

// writeKeys writes the private keys as cosign keeps them, to NAME.key.
func writeKeys(t testing.TB, dir string) {
	t.Helper()
	for _, name := range interopKeys {
		der, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(testKeys()[name], cryptoutils.StaticPasswordFunc([]byte("secret")))
		require.NoError(t, err)
		text := cryptoutils.PEMEncode(cryptoutils.EncryptedSigstorePrivateKeyPEMType, der)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".key"), text, 0o600))
	}
}

// A cosign version and how it is told to sign in a format without a log.
var signers = []struct {
	name   string
	root   func(testing.TB) testtools.Root
	format cosign.Format
	args   []string
}{
	{"2.5-simple", testtools.Trixie, cosign.FormatSimpleSigning, []string{"--tlog-upload=false"}},
	{"3.1-simple", testtools.Forky, cosign.FormatSimpleSigning, []string{"--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"}},
	{"3.1-bundle", testtools.Forky, cosign.FormatBundle, []string{"--signing-config", "signing-config.json"}},
}

// TestInteropCosignSigns verifies what cosign signed in a registry and saved.
func TestInteropCosignSigns(t *testing.T) {
	for _, s := range signers {
		t.Run(s.name, func(t *testing.T) {
			root, dir := s.root(t), t.TempDir()
			writeKeys(t, dir)
			if s.format == cosign.FormatBundle {
				runCosign(t, root, dir, "signing-config", "create", "--out", "signing-config.json")
			}
			path, _, artifact := newArtifact(t)
			r := newRegistry(t)
			r.push(t, path)
			for _, key := range interopKeys {
				runCosign(t, root, dir, append(append([]string{"sign", "-y", "--key", key + ".key"}, s.args...), r.reference(string(artifact.Digest)))...)
			}
			saved := filepath.Join(dir, "saved")
			runCosign(t, root, dir, "save", "--dir", saved, r.reference(string(artifact.Digest)))
			checkSaved(t, saved, s.format, public(interopKeys...))
			checkReference(t, saved, artifact, s.format, r.host+"/"+repository)
			if *update {
				target := filepath.Join("testdata", "cosign", s.name)
				require.NoError(t, os.RemoveAll(target))
				require.NoError(t, os.CopyFS(target, os.DirFS(saved)))
				for i, key := range public(interopKeys...) {
					require.NoError(t, os.WriteFile(filepath.Join(target, interopKeys[i]+".pub"), publicPEM(t, key), 0o600))
				}
			}
		})
	}
}

// checkReference demands the name that cosign has signed an artifact under, which it says in simple
// signing alone.
func checkReference(t testing.TB, dir string, artifact ocispec.Descriptor, format cosign.Format, name string) {
	t.Helper()
	layout, err := cosign.OpenLayout(os.DirFS(dir))
	require.NoError(t, err)
	policy := cosign.Policy{Keys: public("p256"), References: []string{name}}
	result, err := cosign.Verify(t.Context(), layout, artifact, policy)
	if format == cosign.FormatBundle {
		require.ErrorIs(t, err, cosign.ErrUntrusted)
		require.ErrorContains(t, err, "no docker-reference")
		return
	}
	require.NoError(t, err)
	require.Equal(t, name, result.Signatures[0].Reference)
	policy.References[0] += "-other"
	_, err = cosign.Verify(t.Context(), layout, artifact, policy)
	require.ErrorIs(t, err, cosign.ErrUntrusted)
	require.ErrorContains(t, err, "signed for a different name: signed for")
}

// checkSaved verifies a layout of cosign save that each key has signed.
func checkSaved(t testing.TB, dir string, format cosign.Format, keys []crypto.PublicKey) {
	t.Helper()
	layout, err := cosign.OpenLayout(os.DirFS(dir))
	require.NoError(t, err)
	artifact, err := layout.Resolve("")
	require.NoError(t, err)
	for i, key := range keys {
		result, err := cosign.Verify(context.Background(), layout, artifact, cosign.Policy{Keys: []crypto.PublicKey{key}})
		if !assert.NoError(t, err, interopKeys[i]) {
			continue
		}
		require.Len(t, result.Signatures, 1)
		assert.Equal(t, format, result.Signatures[0].Format)
		assert.Len(t, result.Rejected, len(keys)-1)
	}
	_, err = cosign.Verify(context.Background(), layout, artifact, cosign.Policy{Keys: public("p521")})
	var untrusted *cosign.UntrustedError
	require.ErrorAs(t, err, &untrusted)
	assert.Len(t, untrusted.Rejected, len(keys))
	if format == cosign.FormatBundle {
		assert.Len(t, untrusted.Hints(), len(keys))
	}
}

// TestGoldenCosign does the same with layouts that were saved before.
func TestGoldenCosign(t *testing.T) {
	for _, s := range signers {
		t.Run(s.name, func(t *testing.T) {
			dir := filepath.Join("testdata", "cosign", s.name)
			var keys []crypto.PublicKey
			for _, name := range interopKeys {
				text, err := os.ReadFile(filepath.Join(dir, name+".pub"))
				require.NoError(t, err)
				key, err := cosign.ParseKeys(text)
				require.NoError(t, err)
				keys = append(keys, key...)
			}
			require.Len(t, keys, len(interopKeys))
			checkSaved(t, dir, s.format, keys)
		})
	}
}

// TestInteropCosignVerifies lets cosign verify what was signed here.
func TestInteropCosignVerifies(t *testing.T) {
	for _, s := range signers {
		t.Run(s.name, func(t *testing.T) {
			root, dir := s.root(t), t.TempDir()
			path, store, artifact := newArtifact(t)
			options := cosign.SignOptions{Formats: []cosign.Format{s.format}}
			for _, name := range interopKeys {
				require.NoError(t, cosign.Sign(context.Background(), store, artifact, testKeys()[name], options))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name+".pub"), publicPEM(t, public(name)[0]), 0o600))
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, "other.pub"), publicPEM(t, public("p521")[0]), 0o600))
			r := newRegistry(t)
			r.push(t, path)
			for _, name := range interopKeys {
				_, err := root.Try(t, dir, "cosign", "verify", "--key", name+".pub", "--insecure-ignore-tlog=true", r.reference(string(artifact.Digest)))
				assert.NoError(t, err, name)
			}
			_, err := root.Try(t, dir, "cosign", "verify", "--key", "other.pub", "--insecure-ignore-tlog=true", r.reference(string(artifact.Digest)))
			require.Error(t, err)
		})
	}
}

// push copies a layout into the registry, with its tags.
func (r *registry) push(t testing.TB, dir string) {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, blobs)
	for _, name := range blobs {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		r.blobs[sum(content)] = content
		if strings.HasPrefix(string(content), `{"schemaVersion"`) {
			r.putManifest(content, "")
		}
	}
	layout, err := cosign.OpenLayout(os.DirFS(dir))
	require.NoError(t, err)
	for _, entry := range layoutIndex(t, dir).Manifests {
		if tag := entry.Annotations[ocispec.AnnotationRefName]; tag != "" {
			blob, err := cosign.OpenBlob(context.Background(), layout, entry)
			require.NoError(t, err)
			content, err := io.ReadAll(blob)
			require.NoError(t, err)
			require.NoError(t, blob.Close())
			r.putManifest(content, tag)
		}
	}
}
