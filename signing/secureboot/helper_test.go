package secureboot_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

var (
	owner, _ = osmith.ParseGUID("11111111-2222-3333-4444-555555555555")
	from     = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	when     = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	options  = secureboot.GenerateOptions{CommonName: "Acme OS", Owner: owner, NotBefore: from, NotAfter: from.AddDate(1, 0, 0)}
)

// Two hierarchies; the certificates of both have long expired.
var (
	ours    = sync.OnceValues(func() (*secureboot.Hierarchy, error) { return readKeys("ours.pem") })
	foreign = sync.OnceValues(func() (*secureboot.Hierarchy, error) { return readKeys("foreign.pem") })
)

// readKeys reads a hierarchy that was made by Generate once, so that the tests need not wait for
// new keys.
func readKeys(name string) (*secureboot.Hierarchy, error) {
	rest, err := os.ReadFile(filepath.Join("testdata", "keys", name))
	if err != nil {
		return nil, err
	}
	h := &secureboot.Hierarchy{Owner: owner}
	for _, p := range []*secureboot.KeyPair{&h.PK, &h.KEK, &h.DB, &h.PCR, &h.Verity} {
		var key, cert *pem.Block
		key, rest = pem.Decode(rest)
		cert, rest = pem.Decode(rest)
		k, err := x509.ParsePKCS8PrivateKey(key.Bytes)
		if err != nil {
			return nil, err
		}
		p.Key = k.(crypto.Signer)
		if p.Cert, err = x509.ParseCertificate(cert.Bytes); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func hierarchy(t testing.TB) *secureboot.Hierarchy {
	t.Helper()
	h, err := ours()
	require.NoError(t, err)
	return h
}

func foreignHierarchy(t testing.TB) *secureboot.Hierarchy {
	t.Helper()
	h, err := foreign()
	require.NoError(t, err)
	return h
}

// nothingElse enrols a hierarchy alone.
var nothingElse = secureboot.EnrollOptions{Time: when, NothingMustBoot: true, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}}

// enrolled is a machine with a hierarchy and nothing else, of which no times are known.
func enrolled(t testing.TB, h *secureboot.Hierarchy) *secureboot.Enrollment {
	t.Helper()
	e, err := h.Enroll(nothingElse)
	require.NoError(t, err)
	e.Variables.Times = nil
	return e
}

func lists(t testing.TB, l ...secureboot.SignatureList) []byte {
	t.Helper()
	b, err := secureboot.AppendSignatureLists(nil, l...)
	require.NoError(t, err)
	return b
}

// pemFiles writes key and certificate and returns their names.
func pemFiles(t testing.TB, p secureboot.KeyPair) (key, cert string) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	require.NoError(t, err)
	key, cert = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw}), 0o600))
	return key, cert
}

// bootVariables are the variables of a real boot, attribute bytes removed.
func bootVariables(t testing.TB) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	for _, name := range []string{"PK", "KEK", "db", "dbx"} {
		vendor, err := secureboot.VendorGUID(name)
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join("testdata", "boot", name+"-"+vendor.String()))
		require.NoError(t, err)
		require.Equal(t, []byte{0x27, 0, 0, 0}, b[:4])
		m[name] = b[4:]
	}
	return m
}
