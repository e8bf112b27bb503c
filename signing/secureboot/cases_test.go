package secureboot_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// store reads the variables of a machine from a store that is compressed.
func store(t testing.TB, name string) osmith.FirmwareVariables {
	t.Helper()
	v, err := secureboot.ParseStore(testtools.Gunzip(t, name))
	require.NoError(t, err)
	return v
}

func readImage(t testing.TB, name string) secureboot.Image {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	im, err := secureboot.ReadImage(bytes.NewReader(b))
	require.NoError(t, err, name)
	return im
}

// answers reads what firmware did: a line "NN ran" or "NN refused" for each image.
func answers(t testing.TB, name string) map[string]bool {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	out := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		number, what, ok := strings.Cut(s.Text(), " ")
		require.True(t, ok && (what == "ran" || what == "refused"), s.Text())
		out[number] = what == "ran"
	}
	require.NotEmpty(t, out)
	return out
}

// What two builds of OVMF did with images that are not what a tidy reader expects.
func TestFirmwareCases(t *testing.T) {
	v := store(t, "testdata/firmware/VARS.fd.gz")
	for file, row := range map[string]secureboot.Firmware{"forky.txt": secureboot.FirmwareEDK2Stable202608, "bookworm.txt": secureboot.FirmwareEDK2Stable202211} {
		for number, ran := range answers(t, filepath.Join("testdata/firmware", file)) {
			im := readImage(t, filepath.Join("testdata/firmware", number+".efi"))
			r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Firmware: row})
			t.Log(row, number, ran, r.Allowed, r.Unknown, r.Reason)
			if ran != r.Allowed {
				t.Errorf("%s: image %s: ran %v, verdict %+v", row, number, ran, r)
			}
		}
	}
}

// Images that dbx revokes by a certificate: what OVMF 2026.08 did, and the verdict, which is
// stricter where firmware does not find the path.
func TestRevokedCases(t *testing.T) {
	for _, c := range []struct {
		image string
		ran   bool
		text  string // of the warning, "": none
	}{
		{"budget/00", false, ""},
		// 20 certificates of the same name come first
		{"budget/01", true, "firmware may not find the path"},
		{"budget/02", true, "firmware may not find the path"}, // one does
		// crypto/x509 does not parse the certificate in dbx
		{"twin/00", false, ""},
	} {
		v := store(t, filepath.Join("testdata/dbx", filepath.Dir(c.image), "VARS.fd.gz"))
		r := secureboot.Evaluate(v, readImage(t, filepath.Join("testdata/dbx", c.image+".efi")), secureboot.EvaluateOptions{})
		require.False(t, r.Allowed, c.image)
		require.True(t, r.Revoked, "%s: %s", c.image, r.Reason)
		if c.text == "" {
			require.Empty(t, r.Warnings)
		} else {
			require.Contains(t, strings.Join(r.Warnings, "\n"), c.text)
		}
	}
}

// Certificates that crypto/x509 does not parse, or takes otherwise than OpenSSL.
func TestCertificateCases(t *testing.T) {
	for _, c := range []struct {
		store, image string
		want         secureboot.Verdict // the three answers
		reason       string
	}{
		// negative serial number
		{"v-dbxneg", "lneg", secureboot.Verdict{Revoked: true}, `dbx has the certificate "CN=ca_neg", which leads to the signer "CN=l_neg"`},
		{"v-grid", "l_unk", secureboot.Verdict{}, "the signer's certificate \"CN=l_unk\" has the critical extension 1.2.3.4.5.6, which OpenSSL does not handle"},
		// which is in db itself
		{"v-grid", "unkcrit", secureboot.Verdict{}, "has the critical extension 1.2.3.4.5.6"},
		{"v-grid", "l_caunk", secureboot.Verdict{}, "an issuer's certificate \"CN=ca_caunk\" has the critical extension"},
		{"v-grid", "l_nc", secureboot.Verdict{Unknown: true}, "name constraints"},
	} {
		v := store(t, "testdata/certificates/"+c.store+".fd.gz")
		r := secureboot.Evaluate(v, readImage(t, "testdata/certificates/"+c.image+".efi"), secureboot.EvaluateOptions{})
		require.Contains(t, r.Reason, c.reason)
		require.NotEmpty(t, r.Rule.Remedy())
		require.Equal(t, []bool{c.want.Allowed, c.want.Revoked, c.want.Unknown}, []bool{r.Allowed, r.Revoked, r.Unknown}, "%s: %s", c.image, r.Reason)
	}
}

// Updates with odd certificates: each is taken for its variable, as an append, where its signer is
// installed, and for nothing else.
func TestRealUpdates(t *testing.T) {
	for _, c := range []struct{ file, variable string }{
		{"KEKUpdate_Lenovo_PK10.bin", "KEK"}, // a platform key with a negative serial number
		{"KEKUpdate_ECS_PK2.bin", "KEK"},     // SignedData that carries its content
		{"neg.auth", "db"},                   // appends a certificate with a negative serial number
		{"sanbad.auth", "db"},                // and one with a malformed URI among its names
	} {
		b, err := os.ReadFile("testdata/certificates/" + c.file)
		require.NoError(t, err)
		a, err := secureboot.ParseAuth(b)
		require.NoError(t, err)
		key := lists(t, secureboot.SignatureList{Type: secureboot.TypeX509, Signatures: []secureboot.Signature{{Owner: owner, Data: a.RawSigner}}})
		m := osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: key, KEK: key}
		for _, name := range []string{"PK", "KEK", "db", "dbx"} {
			for _, add := range []bool{false, true} {
				after, err := secureboot.Apply(m, secureboot.Pending{Variable: name, Auth: b, Append: add})
				if name == c.variable && add {
					require.NoError(t, err, c.file)
					require.True(t, bytes.HasSuffix(secureboot.Content(after, name), a.Payload))
				} else {
					require.Error(t, err, "%s as %s", c.file, name)
				}
			}
		}
		stranger := lists(t, secureboot.CertificateList(owner, hierarchy(t).PK.Cert))
		m.PK, m.KEK = stranger, stranger
		_, err = secureboot.Apply(m, secureboot.Pending{Variable: c.variable, Auth: b, Append: true})
		require.ErrorIs(t, err, secureboot.ErrUntrusted)
	}
}

// A huge key costs nothing: it is not used.
func TestHugeKey(t *testing.T) {
	v := store(t, "testdata/firmware/VARS.fd.gz")
	im := readImage(t, "testdata/certificates/rsa32768.efi")
	require.False(t, secureboot.Evaluate(v, im, secureboot.EvaluateOptions{}).Allowed)
	b, err := os.ReadFile("testdata/certificates/rsa32768.efi")
	require.NoError(t, err)
	signatures, err := authenticode.Signatures(bytes.NewReader(b))
	require.NoError(t, err)
	require.NotEmpty(t, signatures)
	require.ErrorContains(t, signatures[0].Err, "32768 bits: at most 16384 are used")
}

// Rows that answer otherwise are named, those of which it cannot be told too, and firmware of which
// nothing is known allows only what every row does.
func TestFirmwareRows(t *testing.T) {
	v := osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: esl(t, "fw2-db"), DBX: esl(t, "fw2-dbx")}
	type rows = []secureboot.Firmware
	edk2, old := secureboot.FirmwareEDK2Stable202608, secureboot.FirmwareEDK2Stable202211
	uboot := rows{secureboot.FirmwareUBoot202610, secureboot.FirmwareUBoot202501, secureboot.FirmwareUBootLegacy}
	all := append(rows{edk2, old}, uboot...)
	require.Equal(t, all, secureboot.Firmwares())
	for _, c := range []struct {
		image                 string
		allow, refuse, untold rows
		inAny                 secureboot.Verdict // the three answers
		reason                string
	}{
		{"00", all, nil, nil, secureboot.Verdict{Allowed: true}, "db has the certificate"},
		{"01", nil, all, nil, secureboot.Verdict{}, "edk2-2026.08: signature 0: signed by"},
		{"14", nil, all, nil, secureboot.Verdict{Revoked: true}, "edk2-2026.08: dbx has the certificate"},
		{"23", rows{edk2, old}, uboot, nil, secureboot.Verdict{}, "u-boot-2026.10: U-Boot crashes"},
		{"24", rows{edk2, old}, uboot, nil, secureboot.Verdict{}, "u-boot-2026.10: an entry of the certificate table"},
		{"22", uboot, rows{edk2, old}, nil, secureboot.Verdict{}, "edk2-2026.08: "},
		{"02", uboot[:2], append(rows{edk2, old}, uboot[2]), nil, secureboot.Verdict{}, "edk2-2026.08: "},
		{"21", nil, rows{edk2, old}, uboot, secureboot.Verdict{}, "edk2-2026.08: "},
	} {
		im := readImage(t, "testdata/firmware/"+c.image+".efi")
		require.Len(t, all, len(c.allow)+len(c.refuse)+len(c.untold))
		for _, row := range all {
			r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Firmware: row})
			others := func(list rows) (out rows) {
				for _, f := range list {
					if f != row {
						out = append(out, f)
					}
				}
				return out
			}
			require.Equal(t, slices.Contains(c.allow, row), r.Allowed, "%s: %s: %s", c.image, row, r.Reason)
			require.Equal(t, slices.Contains(c.untold, row), r.Unknown, "%s: %s: %s", c.image, row, r.Reason)
			if r.Allowed {
				require.Equal(t, c.refuse, r.Differs, "%s: %s", c.image, row)
			} else {
				require.Equal(t, others(c.allow), r.Differs, "%s: %s", c.image, row)
			}
			require.Equal(t, others(c.untold), r.Undecided, "%s: %s", c.image, row)
			require.NotContains(t, r.Reason, row)
			if row == edk2 {
				require.Equal(t, r, secureboot.Evaluate(v, im, secureboot.EvaluateOptions{}), "the default")
			}
		}
		r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Firmware: secureboot.FirmwareAny})
		require.Equal(t, []bool{c.inAny.Allowed, c.inAny.Revoked, c.inAny.Unknown}, []bool{r.Allowed, r.Revoked, r.Unknown}, "%s: %s", c.image, r.Reason)
		require.True(t, strings.HasPrefix(r.Reason, c.reason), r.Reason)
	}

	// Where none refuses, what one cannot tell is still no yes.
	im := readImage(t, "testdata/firmware/00.efi")
	im.Name, im.Layout = "image", secureboot.LayoutUnknown
	r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Firmware: secureboot.FirmwareAny})
	require.True(t, r.Unknown && !r.Allowed)
	require.Equal(t, "cannot be told: u-boot-2026.10: the layout of the image was not given", r.Reason)
	e := secureboot.EvaluateSet(v, []secureboot.Image{im}, secureboot.EvaluateSetOptions{})
	require.True(t, e.Allowed())
	require.Contains(t, e.String(), "  other firmware: cannot be told of u-boot-2026.10 u-boot-2025.01 u-boot-legacy\n")
	b, err := json.Marshal(e)
	require.NoError(t, err)
	require.Contains(t, string(b), `"undecided":["u-boot-2026.10","u-boot-2025.01","u-boot-legacy"]`)
	require.False(t, secureboot.EvaluateSet(v, []secureboot.Image{im}, secureboot.EvaluateSetOptions{Firmware: uboot[0]}).Allowed())

	r = secureboot.Evaluate(v, readImage(t, "testdata/firmware/00.efi"), secureboot.EvaluateOptions{Firmware: "other"})
	require.False(t, r.Allowed)
	require.Contains(t, r.Reason, "unknown firmware \"other\"")
}

// What cannot be told about dbx is not "not revoked".
func TestUnreadableRevocation(t *testing.T) {
	v := store(t, "testdata/firmware/VARS.fd.gz")
	im := readImage(t, "testdata/firmware/00.efi")
	require.True(t, secureboot.Evaluate(v, im, secureboot.EvaluateOptions{}).Allowed)
	more := lists(t, secureboot.SignatureList{Type: secureboot.TypeX509, Signatures: []secureboot.Signature{{Owner: owner, Data: []byte("no certificate")}}})
	v.DBX = append(bytes.Clone(v.DBX), more...)
	r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{})
	require.False(t, r.Allowed)
	require.True(t, r.Unknown)
	require.Contains(t, r.Reason, "dbx has a certificate that cannot be read")
}
