package secureboot_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// microsofts are the certificates of the table, out of the variable store that Debian ships for
// machines with Microsoft's keys.
func microsofts(t testing.TB) map[string]*x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(testtools.Forky(t).Path("usr/share/OVMF/OVMF_VARS_4M.ms.fd"))
	require.NoError(t, err)
	v, err := secureboot.ParseStore(b)
	require.NoError(t, err)
	m := map[string]*x509.Certificate{}
	for _, data := range [][]byte{v.KEK, v.DB} {
		l, err := secureboot.ParseSignatureLists(data)
		require.NoError(t, err)
		certs, err := secureboot.Certificates(l)
		require.NoError(t, err)
		for _, c := range certs {
			m[c.Subject.CommonName] = c
		}
	}
	return m
}

// All certificates of the table are in Debian forky's store, in the variable that the table names.
func TestKnownCertificates(t *testing.T) {
	all := microsofts(t)
	require.Len(t, secureboot.KnownCertificates(), 7)
	for _, k := range secureboot.KnownCertificates() {
		c := all[k.Name]
		require.NotNil(t, c, k.Name)
		got, ok := secureboot.Identify(c)
		require.True(t, ok)
		require.Equal(t, k, got)
		require.Equal(t, k.Expires.Format("2006-01-02"), c.NotAfter.UTC().Format("2006-01-02"))
		require.NotEmpty(t, k.Purpose)
	}
	_, ok := secureboot.Identify(hierarchy(t).DB.Cert)
	require.False(t, ok)
	// The same, as another distribution ships them.
	dir := testtools.Trixie(t).Path("usr/lib/python3/dist-packages/virt/firmware/certs")
	files, err := filepath.Glob(filepath.Join(dir, "*icros*.pem"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		block, _ := pem.Decode(b)
		require.NotNil(t, block)
		c, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		_, ok := secureboot.Identify(c)
		require.True(t, ok, name)
	}
}

func TestTestKeys(t *testing.T) {
	for name, want := range map[string]bool{
		"DO NOT TRUST - AMI Test PK": true, "Do Not Ship - Test PK": true, "SnakeOil Test Key for EFI Secure Boot": true, "Acme OS Platform Key": false,
	} {
		p, err := secureboot.NewKeyPair(hierarchy(t).PK.Key, secureboot.CertificateOptions{CommonName: name, NotBefore: from, NotAfter: when})
		require.NoError(t, err)
		require.Equal(t, want, secureboot.IsTestKey(p.Cert), name)
		v := osmith.FirmwareVariables{SecureBoot: []byte{1}, PK: lists(t, secureboot.CertificateList(owner, p.Cert))}
		require.Equal(t, want, len(secureboot.EvaluateSet(v, nil, secureboot.EvaluateSetOptions{}).Warnings) == 1)
	}
	b, err := os.ReadFile(testtools.Trixie(t).Path("usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"))
	require.NoError(t, err)
	v, err := secureboot.ParseStore(b)
	require.NoError(t, err)
	require.Len(t, secureboot.EvaluateSet(v, nil, secureboot.EvaluateSetOptions{}).Warnings, 3)
}
