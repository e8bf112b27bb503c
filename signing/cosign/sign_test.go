package cosign_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
)

func TestSignAndVerify(t *testing.T) {
	ctx := context.Background()
	for name, key := range testKeys() {
		t.Run(name, func(t *testing.T) {
			_, dir, artifact := newArtifact(t)
			_, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public(name)})
			require.ErrorIs(t, err, cosign.ErrUnsigned)

			require.NoError(t, cosign.Sign(ctx, dir, artifact, key, cosign.SignOptions{Reference: "registry.example/os"}))
			result, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public(name)})
			require.NoError(t, err)
			assert.Equal(t, artifact.Digest.String(), sum(result.Manifest))
			assert.Empty(t, result.Rejected)
			require.Len(t, result.Signatures, 2)
			formats := map[cosign.Format]string{}
			for _, s := range result.Signatures {
				formats[s.Format] = string(s.Payload)
				assert.Equal(t, key.Public(), s.Key)
			}
			assert.Contains(t, formats[cosign.FormatSimpleSigning], `"docker-reference":"registry.example/os"`)
			assert.Contains(t, formats[cosign.FormatBundle], `"predicateType":"https://sigstore.dev/cosign/sign/v1"`)
		})
	}
}

func TestVerifyOtherKey(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["p256"], cosign.SignOptions{}))
	result, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("p384", "ed25519", "rsa")})
	assert.Nil(t, result)
	require.ErrorIs(t, err, cosign.ErrUntrusted)
	require.NotErrorIs(t, err, cosign.ErrUnsigned)
	var untrusted *cosign.UntrustedError
	require.ErrorAs(t, err, &untrusted)
	assert.Equal(t, artifact.Digest, untrusted.Subject)
	assert.Len(t, untrusted.Rejected, 2)
	for _, r := range untrusted.Rejected {
		assert.ErrorIs(t, r.Err, cosign.ErrOtherKey)
	}
	hint, err := cosign.KeyHint(public("p256")[0])
	require.NoError(t, err)
	assert.Equal(t, []string{hint}, untrusted.Hints())
}

// A new key is added beside the old one; machines with either are satisfied.
func TestSignRotation(t *testing.T) {
	ctx := context.Background()
	path, dir, artifact := newArtifact(t)
	other := addArtifact(t, dir, "v2")
	for _, name := range []string{"p256", "ed25519", "p256"} { // the same again changes nothing
		require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()[name], cosign.SignOptions{}))
	}
	for _, name := range []string{"p256", "ed25519"} {
		result, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public(name)})
		require.NoError(t, err)
		assert.Len(t, result.Signatures, 2, name)
		assert.Len(t, result.Rejected, 2, name)
	}
	_, err := cosign.Verify(ctx, dir, other, cosign.Policy{Keys: public("p256")})
	assert.ErrorIs(t, err, cosign.ErrUnsigned, "what belongs to another artifact does not count, even as a rejection")

	index, err := os.ReadFile(filepath.Join(path, "index.json"))
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, testKeys()["ed25519"], cosign.SignOptions{}))
	again, err := os.ReadFile(filepath.Join(path, "index.json"))
	require.NoError(t, err)
	assert.ElementsMatch(t, index, again, "signing again with a deterministic signature adds nothing")
}

// brokenSigner is a token that answers with something else.
type brokenSigner struct {
	crypto.Signer
	err error
}

func (b brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return []byte("signature"), b.err
}

func TestSignErrors(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	key := testKeys()["p256"]

	gone := errors.New("token is gone")
	assert.ErrorIs(t, cosign.Sign(ctx, dir, artifact, brokenSigner{key, gone}, cosign.SignOptions{}), gone)
	err := cosign.Sign(ctx, dir, artifact, brokenSigner{key, nil}, cosign.SignOptions{})
	assert.ErrorContains(t, err, "cosign: sign: the signature does not fit the key")

	err = cosign.Sign(ctx, dir, artifact, key, cosign.SignOptions{Formats: []cosign.Format{9}})
	assert.EqualError(t, err, "cosign: format 9: not a signature format")

	artifact.Digest = "sha512:00"
	assert.Error(t, cosign.Sign(ctx, dir, artifact, key, cosign.SignOptions{}))

	_, err = cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("p256")})
	assert.Error(t, err)
}

func TestPolicy(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	_, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{})
	assert.EqualError(t, err, "cosign: policy: no keys and no authorities: nothing could satisfy it")
	_, err = cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: []crypto.PublicKey{"key"}})
	assert.ErrorContains(t, err, "string is not supported")

	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	for message, key := range map[string]crypto.PublicKey{
		"key: RSA with 1024 bits, want 2048 to 16384":              &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537},
		"key: the RSA key is empty":                                (*rsa.PublicKey)(nil),
		"key: ECDSA needs a key on P-256, P-384 or P-521":          p224.Public(),
		"key: 3 bytes, want 32 for Ed25519":                        ed25519.PublicKey("key"),
		"key: <nil> is not supported, want *ecdsa.PublicKey, *rsa": nil,
	} {
		_, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: []crypto.PublicKey{key}})
		assert.ErrorContains(t, err, message)
	}
}

func TestParseKeys(t *testing.T) {
	text := append(publicPEM(t, public("p256")[0]), publicPEM(t, public("rsa")[0])...)
	keys, err := cosign.ParseKeys(append(text, '\n'))
	require.NoError(t, err)
	assert.Equal(t, public("p256", "rsa"), keys)
	for _, bad := range []string{"", "not PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		keys, err := cosign.ParseKeys([]byte(bad))
		assert.Nil(t, keys)
		assert.ErrorContains(t, err, "cosign: key: ")
	}
}

// A signer of Sigstore, here one of PSS, which no crypto.Signer is asked for.
func TestSigstoreSigner(t *testing.T) {
	ctx := context.Background()
	_, dir, artifact := newArtifact(t)
	pss, err := signature.LoadRSAPSSSigner(testKeys()["rsa"].(*rsa.PrivateKey), crypto.SHA256, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	require.NoError(t, err)
	signer, err := cosign.SigstoreSigner(ctx, pss)
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(ctx, dir, artifact, signer, cosign.SignOptions{}))
	require.NoError(t, cosign.Attest(ctx, dir, artifact, cosign.PredicateSPDX, []byte(predicate), signer, cosign.SignOptions{}))
	result, err := cosign.Verify(ctx, dir, artifact, cosign.Policy{Keys: public("rsa")})
	require.NoError(t, err)
	assert.Len(t, result.Signatures, 2)
	assert.Len(t, result.Attestations, 1)
	_, err = signer.Sign(nil, make([]byte, 32), crypto.SHA256)
	require.Error(t, err, "a digest")

	wrong, err := signature.LoadECDSASigner(testKeys()["p256"].(*ecdsa.PrivateKey), crypto.SHA512)
	require.NoError(t, err)
	signer, err = cosign.SigstoreSigner(ctx, wrong)
	require.NoError(t, err)
	assert.ErrorContains(t, cosign.Sign(ctx, dir, artifact, signer, cosign.SignOptions{}), "the signature does not fit the key")
}

// The key of a certificate is a key, whenever that was valid.
func TestParseCertificate(t *testing.T) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public("p256")[0], testKeys()["p256"])
	require.NoError(t, err)
	keys, err := cosign.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	require.NoError(t, err)
	assert.Equal(t, public("p256"), keys)
	_, err = cosign.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der[1:]}))
	assert.ErrorContains(t, err, "cosign: key: PEM block")
}
