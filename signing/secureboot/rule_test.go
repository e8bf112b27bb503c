package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// Each verdict names its rule.
func TestRules(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	notCA := issue(t, "not an authority", false, h.KEK, h.DB)
	below := issue(t, "below", false, h.PK, notCA)
	sum, other := sha256.Sum256([]byte("image")), sha256.Sum256([]byte("other"))
	digests := map[crypto.Hash][]byte{crypto.SHA256: sum[:]}
	by := func(p secureboot.KeyPair, chain ...secureboot.KeyPair) []byte {
		return message(crypto.SHA256, sum[:], p, chain...)
	}
	invalid, passedBy, nobody := by(h.DB), by(h.DB), by(h.DB)
	invalid[len(invalid)-1] ^= 1
	passedBy[32+8] = 0x0f // the last byte of the identifier of SHA-256
	serial := h.DB.Cert.SerialNumber.Bytes()
	nobody = bytes.Replace(nobody, serial, bytes.Repeat([]byte{0x11}, len(serial)), 1)
	many := make([][]byte, 65)
	for i := range many {
		many[i] = by(f.DB)
	}
	cert := func(p secureboot.KeyPair) []byte { return lists(t, secureboot.CertificateList(owner, p.Cert)) }
	digest := func(d [32]byte) []byte { return lists(t, secureboot.SHA256List(owner, d)) }
	revoked, err := secureboot.CertificateDigestList(owner, crypto.SHA256, from, h.DB.Cert)
	require.NoError(t, err)
	broken := imageOf(digests, by(h.DB))
	broken.Certificates = append(broken.Certificates, secureboot.CertificateEntry{Raw: []byte{1}})
	shim := func(sbat string) secureboot.Image {
		im := imageOf(digests, by(h.DB))
		im.SBAT = []byte(sbat)
		return im
	}

	on := func(db, dbx []byte) osmith.FirmwareVariables {
		return osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: db, DBX: dbx}
	}
	leveled := on(cert(h.DB), nil)
	leveled.SbatLevel = []byte("sbat,1,2024010900\nsystemd-boot,2\n")
	im := func(messages ...[]byte) secureboot.Image { return imageOf(digests, messages...) }
	for _, c := range []struct {
		v    osmith.FirmwareVariables
		im   secureboot.Image
		o    secureboot.EvaluateOptions
		rule secureboot.Rule
		text string // in the remedy
	}{
		{osmith.FirmwareVariables{SetupMode: []byte{1}}, im(), secureboot.EvaluateOptions{}, secureboot.RuleSetupMode, "enrol PK"},
		{osmith.FirmwareVariables{SecureBoot: []byte{}}, im(), secureboot.EvaluateOptions{}, secureboot.RuleSecureBootOff, "switch Secure Boot on"},
		{osmith.FirmwareVariables{}, im(), secureboot.EvaluateOptions{}, secureboot.RuleSecureBootUnknown, "read the variable SecureBoot"},
		{osmith.FirmwareVariables{SecureBoot: []byte{7}}, im(), secureboot.EvaluateOptions{}, secureboot.RuleVariableMalformed, "attributes"},
		{osmith.FirmwareVariables{SetupMode: []byte{7}}, im(), secureboot.EvaluateOptions{}, secureboot.RuleVariableMalformed, "attributes"},
		{on([]byte{1}, nil), im(by(h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleVariableMalformed, "write the variable"},
		{on(cert(h.DB), []byte{1}), im(by(h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleVariableMalformed, "write the variable"},
		{on(cert(h.DB), nil), im(by(h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleCertificateInDB, "nothing"},
		{on(digest(sum), nil), im(by(h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleDigestInDB, "nothing"},
		{on(digest(sum), nil), im(), secureboot.EvaluateOptions{}, secureboot.RuleDigestInDB, "nothing"},
		{on(cert(h.DB), digest(sum)), im(by(h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleDigestInDBX, "newer build"},
		{on(digest(sum), digest(sum)), im(), secureboot.EvaluateOptions{}, secureboot.RuleDigestInDBX, "newer build"},
		{on(cert(h.DB), cert(h.DB)), im(by(h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleCertificateInDBX, "not revoked"},
		{on(cert(h.DB), lists(t, revoked)), im(by(h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleCertificateDigestInDBX, "not revoked"},
		{on(cert(h.DB), lists(t, revoked)), im(by(f.DB), by(issue(t, "leaf", false, h.PK, h.DB))), secureboot.EvaluateOptions{}, secureboot.RuleCertificateDigestInDBX, "not revoked"},
		{on(cert(h.DB), nil), im(), secureboot.EvaluateOptions{}, secureboot.RuleUnsigned, "sign the image"},
		{on(cert(h.DB), nil), im(by(f.DB)), secureboot.EvaluateOptions{}, secureboot.RuleNoPathToDB, "intermediate certificates"},
		{on(cert(h.DB), nil), im(by(f.DB), invalid), secureboot.EvaluateOptions{}, secureboot.RuleNoPathToDB, "intermediate certificates"},
		{on(cert(h.DB), nil), im(by(below, notCA)), secureboot.EvaluateOptions{}, secureboot.RuleChain, "issued anew"},
		{on(cert(h.DB), nil), im(message(crypto.SHA256, other[:], h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleImageChanged, "sign the image again"},
		{on(cert(h.DB), nil), im(passedBy), secureboot.EvaluateOptions{}, secureboot.RuleSignaturePassedBy, "SHA-256"},
		{on(cert(h.DB), nil), secureboot.Image{Digests: digests, Certificates: []secureboot.CertificateEntry{{Raw: []byte{9, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}},
			secureboot.EvaluateOptions{}, secureboot.RuleSignaturePassedBy, "SHA-256"},
		{on(cert(h.DB), nil), im(nobody), secureboot.EvaluateOptions{}, secureboot.RuleSignatureMalformed, "take the signature"},
		{on(cert(h.DB), digest(other)), im(nobody), secureboot.EvaluateOptions{}, secureboot.RuleSignatureMalformed, "take the signature"},
		{on(cert(h.DB), nil), broken, secureboot.EvaluateOptions{}, secureboot.RuleTableMalformed, "take all signatures"},
		{on(cert(h.DB), nil), im(many...), secureboot.EvaluateOptions{}, secureboot.RuleNotModelled, "on the machine itself"},
		{on(cert(h.DB), nil), im(message(crypto.SHA512, make([]byte, 64), h.DB)), secureboot.EvaluateOptions{}, secureboot.RuleDigestNotGiven, "ReadImage"},
		{on(cert(h.DB), nil), secureboot.Image{}, secureboot.EvaluateOptions{}, secureboot.RuleDigestNotGiven, "ReadImage"},
		{on(cert(h.DB), nil), im(by(h.DB)), secureboot.EvaluateOptions{Firmware: "edk3"}, secureboot.RuleFirmwareUnknown, "Firmwares"},
		{leveled, shim(sbatText), secureboot.EvaluateOptions{}, secureboot.RuleSBATRevoked, "generation"},
		{leveled, shim("x"), secureboot.EvaluateOptions{}, secureboot.RuleSBATMalformed, "section .sbat"},
	} {
		got := secureboot.Evaluate(c.v, c.im, c.o)
		require.Equal(t, c.rule, got.Rule, got.Reason)
		require.Contains(t, got.Rule.Remedy(), c.text)
		unknown := c.rule == secureboot.RuleNotModelled || c.rule == secureboot.RuleDigestNotGiven || c.rule == secureboot.RuleFirmwareUnknown ||
			c.rule == secureboot.RuleSecureBootUnknown
		require.Equal(t, unknown, got.Unknown, got.Reason)
		require.Equal(t, unknown, strings.HasPrefix(got.Reason, "cannot be told: "), got.Reason)

		// The report for people and the one for programs say it.
		c.im.Name = "x.efi"
		set := secureboot.EvaluateSet(c.v, []secureboot.Image{c.im}, secureboot.EvaluateSetOptions{Firmware: c.o.Firmware})
		require.Contains(t, set.String(), "\n  rule: "+string(c.rule)+"\n")
		b, err := json.Marshal(set)
		require.NoError(t, err)
		var o struct {
			Images []struct{ Now struct{ Rule, Remedy string } }
		}
		require.NoError(t, json.Unmarshal(b, &o))
		require.Equal(t, string(c.rule), o.Images[0].Now.Rule)
		if got.Allowed {
			require.NotContains(t, set.String(), "to change: ")
			require.Empty(t, o.Images[0].Now.Remedy)
		} else {
			require.Contains(t, set.String(), "\n  to change: "+c.rule.Remedy()+"\n")
			require.Equal(t, c.rule.Remedy(), o.Images[0].Now.Remedy)
		}
	}
	require.Empty(t, secureboot.Rule("").Remedy())
}

// Every constant of type Rule has a remedy, and no two have one name.
func TestRulesAreWhole(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var names []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Names) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Rule") || len(spec.Values) != 1 {
				return true
			}
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Rule" {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				require.NotEmpty(t, secureboot.Rule(value).Remedy(), value)
				require.NotContains(t, names, value)
				names = append(names, value)
			}
			return true
		})
	}
	var all []string
	for _, r := range secureboot.Rules() {
		all = append(all, string(r))
	}
	require.ElementsMatch(t, all, names)
	require.IsIncreasing(t, all)
}
