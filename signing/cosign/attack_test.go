package cosign_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// signPayload signs any payload with the key p256, as a good signer never would.
func signPayload(t testing.TB, message []byte) []byte {
	t.Helper()
	h := cosign.SigningHash.New()
	h.Write(message)
	sig, err := testKeys()["p256"].Sign(nil, h.Sum(nil), cosign.SigningHash)
	require.NoError(t, err)
	return sig
}

// addSimple stores a payload with a signature under the tag of an artifact.
func addSimple(t testing.TB, dir *cosign.Dir, artifact ocispec.Descriptor, payload string, sig []byte) {
	t.Helper()
	layer, err := dir.WriteBlob("application/vnd.dev.cosign.simplesigning.v1+json", strings.NewReader(payload))
	require.NoError(t, err)
	layer.Annotations = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)}
	config, err := dir.WriteBlob(ocispec.MediaTypeImageConfig, strings.NewReader("{}"))
	require.NoError(t, err)
	_, err = dir.WriteManifest(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}},
		"sha256-"+artifact.Digest.Encoded()+".sig")
	require.NoError(t, err)
}

// addBundle stores a bundle as a referrer of an artifact.
func addBundle(t testing.TB, dir *cosign.Dir, artifact ocispec.Descriptor, bundle string) {
	t.Helper()
	layer, err := dir.WriteBlob("application/vnd.dev.sigstore.bundle.v0.3+json", strings.NewReader(bundle))
	require.NoError(t, err)
	config, err := dir.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	require.NoError(t, err)
	_, err = dir.WriteManifest(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}, Subject: &artifact}, "")
	require.NoError(t, err)
}

// rejection verifies an artifact with one signature that must not count.
func rejection(t testing.TB, dir *cosign.Dir, artifact ocispec.Descriptor) error {
	t.Helper()
	_, err := cosign.Verify(context.Background(), dir, artifact, cosign.Policy{Keys: public("p256")})
	var untrusted *cosign.UntrustedError
	require.ErrorAs(t, err, &untrusted)
	require.Len(t, untrusted.Rejected, 1)
	return untrusted.Rejected[0].Err
}

// A trusted key has signed all of these payloads, and still none is a signature of
// the artifact.
func TestSimpleSigningPayloads(t *testing.T) {
	const good = `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"DIGEST"},"type":"cosign container image signature"},"optional":null}`
	const other = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for name, test := range map[string]struct{ from, to, message string }{
		"another artifact":    {"DIGEST", other, "signed for a different artifact: " + other},
		"another type":        {"cosign container image signature", "atomic container signature", `payload: critical.type: "atomic container signature", want "cosign container image signature"`},
		"key twice":           {`"docker-manifest-digest"`, `"docker-manifest-digest":"` + other + `","docker-manifest-digest"`, `payload: critical.image at 0x9d: key "docker-manifest-digest" appears twice`},
		"key in another case": {`"docker-manifest-digest"`, `"Docker-Manifest-Digest":"` + other + `","docker-manifest-digest"`, `key "Docker-Manifest-Digest" differs in letter case, want "docker-manifest-digest"`},
		"only another case":   {`"critical"`, `"Critical"`, `payload: Critical at 0xc: key "Critical" differs in letter case, want "critical"`},
		"no image":            {`"image"`, `"images"`, "payload: critical.image at 0xc: missing"},
		"number":              {`"DIGEST"`, "1", "payload: critical.image.docker-manifest-digest at 0x53: a number, want a string"},
		"trailing text":       {`"optional":null}`, `"optional":null}{}`, "payload: JSON at 0xd9: data after the JSON value"},
		"list":                {good, `[` + good + `]`, "payload: JSON at 0x0: an array, want an object"},
		"deep":                {"null", strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "nested more than 64 deep"},
		"upper-case digest":   {"DIGEST", "UPPER", "signed for a different artifact"},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir, artifact := newArtifact(t)
			digest := string(artifact.Digest)
			payload := strings.Replace(good, test.from, test.to, 1)
			payload = strings.ReplaceAll(payload, "DIGEST", digest)
			payload = strings.ReplaceAll(payload, "UPPER", "sha256:"+strings.ToUpper(artifact.Digest.Encoded()))
			addSimple(t, dir, artifact, payload, signPayload(t, []byte(payload)))
			assert.ErrorContains(t, rejection(t, dir, artifact), test.message)
		})
	}
}

func TestBundleStatements(t *testing.T) {
	const good = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"HEX"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
	other := strings.Repeat("0", 64)
	for name, test := range map[string]struct{ from, to, message string }{
		"another artifact": {"HEX", other, "signed for a different artifact: sha256:" + other},
		"no predicate":     {`,"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}`, `,"predicateType":"https://slsa.dev/provenance/v1"`, "statement: predicate: missing"},
		"no predicateType": {"https://sigstore.dev/cosign/sign/v1", "", "statement: predicateType: empty"},
		"an old statement": {"Statement/v1", "Statement/v0.1", "statement: _type: "},
		"another type":     {"Statement/v1", "Statement/v2", "statement: _type: "},
		"no subject":       {`{"digest":{"sha256":"HEX"}}`, "", "statement: subject: empty"},
		"another hash":     {"sha256", "sha512", "statement: subject[0].digest.sha256: missing"},
		"subject twice":    {`"subject"`, `"subject":[],"subject"`, `key "subject" appears twice`},
		"not JSON":         {good, "hello", "statement: JSON at 0x0: 'h', want a JSON value"},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir, artifact := newArtifact(t)
			payload := strings.ReplaceAll(strings.Replace(good, test.from, test.to, 1), "HEX", artifact.Digest.Encoded())
			addBundle(t, dir, artifact, bundleText(t, payload))
			assert.ErrorContains(t, rejection(t, dir, artifact), test.message)
		})
	}
}

// bundleText makes a bundle around any payload, signed by p256.
func bundleText(t testing.TB, payload string) string {
	t.Helper()
	const payloadType = "application/vnd.in-toto+json"
	pae := cosign.PreAuthenticationEncoding(payloadType, []byte(payload))
	text, err := json.Marshal(map[string]any{
		"mediaType":            "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": "any"}},
		"dsseEnvelope": map[string]any{
			"payload": []byte(payload), "payloadType": payloadType,
			"signatures": []any{map[string]any{"sig": signPayload(t, pae)}},
		},
	})
	require.NoError(t, err)
	return string(text)
}

func TestBundleErrors(t *testing.T) {
	_, dir, artifact := newArtifact(t)
	good := bundleText(t, "{}")
	for name, test := range map[string]struct{ from, to, message string }{
		"unknown version":    {"bundle.v0.3", "bundle.v0.9", `bundle: mediaType: "application/vnd.dev.sigstore.bundle.v0.9+json"`},
		"message signature":  {`"dsseEnvelope"`, `"messageSignature"`, "bundle: messageSignature.signature: empty"},
		"no content":         {`"dsseEnvelope"`, `"dsse"`, "bundle: dsseEnvelope: missing"},
		"two contents":       {`"mediaType"`, `"messageSignature":{"signature":"AAAA"},"mediaType"`, "bundle: messageSignature: the bundle also has a dsseEnvelope"},
		"other payload type": {"vnd.in-toto", "vnd.other", "bundle: dsseEnvelope.payloadType: "},
		"two payloads":       {`"payload":`, `"payload":"","payload":`, `key "payload" appears twice`},
		"no signature":       {`"sig":"`, `"sig":"!`, "bundle: dsseEnvelope.signatures[0].sig: not base64: "},
		"signatures":         {`"signatures":[`, `"signatures":[{"sig":"AAAA"},`, "bundle: dsseEnvelope.signatures: 2, want 1"},
		"cut off":            {"}", "", "bundle: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir, artifact := newArtifact(t)
			addBundle(t, dir, artifact, strings.Replace(good, test.from, test.to, 1))
			assert.ErrorContains(t, rejection(t, dir, artifact), test.message)
		})
	}
	// One altered letter of the payload, and the signature is for another payload.
	payload := base64.StdEncoding.EncodeToString([]byte("{}"))
	addBundle(t, dir, artifact, strings.Replace(good, payload, base64.StdEncoding.EncodeToString([]byte("[]")), 1))
	assert.ErrorIs(t, rejection(t, dir, artifact), cosign.ErrOtherKey)
}

// Whatever is put beside a good signature, it stays good, and what is wrong is listed.
func TestGoodBesideBad(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["rsa"], cosign.SignOptions{}))
	addBundle(t, dir, artifact, "hello")
	addBundle(t, dir, artifact, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.9+json"}`)
	result, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("p256")})
	require.NoError(t, err)
	assert.Len(t, result.Signatures, 2)
	assert.Len(t, result.Rejected, 4)
}

// The signatures of one artifact under the name of another do not count.
func TestMovedSignature(t *testing.T) {
	ctx := context.Background()
	path, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}}))
	evil := addArtifact(t, dir, "evil")
	index := layoutIndex(t, path)
	for i := range index.Manifests {
		if strings.HasSuffix(index.Manifests[i].Annotations[ocispec.AnnotationRefName], ".sig") {
			index.Manifests[i].Annotations[ocispec.AnnotationRefName] = "sha256-" + evil.Digest.Encoded() + ".sig"
		}
	}
	text, err := json.Marshal(index)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(path, "index.json"), text, 0o600))
	assert.ErrorIs(t, rejection(t, dir, evil), cosign.ErrOtherArtifact)
}

// Every altered byte of every blob on the way is noticed.
func TestAlteredBlobs(t *testing.T) {
	ctx := context.Background()
	path, dir, artifact := newArtifact(t)
	for _, format := range []cosign.Format{cosign.FormatSimpleSigning, cosign.FormatBundle} {
		require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["ed25519"], cosign.SignOptions{Formats: []cosign.Format{format}}))
	}
	good, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("ed25519")})
	require.NoError(t, err)
	require.Len(t, good.Signatures, 2)
	blobs, err := filepath.Glob(filepath.Join(path, "blobs", "sha256", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, blobs)
	for _, name := range blobs {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		if !bytes.HasPrefix(content, []byte("{")) || len(content) < 3 {
			continue
		}
		for i := 0; i < len(content); i += 7 {
			bad := bytes.Clone(content)
			bad[i] ^= 1
			require.NoError(t, os.WriteFile(name, bad, 0o600))
			result, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("ed25519")})
			if filepath.Base(name) == artifact.Digest.Encoded() {
				var mismatch *osmith.DigestError
				require.ErrorAs(t, err, &mismatch)
				continue
			}
			require.NoError(t, err, "the other format still holds")
			for _, s := range result.Signatures {
				assert.Contains(t, []string{string(good.Signatures[0].Payload), string(good.Signatures[1].Payload)}, string(s.Payload))
			}
		}
		require.NoError(t, os.WriteFile(name, content, 0o600))
	}
}

// Bundles of every version count, and those that sign the manifest itself; not another one.
func TestBundleVersions(t *testing.T) {
	for _, mediaType := range []string{
		"application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle+json;version=0.2",
		"application/vnd.dev.sigstore.bundle+json;version=0.3", "application/vnd.dev.sigstore.bundle.v0.3+json",
	} {
		_, dir, artifact := newArtifact(t)
		other := addArtifact(t, dir, "v2")
		text := strings.Replace(bundleText(t, statementText(artifact.Digest.Encoded())), "application/vnd.dev.sigstore.bundle.v0.3+json", mediaType, 1)
		addBundle(t, dir, artifact, text)
		result, err := cosign.Verify(context.Background(), dir, artifact, cosign.Policy{Keys: public("p256")})
		require.NoError(t, err, mediaType)

		message, err := json.Marshal(map[string]any{
			"mediaType":            mediaType,
			"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": "any"}},
			"messageSignature": map[string]any{
				"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": sha256Of(result.Manifest)},
				"signature":     signPayload(t, result.Manifest),
			},
		})
		require.NoError(t, err)
		addBundle(t, dir, artifact, string(message))
		result, err = cosign.Verify(context.Background(), dir, artifact, cosign.Policy{Keys: public("p256")})
		require.NoError(t, err)
		assert.Len(t, result.Signatures, 2)

		addBundle(t, dir, other, string(message))
		assert.ErrorIs(t, rejection(t, dir, other), cosign.ErrOtherArtifact)
	}
}

func sha256Of(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}
