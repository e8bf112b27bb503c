package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// issue makes a certificate for the key of p, signed by a chain of authorities.
func issue(t testing.TB, name string, ca bool, p, issuer secureboot.KeyPair) secureboot.KeyPair {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: when, IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer.Cert, p.Key.Public(), issuer.Key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return secureboot.KeyPair{Key: p.Key, Cert: cert}
}

// imageOf has digests and signatures.
func imageOf(digests map[crypto.Hash][]byte, messages ...[]byte) secureboot.Image {
	im := secureboot.Image{Digests: digests}
	for _, m := range messages {
		im.Certificates = append(im.Certificates, entry(m))
	}
	return im
}

func TestEvaluate(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	middle := issue(t, "middle", true, h.KEK, h.DB)
	leaf := issue(t, "leaf", false, h.PK, middle)
	notCA := issue(t, "not an authority", false, h.KEK, h.DB)
	below := issue(t, "below", false, h.PK, notCA)
	selfLeaf := issue(t, "self", false, f.KEK, f.KEK)

	sum := sha256.Sum256([]byte("image"))
	other := sha256.Sum256([]byte("other"))
	d384 := bytes.Repeat([]byte{3}, 48)
	digests := map[crypto.Hash][]byte{crypto.SHA256: sum[:], crypto.SHA384: d384}
	by := func(p secureboot.KeyPair, chain ...secureboot.KeyPair) []byte {
		return message(crypto.SHA256, sum[:], p, chain...)
	}
	changed := message(crypto.SHA256, other[:], h.DB)
	invalid := by(h.DB)
	invalid[len(invalid)-1] ^= 1
	outdated := bytes.Clone(by(h.DB))
	outdated[32+8] = 0x0f // the last byte of the identifier of SHA-256
	strong := message(crypto.SHA384, d384, h.DB)
	sha512 := message(crypto.SHA512, bytes.Repeat([]byte{5}, 64), h.DB)
	// with a change in front of the digest of the image, in what else is signed
	described := by(h.DB)
	described[bytes.Index(described, sum[:])-30] ^= 1
	nobody := by(h.DB)
	// of the certificate
	nobody = bytes.Replace(nobody, h.DB.Cert.SerialNumber.Bytes(), bytes.Repeat([]byte{0x11}, len(h.DB.Cert.SerialNumber.Bytes())), 1)

	certs := func(ps ...secureboot.KeyPair) (l []secureboot.SignatureList) {
		for _, p := range ps {
			l = append(l, secureboot.CertificateList(owner, p.Cert))
		}
		return l
	}
	hashes := func(d ...[32]byte) []secureboot.SignatureList {
		return []secureboot.SignatureList{secureboot.SHA256List(owner, d...)}
	}
	tbs := func(p secureboot.KeyPair) []secureboot.SignatureList {
		d := sha256.Sum256(p.Cert.RawTBSCertificate)
		return []secureboot.SignatureList{{Type: secureboot.TypeX509SHA256, Signatures: []secureboot.Signature{{Data: append(d[:], make([]byte, 16)...)}}}}
	}
	list384 := []secureboot.SignatureList{{Type: secureboot.TypeSHA384, Signatures: []secureboot.Signature{{Data: d384}}}}

	type sigs = [][]byte
	type sl = []secureboot.SignatureList
	for _, c := range []struct {
		name      string
		db, dbx   sl
		sigs      sigs
		authority []byte // data of the entry of db, nil: refused
		reason    string
	}{
		{"signer in db", certs(h.DB), nil, sigs{by(h.DB)}, h.DB.Cert.Raw, "db has the certificate"},
		{"signer not an authority but itself in db", certs(selfLeaf), nil, sigs{by(selfLeaf)}, selfLeaf.Cert.Raw, "db has the certificate"},
		{"chain to db", certs(h.DB), nil, sigs{by(leaf, middle)}, h.DB.Cert.Raw, "which leads to the signer"},
		{"middle of the chain in db", certs(middle), nil, sigs{by(leaf, middle)}, middle.Cert.Raw, "CN=middle"},
		{"middle in db, not carried", certs(middle), nil, sigs{by(leaf)}, middle.Cert.Raw, "CN=middle"},
		{"middle missing", certs(h.DB), nil, sigs{by(leaf)}, nil, "no certificate in db is on that chain"},
		{"issuer not an authority", certs(h.DB), nil, sigs{by(below, notCA)}, nil, "is not a CA certificate"},
		{"the first entry of db counts", certs(middle, h.DB), nil, sigs{by(leaf, middle)}, middle.Cert.Raw, ""},
		{"foreign", certs(h.DB), nil, sigs{by(f.DB)}, nil, "no certificate in db is on that chain"},
		{"same name, other key", certs(h.DB), nil, sigs{by(f.DB, h.DB)}, nil, "no certificate in db is on that chain"},
		{"empty db", nil, nil, sigs{by(h.DB)}, nil, "no certificate in db is on that chain"},
		{"second of two signatures", certs(h.DB), nil, sigs{by(f.DB), by(h.DB)}, h.DB.Cert.Raw, ""},
		{"changed", certs(h.DB), nil, sigs{changed}, nil, "changed after it was signed"},
		{"invalid", certs(h.DB), nil, sigs{invalid}, nil, "not by this key"},
		{"signed content changed in front of the digest", certs(h.DB), nil, sigs{described}, nil, "digest that was signed"},
		{"no signer", certs(h.DB), nil, sigs{nobody}, nil, "does not carry"},
		{"outdated algorithm", certs(h.DB), nil, sigs{outdated}, nil, "digest algorithm"},
		{"outdated and good", certs(h.DB), nil, sigs{outdated, by(h.DB)}, h.DB.Cert.Raw, ""},
		{"SHA-384", certs(h.DB), nil, sigs{strong}, h.DB.Cert.Raw, ""},
		{"digest not given", certs(h.DB), nil, sigs{sha512}, nil, "was not given"},
		{"digest in db, foreign signature", hashes(other, sum), nil, sigs{by(f.DB)}, sum[:], "db has the digest"},
		{"digest in db, changed after signing", hashes(sum), nil, sigs{changed}, sum[:], "db has the digest"},
		{"SHA-256 in db, signature by SHA-384", hashes(sum), certs(h.KEK), sigs{strong}, nil, "no certificate in db is on that chain"},
		{"unsigned", certs(h.DB), nil, nil, nil, "not signed"},
		{"unsigned, digest in db", hashes(sum), nil, nil, sum[:], "db has the digest"},
		{"unsigned, SHA-384 digest in db", list384, nil, nil, d384, "db has the digest"},
		{"unsigned, digest in db and dbx", hashes(sum), hashes(sum), nil, nil, "dbx has the digest"},
		{"digest in dbx", certs(h.DB), hashes(other, sum), sigs{by(h.DB)}, nil, "dbx has the digest of the image"},
		{"signer in dbx", certs(h.DB), certs(h.DB), sigs{by(h.DB)}, nil, "dbx has the certificate"},
		{"middle in dbx", certs(h.DB), certs(middle), sigs{by(leaf, middle)}, nil, "dbx has the certificate"},
		{"other signature's signer in dbx", certs(h.DB), certs(f.DB), sigs{by(h.DB), by(f.DB)}, nil, "dbx has the certificate"},
		{"digest of the signer in dbx", certs(h.DB), tbs(leaf), sigs{by(leaf, middle)}, nil, "dbx has the digest of the certificate"},
		{"digest of the authority in dbx", certs(h.DB), tbs(h.DB), sigs{by(leaf, middle)}, nil, "dbx has the digest of the certificate"},
		{"unrelated dbx", certs(h.DB), append(append(hashes(other), tbs(f.DB)...), certs(f.PK)...), sigs{by(h.DB)}, h.DB.Cert.Raw, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: lists(t, c.db...), DBX: lists(t, c.dbx...)}
			got := secureboot.Evaluate(v, imageOf(digests, c.sigs...), secureboot.EvaluateOptions{})
			require.Contains(t, got.Reason, c.reason)
			require.NotEmpty(t, got.Reason)
			require.NotEmpty(t, got.Rule.Remedy())
			require.Equal(t, c.authority != nil, got.Allowed, got.Reason)
			if c.authority == nil {
				require.Nil(t, got.Authority)
				return
			}
			require.Equal(t, c.authority, got.Authority.Data)

			v.SecureBoot = []byte{0}
			require.True(t, secureboot.Evaluate(v, imageOf(digests), secureboot.EvaluateOptions{}).Allowed)
		})
	}

	for _, c := range []struct {
		v      osmith.FirmwareVariables
		want   bool
		reason string
	}{
		{osmith.FirmwareVariables{}, false, "whether Secure Boot is on is unknown"},
		{osmith.FirmwareVariables{SetupMode: []byte{0}}, false, "whether Secure Boot is on is unknown"},
		{osmith.FirmwareVariables{SecureBoot: []byte{}}, true, "Secure Boot is off"},
		{osmith.FirmwareVariables{SecureBoot: []byte{0}}, true, "Secure Boot is off"},
		{osmith.FirmwareVariables{SetupMode: []byte{1}}, true, "Setup Mode"},
		{osmith.FirmwareVariables{SetupMode: []byte{1}, SecureBoot: []byte{1}}, true, "Setup Mode"},
		{osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: []byte{1}}, false, "db cannot be parsed"},
		{osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: lists(t, certs(h.DB)...), DBX: []byte{1}}, false, "dbx cannot be parsed"},
	} {
		got := secureboot.Evaluate(c.v, imageOf(digests, by(h.DB)), secureboot.EvaluateOptions{})
		require.Equal(t, c.want, got.Allowed)
		require.Contains(t, got.Reason, c.reason)
	}
	// A table that does not end where its last entry does is refused whole, whatever its signatures
	// say.
	v := osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: lists(t, certs(h.DB)...)}
	im := imageOf(digests, by(h.DB))
	require.True(t, secureboot.Evaluate(v, im, secureboot.EvaluateOptions{}).Allowed)
	for _, behind := range [][]byte{{1}, make([]byte, 8), {16, 0, 0, 0, 0, 2, 2, 0, 1}, {8, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		broken := imageOf(digests, by(h.DB))
		broken.Certificates = append(broken.Certificates, secureboot.CertificateEntry{Raw: behind})
		got := secureboot.Evaluate(v, broken, secureboot.EvaluateOptions{})
		require.False(t, got.Allowed)
		require.Contains(t, got.Reason, "cannot be read to its end")
	}
	got := secureboot.Evaluate(osmith.FirmwareVariables{SecureBoot: []byte{1}}, secureboot.Image{}, secureboot.EvaluateOptions{})
	require.False(t, got.Allowed)
	require.Contains(t, got.Reason, "was not given")
}

// The authority of a real boot: the log of that machine has this digest in PCR 7 for
// UEFI_VARIABLE_DATA with this entry of db.
func TestAuthorityOfARealBoot(t *testing.T) {
	b := bootVariables(t)
	l, err := secureboot.ParseSignatureLists(b["db"])
	require.NoError(t, err)
	entry, err := l[0].Signatures[0].AppendBinary(nil)
	require.NoError(t, err)
	require.Len(t, entry, 799)

	event := efi.AppendGUID(nil, secureboot.ImageSecurityDatabase)
	event = append(event, 2, 0, 0, 0, 0, 0, 0, 0, 0x1f, 3, 0, 0, 0, 0, 0, 0, 'd', 0, 'b', 0)
	digest := sha256.Sum256(append(event, entry...))
	require.Equal(t, "9cdcd80c34fdf599c9decc7826ae297d579fca10f3487ae8b491b3382ab85dee", hexOf(digest[:]))
}

const sbatText = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\nsystemd-boot,1,The systemd Developers,systemd,257,https://systemd.io/\n"

func TestEvaluateSBATAndDates(t *testing.T) {
	h := hierarchy(t)
	v := enrolled(t, h).Variables
	long := when.AddDate(50, 0, 0)
	leaf := issue(t, "leaf", false, h.KEK, h.DB)
	for _, c := range []struct {
		name        string
		level, sbat string
		by          secureboot.KeyPair
		at          time.Time
		allowed     bool
		revoked     bool
		reason      string
		warnings    int
	}{
		{"no shim", "", "", h.DB, time.Time{}, true, false, "db has", 0},
		{"good generation", "sbat,1,2024010900\nsystemd-boot,1\n", sbatText, h.DB, time.Time{}, true, false, "db has", 0},
		{"too old", "sbat,1,2024010900\nsystemd-boot,2\n", sbatText, h.DB, time.Time{}, false, true, `revoked by SBAT: component "systemd-boot" is of generation 1, the level asks for 2 (SbatLevel 2024010900)`, 0},
		{"broken section", "sbat,1\n", "sbat,1\n", h.DB, time.Time{}, false, false, "shim cannot parse", 0},
		{"no section", "sbat,1\n", "", h.DB, time.Time{}, false, false, "cannot be told: whether shim starts the image is unknown; shim starts no image without a section .sbat", 0},
		{"broken level", "x", sbatText, h.DB, time.Time{}, false, false, "cannot be told: whether shim starts the image is unknown, and SbatLevel cannot be parsed", 0},
		{"refused anyway", "sbat,1\nsystemd-boot,2\n", sbatText, h.PK, time.Time{}, false, false, "no certificate in db is on that chain", 1},
		{"expired", "", "", h.DB, long, true, false, "db has", 1},
		{"signer expired too", "", "", leaf, long, true, false, "which leads to the signer", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, im := v, signed("image", c.by)
			if c.level != "" {
				m.SbatLevel = []byte(c.level)
			}
			if c.sbat != "" {
				im.SBAT = []byte(c.sbat)
			}
			r := secureboot.Evaluate(m, im, secureboot.EvaluateOptions{At: c.at})
			require.Equal(t, c.allowed, r.Allowed, r.Reason)
			require.Equal(t, c.revoked, r.Revoked)
			require.Contains(t, r.Reason, c.reason)
			require.Len(t, r.Warnings, c.warnings, "%v", r.Warnings)
			require.Equal(t, strings.HasPrefix(c.reason, "cannot be told"), r.Unknown)

			// Where it is said that there is no shim, SbatLevel does not matter.
			r = secureboot.Evaluate(m, im, secureboot.EvaluateOptions{At: c.at, NoShim: true})
			require.Equal(t, c.by.Cert != h.PK.Cert, r.Allowed, r.Reason)
			m.SecureBoot = []byte{0}
			require.True(t, secureboot.Evaluate(m, im, secureboot.EvaluateOptions{At: c.at}).Allowed)
		})
	}
}

func TestEvaluateSet(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	v := enrolled(t, h).Variables
	images := []secureboot.Image{signed("loader", h.DB), signed("old UKI", h.DB), signed("foreign", f.DB)}
	e := secureboot.EvaluateSet(v, images[:2], secureboot.EvaluateSetOptions{})
	require.True(t, e.Allowed())
	require.Nil(t, e.After)

	dbx := auth(t, h.KEK, secureboot.Update{Variable: "dbx", Payload: lists(t, secureboot.SHA256List(owner, [32]byte(images[1].Digests[5]))), Time: when, Append: true})
	db := auth(t, h.KEK, secureboot.Update{Variable: "db", Payload: lists(t, secureboot.CertificateList(owner, f.DB.Cert)), Time: when, Append: true})
	e = secureboot.EvaluateSet(v, images, secureboot.EvaluateSetOptions{Pending: []secureboot.Pending{{Variable: "dbx", Auth: dbx, Append: true}, {Variable: "db", Auth: db, Append: true}}})
	require.False(t, e.Allowed())
	require.Equal(t, []string{"old UKI", "foreign"}, e.Changed())
	require.Contains(t, e.String(), "loader: allowed: db has the certificate")
	require.Contains(t, e.String(), "old UKI: allowed: db has the certificate")
	require.Contains(t, e.String(), "  with the pending updates: revoked: dbx has the digest of the image")
	require.Contains(t, e.String(), "foreign: refused: signature 0: signed by")
	b, err := json.Marshal(e)
	require.NoError(t, err)
	var o struct {
		Schema  string
		Allowed bool
		Changed []string
		Images  []struct {
			Name       string
			Now, After struct {
				Allowed, Revoked               bool
				Reason, Authority, Certificate string
			}
		}
	}
	require.NoError(t, json.Unmarshal(b, &o))
	require.Equal(t, secureboot.EvaluationSchema, o.Schema)
	require.True(t, o.Images[1].After.Revoked)
	require.NotEmpty(t, o.Images[0].Now.Authority)
	require.Len(t, o.Images[0].Now.Certificate, 64)

	// An update that firmware would not take is no update.
	e = secureboot.EvaluateSet(v, images[:1], secureboot.EvaluateSetOptions{Pending: []secureboot.Pending{{Variable: "dbx", Auth: dbx}}})
	require.ErrorIs(t, e.Refused, secureboot.ErrSignature)
	require.False(t, e.Allowed())
	require.Nil(t, e.Images[0].After)
	require.Contains(t, e.String(), "pending: secureboot: firmware would refuse the update of dbx")
	b, err = json.Marshal(e)
	require.NoError(t, err)
	require.Contains(t, string(b), `"pendingRefused":"secureboot: firmware would refuse`)
}
