package cms_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/osmith-dev/osmith"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/testtools"
)

var when = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

type identity struct {
	key  crypto.Signer
	cert *x509.Certificate
}

var rsaKey = sync.OnceValue(func() crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func ecKey(t testing.TB) crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return k
}

func issue(t testing.TB, key crypto.Signer, c *x509.Certificate, issuer *identity) identity {
	t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = when, when.AddDate(1, 0, 0)
	parent := identity{key, c}
	if issuer != nil {
		parent = *issuer
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent.cert, key.Public(), parent.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return identity{key, cert}
}

func named(name string, ca bool) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true}
}

// forms are the three that boot security uses, for a piece of content.
func forms(id identity, content []byte, h crypto.Hash) map[string]*cms.Template {
	w := h.New()
	w.Write(content)
	octets, _ := asn1.Marshal(content)
	return map[string]*cms.Template{
		"variable": {Hash: h, Digest: w.Sum(nil), Certificate: id.cert, Bare: true},
		"verity":   {Hash: h, Digest: w.Sum(nil), Certificate: id.cert},
		"detached": {Hash: h, Digest: w.Sum(nil), Certificate: id.cert, Attributes: true, SigningTime: when},
		"embedded": {Hash: h, Content: octets, Certificate: id.cert, Attributes: true, Chain: []*x509.Certificate{id.cert}},
		"typed":    {Hash: h, Content: octets, ContentType: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}, Certificate: id.cert, Attributes: true},
	}
}

func TestSignAndCheck(t *testing.T) {
	content := []byte("content")
	for _, key := range []crypto.Signer{rsaKey(), ecKey(t)} {
		id := issue(t, key, named("signer", true), nil)
		other := issue(t, ecKey(t), named("signer", true), nil)
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			for name, tmpl := range forms(id, content, h) {
				der, err := tmpl.Sign(key)
				require.NoError(t, err, name)
				again, err := tmpl.Sign(key)
				require.NoError(t, err)
				require.Equal(t, der, again, "deterministic")

				sd, rest, err := cms.Parse(append(der, 1, 2), 0)
				require.NoError(t, err, name)
				require.Equal(t, []byte{1, 2}, rest)
				require.Equal(t, der, sd.Raw)
				require.Equal(t, tmpl.Bare, sd.Bare)
				require.Equal(t, tmpl.Content, sd.Content)
				require.Len(t, sd.Certificates, 1)
				require.Len(t, sd.Signers, 1)
				si := &sd.Signers[0]
				require.Equal(t, h, si.Hash)
				require.True(t, si.SigningTime().Equal(tmpl.SigningTime))
				cert := sd.Certificate(si)
				require.Equal(t, id.cert.Raw, cert.Raw)

				detached := content
				if tmpl.Content != nil {
					detached = nil
				}
				require.NoError(t, sd.Check(si, cert, detached), name)
				require.Error(t, sd.Check(si, other.cert, detached), name)
				require.Error(t, sd.Check(si, cert, []byte("other")), name)
			}
		}
	}
}

func TestTemplateRefuses(t *testing.T) {
	id := issue(t, ecKey(t), named("signer", true), nil)
	sum := make([]byte, 32)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ed := issue(t, edKey, named("ed", true), nil)
	for want, c := range map[string]*cms.Template{
		"no certificate":             {Digest: sum},
		"31 bytes, SHA-256 has 32":   {Digest: sum[:31], Certificate: id.cert},
		"0 bytes, SHA-256 has 32":    {Certificate: id.cert},
		"digest SHA-1":               {Hash: crypto.SHA1, Digest: make([]byte, 20), Certificate: id.cert},
		"unexpected bytes follow":    {Content: []byte{4, 0, 0}, Certificate: id.cert},
		"is not that of the content": nil,
		"four digits":                {Digest: sum, Certificate: id.cert, Attributes: true, SigningTime: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if c == nil {
			c = &cms.Template{Content: []byte{4, 0}, Digest: sum, Certificate: id.cert}
			want = "digest given is not that of the content"
		}
		_, err := c.Prepare()
		require.ErrorContains(t, err, want)
		_, err = c.Join(nil)
		require.ErrorContains(t, err, want)
		_, err = c.Sign(id.key)
		require.ErrorContains(t, err, want)
	}
	_, err = (&cms.Template{Digest: sum, Certificate: ed.cert}).Join(make([]byte, 64))
	require.ErrorContains(t, err, "want RSA or ECDSA")
	_, err = (&cms.Template{Digest: sum, Certificate: id.cert}).Sign(ed.key)
	require.ErrorContains(t, err, "not that of the certificate")
	_, err = (&cms.Template{Digest: sum, Certificate: id.cert}).Join([]byte{0x30, 0})
	require.ErrorContains(t, err, "signature to join")
}

// Attributes are mandatory for content other than data; a signature must not be taken for one in
// the other dress.
func TestAttributesAreMandatory(t *testing.T) {
	id := issue(t, ecKey(t), named("signer", true), nil)
	tmpl := forms(id, []byte("x"), crypto.SHA256)["typed"]
	tmpl.Attributes = false
	der, err := tmpl.Sign(id.key)
	require.NoError(t, err)
	sd, _, err := cms.Parse(der, 0)
	require.NoError(t, err)
	require.ErrorContains(t, sd.Check(&sd.Signers[0], id.cert, nil), "without signed attributes")
}

func TestChain(t *testing.T) {
	root := issue(t, ecKey(t), named("root", true), nil)
	a := issue(t, ecKey(t), named("a", true), &root)
	limited := named("limited", true)
	limited.MaxPathLenZero = true
	zero := issue(t, ecKey(t), limited, &root)
	below := issue(t, ecKey(t), named("below", true), &zero)
	usage := named("usage", true)
	usage.KeyUsage = x509.KeyUsageDigitalSignature
	noSign := issue(t, ecKey(t), usage, &root)
	leaf := func(i identity) *x509.Certificate { return issue(t, ecKey(t), named("leaf", false), &i).cert }
	notCA := issue(t, ecKey(t), named("plain", false), &root)
	impostor := issue(t, ecKey(t), named("root", true), nil)

	list := func(c ...*x509.Certificate) []*x509.Certificate { return c }
	for _, c := range []struct {
		name           string
		leaf           *x509.Certificate
		inter, trusted []*x509.Certificate
		length         int
	}{
		{"itself", notCA.cert, nil, list(notCA.cert), 1},
		{"direct", leaf(root), nil, list(root.cert), 2},
		{"through one", leaf(a), list(a.cert), list(impostor.cert, root.cert), 3},
		{"one in the middle is trusted", leaf(a), list(a.cert, root.cert), list(a.cert), 2},
		{"loops do no harm", leaf(a), list(a.cert, a.cert, root.cert, root.cert), list(root.cert), 3},
		{"nobody trusted", leaf(a), list(a.cert, root.cert), nil, 0},
		{"intermediate missing", leaf(a), nil, list(root.cert), 0},
		{"not an authority", leaf(notCA), list(notCA.cert), list(root.cert), 0},
		{"must not sign certificates", leaf(noSign), list(noSign.cert), list(root.cert), 0},
		{"path length kept", leaf(zero), list(zero.cert), list(root.cert), 3},
		{"path length exceeded", leaf(below), list(below.cert, zero.cert), list(root.cert), 0},
		{"same name, other key", leaf(root), nil, list(impostor.cert), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := cms.Chain(c.leaf, c.inter, c.trusted)
			require.Len(t, path, c.length)
			if path != nil {
				require.Equal(t, c.leaf.Raw, path[0].Raw)
			}
		})
	}

	// Many certificates of one name, none of which issued the other: the search gives up in time.
	var many []*x509.Certificate
	for range 60 {
		many = append(many, issue(t, ecKey(t), named("root", true), nil).cert)
	}
	require.Nil(t, cms.Chain(leaf(root), many, list(impostor.cert)))
}

// openssl verifies ours, and we check its: CMS and PKCS #7, with and without attributes, named by
// key identifier.
func TestOpenssl(t *testing.T) {
	testtools.Require(t, "openssl")
	content := []byte("0123456789abcdef, a root hash for one")
	for _, key := range []crypto.Signer{rsaKey(), ecKey(t)} {
		id := issue(t, key, named("signer", true), nil)
		dir := t.TempDir()
		file := func(name string, b []byte) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, b, 0o600))
			return path
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		keyFile := file("key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
		certFile := file("cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.cert.Raw}))
		data, out := file("data", content), filepath.Join(dir, "out")

		for name, tmpl := range forms(id, content, crypto.SHA256) {
			if tmpl.Bare || tmpl.ContentType != nil {
				continue // neither is a message for openssl's command line
			}
			der, err := tmpl.Sign(key)
			require.NoError(t, err)
			for _, cmd := range []string{"cms", "smime"} {
				args := []string{cmd, "-verify", "-binary", "-inform", "DER", "-in", file("message", der), "-CAfile", certFile, "-no_check_time", "-purpose", "any", "-out", out}
				if tmpl.Content == nil {
					args = append(args, "-content", data)
				}
				testtools.Run(t, "openssl", args...)
				got, err := os.ReadFile(out)
				require.NoError(t, err)
				require.Equal(t, content, got, name)
			}
		}

		for _, args := range [][]string{
			{"smime", "-sign"}, {"smime", "-sign", "-noattr"}, {"smime", "-sign", "-md", "sha512"},
			{"cms", "-sign"}, {"cms", "-sign", "-noattr"}, {"cms", "-sign", "-keyid"}, {"cms", "-sign", "-md", "sha384"},
		} {
			args = append(args, "-binary", "-outform", "DER", "-in", data, "-signer", certFile, "-inkey", keyFile, "-out", out)
			testtools.Run(t, "openssl", args...)
			der, err := os.ReadFile(out)
			require.NoError(t, err)
			sd, rest, err := cms.Parse(der, 0)
			require.NoError(t, err, args)
			require.Empty(t, rest)
			si := &sd.Signers[0]
			require.NotNil(t, sd.Certificate(si), args)
			require.NoError(t, sd.Check(si, sd.Certificate(si), content), args)
			require.Error(t, sd.Check(si, sd.Certificate(si), content[1:]), args)
		}

		// What the verity signature partition carries: the same bytes, when the key's algorithm has
		// only one signature.
		if _, ok := key.(*rsa.PrivateKey); ok {
			testtools.Run(t, "openssl", "smime", "-sign", "-noattr", "-binary", "-outform", "DER", "-in", data, "-signer", certFile, "-inkey", keyFile, "-out", out)
			theirs, err := os.ReadFile(out)
			require.NoError(t, err)
			sum := sha256.Sum256(content)
			ours, err := (&cms.Template{Digest: sum[:], Certificate: id.cert}).Sign(key)
			require.NoError(t, err)
			require.Equal(t, theirs, ours)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	id := issue(t, ecKey(t), named("signer", true), nil)
	der, err := forms(id, []byte("x"), crypto.SHA256)["verity"].Sign(id.key)
	require.NoError(t, err)
	for i := range der {
		sd, _, err := cms.Parse(der[:i], 0)
		require.Error(t, err)
		require.Nil(t, sd)
		_, ok := errors.AsType[*osmith.FormatError](err)
		require.True(t, ok, "%v", err)
	}
	for want, b := range map[string][]byte{
		"tag 0x04, want 0x30":    {4, 0},
		"not a DER length":       {0x30, 0x80, 0, 0},
		"fewest bytes":           {0x30, 0x81, 0x05, 0, 0, 0, 0, 0},
		"middle of an element":   {0x30},
		"but only 0 bytes":       {0x30, 0x84, 0x7f, 0xff, 0xff, 0xff},
		"at most 4 bytes":        {0x30, 0x85, 1, 0, 0, 0, 0},
		"want SignedData":        append([]byte{0x30, 13, 6, 9}, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1, 5, 0),
		"content of the message": append([]byte{0x30, 13, 6, 9}, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2, 5, 0),
	} {
		sd, _, err := cms.Parse(b, 0)
		require.ErrorContains(t, err, want)
		require.Nil(t, sd)
	}
	_, _, err = cms.Parse(make([]byte, cms.MaxSize+1), 0)
	require.ErrorContains(t, err, "limit")
}

func FuzzParse(f *testing.F) {
	id := issue(f, ecKey(f), named("signer", true), nil)
	other := issue(f, ecKey(f), named("other", true), nil)
	for _, tmpl := range forms(id, []byte("content"), crypto.SHA256) {
		der, err := tmpl.Sign(id.key)
		require.NoError(f, err)
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sd, rest, err := cms.Parse(data, 0)
		if (sd == nil) != (err != nil) {
			t.Fatalf("%v and error %v", sd, err)
		}
		if err != nil {
			return
		}
		if string(sd.Raw)+string(rest) != string(data) {
			t.Fatal("bytes lost")
		}
		for i := range sd.Signers {
			sd.Signers[i].SigningTime()
			sd.Certificate(&sd.Signers[i])
			if sd.Check(&sd.Signers[i], other.cert, []byte("content")) == nil {
				t.Fatal("accepted with a foreign key")
			}
		}
	})
}
