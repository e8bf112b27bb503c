package verity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cmstest"
	"github.com/osmith-dev/osmith/internal/testtools"
)

const digest32 = "855dbba5d611145e870a35fad02e6c229e173c0559c67bc1d3050cac845aca0f"

var signedRoot, _ = hex.DecodeString(digest32)

// newSigner makes an ECDSA key with a certificate, issued by an authority unless that is nil.
func newSigner(t *testing.T, name string, authority *x509.Certificate, authorityKey crypto.Signer) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0), // not checked
		BasicConstraintsValid: true, IsCA: authority == nil,
	}
	if authority == nil {
		authority, authorityKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), authorityKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return key, cert
}

func TestSignatureElsewhere(t *testing.T) {
	authorityKey, authority := newSigner(t, "authority", nil, nil)
	key, cert := newSigner(t, "signer", authority, authorityKey)
	req, err := PrepareSignature(signedRoot, cert, authority)
	require.NoError(t, err)
	text := sha256.Sum256([]byte(digest32))
	require.Equal(t, crypto.SHA256, req.Hash)
	require.Equal(t, text[:], req.Digest)

	_, err = req.Join([]byte("no signature"))
	require.ErrorContains(t, err, "verity: signature: ")
	raw, err := key.Sign(rand.Reader, req.Digest, req.Hash)
	require.NoError(t, err)
	s, err := req.Join(raw)
	require.NoError(t, err)
	for _, trusted := range []*x509.Certificate{authority, cert} {
		signer, err := s.Verify([]*x509.Certificate{trusted})
		require.NoError(t, err)
		require.True(t, signer.Equal(cert))
	}
}

func TestSignatureRefused(t *testing.T) {
	key, cert := newSigner(t, "signer", nil, nil)
	otherKey, other := newSigner(t, "somebody else", nil, nil)
	s, err := SignRootHash(signedRoot, key, cert)
	require.NoError(t, err)

	_, err = s.Verify([]*x509.Certificate{other})
	require.ErrorIs(t, err, ErrUntrusted)
	_, err = s.Verify(nil)
	require.ErrorIs(t, err, ErrUntrusted)
	_, err = VerifySignature(s.PKCS7, append([]byte{1}, signedRoot[1:]...), []*x509.Certificate{cert})
	require.ErrorIs(t, err, ErrSignature)
	_, err = VerifySignature(s.PKCS7, nil, []*x509.Certificate{cert})
	require.ErrorContains(t, err, "root hash: 0 bytes")
	_, err = VerifySignature(append(bytes.Clone(s.PKCS7), 0), signedRoot, []*x509.Certificate{cert})
	require.ErrorContains(t, err, "1 bytes follow")
	_, err = VerifySignature(cmstest.Signers(t, s.PKCS7, 2), signedRoot, []*x509.Certificate{cert})
	require.ErrorContains(t, err, "2 signers, want one")
	_, err = VerifySignature(nil, signedRoot, []*x509.Certificate{cert})
	require.Error(t, err)

	changed := *s
	changed.CertificateFingerprint[0] ^= 1
	_, err = changed.Verify([]*x509.Certificate{cert})
	require.ErrorContains(t, err, "fingerprint")

	_, err = SignRootHash(signedRoot, otherKey, cert)
	require.ErrorContains(t, err, "not that of the certificate")
	_, err = SignRootHash(nil, key, cert)
	require.ErrorContains(t, err, "root hash: 0 bytes")
	_, err = SignRootHash(signedRoot, nil, cert)
	require.ErrorContains(t, err, "no key")
	_, err = SignRootHash(signedRoot, key, nil)
	require.ErrorContains(t, err, "no certificate")

	// No byte of the message can change without being noticed, but for those that only name things.
	for i := range s.PKCS7 {
		b := bytes.Clone(s.PKCS7)
		b[i] ^= 1
		if signer, err := VerifySignature(b, signedRoot, []*x509.Certificate{cert}); err == nil {
			require.True(t, signer.Equal(cert), "byte %d", i)
		}
	}
}

// TestSignatureOpenSSL has openssl smime verify ours, and verifies what it signs, with and without
// certificate and attributes.
func TestSignatureOpenSSL(t *testing.T) {
	testtools.Require(t, "openssl")
	key, cert := keyPair(t)
	dir := t.TempDir()
	text, der := filepath.Join(dir, "roothash"), filepath.Join(dir, "roothash.p7s")
	require.NoError(t, os.WriteFile(text, []byte(digest32), 0o600))
	s, err := SignRootHash(signedRoot, key, cert)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(der, s.PKCS7, 0o600))
	verify := []string{"smime", "-verify", "-binary", "-inform", "der", "-in", der, "-content", text,
		"-CAfile", "testdata/signature/cert.pem", "-no_check_time", "-purpose", "any"}
	testtools.Run(t, "openssl", verify...)
	require.NoError(t, os.WriteFile(text, []byte(strings.ToUpper(digest32)), 0o600))
	_, err = testtools.Try(t, "openssl", verify...)
	require.Error(t, err)

	require.NoError(t, os.WriteFile(text, []byte(digest32), 0o600))
	sign := []string{"smime", "-sign", "-binary", "-outform", "der", "-in", text, "-out", der,
		"-signer", "testdata/signature/cert.pem", "-inkey", "testdata/signature/key.pem"}
	for i, options := range [][]string{{"-noattr"}, {"-noattr", "-nocerts"}, {}, {"-nocerts"}, {"-noattr", "-md", "sha512"}} {
		testtools.Run(t, "openssl", append(sign, options...)...)
		theirs, err := os.ReadFile(der)
		require.NoError(t, err)
		if i == 0 {
			require.True(t, bytes.Equal(theirs, s.PKCS7), "the same bytes")
		}
		signer, err := VerifySignature(theirs, signedRoot, []*x509.Certificate{cert})
		require.NoError(t, err, "%v", options)
		require.True(t, signer.Equal(cert))
	}
	testtools.Run(t, "openssl", append(sign, "-nodetach", "-noattr")...)
	theirs, err := os.ReadFile(der)
	require.NoError(t, err)
	_, err = VerifySignature(theirs, signedRoot, []*x509.Certificate{cert})
	require.ErrorContains(t, err, "want a detached signature")
}

const partitionText = `{"rootHash":"00ff","certificateFingerprint":"` + digest32 + `","signature":"AAEC"}`

func TestReadSignature(t *testing.T) {
	want := &Signature{RootHash: []byte{0, 0xff}, CertificateFingerprint: [32]byte(signedRoot), PKCS7: []byte{0, 1, 2}}
	for _, text := range []string{
		partitionText, partitionText + "\n", partitionText + "\n\x00\x00", "\t" + strings.ReplaceAll(partitionText, ",", " , ") + strings.Repeat("\x00", 5000),
		`{"signature":"AAEC","rootHash":"00ff","certificateFingerprint":"` + digest32 + `"}`,
	} {
		s, err := ReadSignature(strings.NewReader(text))
		require.NoError(t, err, text)
		require.Equal(t, want, s)
	}
	b, err := want.Partition(0)
	require.NoError(t, err)
	require.Equal(t, partitionText+strings.Repeat("\x00", 4096-len(partitionText)), string(b))
	_, err = want.Partition(100)
	require.ErrorContains(t, err, "signature partition: 100 bytes, but the signature text needs ")
	_, err = want.Partition(MaxSignaturePartition + 1)
	require.ErrorContains(t, err, "at most 4194304")
	_, err = (&Signature{RootHash: []byte{1}}).Partition(0)
	require.ErrorContains(t, err, "no signature")
	_, err = (&Signature{PKCS7: []byte{1}}).Partition(0)
	require.ErrorContains(t, err, "root hash: 0 bytes")
}

func TestReadSignatureRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ old, new, want string }{
		"nothing":           {partitionText, "", "JSON at 0x0: the document ends here: unexpected EOF"},
		"nul":               {partitionText, "\x00\x00", "JSON at 0x0: the document ends here: unexpected EOF"},
		"array":             {partitionText, "[]", "want an object"},
		"cut":               {`"}`, "", "signature at 0x"},
		"behind":            {`"}`, `"}{}`, "JSON at 0x82: data after the JSON value"},
		"behind-nul":        {`"}`, "\"}\x00\x00{", "padding at 0x84: byte 0x7b, want NUL"},
		"missing":           {`"rootHash":"00ff",`, "", "rootHash at 0x70: missing"},
		"twice":             {`"rootHash"`, `"rootHash":"00ff","rootHash"`, `JSON at 0x13: key "rootHash" appears twice`},
		"case":              {`"rootHash"`, `"roothash"`, "roothash at 0xc: unknown field"},
		"unknown":           {`"rootHash"`, `"x":"","rootHash"`, "x at 0x5: unknown field"},
		"number":            {`"00ff"`, `1`, "not a string"},
		"null":              {`"00ff"`, `null`, "not a string"},
		"object":            {`"00ff"`, `{}`, "not a string"},
		"upper":             {`00ff`, `00FF`, "lower-case"},
		"empty-root":        {`00ff`, ``, "root hash: 0 bytes"},
		"short-fingerprint": {digest32, "00", "1 bytes, want the 32 of a SHA-256"},
		"base64":            {"AAEC", "AAE", "illegal base64"},
		"base64-bits":       {"AAEC", "AAF=", "illegal base64"},
		"base64-line":       {"AAEC", `AA\nEC`, "in one line"},
		"empty-signature":   {"AAEC", ``, "not base64 of a signature"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ReadSignature(strings.NewReader(strings.Replace(partitionText, tt.old, tt.new, 1)))
			require.Nil(t, s)
			var text *osmith.FormatError
			require.ErrorAs(t, err, &text)
			assert.ErrorContains(t, err, tt.want)
		})
	}
	_, err := ReadSignature(newMemory(MaxSignaturePartition + 1))
	require.ErrorContains(t, err, "want at most 4194304")
}

func FuzzReadSignature(f *testing.F) {
	golden, err := os.ReadFile("testdata/signature/repart.raw")
	require.NoError(f, err)
	f.Add(golden)
	f.Add([]byte(partitionText))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSignature(bytes.NewReader(b))
		require.Equal(t, err == nil, s != nil)
		if err != nil {
			return
		}
		_, _ = s.Verify(nil)
		out, err := s.Partition(0)
		require.NoError(t, err)
		again, err := ReadSignature(bytes.NewReader(out))
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}
