package secureboot_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func TestEnroll(t *testing.T) {
	h := hierarchy(t)
	ms := microsofts(t)
	card := [32]byte{7}
	vendor := lists(t, secureboot.CertificateList(owner, foreignHierarchy(t).DB.Cert))
	type R = secureboot.OptionROMs
	type C = []*x509.Certificate
	for _, c := range []struct {
		name string
		o    secureboot.EnrollOptions
		db   C // besides ours
		err  string
	}{
		{"no decision", secureboot.EnrollOptions{}, nil, "no decision on option ROMs"},
		{"Windows alone is none", secureboot.EnrollOptions{OptionROMs: R{Keep: C{ms["Windows UEFI CA 2023"], ms["Microsoft UEFI CA 2023"]}}}, nil, "no decision on option ROMs"},
		{"our own key is none", secureboot.EnrollOptions{OptionROMs: R{KeepDB: lists(t, secureboot.CertificateList(owner, h.DB.Cert)), Keep: C{h.DB.Cert}}}, nil, "no decision on option ROMs"},
		{"KEK in db", secureboot.EnrollOptions{OptionROMs: R{Keep: C{ms["Microsoft Corporation KEK CA 2011"]}}}, nil, "is a certificate for KEK, not for db"},
		{"db in KEK", secureboot.EnrollOptions{OptionROMs: R{AllowDigests: [][32]byte{card}}, KEK: C{ms["Windows UEFI CA 2023"]}}, nil, "is a certificate for db, not for KEK"},
		{"broken db to keep", secureboot.EnrollOptions{OptionROMs: R{KeepDB: []byte{1}}}, nil, "signature list at 0x0"},
		{"broken KEK to keep", secureboot.EnrollOptions{OptionROMs: R{AllowDigests: [][32]byte{card}}, KeepKEK: []byte{1}}, nil, "signature list at 0x0"},
		{"broken dbx", secureboot.EnrollOptions{OptionROMs: R{AllowDigests: [][32]byte{card}}, DBX: []byte{1}}, nil, "signature list at 0x0"},
		{"no room", secureboot.EnrollOptions{OptionROMs: R{AllowDigests: [][32]byte{card}}, RoomForVariables: 3000}, nil, "which has room for 3000"},
		{"the risk", secureboot.EnrollOptions{OptionROMs: R{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}}, C{}, ""},
		{"digests", secureboot.EnrollOptions{OptionROMs: R{AllowDigests: [][32]byte{card}}, RoomForVariables: 5000}, C{}, ""},
		{"one of Microsoft's", secureboot.EnrollOptions{OptionROMs: R{Keep: C{ms["Microsoft Corporation UEFI CA 2011"]}}}, C{ms["Microsoft Corporation UEFI CA 2011"]}, ""},
		{"the new one, twice", secureboot.EnrollOptions{OptionROMs: R{Keep: C{ms["Microsoft Option ROM UEFI CA 2023"], ms["Microsoft Option ROM UEFI CA 2023"]}}}, C{ms["Microsoft Option ROM UEFI CA 2023"]}, ""},
		{"the vendor's", secureboot.EnrollOptions{OptionROMs: R{KeepDB: vendor}, KeepKEK: vendor, KEK: C{ms["Microsoft Corporation KEK 2K CA 2023"]}, DBX: lists(t, secureboot.SHA256List(owner, card))},
			C{foreignHierarchy(t).DB.Cert}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Time, c.o.NothingMustBoot = when, true
			e, err := h.Enroll(c.o)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.Nil(t, e)
				require.Equal(t, c.err == "no decision on option ROMs", errors.Is(err, secureboot.ErrOptionROMs))
				return
			}
			require.NoError(t, err)
			v := osmith.FirmwareVariables{SetupMode: []byte{1}}
			keys, err := e.LoaderKeys("auto")
			require.NoError(t, err)
			names := map[string]string{"loader/keys/auto/db.auth": "db", "loader/keys/auto/dbx.auth": "dbx", "loader/keys/auto/KEK.auth": "KEK", "loader/keys/auto/PK.auth": "PK"}
			for _, k := range keys {
				v, err = secureboot.Apply(v, secureboot.Pending{Variable: names[k.Path], Auth: content(t, k)})
				require.NoError(t, err)
			}
			require.Equal(t, e.Variables, v)
			require.Equal(t, []byte{1}, v.SecureBoot)
			require.Equal(t, c.o.DBX, v.DBX)
			require.Equal(t, c.o.DBX != nil, e.DBX != nil)
			for _, cert := range append(c.db, h.DB.Cert) {
				require.True(t, holds(t, v.DB, cert))
			}
			for _, cert := range append(c.o.KEK, h.KEK.Cert) {
				require.True(t, holds(t, v.KEK, cert))
			}
			if c.o.OptionROMs.AllowDigests != nil {
				require.True(t, secureboot.Evaluate(v, secureboot.Image{Digests: map[crypto.Hash][]byte{crypto.SHA256: card[:]}}, secureboot.EvaluateOptions{}).Allowed)
			}
			require.Positive(t, secureboot.Space(v))
		})
	}
}

// An enrolment whose keys are elsewhere is the same.
func TestEnrollUpdates(t *testing.T) {
	h := hierarchy(t)
	o := secureboot.EnrollOptions{Time: when, NothingMustBoot: true, OptionROMs: secureboot.OptionROMs{AllowDigests: [][32]byte{{7}}}, DBX: lists(t, secureboot.SHA256List(owner, [32]byte{1}))}
	want, err := h.Enroll(o)
	require.NoError(t, err)
	public := &secureboot.Hierarchy{Owner: owner, PK: secureboot.KeyPair{Cert: h.PK.Cert}, KEK: secureboot.KeyPair{Cert: h.KEK.Cert}, DB: secureboot.KeyPair{Cert: h.DB.Cert}}
	updates, err := public.EnrollUpdates(o)
	require.NoError(t, err)
	require.Len(t, updates, 4)
	for _, u := range updates {
		p := h.KEK
		if u.Variable == "PK" || u.Variable == "KEK" {
			p = h.PK
		}
		digest, err := u.Digest()
		require.NoError(t, err)
		signature, err := p.Key.Sign(nil, digest, crypto.SHA256)
		require.NoError(t, err)
		auth, err := u.Join(p.Cert, signature)
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{"PK": want.PK, "KEK": want.KEK, "db": want.DB, "dbx": want.DBX}[u.Variable], auth)
	}
	_, err = new(secureboot.Hierarchy).EnrollUpdates(o)
	require.ErrorContains(t, err, "lacks the certificate of ")
}

func content(t testing.TB, f osmith.ESPFile) []byte {
	t.Helper()
	b := make([]byte, f.Content.Size())
	_, err := f.Content.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

func TestLoaderKeysRefuses(t *testing.T) {
	e := enrolled(t, hierarchy(t))
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a:b"} {
		keys, err := e.LoaderKeys(name)
		require.ErrorContains(t, err, "cannot be the name of a directory")
		require.Nil(t, keys)
	}
	keys, err := e.LoaderKeys("acme")
	require.NoError(t, err)
	require.Len(t, keys, 3)
}

func TestHierarchyCheck(t *testing.T) {
	h := hierarchy(t)
	require.NoError(t, h.Check())
	for want, change := range map[string]func(*secureboot.Hierarchy){
		"lacks key or certificate of PK":  func(h *secureboot.Hierarchy) { h.PK.Key = nil },
		"lacks key or certificate of KEK": func(h *secureboot.Hierarchy) { h.KEK.Cert = nil },
		"lacks key or certificate of PCR": func(h *secureboot.Hierarchy) { h.PCR.Cert = nil },
		"the key of db is not":            func(h *secureboot.Hierarchy) { h.DB.Key = h.KEK.Key },
		"PK and db have the same key":     func(h *secureboot.Hierarchy) { h.DB = h.PK },
		"db and verity have the same key": func(h *secureboot.Hierarchy) { h.Verity = h.DB },
	} {
		c := *h
		change(&c)
		require.ErrorContains(t, c.Check(), want)
		_, err := c.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: when, OptionROMs: secureboot.OptionROMs{AllowDigests: [][32]byte{{1}}}})
		require.ErrorContains(t, err, want)
	}
	c := *h
	c.PCR, c.Verity = secureboot.KeyPair{}, secureboot.KeyPair{}
	require.NoError(t, c.Check())
}

// A key that exists gets the same certificate from the same call.
func TestNewKeyPair(t *testing.T) {
	o := secureboot.CertificateOptions{CommonName: "HSM", NotBefore: from, NotAfter: when}
	a, err := secureboot.NewKeyPair(hierarchy(t).DB.Key, o)
	require.NoError(t, err)
	b, err := secureboot.NewKeyPair(hierarchy(t).DB.Key, o)
	require.NoError(t, err)
	require.Equal(t, a.Cert.Raw, b.Cert.Raw)
	require.Len(t, a.Cert.SerialNumber.Bytes(), 20)
	require.True(t, a.Cert.IsCA)
	o.Serial, o.SignsOnly = big.NewInt(7), true
	b, err = secureboot.NewKeyPair(hierarchy(t).DB.Key, o)
	require.NoError(t, err)
	require.Equal(t, int64(7), b.Cert.SerialNumber.Int64())
	require.False(t, b.Cert.IsCA)
	require.Zero(t, b.Cert.KeyUsage&x509.KeyUsageCertSign)
	for want, change := range map[string]func(*secureboot.CertificateOptions){
		"CommonName is empty": func(o *secureboot.CertificateOptions) { o.CommonName = "" },
		"not a period":        func(o *secureboot.CertificateOptions) { o.NotAfter = o.NotBefore },
		"serial":              func(o *secureboot.CertificateOptions) { o.Serial = big.NewInt(-1) },
	} {
		c := o
		change(&c)
		_, err := secureboot.NewKeyPair(hierarchy(t).DB.Key, c)
		require.ErrorContains(t, err, want)
	}
	_, err = secureboot.NewKeyPair(nil, o)
	require.ErrorContains(t, err, "no key")
}

// systemd-boot's own enrolment files, as bootctl 262 makes them, are those that we make of the same
// keys and time; but it puts a ContentInfo around the SignedData where efitools and we have none.
func TestBootctlAutoEnroll(t *testing.T) {
	r := testtools.Forky(t)
	dir := t.TempDir()
	h := hierarchy(t)
	key, cert := pemFiles(t, h.DB)
	for name, from := range map[string]string{"key.pem": key, "cert.pem": cert} {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	esp := filepath.Join(dir, "esp")
	require.NoError(t, os.Mkdir(esp, 0o700))
	r.Run(t, dir, "env", "SYSTEMD_RELAX_ESP_CHECKS=1", "bootctl", "install", "--esp-path="+esp, "--no-variables",
		"--secure-boot-auto-enroll=yes", "--certificate="+filepath.Join(dir, "cert.pem"), "--private-key="+filepath.Join(dir, "key.pem"))
	// it uses one key for all, and no owner
	all := &secureboot.Hierarchy{PK: h.DB, KEK: h.DB, DB: h.DB}
	for _, name := range []string{"PK", "KEK", "db"} {
		theirs, err := os.ReadFile(filepath.Join(esp, "loader/keys/auto", name+".auth"))
		require.NoError(t, err)
		a, err := secureboot.VerifyAuth(secureboot.Pending{Variable: name, Auth: theirs}, []*x509.Certificate{h.DB.Cert})
		require.NoError(t, err)
		updates, err := all.EnrollUpdates(secureboot.EnrollOptions{NothingMustBoot: true, Time: a.Time, OptionROMs: nothingElse.OptionROMs})
		require.NoError(t, err)
		i := slices.IndexFunc(updates, func(u secureboot.Update) bool { return u.Variable == name })
		ours, err := all.SignUpdate(updates[i])
		require.NoError(t, err)
		const header, wrapping = 40, 19
		if len(theirs) == len(ours)+wrapping {
			ours[16] += wrapping // length of the certificate; small enough here to stay in its byte
			theirs = append(theirs[:header:header], theirs[header+wrapping:]...)
		}
		require.Equal(t, hexOf(theirs), hexOf(ours), name)
	}
}

// The images of a machine are judged with the keys that it is to have, on its firmware.
func TestEnrollJudges(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	o := secureboot.EnrollOptions{Time: when, OptionROMs: nothingElse.OptionROMs}
	public := &secureboot.Hierarchy{Owner: owner, PK: secureboot.KeyPair{Cert: h.PK.Cert}, KEK: secureboot.KeyPair{Cert: h.KEK.Cert}, DB: secureboot.KeyPair{Cert: h.DB.Cert}}
	both := func(o secureboot.EnrollOptions) (error, error) {
		e, err := h.Enroll(o)
		require.Equal(t, err != nil, e == nil)
		updates, other := public.EnrollUpdates(o)
		require.Equal(t, other != nil, updates == nil)
		return err, other
	}
	for name, c := range map[string]struct {
		images  []secureboot.Image
		nothing bool
		row     secureboot.Firmware
		dbx     []byte
		err     string
	}{
		"none":                     {nil, false, "", nil, "no image is given that must boot"},
		"none, and it is said":     {nil, true, "", nil, ""},
		"ours":                     {[]secureboot.Image{signed("a", h.DB)}, false, "", nil, ""},
		"somebody's":               {[]secureboot.Image{signed("a", h.DB), signed("b", f.DB)}, false, "", nil, "with the keys enrolled: the machine would not boot b: signature 0"},
		"somebody's, and nothing":  {[]secureboot.Image{signed("b", f.DB)}, true, "", nil, "would not boot b"},
		"revoked":                  {[]secureboot.Image{signed("a", h.DB)}, false, "", lists(t, secureboot.CertificateList(owner, h.DB.Cert)), "would not boot a: dbx has the certificate"},
		"on a row":                 {[]secureboot.Image{signed("a", h.DB)}, false, secureboot.FirmwareEDK2Stable202211, nil, ""},
		"on a row that is unknown": {[]secureboot.Image{signed("a", h.DB)}, false, "edk3", nil, `firmware "edk3": want one of [edk2-2026.08 edk2-2022.11 u-boot-2026.10 u-boot-2025.01 u-boot-legacy], or "any"`},
	} {
		o.MustBoot, o.NothingMustBoot, o.Firmware, o.DBX = c.images, c.nothing, c.row, c.dbx
		err, other := both(o)
		if c.err == "" {
			require.NoError(t, err, name)
			require.NoError(t, other, name)
			continue
		}
		require.ErrorContains(t, err, c.err, name)
		require.EqualError(t, other, err.Error(), name)
		require.Equal(t, name == "none", errors.Is(err, secureboot.ErrNothingMustBoot), name)
	}
	o.MustBoot, o.Firmware, o.DBX = []secureboot.Image{signed("b", f.DB)}, "", nil
	_, err := h.Enroll(o)
	lockout, ok := errors.AsType[*secureboot.LockoutError](err)
	require.True(t, ok)
	require.Equal(t, secureboot.RuleNoPathToDB, lockout.Rule)
	require.ErrorContains(t, err, "; to change: sign the image by a key whose certificate is in db")
	// What one row takes or starts, and another does not: the digest of an unsigned image under
	// SHA-384, a list of certificates without bytes.
	digest, err := secureboot.DigestList(owner, crypto.SHA384, make([]byte, 48))
	require.NoError(t, err)
	unsigned := secureboot.Image{Name: "unsigned", Digests: map[crypto.Hash][]byte{crypto.SHA1: make([]byte, 20), crypto.SHA256: make([]byte, 32), crypto.SHA384: make([]byte, 48), crypto.SHA512: make([]byte, 64)}}
	o.MustBoot, o.OptionROMs = []secureboot.Image{unsigned}, secureboot.OptionROMs{KeepDB: lists(t, digest)}
	_, err = h.Enroll(o)
	require.NoError(t, err)
	o.Firmware = oldest
	_, err = h.Enroll(o)
	require.ErrorContains(t, err, "would not boot unsigned")
	o.MustBoot, o.OptionROMs = []secureboot.Image{signed("a", h.DB)}, secureboot.OptionROMs{KeepDB: header(secureboot.TypeX509, 28+16, 0, 16, 16), AllowDigests: [][32]byte{{7}}}
	_, err = h.Enroll(o)
	_, ok = errors.AsType[*secureboot.RefusedError](err)
	require.True(t, ok, "%v", err)
	o.Firmware = ""
	_, err = h.Enroll(o)
	require.NoError(t, err)
	// A hierarchy that one row cannot use.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ec, err := secureboot.NewKeyPair(key, secureboot.CertificateOptions{CommonName: "ec", NotBefore: from, NotAfter: when})
	require.NoError(t, err)
	image := secureboot.Image{Name: "ec", Digests: signed("x", h.DB).Digests, Certificates: signed("x", ec).Certificates}
	o.MustBoot, o.OptionROMs = []secureboot.Image{image}, secureboot.OptionROMs{Keep: []*x509.Certificate{ec.Cert}}
	_, err = h.Enroll(o)
	require.ErrorContains(t, err, "no RSA key", "what firmware does not take is not enrolled")
}
