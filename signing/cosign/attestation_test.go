package cosign_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/cosign"
)

const predicate = `{"spdxVersion":"SPDX-2.3","name":"acme"}`

// A rule is satisfied by the statements of the authorities that it names, which say what it wants.
func TestAttestationRules(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	for _, key := range []string{"p256", "ed25519", "p521"} {
		for _, format := range []cosign.Format{cosign.FormatBundle, cosign.FormatDSSE} {
			require.NoError(t, cosign.Attest(ctx, dir, artifact, cosign.PredicateSPDX, []byte(predicate), testKeys()[key],
				cosign.SignOptions{Formats: []cosign.Format{format}}))
		}
	}
	authorities := []cosign.Authority{authority("build", "p256"), authority("audit", "ed25519"), authority("board", "rsa")}
	verify := func(r cosign.AttestationRule) (*cosign.Result, error) {
		return cosign.Verify(ctx, dir, artifact, cosign.Policy{Authorities: authorities, Attestations: []cosign.AttestationRule{r}})
	}
	spdx := []string{cosign.PredicateCycloneDX, cosign.PredicateSPDX}
	result, err := verify(cosign.AttestationRule{PredicateTypes: spdx, Threshold: 2, Check: func(typ string, b json.RawMessage) error {
		if string(b) != predicate {
			return errors.New("another predicate")
		}
		return nil
	}})
	require.NoError(t, err)
	assert.Len(t, result.Attestations, 2, "the same signature in two formats counts once")
	assert.Len(t, result.Rejected, 1)
	assert.Len(t, result.Signatures, 2, "an attestation is no signature")

	wrong := errors.New("unknown licence")
	for message, r := range map[string]cosign.AttestationRule{
		"no attestation https://slsa.dev/provenance/v1":                                                                  {PredicateTypes: []string{cosign.PredicateSLSAProvenance}},
		"no attestation https://cyclonedx.org/bom or https://spdx.dev/Document by board":                                 {PredicateTypes: spdx, Authorities: []string{"board"}},
		"no attestation https://cyclonedx.org/bom or https://spdx.dev/Document (3 of them)":                              {PredicateTypes: spdx, Threshold: 3},
		`by audit (https://spdx.dev/Document by authority "audit": unknown licence): 1 found, none of which is accepted`: {PredicateTypes: spdx, Authorities: []string{"audit"}, Check: func(string, json.RawMessage) error { return wrong }},
	} {
		_, err := verify(r)
		var untrusted *cosign.UntrustedError
		require.ErrorAs(t, err, &untrusted, message)
		require.Len(t, untrusted.Missing, 1)
		assert.ErrorContains(t, err, `signed by authority "build"; `)
		assert.ErrorContains(t, err, message)
	}
}

// An attestation alone does not make an artifact signed.
func TestAttestedOnly(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Attest(ctx, dir, artifact, cosign.PredicateSPDX, []byte(predicate), testKeys()["p256"], cosign.SignOptions{}))
	_, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("p256")})
	assert.ErrorIs(t, err, cosign.ErrUntrusted)
	for message, err := range map[string]error{
		"no predicate type": cosign.Attest(ctx, dir, artifact, "", []byte("{}"), testKeys()["p256"], cosign.SignOptions{}),
		"cosign: predicate: JSON at 0x0: an array, want":        cosign.Attest(ctx, dir, artifact, "x", []byte("[]"), testKeys()["p256"], cosign.SignOptions{}),
		`cosign: predicate: JSON at 0x7: key "a" appears twice`: cosign.Attest(ctx, dir, artifact, "x", []byte(`{"a":1,"a":2}`), testKeys()["p256"], cosign.SignOptions{}),
		"cannot have the predicate type of a sign":              cosign.Attest(ctx, dir, artifact, "https://sigstore.dev/cosign/sign/v1", []byte("{}"), testKeys()["p256"], cosign.SignOptions{}),
		"simple signing: not an attestation format":             cosign.Attest(ctx, dir, artifact, "x", []byte("{}"), testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}}),
		"cosign: attestation: not a signature format":           cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatDSSE}}),
	} {
		assert.ErrorContains(t, err, message)
	}
}

// attesters are the cosign versions and how they attest without a log.
var attesters = []struct {
	name   string
	root   func(testing.TB) testtools.Root
	format cosign.Format
	args   []string
}{
	{"2.5-dsse", testtools.Trixie, cosign.FormatDSSE, []string{"--tlog-upload=false"}},
	{"3.1-dsse", testtools.Forky, cosign.FormatDSSE, []string{"--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"}},
	{"3.1-bundle", testtools.Forky, cosign.FormatBundle, []string{"--signing-config", "signing-config.json"}},
}

// TestInteropAttestations lets cosign attest and us verify, in the saved layout, and the other way
// round.
func TestInteropAttestations(t *testing.T) {
	ctx := context.Background()
	for _, a := range attesters {
		t.Run(a.name, func(t *testing.T) {
			root, dir := a.root(t), t.TempDir()
			writeKeys(t, dir)
			if a.format == cosign.FormatBundle {
				runCosign(t, root, dir, "signing-config", "create", "--out", "signing-config.json")
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, "sbom.json"), []byte(predicate), 0o600))
			path, store, artifact := newArtifact(t)
			require.NoError(t, cosign.Sign(ctx, store, artifact, testKeys()["p256"], cosign.SignOptions{}))
			r := newRegistry(t)
			r.push(t, path)
			ref := r.reference(string(artifact.Digest))
			for _, key := range []string{"p256", "rsa"} {
				runCosign(t, root, dir, append(append([]string{"attest", "-y", "--key", key + ".key", "--type", "spdxjson", "--predicate", "sbom.json"}, a.args...), ref)...)
			}
			saved := filepath.Join(dir, "saved")
			runCosign(t, root, dir, "save", "--dir", saved, ref)
			policy := cosign.Policy{Authorities: []cosign.Authority{authority("build", "p256"), authority("audit", "rsa")},
				Attestations: []cosign.AttestationRule{{PredicateTypes: []string{cosign.PredicateSPDX}, Threshold: 2,
					Contents: []cosign.Content{{Pointer: "/name", Values: []string{"acme"}}}}}}
			layout, err := cosign.OpenLayout(os.DirFS(saved))
			require.NoError(t, err)
			result, err := cosign.Verify(ctx, layout, artifact, policy)
			require.NoError(t, err)
			require.Len(t, result.Attestations, 2)
			for _, got := range result.Attestations {
				assert.Equal(t, a.format, got.Format)
				assert.JSONEq(t, predicate, string(got.Predicate))
			}

			policy.Attestations[0].Contents[0].Values[0] = "other"
			_, err = cosign.Verify(ctx, layout, artifact, policy)
			require.ErrorIs(t, err, cosign.ErrUntrusted)
			assert.ErrorContains(t, err, `/name is "acme"`)

			// Ours, in a registry of their own.
			path, store, artifact = newArtifact(t)
			require.NoError(t, cosign.Attest(ctx, store, artifact, cosign.PredicateSPDX, []byte(predicate), testKeys()["p384"],
				cosign.SignOptions{Formats: []cosign.Format{a.format}}))
			r = newRegistry(t)
			r.push(t, path)
			verify := func(key string) (string, error) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, key+".pub"), publicPEM(t, public(key)[0]), 0o600))
				return root.Try(t, dir, "cosign", "verify-attestation", "--key", key+".pub", "--type", "spdxjson", "--insecure-ignore-tlog=true",
					r.reference(string(artifact.Digest)))
			}
			out, err := verify("p384")
			require.NoError(t, err, out)
			_, err = verify("p256")
			require.Error(t, err)
		})
	}
}

// A layout in memory and one in a tar archive are as good as a directory.
func TestMemoryAndTar(t *testing.T) {
	ctx := context.Background()
	path, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["rsa"], cosign.SignOptions{}))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	require.NoError(t, w.AddFS(os.DirFS(path)))
	require.NoError(t, w.Close())
	archive, err := cosign.OpenTar(bytes.NewReader(b.Bytes()), int64(b.Len()))
	require.NoError(t, err)
	desc, err := archive.Resolve("v1")
	require.NoError(t, err)
	result, err := cosign.Verify(ctx, archive, desc, cosign.Policy{Keys: public("rsa")})
	require.NoError(t, err)
	assert.Len(t, result.Signatures, 2)
	_, err = cosign.OpenTar(strings.NewReader("x"), 1)
	assert.ErrorContains(t, err, "cosign: layout: tar: ")

	var m cosign.Memory
	config, err := m.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	require.NoError(t, err)
	desc, err = m.WriteManifest(ocispec.Manifest{ArtifactType: "x", Config: config}, "v1")
	require.NoError(t, err)
	_, err = cosign.Verify(ctx, &m, desc, cosign.Policy{Keys: public("rsa")})
	require.ErrorIs(t, err, cosign.ErrUnsigned)
	for range 2 {
		require.NoError(t, cosign.Sign(ctx, &m, desc, testKeys()["rsa"], cosign.SignOptions{}))
		require.NoError(t, cosign.Attest(ctx, &m, desc, "x", []byte("{}"), testKeys()["rsa"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatDSSE, cosign.FormatBundle}}))
	}
	result, err = cosign.Verify(ctx, &m, desc, cosign.Policy{Keys: public("rsa")})
	require.NoError(t, err)
	assert.Len(t, result.Signatures, 2)
	assert.Len(t, result.Attestations, 1)
	for _, name := range []string{"v1", string(desc.Digest)} {
		got, err := m.Resolve(name)
		require.NoError(t, err)
		assert.Equal(t, desc, got)
	}
	_, err = m.Resolve("v2")
	require.ErrorIs(t, err, cosign.ErrNotFound)
	_, err = m.Blob(ctx, ocispec.Descriptor{Digest: "sha256:00"})
	require.ErrorIs(t, err, cosign.ErrNotFound)
	_, err = m.WriteBlob("x", io.MultiReader(strings.NewReader("a"), brokenReader{}))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }
