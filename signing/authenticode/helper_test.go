package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

var when = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// An identity is a key with its certificate.
type identity struct {
	key  crypto.Signer
	cert *x509.Certificate
}

var keys sync.Map // kind -> crypto.Signer, so that RSA keys are made once per run

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	if k, ok := keys.Load(kind); ok {
		return k.(crypto.Signer)
	}
	var k crypto.Signer
	var err error
	switch kind[:3] {
	case "rsa":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case "307":
		k, err = rsa.GenerateKey(rand.Reader, 3072)
	case "409":
		k, err = rsa.GenerateKey(rand.Reader, 4096)
	case "256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "521":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		t.Fatalf("kind of key: %q", kind)
	}
	require.NoError(t, err)
	keys.Store(kind, k)
	return k
}

// newIdentity makes a certificate for a key of a kind ("rsa1", "256a"), signed by issuer or, if
// nil, by itself. It is valid when things are signed here, and has expired since.
func newIdentity(t testing.TB, kind, name string, issuer *identity) identity {
	t.Helper()
	key := newKey(t, kind)
	c := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte(name)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: when.AddDate(0, 0, 1),
		IsCA: issuer == nil || name[0] == 'C', BasicConstraintsValid: true,
	}
	return issue(t, key, c, issuer)
}

// issue makes a certificate after a template, signed by issuer or, if nil, by itself.
func issue(t testing.TB, key crypto.Signer, c *x509.Certificate, issuer *identity) identity {
	t.Helper()
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

func (id identity) list() []*x509.Certificate { return []*x509.Certificate{id.cert} }

// files writes key and certificate as PEM and returns their names.
func (id identity) files(t testing.TB) (key, cert string) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	require.NoError(t, err)
	key, cert = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.cert.Raw}), 0o600))
	return key, cert
}

// image is a small boot stub with so many bytes appended behind its sections.
func image(trailing int) []byte {
	b := petest.Stub("262-1")
	for i := range trailing {
		b = append(b, byte(i+1))
	}
	return b
}

func sign(t testing.TB, img []byte, id identity, o authenticode.SignOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, authenticode.Sign(&out, bytes.NewReader(img), id.key, id.cert, o))
	return out.Bytes()
}
