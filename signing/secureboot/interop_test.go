package secureboot_test

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// Lists that efitools and sbsigntool make are ours byte for byte, and efitools takes the
// certificates out of ours.
func TestListsAsEfitools(t *testing.T) {
	h := hierarchy(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	_, cert := pemFiles(t, h.DB)

	testtools.Require(t, "cert-to-efi-hash-list")
	for bits, hash := range map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512} {
		testtools.Run(t, "cert-to-efi-hash-list", "-g", owner.String(), "-t", when.Format(time.DateTime), "-s", bits, cert, out)
		l, err := secureboot.CertificateDigestList(owner, hash, when, h.DB.Cert)
		require.NoError(t, err)
		require.Equal(t, hexOf(read(t, out)), hexOf(lists(t, l)), bits)
	}

	testtools.Require(t, "sbsiglist")
	sum := sha256.Sum256([]byte("image"))
	hashFile, der := filepath.Join(dir, "hash"), filepath.Join(dir, "der")
	require.NoError(t, os.WriteFile(hashFile, sum[:], 0o600))
	require.NoError(t, os.WriteFile(der, h.DB.Cert.Raw, 0o600))
	testtools.Run(t, "sbsiglist", "--owner", owner.String(), "--type", "sha256", "--output", out, hashFile)
	require.Equal(t, read(t, out), lists(t, secureboot.SHA256List(owner, sum)))
	testtools.Run(t, "sbsiglist", "--owner", owner.String(), "--type", "x509", "--output", out, der)
	require.Equal(t, read(t, out), lists(t, secureboot.CertificateList(owner, h.DB.Cert)))

	testtools.Require(t, "sig-list-to-certs")
	esl := filepath.Join(dir, "esl")
	require.NoError(t, os.WriteFile(esl, lists(t, secureboot.CertificateList(owner, h.KEK.Cert), secureboot.CertificateList(owner, h.DB.Cert)), 0o600))
	testtools.Run(t, "sig-list-to-certs", esl, filepath.Join(dir, "cert"))
	require.Equal(t, h.KEK.Cert.Raw, read(t, filepath.Join(dir, "cert-0.der")))
	require.Equal(t, h.DB.Cert.Raw, read(t, filepath.Join(dir, "cert-1.der")))
}

// The digest that hash-to-efi-sig-list finds in a real loader.
func TestHashToEfiSigList(t *testing.T) {
	testtools.Require(t, "hash-to-efi-sig-list")
	out := filepath.Join(t.TempDir(), "out")
	testtools.Run(t, "hash-to-efi-sig-list", testtools.Trixie(t).Part(t, "loader"), out)
	b := read(t, out)
	l, err := secureboot.ParseSignatureLists(b)
	require.NoError(t, err)
	require.Equal(t, secureboot.TypeSHA256, l[0].Type)
	require.Equal(t, b, lists(t, secureboot.SHA256List(l[0].Signatures[0].Owner, [32]byte(l[0].Signatures[0].Data))))
}

// Updates that sbvarsign signs are taken by the machine that Apply simulates. It stamps them with
// the time of its run.
func TestSbvarsign(t *testing.T) {
	testtools.Require(t, "sbvarsign")
	h := hierarchy(t)
	v := enrolled(t, h).Variables
	dir := t.TempDir()
	esl, out := filepath.Join(dir, "esl"), filepath.Join(dir, "auth")
	payload := lists(t, secureboot.SHA256List(owner, [32]byte{1}))
	require.NoError(t, os.WriteFile(esl, payload, 0o600))
	key, cert := pemFiles(t, h.KEK)
	for attrs, add := range map[string]bool{
		"NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS":              false,
		"NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,APPEND_WRITE": true,
	} {
		testtools.Run(t, "sbvarsign", "--key", key, "--cert", cert, "--attr", attrs, "--output", out, "dbx", esl)
		after, err := secureboot.Apply(v, secureboot.Pending{Variable: "dbx", Auth: read(t, out), Append: add})
		require.NoError(t, err, attrs)
		require.Equal(t, payload, after.DBX)
		_, err = secureboot.Apply(v, secureboot.Pending{Variable: "dbx", Auth: read(t, out), Append: !add})
		require.ErrorIs(t, err, secureboot.ErrSignature)
		_, err = secureboot.Apply(v, secureboot.Pending{Variable: "db", Auth: read(t, out), Append: add})
		require.ErrorIs(t, err, secureboot.ErrSignature)
	}
}

// sign-efi-sig-list and we delete a variable with the same bytes.
func TestDeletionAsEfitools(t *testing.T) {
	testtools.Require(t, "sign-efi-sig-list")
	h := hierarchy(t)
	dir := t.TempDir()
	empty, out := filepath.Join(dir, "empty"), filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	key, cert := pemFiles(t, h.PK)
	testtools.Run(t, "sign-efi-sig-list", "-t", when.Format(time.DateTime), "-k", key, "-c", cert, "PK", empty, out)
	ours, err := h.SignUpdate(secureboot.Update{Variable: "PK", Time: when})
	require.NoError(t, err)
	require.Equal(t, read(t, out), ours)
	v := enrolled(t, h).Variables
	v, err = secureboot.Apply(v, secureboot.Pending{Variable: "PK", Auth: ours})
	require.NoError(t, err)
	require.Equal(t, []byte{1}, v.SetupMode)
}

// The variables of others' machines, out of their event logs: they parse, are written back as they
// were, and their dbx stops what it should.
func TestVariablesOfOthers(t *testing.T) {
	dirs, err := filepath.Glob("testdata/logs/*")
	require.NoError(t, err)
	require.Len(t, dirs, 4)
	known := 0
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			v := osmith.FirmwareVariables{SecureBoot: []byte{1}, PK: read(t, dir+"/PK"), KEK: read(t, dir+"/KEK"), DB: read(t, dir+"/db"), DBX: read(t, dir+"/dbx")}
			for _, name := range []string{"PK", "KEK", "db", "dbx"} {
				l, err := secureboot.ParseSignatureLists(secureboot.Content(v, name))
				require.NoError(t, err)
				require.Equal(t, secureboot.Content(v, name), lists(t, l...))
				if name == "dbx" {
					continue
				}
				certs, err := secureboot.Certificates(l)
				require.NoError(t, err)
				for _, c := range certs {
					if _, ok := secureboot.Identify(c); ok {
						known++
					}
				}
			}
			l, err := secureboot.ParseSignatureLists(v.DBX)
			require.NoError(t, err)
			stopped := 0
			for _, list := range l {
				for _, s := range list.Signatures {
					if list.Type != secureboot.TypeSHA256 {
						continue
					}
					stopped++
					r := secureboot.Evaluate(v, secureboot.Image{Digests: map[crypto.Hash][]byte{crypto.SHA256: s.Data}}, secureboot.EvaluateOptions{})
					require.True(t, r.Revoked, hex.EncodeToString(s.Data))
				}
			}
			require.Greater(t, stopped, 10)
			require.Greater(t, secureboot.Space(v), int64(len(v.PK)+len(v.KEK)+len(v.DB)+2*len(v.DBX)))

			// Enrolling our keys, with all that the machine has, keeps what its vendor signed and
			// what is revoked.
			e, err := hierarchy(t).Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: when, OptionROMs: secureboot.OptionROMs{KeepDB: v.DB}, KeepKEK: v.KEK, DBX: v.DBX})
			require.NoError(t, err)
			require.Equal(t, string(v.DB), string(e.Variables.DB[len(e.Variables.DB)-len(v.DB):]))
			require.Equal(t, v.DBX, e.Variables.DBX)
		})
	}
	require.GreaterOrEqual(t, known, 3*len(dirs), "Microsoft's certificates of 2011")
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

// Microsoft's published updates of dbx, all of one time and signed below a certificate in KEK: a
// machine takes them, once, and has then what a machine of the cloud had.
func TestMicrosoftsUpdates(t *testing.T) {
	const dir = "testdata/logs/rhel8-uefi/"
	empty := osmith.FirmwareVariables{SecureBoot: []byte{1}, PK: read(t, dir+"PK"), KEK: read(t, dir+"KEK"), DB: read(t, dir+"db")}
	update := func(name string) []byte { return read(t, "testdata/microsoft/dbxupdate"+name+".bin") }
	v, err := secureboot.Apply(empty, secureboot.Pending{Variable: "dbx", Auth: update("_x64-2020-10-12"), Append: true})
	require.NoError(t, err)
	require.Equal(t, read(t, dir+"dbx"), v.DBX)
	require.Equal(t, time.Date(2010, 3, 6, 19, 17, 21, 0, time.UTC), v.Times["dbx"])

	again, err := secureboot.Apply(v, secureboot.Pending{Variable: "dbx", Auth: update("_x64-2020-10-12"), Append: true})
	require.NoError(t, err)
	require.Equal(t, v.DBX, again.DBX)
	for _, name := range []string{"-2014-08-11", "_x64-2021-04-29"} {
		next, err := secureboot.Apply(v, secureboot.Pending{Variable: "dbx", Auth: update(name), Append: true})
		require.NoError(t, err)
		require.Equal(t, string(v.DBX), string(next.DBX[:len(v.DBX)]))
		v = next
	}
	_, err = secureboot.Apply(empty, secureboot.Pending{Variable: "dbx", Auth: update("_x64-2021-04-29")})
	require.ErrorIs(t, err, secureboot.ErrSignature)
	_, err = secureboot.Apply(v, secureboot.Pending{Variable: "db", Auth: update("_x64-2021-04-29"), Append: true})
	require.ErrorIs(t, err, secureboot.ErrSignature)
	v.KEK = v.PK // without Microsoft's KEK nothing of theirs comes in any more
	_, err = secureboot.Apply(v, secureboot.Pending{Variable: "dbx", Auth: update("_x64-2021-04-29"), Append: true})
	require.ErrorIs(t, err, secureboot.ErrUntrusted)
	b := update("_x64-2020-10-12")
	b[len(b)-1] ^= 1
	_, err = secureboot.Apply(empty, secureboot.Pending{Variable: "dbx", Auth: b, Append: true})
	require.ErrorIs(t, err, secureboot.ErrSignature)
}
