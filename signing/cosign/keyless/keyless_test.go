package keyless_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/cosign/keyless"
	"github.com/osmith-dev/osmith/signing/cosign/keyless/internal/sigstoretest"
)

const (
	issuer  = "https://issuer.example"
	subject = "release@acme.example"
)

var who = cosign.Identity{Issuer: issuer, Subject: subject}

// options of a Sigstore whose authority writes no certificate transparency log.
var private = keyless.VerifierOptions{WithoutCertificateTimestamps: true}

func newVerifier(t testing.TB, root []byte, o keyless.VerifierOptions) *keyless.Verifier {
	t.Helper()
	v, err := keyless.New(root, o)
	require.NoError(t, err)
	return v
}

func newArtifact(t testing.TB, dir *cosign.Dir, name string) ocispec.Descriptor {
	t.Helper()
	config, err := dir.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	require.NoError(t, err)
	d, err := dir.WriteManifest(ocispec.Manifest{ArtifactType: "application/vnd.example", Config: config, Annotations: map[string]string{"n": name}}, name)
	require.NoError(t, err)
	return d
}

func openDir(t testing.TB) *cosign.Dir {
	t.Helper()
	dir, err := cosign.OpenDir(t.TempDir())
	require.NoError(t, err)
	return dir
}

func statement(artifact ocispec.Descriptor) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"%s"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`, artifact.Digest.Encoded())
}

func payload(artifact ocispec.Descriptor) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"%s"},"type":"cosign container image signature"},"optional":null}`, artifact.Digest)
}

// addBundle stores a bundle as a referrer of the artifact.
func addBundle(t testing.TB, dir *cosign.Dir, artifact ocispec.Descriptor, text []byte) {
	t.Helper()
	layer, err := dir.WriteBlob("application/vnd.dev.sigstore.bundle.v0.3+json", bytes.NewReader(text))
	require.NoError(t, err)
	config, err := dir.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	require.NoError(t, err)
	_, err = dir.WriteManifest(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}, Subject: &artifact}, "")
	require.NoError(t, err)
}

// addSimple stores a payload and its annotations under the artifact's tag.
func addSimple(t testing.TB, dir *cosign.Dir, artifact ocispec.Descriptor, payload []byte, annotations map[string]string) {
	t.Helper()
	layer, err := dir.WriteBlob("application/vnd.dev.cosign.simplesigning.v1+json", bytes.NewReader(payload))
	require.NoError(t, err)
	layer.Annotations = annotations
	config, err := dir.WriteBlob(ocispec.MediaTypeImageConfig, strings.NewReader("{}"))
	require.NoError(t, err)
	_, err = dir.WriteManifest(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}}, "sha256-"+artifact.Digest.Encoded()+".sig")
	require.NoError(t, err)
}

func verify(dir *cosign.Dir, artifact ocispec.Descriptor, v cosign.IdentityVerifier, ids ...cosign.Identity) (*cosign.Result, error) {
	return cosign.Verify(context.Background(), dir, artifact, cosign.Policy{
		Identities: v, Authorities: []cosign.Authority{{Name: "release", Identities: ids}}})
}

// good makes a signature of an artifact in both formats and a trusted root for it.
type good struct {
	sigstoretest.Sigstore
	dir      *cosign.Dir
	artifact ocispec.Descriptor
	bundle   *protobundle.Bundle // of version 0.1, around a statement
	simple   *protobundle.Bundle // of version 0.1, over a payload
}

func newGood(t testing.TB) *good {
	t.Helper()
	g := &good{Sigstore: sigstoretest.New(t), dir: openDir(t)}
	g.artifact = newArtifact(t, g.dir, "v1")
	e, err := g.Attest(subject, issuer, statement(g.artifact))
	require.NoError(t, err)
	g.bundle = g.BundleOf(t, e, "0.1")
	e, err = g.Sign(subject, issuer, payload(g.artifact))
	require.NoError(t, err)
	g.simple = g.BundleOf(t, e, "0.1")
	return g
}

func TestBothFormats(t *testing.T) {
	g := newGood(t)
	v := newVerifier(t, g.TrustedRoot(t), private)
	addBundle(t, g.dir, g.artifact, sigstoretest.BundleJSON(t, g.bundle))
	addSimple(t, g.dir, g.artifact, payload(g.artifact), annotationsOf(t, g.simple))
	for _, id := range []cosign.Identity{who, {IssuerRegexp: "https://.*[.]example", SubjectRegexp: ".*@acme[.]example"}} {
		result, err := verify(g.dir, g.artifact, v, cosign.Identity{Issuer: "https://other", Subject: "x"}, id)
		require.NoError(t, err)
		require.Len(t, result.Signatures, 2)
		require.Empty(t, result.Rejected)
		for _, s := range result.Signatures {
			assert.Equal(t, issuer, s.Identity.Issuer)
			assert.Equal(t, subject, s.Identity.Subject)
			assert.WithinDuration(t, time.Now(), s.Identity.Time, time.Hour)
		}
	}
	for _, id := range []cosign.Identity{{Issuer: issuer, Subject: "evil@acme.example"}, {Issuer: "https://evil.example", Subject: subject}, {Issuer: issuer, SubjectRegexp: "release"}} {
		_, err := verify(g.dir, g.artifact, v, id)
		require.ErrorIs(t, err, cosign.ErrUntrusted)
		var other *keyless.IdentityError
		var untrusted *cosign.UntrustedError
		require.ErrorAs(t, err, &untrusted)
		require.ErrorAs(t, untrusted.Rejected[0].Err, &other)
		assert.Equal(t, subject, other.Got.Subject)
		assert.Equal(t, issuer, other.Got.Issuer)
		assert.Equal(t, g.artifact.Digest, untrusted.Subject)
		assert.Equal(t, []string{"release"}, untrusted.Absent)
		assert.ErrorContains(t, untrusted.Rejected[0].Err, `"release"`)
	}
	// A private authority's certificates are in no log, which the default asks for.
	_, err := verify(g.dir, g.artifact, newVerifier(t, g.TrustedRoot(t), keyless.VerifierOptions{}), who)
	require.ErrorIs(t, err, cosign.ErrUntrusted)
	assert.ErrorContains(t, err, "certificate timestamp")
}

// Everything that can be altered in a bundle or beside it makes the signature worthless.
func TestTampered(t *testing.T) {
	g, stranger := newGood(t), newGood(t)
	root := g.TrustedRoot(t)
	v := newVerifier(t, root, private)
	flip := func(b []byte) { b[len(b)/2] ^= 1 }
	for name, change := range map[string]func(b *protobundle.Bundle){
		"signature":    func(b *protobundle.Bundle) { flip(b.GetDsseEnvelope().Signatures[0].Sig) },
		"payload":      func(b *protobundle.Bundle) { flip(b.GetDsseEnvelope().Payload) },
		"payload type": func(b *protobundle.Bundle) { b.GetDsseEnvelope().PayloadType = "text/plain" },
		"certificate": func(b *protobundle.Bundle) {
			flip(b.VerificationMaterial.GetX509CertificateChain().Certificates[0].RawBytes)
		},
		"certificate of a stranger": func(b *protobundle.Bundle) {
			b.VerificationMaterial.Content = stranger.bundle.VerificationMaterial.Content
		},
		"no log entry": func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil },
		"log entry of another": func(b *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries = g.simple.VerificationMaterial.TlogEntries
		},
		"log entry of a stranger": func(b *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries = stranger.bundle.VerificationMaterial.TlogEntries
		},
		"log entry twice": func(b *protobundle.Bundle) {
			m := b.VerificationMaterial
			m.TlogEntries = append(m.TlogEntries, m.TlogEntries[0])
		},
		"body of the log entry": func(b *protobundle.Bundle) { flip(b.VerificationMaterial.TlogEntries[0].CanonicalizedBody) },
		"promise of the log": func(b *protobundle.Bundle) {
			flip(b.VerificationMaterial.TlogEntries[0].InclusionPromise.SignedEntryTimestamp)
		},
		"time of the log entry":      func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].IntegratedTime += 1 },
		"index of the log entry":     func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].LogIndex++ },
		"name of the log":            func(b *protobundle.Bundle) { flip(b.VerificationMaterial.TlogEntries[0].LogId.KeyId) },
		"all of a stranger's":        func(b *protobundle.Bundle) { proto.Reset(b); proto.Merge(b, stranger.bundle) },
		"envelope of a stranger":     func(b *protobundle.Bundle) { b.Content = stranger.bundle.Content },
		"a signature of the payload": func(b *protobundle.Bundle) { b.Content = g.simple.Content },
	} {
		t.Run(name, func(t *testing.T) {
			dir := openDir(t)
			require.Equal(t, g.artifact.Digest, newArtifact(t, dir, "v1").Digest)
			b := proto.Clone(g.bundle).(*protobundle.Bundle)
			change(b)
			text := sigstoretest.BundleJSON(t, b)
			addBundle(t, dir, g.artifact, text)
			_, err := verify(dir, g.artifact, v, who)
			require.ErrorIs(t, err, cosign.ErrUntrusted)
			// Not by the strict reader before alone: the verifier refuses, too.
			message := dsse.PAE("application/vnd.in-toto+json", statement(g.artifact))
			_, err = v.VerifyIdentity(context.Background(), text, message, []cosign.Identity{who})
			require.Error(t, err)
		})
	}
}

// A bundle of version 0.3 proves that the log has it, instead of promising that it will.
func TestInclusionProof(t *testing.T) {
	g := newGood(t)
	e, err := g.AttestAtTime(subject, issuer, statement(g.artifact), time.Now().Add(5*time.Minute), true)
	require.NoError(t, err)
	addBundle(t, g.dir, g.artifact, sigstoretest.BundleJSON(t, g.BundleOf(t, e, "0.3")))
	result, err := verify(g.dir, g.artifact, newVerifier(t, g.TrustedRoot(t), private), who)
	require.NoError(t, err)
	require.Len(t, result.Signatures, 1)
}

func TestTamperedAnnotations(t *testing.T) {
	g, stranger := newGood(t), newGood(t)
	v := newVerifier(t, g.TrustedRoot(t), private)
	theirs := annotationsOf(t, stranger.simple)
	const entry, cert, sig = "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/certificate", "dev.cosignproject.cosign/signature"
	for name, change := range map[string]func(a map[string]string){
		"certificate of a stranger": func(a map[string]string) { a[cert] = theirs[cert] },
		"log entry of a stranger":   func(a map[string]string) { a[entry] = theirs[entry] },
		"no log entry":              func(a map[string]string) { delete(a, entry) },
		"signature of a stranger":   func(a map[string]string) { a[sig] = theirs[sig] },
		"log entry is no JSON":      func(a map[string]string) { a[entry] = "x" },
		"log entry twice": func(a map[string]string) {
			a[entry] = strings.Replace(a[entry], `"Payload"`, `"Payload":{},"Payload"`, 1)
		},
		"certificate is no PEM":   func(a map[string]string) { a[cert] = "x" },
		"a key for a certificate": func(a map[string]string) { a[cert] = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" },
		"all of a stranger's": func(a map[string]string) {
			for k := range a {
				a[k] = theirs[k]
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := openDir(t)
			newArtifact(t, dir, "v1")
			a := annotationsOf(t, g.simple)
			change(a)
			addSimple(t, dir, g.artifact, payload(g.artifact), a)
			_, err := verify(dir, g.artifact, v, who)
			require.ErrorIs(t, err, cosign.ErrUntrusted)
		})
	}
	other := newArtifact(t, g.dir, "v2")
	addSimple(t, g.dir, other, payload(g.artifact), annotationsOf(t, g.simple))
	_, err := verify(g.dir, other, v, who)
	require.ErrorContains(t, err, "signed for a different artifact")
}

// The bundle of a package that was published in 2023: its certificate was good for ten minutes
// then, and is good proof today. It carries everything that the public instance promises.
func TestPublicInstance(t *testing.T) {
	root, err := os.ReadFile("testdata/trusted-root-public-good.json")
	require.NoError(t, err)
	text, err := os.ReadFile("testdata/bundle-provenance.json")
	require.NoError(t, err)
	var doc struct {
		DSSEEnvelope struct {
			Payload     []byte `json:"payload"`
			PayloadType string `json:"payloadType"`
		} `json:"dsseEnvelope"`
	}
	require.NoError(t, json.Unmarshal(text, &doc))
	message := dsse.PAE(doc.DSSEEnvelope.PayloadType, doc.DSSEEnvelope.Payload)
	id := cosign.Identity{Issuer: "https://token.actions.githubusercontent.com", SubjectRegexp: "https://github[.]com/sigstore/sigstore-js/.*"}
	ctx := context.Background()
	v := newVerifier(t, root, keyless.VerifierOptions{})
	got, err := v.VerifyIdentity(ctx, text, message, []cosign.Identity{id})
	require.NoError(t, err)
	assert.Equal(t, "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main", got.Subject)
	assert.Equal(t, 2023, got.Time.Year())

	_, err = v.VerifyIdentity(ctx, text, append(message, 'x'), []cosign.Identity{id})
	require.ErrorContains(t, err, "a different message")
	_, err = v.VerifyIdentity(ctx, text, message, nil)
	require.ErrorContains(t, err, "no identity is trusted")
	_, err = v.VerifyIdentity(ctx, []byte("{}"), message, []cosign.Identity{id})
	require.ErrorContains(t, err, "keyless: bundle: ")
	for name, o := range map[string]keyless.VerifierOptions{"logs": {LogEntries: 2}, "times": {Timestamps: 3}, "certificate logs": {CertificateTimestamps: 2}} {
		_, err = newVerifier(t, root, o).VerifyIdentity(ctx, text, message, []cosign.Identity{id})
		require.Error(t, err, name)
	}
	stranger := newVerifier(t, sigstoretest.New(t).TrustedRoot(t), private)
	_, err = stranger.VerifyIdentity(ctx, text, message, []cosign.Identity{id})
	require.Error(t, err)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = v.VerifyIdentity(gone, text, message, []cosign.Identity{id})
	require.ErrorIs(t, err, context.Canceled)
}

// Without a log, a time of a timestamp authority still is needed, and enough.
func TestWithoutLog(t *testing.T) {
	g := newGood(t)
	v := newVerifier(t, g.TrustedRoot(t), keyless.VerifierOptions{WithoutCertificateTimestamps: true, WithoutLogEntry: true})
	g.bundle.VerificationMaterial.TlogEntries = nil
	addBundle(t, g.dir, g.artifact, sigstoretest.BundleJSON(t, g.bundle))
	_, err := verify(g.dir, g.artifact, v, who)
	require.NoError(t, err)
	other := newArtifact(t, g.dir, "v2")
	g.bundle.VerificationMaterial.TimestampVerificationData = nil
	addBundle(t, g.dir, other, sigstoretest.BundleJSON(t, g.bundle))
	_, err = verify(g.dir, other, v, who)
	require.ErrorIs(t, err, cosign.ErrUntrusted)
}

// Two times are asked for, the log's and the authority's; an altered one is none.
func TestTimestamps(t *testing.T) {
	g := newGood(t)
	v := newVerifier(t, g.TrustedRoot(t), keyless.VerifierOptions{WithoutCertificateTimestamps: true, Timestamps: 2})
	addBundle(t, g.dir, g.artifact, sigstoretest.BundleJSON(t, g.bundle))
	_, err := verify(g.dir, g.artifact, v, who)
	require.NoError(t, err)
	stamp := g.bundle.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps[0].SignedTimestamp
	stamp[len(stamp)/2] ^= 1
	dir := openDir(t)
	newArtifact(t, dir, "v1")
	addBundle(t, dir, g.artifact, sigstoretest.BundleJSON(t, g.bundle))
	_, err = verify(dir, g.artifact, v, who)
	require.ErrorIs(t, err, cosign.ErrUntrusted)
}

func TestNewErrors(t *testing.T) {
	root := sigstoretest.New(t).TrustedRoot(t)
	for message, f := range map[string]func() (*keyless.Verifier, error){
		"keyless: trusted root: ": func() (*keyless.Verifier, error) { return keyless.New([]byte("{"), private) },
		"trusted root: no certificate authority": func() (*keyless.Verifier, error) {
			return keyless.New([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`), private)
		},
		"LogEntries is -1": func() (*keyless.Verifier, error) { return keyless.New(root, keyless.VerifierOptions{LogEntries: -1}) },
		"options: proofs are both required and waived": func() (*keyless.Verifier, error) {
			return keyless.New(root, keyless.VerifierOptions{LogEntries: 1, WithoutLogEntry: true})
		},
		"at most 4194304 are allowed": func() (*keyless.Verifier, error) { return keyless.New(make([]byte, 5<<20), private) },
		"keyless: options: proofs are both required and waived": func() (*keyless.Verifier, error) {
			return keyless.New(root, keyless.VerifierOptions{CertificateTimestamps: 1, WithoutCertificateTimestamps: true})
		},
	} {
		v, err := f()
		assert.Nil(t, v)
		assert.ErrorContains(t, err, message)
	}
}

// Whatever a bundle holds, it is not accepted for another message and nothing panics.
func FuzzVerifyIdentity(f *testing.F) {
	g := newGood(f)
	v := newVerifier(f, g.TrustedRoot(f), private)
	message := dsse.PAE("application/vnd.in-toto+json", statement(g.artifact))
	f.Add(sigstoretest.BundleJSON(f, g.bundle), message)
	f.Add(sigstoretest.BundleJSON(f, g.simple), payload(g.artifact))
	f.Fuzz(func(t *testing.T, text, message []byte) {
		id, err := v.VerifyIdentity(context.Background(), text, message, []cosign.Identity{who})
		require.Equal(t, id == nil, err != nil)
		if err == nil {
			require.Contains(t, []string{string(dsse.PAE("application/vnd.in-toto+json", statement(g.artifact))), string(payload(g.artifact))}, string(message))
		}
	})
}
