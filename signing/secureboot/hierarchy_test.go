package secureboot_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func TestGenerate(t *testing.T) {
	h, err := secureboot.Generate(nil, options)
	require.NoError(t, err)
	require.NoError(t, h.Check())
	require.Equal(t, owner, h.Owner)
	names := map[string]secureboot.KeyPair{
		"Platform Key": h.PK, "Key Exchange Key": h.KEK, "Signature Database Key": h.DB, "PCR Signing Key": h.PCR, "Verity Signing Key": h.Verity,
	}
	for name, p := range names {
		require.Equal(t, "CN=Acme OS "+name, p.Cert.Subject.String())
		require.Equal(t, name != "PCR Signing Key" && name != "Verity Signing Key", p.Cert.IsCA)
		require.Equal(t, p.Cert.RawSubject, p.Cert.RawIssuer)
		require.NoError(t, p.Cert.CheckSignature(p.Cert.SignatureAlgorithm, p.Cert.RawTBSCertificate, p.Cert.Signature))
		require.True(t, p.Cert.NotBefore.Equal(options.NotBefore))
		require.True(t, p.Cert.NotAfter.Equal(options.NotAfter))
		require.Equal(t, 2048, p.Cert.PublicKey.(*rsa.PublicKey).Size()*8)
		require.Len(t, p.Cert.SerialNumber.Bytes(), 20)
		require.True(t, p.Key.Public().(*rsa.PublicKey).Equal(p.Cert.PublicKey))
	}
	require.NotEqual(t, h.PK.Cert.SerialNumber, h.DB.Cert.SerialNumber)
}

func TestGenerateRefuses(t *testing.T) {
	for want, change := range map[string]func(*secureboot.GenerateOptions){
		"CommonName is empty": func(o *secureboot.GenerateOptions) { o.CommonName = "" },
		"not a period":        func(o *secureboot.GenerateOptions) { o.NotAfter = o.NotBefore },
		"1024 bits":           func(o *secureboot.GenerateOptions) { o.Bits = 1024 },
	} {
		o := options
		change(&o)
		h, err := secureboot.Generate(nil, o)
		require.ErrorContains(t, err, want)
		require.Nil(t, h)
	}
	h, err := secureboot.Generate(bytes.NewReader(nil), options)
	require.Error(t, err)
	require.Nil(t, h)
}

func TestEnrollNothingElse(t *testing.T) {
	h := hierarchy(t)
	e := enrolled(t, h)
	v := e.Variables
	require.Equal(t, []byte{1}, v.SecureBoot)
	require.Equal(t, []byte{0}, v.SetupMode)
	require.Equal(t, lists(t, secureboot.CertificateList(owner, h.DB.Cert)), v.DB)
	require.Nil(t, v.DBX)
	for _, c := range []struct {
		name          string
		auth, content []byte
		signer        *x509.Certificate
	}{{"PK", e.PK, v.PK, h.PK.Cert}, {"KEK", e.KEK, v.KEK, h.PK.Cert}, {"db", e.DB, v.DB, h.KEK.Cert}} {
		a, err := secureboot.VerifyAuth(secureboot.Pending{Variable: c.name, Auth: c.auth}, []*x509.Certificate{c.signer})
		require.NoError(t, err)
		require.Equal(t, c.content, a.Payload)
	}
	_, err := (&secureboot.Hierarchy{}).Enroll(nothingElse)
	require.EqualError(t, err, "secureboot: the hierarchy lacks key or certificate of PK: give both")
	_, err = (&secureboot.Hierarchy{}).EnrollUpdates(nothingElse)
	require.EqualError(t, err, "secureboot: the hierarchy lacks the certificate of PK")
}

// openssl takes our SignedData for what it is, once it has a ContentInfo around it.
func TestOpensslVerifies(t *testing.T) {
	testtools.Require(t, "openssl")
	h := hierarchy(t)
	e := enrolled(t, h)
	size := int(e.DB[16]) | int(e.DB[17])<<8 - 24
	signed := e.DB[40 : 40+size]
	wrapped := []byte{0x30, 0x82, byte((size + 15) >> 8), byte(size + 15), 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2, 0xa0, 0x82, byte(size >> 8), byte(size)}
	wrapped = append(wrapped, signed...)

	content := append([]byte("d\x00b\x00"), efi.AppendGUID(nil, secureboot.ImageSecurityDatabase)...)
	content = append(content, 0x27, 0, 0, 0)
	content = append(content, e.DB[:16]...)
	content = append(content, e.DB[40+size:]...)

	dir := t.TempDir()
	message, data, out := filepath.Join(dir, "m"), filepath.Join(dir, "c"), filepath.Join(dir, "o")
	require.NoError(t, os.WriteFile(message, wrapped, 0o600))
	require.NoError(t, os.WriteFile(data, content, 0o600))
	_, cert := pemFiles(t, h.KEK)
	testtools.Run(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", message, "-content", data, "-CAfile", cert, "-no_check_time", "-purpose", "any", "-out", out)
}
