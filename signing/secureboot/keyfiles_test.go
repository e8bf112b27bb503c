package secureboot_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func mapFS(files map[string][]byte) fstest.MapFS {
	dir := fstest.MapFS{}
	for name, content := range files {
		dir[name] = &fstest.MapFile{Data: content}
	}
	return dir
}

// requireSamePair compares keys by their values: what else is in one differs by how it came about.
func requireSamePair(t *testing.T, want, got secureboot.KeyPair) {
	t.Helper()
	require.True(t, want.Key.(*rsa.PrivateKey).Equal(got.Key))
	require.True(t, want.Cert.Equal(got.Cert))
}

func TestHierarchyFiles(t *testing.T) {
	owner := osmith.MustParseGUID("11111111-2222-3333-4444-555555555555")
	h, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme", Owner: owner, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0)})
	require.NoError(t, err)
	files, err := h.Files()
	require.NoError(t, err)
	require.Len(t, files, 10)
	e, err := h.Enroll(secureboot.EnrollOptions{Time: time.Unix(1e9, 0), NothingMustBoot: true,
		OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	require.NoError(t, err)
	files["KEK.esl"] = secureboot.Content(e.Variables, "KEK")

	got, err := secureboot.ReadHierarchy(mapFS(files))
	require.NoError(t, err)
	require.Equal(t, h.Owner, got.Owner)
	for i, want := range []secureboot.KeyPair{h.PK, h.KEK, h.DB, h.PCR, h.Verity} {
		requireSamePair(t, want, []secureboot.KeyPair{got.PK, got.KEK, got.DB, got.PCR, got.Verity}[i])
	}
	require.NoError(t, got.Check())

	delete(files, "KEK.esl")
	delete(files, "db.key") // it is in an HSM
	delete(files, "PK.crt")
	delete(files, "PK.key")
	got, err = secureboot.ReadHierarchy(mapFS(files))
	require.NoError(t, err)
	require.Equal(t, osmith.GUID{}, got.Owner)
	require.Nil(t, got.DB.Key)
	require.True(t, got.DB.Cert.Equal(h.DB.Cert))
	require.Equal(t, secureboot.KeyPair{}, got.PK)
	require.ErrorContains(t, got.Check(), "lacks key or certificate of PK")
	again, err := got.Files()
	require.NoError(t, err)
	require.Equal(t, files, again)

	pair, err := secureboot.ReadKeyPair(mapFS(files), "KEK")
	require.NoError(t, err)
	requireSamePair(t, h.KEK, pair)
	_, err = secureboot.ReadKeyPair(mapFS(files), "release")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "release.crt")

	other := files["KEK.key"]
	for name, c := range map[string]struct {
		change func(map[string][]byte)
		want   string
		absent bool
	}{
		"nothing":             {func(f map[string][]byte) { clear(f) }, "has none of PK.crt", true},
		"key alone":           {func(f map[string][]byte) { delete(f, "KEK.crt") }, "add KEK.crt", true},
		"key of another":      {func(f map[string][]byte) { f["PCR.key"] = other }, "PCR: the private key does not belong to the certificate", false},
		"empty key":           {func(f map[string][]byte) { f["PCR.key"] = []byte{} }, "PCR: private key: no private key in PEM", false},
		"certificate for key": {func(f map[string][]byte) { f["PCR.key"] = f["PCR.crt"] }, "no private key in PEM", false},
		"key for certificate": {func(f map[string][]byte) { f["PCR.crt"] = f["PCR.key"] }, "no certificate in PEM or DER", false},
		"damaged certificate": {func(f map[string][]byte) { f["PCR.crt"] = []byte{0x30, 1} }, "PCR: certificate: x509", false},
		"damaged list":        {func(f map[string][]byte) { f["KEK.esl"] = []byte{1} }, "KEK.esl: ", false},
		"file without an end": {func(f map[string][]byte) { f["PCR.key"] = make([]byte, 1<<20+1) }, "PCR.key has 1048577 bytes, want at most 1048576", false},
		"encrypted private key": {func(f map[string][]byte) {
			f["PCR.key"] = pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})
		}, "the key is encrypted: decrypt it first", false},
	} {
		t.Run(name, func(t *testing.T) {
			changed := map[string][]byte{}
			for name, content := range files {
				changed[name] = content
			}
			c.change(changed)
			_, err := secureboot.ReadHierarchy(mapFS(changed))
			require.ErrorContains(t, err, c.want)
			require.Equal(t, c.absent, errors.Is(err, fs.ErrNotExist), err)
		})
	}
}

// The forms of openssl, of which PKCS #8 is tested above.
func TestParsePrivateKey(t *testing.T) {
	secret, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	rsaDER := x509.MarshalPKCS1PrivateKey(secret)
	key, err := secureboot.ParsePrivateKey(append([]byte("Bag Attributes\n"), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: rsaDER})...))
	require.NoError(t, err)
	require.True(t, secret.Equal(key))

	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(curve)
	require.NoError(t, err)
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 0}})
	key, err = secureboot.ParsePrivateKey(append(parameters, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...))
	require.NoError(t, err)
	require.True(t, curve.Equal(key))

	_, err = secureboot.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}))
	require.ErrorContains(t, err, "private key: ")
}
