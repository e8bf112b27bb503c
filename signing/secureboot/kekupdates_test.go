package secureboot_test

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// kekUpdateExceptions are published updates of KEK that edk2 refuses, with the reason. OpenSSL 3.0
// refuses each in the same way.
var kekUpdateExceptions = map[string]string{
	// Signed is the list alone, without name, vendor, attributes and time.
	"KEKUpdate_ECS_PK1.bin": "it was not signed for any variable",
	// The platform key has the critical extension 2.5.29.4, which OpenSSL does not handle
	// (X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION).
	"KEKUpdate_XiaoMi_PK1.bin": "critical extension",
	"KEKUpdate_XiaoMi_PK2.bin": "critical extension",
	"KEKUpdate_XiaoMi_PK3.bin": "critical extension",
	"KEKUpdate_XiaoMi_PK4.bin": "critical extension",
	"KEKUpdate_XiaoMi_PK5.bin": "critical extension",
}

// machineWithPK is one whose platform key is the signer of an update.
func machineWithPK(t testing.TB, a *secureboot.Auth) osmith.FirmwareVariables {
	t.Helper()
	key := lists(t, secureboot.SignatureList{Type: secureboot.TypeX509, Signatures: []secureboot.Signature{{Owner: owner, Data: a.RawSigner}}})
	return osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: key, KEK: lists(t, secureboot.CertificateList(owner, hierarchy(t).KEK.Cert))}
}

// checkKEKUpdate applies a published update of KEK where its platform key is installed, and says
// whether each row takes it.
func checkKEKUpdate(t testing.TB, name string) (taken bool) {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	a, err := secureboot.ParseAuth(b)
	require.NoError(t, err, name)
	m := machineWithPK(t, a)
	p := secureboot.Pending{Variable: "KEK", Auth: b, Append: true}
	applied, err := secureboot.ApplyWith(m, p, secureboot.ApplyOptions{})
	if reason, ok := kekUpdateExceptions[filepath.Base(name)]; ok {
		refused, ok := errors.AsType[*secureboot.RefusedError](err)
		require.True(t, ok, "%s is an exception, and edk2 takes it: %v", name, err)
		require.False(t, refused.Unknown, "%s: %v", name, err)
		require.ErrorContains(t, err, reason, name)
		return false
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return false
	}
	require.Equal(t, string(m.KEK)+string(a.Payload), string(applied.Variables.KEK), name)
	certs, err := secureboot.Certificates(mustParse(t, a.Payload))
	require.NoError(t, err, name)
	brings := slices.ContainsFunc(certs, func(c *x509.Certificate) bool {
		known, ok := secureboot.Identify(c)
		return ok && known.Name == "Microsoft Corporation KEK 2K CA 2023"
	})
	require.True(t, brings, "%s brings %q", name, certs[0].Subject)

	// Another machine does not take it, nor this one as something else.
	m.PK = lists(t, secureboot.CertificateList(owner, hierarchy(t).PK.Cert))
	_, err = secureboot.Apply(m, p)
	require.ErrorIs(t, err, secureboot.ErrUntrusted, name)
	p.Variable = "db"
	_, err = secureboot.Apply(machineWithPK(t, a), p)
	require.ErrorIs(t, err, secureboot.ErrSignature, name)
	return true
}

func mustParse(t testing.TB, b []byte) []secureboot.SignatureList {
	t.Helper()
	l, err := secureboot.ParseSignatureLists(b)
	require.NoError(t, err)
	return l
}

// Those of the published updates that ask most of a reader.
func TestKEKUpdates(t *testing.T) {
	for name, want := range map[string]bool{
		"KEKUpdate_Lenovo_PK10.bin":  true,  // a platform key with a negative serial number
		"KEKUpdate_Lenovo_PK264.bin": true,  // and one with two keyUsage
		"KEKUpdate_ECS_PK2.bin":      true,  // SignedData that carries its content
		"KEKUpdate_ECS_PK1.bin":      false, // signed for no variable
		"KEKUpdate_XiaoMi_PK1.bin":   false, // a critical extension
	} {
		require.Equal(t, want, checkKEKUpdate(t, "testdata/certificates/"+name), name)
	}
}

// OSMITH_KEK_UPDATES names a directory with the whole set (PostSignedObjects/KEK of
// github.com/microsoft/secureboot_objects), which is not in this repository: every file parses, and
// applies where its platform key is installed.
func TestPublishedKEKUpdates(t *testing.T) {
	dir := os.Getenv("OSMITH_KEK_UPDATES")
	if dir == "" {
		t.Skip("OSMITH_KEK_UPDATES does not name a directory with the published updates of KEK")
	}
	found, taken, excepted := 0, 0, 0
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".bin" {
			return err
		}
		if found++; checkKEKUpdate(t, name) {
			taken++
		} else if _, ok := kekUpdateExceptions[filepath.Base(name)]; ok {
			excepted++
		}
		return nil
	}))
	require.NotZero(t, found, "%s has no .bin", dir)
	t.Logf("%d updates, %d taken, %d refused as edk2 does", found, taken, excepted)
	require.Equal(t, found, taken+excepted)
}
