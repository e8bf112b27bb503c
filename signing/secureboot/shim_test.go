package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

var shimVendor = osmith.MustParseGUID("605dab50-e046-4300-abb6-3dd810dd8b23")

func shimFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "shim", name))
	require.NoError(t, err)
	return b
}

// debianShim is shim 16.1 of Debian as far as its sections tell.
func debianShim(t testing.TB) *secureboot.Shim {
	t.Helper()
	s, err := secureboot.NewShim(secureboot.Image{Name: "shim", SBAT: shimFile(t, "shim.sbat")}, shimFile(t, "shim.vendor_cert"), shimFile(t, "shim.sbatlevel"))
	require.NoError(t, err)
	return s
}

// requireDebianShim holds a shim that was read from its file against the recorded sections.
func requireDebianShim(t testing.TB, s *secureboot.Shim) {
	t.Helper()
	want := debianShim(t)
	require.Equal(t, want.VendorCertificate, s.VendorCertificate)
	require.Equal(t, want.VendorDBX, s.VendorDBX)
	require.Equal(t, want.LevelAutomatic, s.LevelAutomatic)
	require.Equal(t, want.LevelLatest, s.LevelLatest)
	require.Equal(t, want.Image.SBAT, bytes.TrimRight(s.Image.SBAT, "\x00"))
}

func shimMachine(t testing.TB, name string) osmith.FirmwareVariables {
	t.Helper()
	v, err := secureboot.ReadVariables(os.DirFS(filepath.Join("testdata", "shim", name)))
	require.NoError(t, err)
	return v
}

// The sections of a real shim, and what it did with the variables of two machines: the digests are
// those of the events in their logs.
func TestShimOfRealBoots(t *testing.T) {
	s := debianShim(t)
	require.Len(t, s.VendorCertificate, 930)
	require.Empty(t, s.VendorDB)
	require.Len(t, s.VendorDBX, 5500)
	require.Equal(t, "sbat,1,2025021800\nshim,4\ngrub,5\n", s.LevelAutomatic)
	require.Equal(t, "sbat,1,2025051000\nshim,4\ngrub,5\ngrub.proxmox,2\n", s.LevelLatest)
	mokList := shimFile(t, "mok/MokList")
	for _, c := range []struct {
		name, mokList string
		list          []byte
	}{
		{"db", "342c88bb9fde2c45eeaa17321262b089181e7e841ef5a4a5e8ed240920026f97", []byte{}},
		{"mok", "663269cf1d34e3d902e43b8f0ae4ab8924b94fbea2964e9c37ede9f8130b77e1", mokList},
	} {
		v := shimMachine(t, c.name)
		require.Equal(t, []byte{1}, v.MokListTrustedRT)
		for _, state := range [][]byte{v.MokSBState, v.MokDBState, v.MokPolicy, v.SbatPolicy} {
			require.True(t, state != nil && len(state) == 0)
		}
		require.Nil(t, v.MokList)
		level, err := s.Level(v)
		require.NoError(t, err)
		require.Equal(t, s.LevelAutomatic, string(level))
		require.Equal(t, level, v.SbatLevel)
		event := secureboot.Verdict{Authority: &secureboot.Signature{}, AuthorityVariable: "x"}
		_, err = event.AuthorityEvent()
		require.ErrorContains(t, err, "want db, vendor_db, MokListRT or Shim")

		// From the copies, and from what shim keeps.
		kept := v
		kept.MokListRT, kept.MokListXRT, kept.MokList, kept.MokListX = nil, nil, c.list, []byte{}
		for _, v := range []osmith.FirmwareVariables{v, kept} {
			b, err := s.MokListRT(v)
			require.NoError(t, err)
			require.Equal(t, c.mokList, sum256(b))
			b, err = s.MokListXRT(v)
			require.NoError(t, err)
			require.Equal(t, "2801360e467582609990635ca6255516630c3cea75c47320128b36ae062bc7b3", sum256(b))
		}
	}
}

func sum256(b []byte) string {
	d := sha256.Sum256(b)
	return hexOf(d[:])
}

// exchanged returns signature lists with another certificate in one of them.
func exchanged(t testing.TB, content []byte, i int, c *x509.Certificate) []byte {
	t.Helper()
	l, err := secureboot.ParseSignatureLists(content)
	require.NoError(t, err)
	l[i].Signatures[0].Data = c.Raw
	return lists(t, l...)
}

// The programs of recorded boots (s1, s2, s5: systemd-boot and UKIs signed by a key in db; s3, s5:
// GRUB and a kernel signed by Debian; s4: the same UKIs with the key in MokList): each certificate
// that counted is exchanged for one of ours, by whose key the image is signed; what is measured is
// that of the log.
func TestShimStartsWhatItStarted(t *testing.T) {
	h := hierarchy(t)
	for _, c := range []struct {
		name, machine, variable, event string
		rule                           secureboot.Rule
		change                         func(v *osmith.FirmwareVariables, s *secureboot.Shim)
		was                            func(v osmith.FirmwareVariables) []byte
		list                           int
	}{
		{"systemd-boot by db", "db", "db", "bcec96ad6cb7865663311dfa42e41e1cbdb78a5cb8db2f34446c4a19017491ce", secureboot.RuleCertificateInDB,
			func(v *osmith.FirmwareVariables, _ *secureboot.Shim) { v.DB = exchanged(t, v.DB, 2, h.DB.Cert) }, func(v osmith.FirmwareVariables) []byte { return v.DB }, 2},
		{"GRUB by shim's certificate", "db", "MokListRT", "23b2707ff70880b82fad7c96835b1b287e5d0663885d801a98badefb831fb2dd", secureboot.RuleCertificateOfVendor,
			func(v *osmith.FirmwareVariables, s *secureboot.Shim) {
				s.VendorCertificate = h.DB.Cert.Raw
				v.MokListRT = exchanged(t, v.MokListRT, 0, h.DB.Cert)
			}, func(v osmith.FirmwareVariables) []byte { return v.MokListRT }, 0},
		{"UKI by MokList", "mok", "MokListRT", "2b51ab260c79ec82d2993f8acbefe26e30458d232d0200f9192f73978fa121a5", secureboot.RuleCertificateInMokList,
			func(v *osmith.FirmwareVariables, _ *secureboot.Shim) {
				v.MokListRT = exchanged(t, v.MokListRT, 1, h.DB.Cert)
			}, func(v osmith.FirmwareVariables) []byte { return v.MokListRT }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, s := shimMachine(t, c.machine), debianShim(t)
			im := signed("image", h.DB)
			im.SBAT = []byte(sbatText)
			got := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Shim: s})
			require.False(t, got.Allowed)
			require.Equal(t, secureboot.RuleNotTrustedByShim, got.Rule)
			recorded, err := secureboot.ParseSignatureLists(bytes.Clone(c.was(v)))
			require.NoError(t, err)
			c.change(&v, s)
			got = secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Shim: s})
			require.True(t, got.Allowed, got.Reason)
			require.Equal(t, c.rule, got.Rule)
			require.Equal(t, h.DB.Cert.Raw, got.Authority.Data)
			require.Equal(t, h.DB.Cert, got.Certificate)
			require.Equal(t, c.variable, got.AuthorityVariable)
			entry := recorded[c.list].Signatures[0]
			require.Equal(t, entry.Owner, got.Authority.Owner)
			got.Authority.Data = entry.Data
			event, err := got.AuthorityEvent()
			require.NoError(t, err)
			require.Equal(t, c.event, sum256(event))
			require.Len(t, event, 32+2*len(c.variable)+16+len(entry.Data))
		})
	}
}

// shimSection is .vendor_cert.
func vendorSection(authorized, denied []byte) []byte {
	b := make([]byte, 16, 16+len(authorized)+len(denied))
	binary.LittleEndian.PutUint32(b, uint32(len(authorized)))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(denied)))
	binary.LittleEndian.PutUint32(b[8:], 16)
	binary.LittleEndian.PutUint32(b[12:], uint32(16+len(authorized)))
	return append(append(b, authorized...), denied...)
}

func levelSection(automatic, latest string) []byte {
	b := make([]byte, 12)
	binary.LittleEndian.PutUint32(b[4:], 8)
	binary.LittleEndian.PutUint32(b[8:], uint32(8+len(automatic)+1))
	return append(b, automatic+"\x00"+latest+"\x00"...)
}

// world is a machine with shim of which everything is known.
type world struct {
	v  osmith.FirmwareVariables
	s  secureboot.Shim
	im secureboot.Image
	o  secureboot.EvaluateOptions
}

func newWorld(t testing.TB) *world {
	t.Helper()
	h := hierarchy(t)
	s, err := secureboot.NewShim(secureboot.Image{SBAT: []byte("sbat,1,x,x,1,x\nshim,4,x,x,1,x\n")}, vendorSection(h.KEK.Cert.Raw, nil),
		levelSection("sbat,1,2024010900\nshim,3\n", "sbat,1,2025010100\nshim,4\nsystemd-boot,2\n"))
	require.NoError(t, err)
	none := []byte{}
	w := &world{s: *s, v: osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: lists(t, secureboot.CertificateList(owner, h.DB.Cert)),
		SbatLevel: none, SbatPolicy: none, MokList: none, MokListX: none, MokSBState: none, MokDBState: none, MokPolicy: none, MokListTrustedRT: none}}
	w.sign(h.DB)
	return w
}

var imageSum, image1 = sha256.Sum256([]byte("image")), sha1.Sum([]byte("image"))

func (w *world) sign(by ...secureboot.KeyPair) {
	var messages [][]byte
	for _, p := range by {
		messages = append(messages, message(crypto.SHA256, imageSum[:], p))
	}
	w.im = imageOf(map[crypto.Hash][]byte{crypto.SHA1: image1[:], crypto.SHA256: imageSum[:], crypto.SHA384: make([]byte, 48)}, messages...)
	w.im.SBAT = []byte(sbatText)
}

// Everything that shim does and does not, one change at a time.
func TestShimJudges(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	cert := func(ps ...secureboot.KeyPair) []byte {
		var l []secureboot.SignatureList
		for _, p := range ps {
			l = append(l, secureboot.CertificateList(owner, p.Cert))
		}
		return lists(t, l...)
	}
	// one list with two certificates of the same size: shim looks at the first
	padded := func(a, b secureboot.KeyPair) []byte {
		n := max(len(a.Cert.Raw), len(b.Cert.Raw))
		pad := func(p secureboot.KeyPair) secureboot.Signature {
			return secureboot.Signature{Owner: owner, Data: append(bytes.Clone(p.Cert.Raw), make([]byte, n-len(p.Cert.Raw))...)}
		}
		return lists(t, secureboot.SignatureList{Type: secureboot.TypeX509, Signatures: []secureboot.Signature{pad(a), pad(b)}})
	}
	digest := lists(t, secureboot.SHA256List(owner, imageSum))
	digest1 := lists(t, secureboot.SignatureList{Type: secureboot.TypeSHA1, Signatures: []secureboot.Signature{{Owner: owner, Data: image1[:]}}})
	tbs, err := secureboot.CertificateDigestList(owner, crypto.SHA256, from, h.DB.Cert)
	require.NoError(t, err)
	module := moduleSigner(t, h.PK, h.DB)
	for name, c := range map[string]struct {
		change func(w *world)
		rule   secureboot.Rule
		reason string
	}{
		"db":                                  {func(w *world) {}, secureboot.RuleCertificateInDB, "db has the certificate"},
		"Secure Boot off":                     {func(w *world) { w.v.SecureBoot = []byte{0}; w.im = secureboot.Image{} }, secureboot.RuleSecureBootOff, ""},
		"Setup Mode":                          {func(w *world) { w.v.SetupMode = []byte{1}; w.im = secureboot.Image{} }, secureboot.RuleSetupMode, ""},
		"digest in db":                        {func(w *world) { w.sign(); w.v.DB = digest }, secureboot.RuleDigestInDB, "db has the digest of the image, SHA-256"},
		"SHA-1 digest in db":                  {func(w *world) { w.sign(); w.v.DB = digest1 }, secureboot.RuleDigestInDB, "SHA-1"},
		"vendor":                              {func(w *world) { w.sign(h.KEK) }, secureboot.RuleCertificateOfVendor, "shim trusts the certificate"},
		"vendor, MokList not known":           {func(w *world) { w.sign(h.KEK); w.v.MokList = nil }, secureboot.RuleCertificateOfVendor, ""},
		"vendor lists":                        {func(w *world) { w.sign(h.KEK); w.s.VendorDB, w.s.VendorCertificate = cert(h.KEK), nil }, secureboot.RuleCertificateOfVendor, ""},
		"digest in vendor lists":              {func(w *world) { w.sign(); w.s.VendorDB, w.s.VendorCertificate = digest, nil }, secureboot.RuleDigestOfVendor, ""},
		"SHA-1 digest in vendor lists":        {func(w *world) { w.sign(); w.s.VendorDB, w.s.VendorCertificate = digest1, nil }, secureboot.RuleUnsigned, "the image is not signed"},
		"MokList":                             {func(w *world) { w.sign(f.DB); w.v.MokList = cert(f.DB) }, secureboot.RuleCertificateInMokList, "MokList has the certificate"},
		"digest in MokList":                   {func(w *world) { w.sign(); w.v.MokList = digest }, secureboot.RuleDigestInMokList, ""},
		"SHA-1 digest in MokList":             {func(w *world) { w.sign(); w.v.MokList = digest1 }, secureboot.RuleUnsigned, ""},
		"digest in MokList, signature denied": {func(w *world) { w.v.MokList, w.v.DBX = digest, cert(h.DB) }, secureboot.RuleDigestInMokList, ""},
		"db before MokList":                   {func(w *world) { w.v.MokList = cert(h.DB) }, secureboot.RuleCertificateInDB, ""},
		"MokListTrusted makes no difference":  {func(w *world) { w.sign(f.DB); w.v.MokListTrustedRT = []byte{1} }, secureboot.RuleNotTrustedByShim, ""},
		"MokListTrusted is not asked":         {func(w *world) { w.sign(f.DB); w.v.MokList = cert(f.DB); w.v.MokListTrustedRT = nil }, secureboot.RuleCertificateInMokList, ""},
		"second certificate of a list":        {func(w *world) { w.v.DB = padded(f.DB, h.DB) }, secureboot.RuleNotTrustedByShim, ""},
		"certificate with a byte behind it": {func(w *world) {
			w.v.DB = lists(t, secureboot.SignatureList{Type: secureboot.TypeX509, Signatures: []secureboot.Signature{{Owner: owner, Data: append(bytes.Clone(h.DB.Cert.Raw), 0)}}})
		}, secureboot.RuleNotTrustedByShim, ""},
		"certificate for modules":               {func(w *world) { w.sign(module); w.v.DB = cert(module) }, secureboot.RuleNotTrustedByShim, ""},
		"certificate for modules in MokListX":   {func(w *world) { w.sign(module); w.v.DB = cert(h.DB); w.v.MokListX = cert(module) }, secureboot.RuleCertificateInDB, ""},
		"certificate for modules of the vendor": {func(w *world) { w.sign(module); w.s.VendorCertificate, w.v.DB = module.Cert.Raw, cert(f.DB) }, secureboot.RuleCertificateOfVendor, ""},
		"one good signature is enough":          {func(w *world) { w.sign(f.DB, h.DB) }, secureboot.RuleCertificateInDB, ""},
		"the other signature is denied":         {func(w *world) { w.sign(f.DB, h.DB); w.v.MokListX = cert(f.DB) }, secureboot.RuleCertificateInDB, ""},

		"foreign":                               {func(w *world) { w.sign(f.DB) }, secureboot.RuleNotTrustedByShim, "no certificate in db, in shim or in MokList is on that chain"},
		"unsigned":                              {func(w *world) { w.sign() }, secureboot.RuleUnsigned, "not signed"},
		"db is ignored":                         {func(w *world) { w.v.MokDBState = []byte{1} }, secureboot.RuleNotTrustedByShim, ""},
		"MokDBState of two bytes has no effect": {func(w *world) { w.v.MokDBState = []byte{1, 1} }, secureboot.RuleCertificateInDB, ""},
		"db is ignored, in MokList":             {func(w *world) { w.v.MokDBState = []byte{1}; w.v.MokList = cert(h.DB) }, secureboot.RuleCertificateInMokList, ""},
		"changed":                               {func(w *world) { w.im.Digests[crypto.SHA256] = make([]byte, 32) }, secureboot.RuleImageChanged, "changed after it was signed"},
		"signed by SHA-384": {func(w *world) {
			w.im.Certificates = []secureboot.CertificateEntry{entry(message(crypto.SHA384, make([]byte, 48), h.DB))}
		}, secureboot.RuleImageChanged, "does not use SHA-256"},
		"broken message": {func(w *world) { w.im.Certificates[0].Raw[9] ^= 1 }, secureboot.RuleSignatureMalformed, ""},
		"broken table": {func(w *world) {
			w.im.Certificates = append(w.im.Certificates, secureboot.CertificateEntry{Raw: make([]byte, 8)})
		}, secureboot.RuleTableMalformed, "cannot be read to its end"},
		"table behind its end": {func(w *world) {
			w.im.Certificates = append(w.im.Certificates, secureboot.CertificateEntry{Raw: []byte{9, 0, 0, 0, 0, 2, 2, 0}})
		}, secureboot.RuleTableMalformed, "cannot be read to its end"},
		"signature of another type": {func(w *world) { w.im.Certificates[0].Raw[6] = 1 }, secureboot.RuleSignaturePassedBy, ""},
		"many signatures": {func(w *world) {
			for range 64 {
				w.im.Certificates = append(w.im.Certificates, w.im.Certificates[0])
			}
		}, secureboot.RuleNotModelled, "more than 64 signatures"},

		"digest in dbx":                     {func(w *world) { w.v.DBX = digest }, secureboot.RuleDigestInDBX, "dbx has the digest of the image"},
		"SHA-1 digest in dbx":               {func(w *world) { w.v.DBX = digest1 }, secureboot.RuleDigestInDBX, "SHA-1"},
		"certificate in dbx":                {func(w *world) { w.v.DBX = cert(h.DB) }, secureboot.RuleCertificateInDBX, "dbx has the certificate"},
		"foreign, and one in dbx":           {func(w *world) { w.sign(f.DB, h.DB); w.v.DBX = cert(h.DB) }, secureboot.RuleCertificateInDBX, ""},
		"MokList and dbx":                   {func(w *world) { w.sign(f.DB); w.v.MokList, w.v.DBX = cert(f.DB), cert(f.DB) }, secureboot.RuleCertificateInDBX, ""},
		"MokList and MokListX":              {func(w *world) { w.sign(f.DB); w.v.MokList, w.v.MokListX = cert(f.DB), cert(f.DB) }, secureboot.RuleCertificateInMokListX, "MokListX has the certificate"},
		"vendor and MokListX":               {func(w *world) { w.sign(h.KEK); w.v.MokListX = cert(h.KEK) }, secureboot.RuleCertificateInMokListX, ""},
		"digest in MokListX":                {func(w *world) { w.v.MokListX = digest }, secureboot.RuleDigestInMokListX, ""},
		"SHA-1 digest in MokListX":          {func(w *world) { w.v.MokListX = digest1 }, secureboot.RuleCertificateInDB, ""},
		"digest in MokListX and in MokList": {func(w *world) { w.sign(); w.v.MokList, w.v.MokListX = digest, digest }, secureboot.RuleDigestInMokListX, ""},
		"digest in the copy of MokListX":    {func(w *world) { w.v.MokListX, w.v.MokListXRT = nil, digest }, secureboot.RuleDigestInMokListX, ""},
		"certificate denied by shim":        {func(w *world) { w.s.VendorDBX = cert(h.DB) }, secureboot.RuleCertificateDeniedByShim, ""},
		"digest denied by shim":             {func(w *world) { w.s.VendorDBX = digest }, secureboot.RuleDigestDeniedByVendor, ""},
		"SHA-1 digest denied by shim":       {func(w *world) { w.s.VendorDBX = digest1 }, secureboot.RuleDigestDeniedByVendor, ""},
		"digest of the certificate in dbx":  {func(w *world) { w.v.DBX = lists(t, tbs) }, secureboot.RuleCertificateInDB, ""},

		"MokSBState":                        {func(w *world) { w.sign(); w.v.MokSBState = []byte{1}; w.im.SBAT = nil }, secureboot.RuleShimVerifiesNothing, "verifies nothing"},
		"MokSBState is 0":                   {func(w *world) { w.sign(); w.v.MokSBState = []byte{0} }, secureboot.RuleUnsigned, ""},
		"MokSBState of two bytes":           {func(w *world) { w.sign(); w.v.MokSBState = []byte{1, 1} }, secureboot.RuleUnsigned, ""},
		"MokSBState is not known":           {func(w *world) { w.v.MokSBState = nil }, secureboot.RuleCertificateInDB, ""},
		"MokSBState is not known, unsigned": {func(w *world) { w.sign(); w.v.MokSBState = nil }, secureboot.RuleUnsigned, ""},

		"no .sbat":                       {func(w *world) { w.im.SBAT = nil }, secureboot.RuleSBATMissing, "no section .sbat"},
		"no .sbat, started by a program": {func(w *world) { w.im.SBAT = nil; w.o.ByProgram = true }, secureboot.RuleCertificateInDB, ""},
		".sbat below the level":          {func(w *world) { w.v.SbatLevel = []byte("sbat,1,2030010100\nsystemd-boot,2\n") }, secureboot.RuleSBATRevoked, `revoked by SBAT: component "systemd-boot" is of generation 1, the level asks for 2 (SbatLevel 2030010100)`},
		".sbat below the level, started by a program": {func(w *world) {
			w.v.SbatLevel = []byte("sbat,1,2030010100\nsystemd-boot,2\n")
			w.o.ByProgram = true
		}, secureboot.RuleSBATRevoked, ""},
		"level older than shim's":               {func(w *world) { w.v.SbatLevel = []byte("sbat,1,2020010100\nsystemd-boot,2\n") }, secureboot.RuleCertificateInDB, ""},
		".sbat below the latest level":          {func(w *world) { w.v.SbatPolicy = []byte{1} }, secureboot.RuleSBATRevoked, "(SbatLevel 2025010100)"},
		".sbat malformed":                       {func(w *world) { w.im.SBAT = []byte("sbat,1\n") }, secureboot.RuleSBATMalformed, "shim cannot parse"},
		".sbat malformed, started by a program": {func(w *world) { w.im.SBAT = []byte("sbat,1\n"); w.o.ByProgram = true }, secureboot.RuleSBATMalformed, ""},
		".sbat twice":                           {func(w *world) { w.im.SBATRepeated = true }, secureboot.RuleSBATMalformed, "several .sbat sections, which shim refuses"},
		".sbat too large":                       {func(w *world) { w.im.SBAT = bytes.Repeat([]byte("\n"), 65537) }, secureboot.RuleNotModelled, "more than 65536 bytes"},
		".sbat with nothing in it":              {func(w *world) { w.im.SBAT = []byte("\n") }, secureboot.RuleCertificateInDB, ""},
		".sbat below the level, not signed":     {func(w *world) { w.sign(); w.v.SbatPolicy = []byte{1} }, secureboot.RuleUnsigned, ""},
		"SbatLevel malformed":                   {func(w *world) { w.v.SbatLevel = []byte("sbat,1,2030010100\ngrub\n") }, secureboot.RuleShimStops, "cannot parse SbatLevel"},
		"SbatLevel is garbage":                  {func(w *world) { w.v.SbatLevel = []byte("nothing that shim would keep") }, secureboot.RuleCertificateInDB, ""},
		"level above shim itself":               {func(w *world) { w.v.SbatLevel = []byte("sbat,1,2030010100\nshim,5\n") }, secureboot.RuleShimStops, `shim stops, because it fails its own check: revoked`},
		"level above shim itself, MokSBState": {func(w *world) {
			w.v.SbatLevel = []byte("sbat,1,2030010100\nshim,5\n")
			w.v.MokSBState = []byte{1}
		}, secureboot.RuleShimStops, ""},
		"shim's .sbat malformed": {func(w *world) { w.s.Image.SBAT = []byte("shim") }, secureboot.RuleShimStops, ""},

		"NX asked for":             {func(w *world) { w.v.MokPolicy = []byte{1} }, secureboot.RuleNXRequired, "MokPolicy"},
		"NX asked for and there":   {func(w *world) { w.v.MokPolicy = []byte{1}; w.im.NXCompatible = true }, secureboot.RuleCertificateInDB, ""},
		"another policy":           {func(w *world) { w.v.MokPolicy = []byte{2} }, secureboot.RuleCertificateInDB, ""},
		"NX asked for, not signed": {func(w *world) { w.sign(); w.v.MokPolicy = []byte{1} }, secureboot.RuleUnsigned, ""},

		// What is not known is not allowed.
		"nothing known of shim": {func(w *world) { w.s = secureboot.Shim{} }, secureboot.RuleShimUnknown, "the level that shim contains, because it has no section"},
		"shim without .sbat":    {func(w *world) { w.s.Image.SBAT = nil }, secureboot.RuleShimUnknown, ""},
		"nothing known of the variables": {func(w *world) {
			w.v = osmith.FirmwareVariables{SecureBoot: w.v.SecureBoot, DB: w.v.DB}
		}, secureboot.RuleShimUnknown, ""},
		"SbatLevel not known":                 {func(w *world) { w.v.SbatLevel = nil }, secureboot.RuleShimUnknown, "SbatLevel"},
		"SbatPolicy not known":                {func(w *world) { w.v.SbatPolicy = nil }, secureboot.RuleShimUnknown, "SbatPolicy"},
		"MokListX not known":                  {func(w *world) { w.v.MokListX = nil }, secureboot.RuleShimUnknown, "MokListX; otherwise: db has the certificate"},
		"MokListX not known, digest in db":    {func(w *world) { w.sign(); w.v.DB, w.v.MokListX = digest, nil }, secureboot.RuleShimUnknown, "MokListX"},
		"MokListX not known, NX asked for":    {func(w *world) { w.v.MokListX, w.v.MokPolicy = nil, []byte{1} }, secureboot.RuleNXRequired, ""},
		"MokListX not known, below the level": {func(w *world) { w.v.MokListX, w.v.SbatPolicy = nil, []byte{1} }, secureboot.RuleSBATRevoked, ""},
		"MokListX not known, revoked":         {func(w *world) { w.v.MokListX, w.v.DBX = nil, digest }, secureboot.RuleDigestInDBX, ""},
		"MokDBState not known":                {func(w *world) { w.v.MokDBState = nil }, secureboot.RuleShimUnknown, "MokDBState"},
		"MokDBState not known, not by db":     {func(w *world) { w.sign(h.KEK); w.v.MokDBState = nil }, secureboot.RuleCertificateOfVendor, ""},
		"MokList not known":                   {func(w *world) { w.sign(f.DB); w.v.MokList = nil }, secureboot.RuleShimUnknown, "MokList; otherwise: signature 0"},
		"MokList not known, unsigned":         {func(w *world) { w.sign(); w.v.MokList = nil }, secureboot.RuleShimUnknown, "MokList; otherwise: the image is not signed"},
		"MokList not known, broken table": {func(w *world) {
			w.v.MokList = nil
			w.im.Certificates = append(w.im.Certificates, secureboot.CertificateEntry{Raw: make([]byte, 8)})
		}, secureboot.RuleShimUnknown, ""},
		"MokList not known, db has it":   {func(w *world) { w.v.MokList = nil }, secureboot.RuleCertificateInDB, ""},
		"MokPolicy not known":            {func(w *world) { w.v.MokPolicy = nil }, secureboot.RuleShimUnknown, "MokPolicy"},
		"shim may ask for NX":            {func(w *world) { w.s.Image.NXCompatible = true }, secureboot.RuleShimUnknown, "where firmware enforces NX"},
		"shim is told not to ask for NX": {func(w *world) { w.s.Image.NXCompatible = true; w.v.MokPolicy = []byte{0} }, secureboot.RuleCertificateInDB, ""},
		"copy by another shim":           {func(w *world) { w.sign(f.DB); w.v.MokList, w.v.MokListRT = nil, cert(f.DB) }, secureboot.RuleShimUnknown, "RT was written by a different shim"},
		"copy by a shim that brings nothing": {func(w *world) {
			w.sign(f.DB)
			w.s.VendorCertificate, w.v.MokList, w.v.MokListRT = nil, nil, cert(f.DB)
		}, secureboot.RuleShimUnknown, "RT may come from a different shim, because this shim contains nothing that identifies it"},
		"copy by this shim": {func(w *world) {
			w.sign(f.DB)
			own := secureboot.CertificateList(shimVendor, h.KEK.Cert)
			w.v.MokList, w.v.MokListRT = nil, lists(t, own, secureboot.CertificateList(owner, f.DB.Cert))
		}, secureboot.RuleCertificateInMokList, ""},
		"digest not given":                        {func(w *world) { delete(w.im.Digests, crypto.SHA256) }, secureboot.RuleDigestNotGiven, "SHA-256"},
		"SHA-1 digest for dbx not given":          {func(w *world) { delete(w.im.Digests, crypto.SHA1); w.v.DBX = digest1 }, secureboot.RuleDigestNotGiven, "dbx has SHA-1 digests"},
		"SHA-1 digest for db not given":           {func(w *world) { w.sign(h.KEK); delete(w.im.Digests, crypto.SHA1); w.v.DB = digest1 }, secureboot.RuleDigestNotGiven, "db has SHA-1 digests"},
		"SHA-1 digest for db not given, unsigned": {func(w *world) { w.sign(); delete(w.im.Digests, crypto.SHA1); w.v.DB = digest1 }, secureboot.RuleDigestNotGiven, ""},
		"db malformed":                            {func(w *world) { w.v.DB = []byte{1} }, secureboot.RuleVariableMalformed, "db cannot be parsed"},
		"dbx malformed":                           {func(w *world) { w.v.DBX = []byte{1} }, secureboot.RuleVariableMalformed, "dbx cannot be parsed"},
		"MokList malformed":                       {func(w *world) { w.v.MokList = []byte{1} }, secureboot.RuleVariableMalformed, "MokList cannot be parsed"},
		"MokListX malformed":                      {func(w *world) { w.v.MokListX = []byte{1} }, secureboot.RuleVariableMalformed, "MokListX cannot be parsed"},
		"SecureBoot malformed":                    {func(w *world) { w.v.SecureBoot = []byte{7} }, secureboot.RuleVariableMalformed, ""},
		"a shim and none":                         {func(w *world) { w.o.NoShim = true }, secureboot.RuleShimUnknown, "the options have both a Shim and NoShim"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			w.o.Shim = &w.s
			got := secureboot.Evaluate(w.v, w.im, w.o)
			require.Equal(t, c.rule, got.Rule, got.Reason)
			require.Contains(t, got.Reason, c.reason)
			allowed := map[secureboot.Rule]bool{secureboot.RuleSecureBootOff: true, secureboot.RuleSetupMode: true, secureboot.RuleShimVerifiesNothing: true,
				secureboot.RuleCertificateInDB: true, secureboot.RuleDigestInDB: true, secureboot.RuleCertificateInMokList: true, secureboot.RuleDigestInMokList: true,
				secureboot.RuleCertificateOfVendor: true, secureboot.RuleDigestOfVendor: true}[c.rule]
			require.Equal(t, allowed, got.Allowed)
			revoked := map[secureboot.Rule]bool{secureboot.RuleSBATRevoked: true, secureboot.RuleDigestInDBX: true, secureboot.RuleCertificateInDBX: true,
				secureboot.RuleDigestInMokListX: true, secureboot.RuleCertificateInMokListX: true, secureboot.RuleDigestDeniedByVendor: true,
				secureboot.RuleCertificateDeniedByShim: true}[c.rule]
			require.Equal(t, revoked, got.Revoked)
			require.Equal(t, strings.HasPrefix(got.Reason, "cannot be told: "), got.Unknown)
			unknown := c.rule == secureboot.RuleShimUnknown || c.rule == secureboot.RuleNotModelled || c.rule == secureboot.RuleDigestNotGiven ||
				c.rule == secureboot.RuleVariableMalformed && !strings.Contains(got.Reason, "SecureBoot")
			require.Equal(t, unknown, got.Unknown, got.Reason)
			if !allowed {
				require.Nil(t, got.Authority)
				require.Empty(t, got.AuthorityVariable)
			}
			require.Equal(t, got.Authority != nil, got.AuthorityVariable != "")
			_, err := got.AuthorityEvent()
			require.NoError(t, err)
		})
	}
}

// moduleSigner is a certificate for signing kernel modules, for the key of p.
func moduleSigner(t testing.TB, p, issuer secureboot.KeyPair) secureboot.KeyPair {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "modules"}, NotBefore: from, NotAfter: when,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 2312, 16, 1, 2}}}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer.Cert, p.Key.Public(), issuer.Key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return secureboot.KeyPair{Key: p.Key, Cert: cert}
}

// Where the authority stands, and its owner.
func TestShimAuthority(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	for name, c := range map[string]struct {
		change   func(w *world)
		variable string
		owner    osmith.GUID
		cert     *x509.Certificate
	}{
		"db":     {func(w *world) {}, "db", owner, h.DB.Cert},
		"vendor": {func(w *world) { w.sign(h.KEK) }, "MokListRT", shimVendor, h.KEK.Cert},
		"vendor lists": {func(w *world) {
			w.sign(h.KEK)
			w.s.VendorDB, w.s.VendorCertificate = lists(t, secureboot.CertificateList(owner, h.KEK.Cert)), nil
		}, "vendor_db", owner, h.KEK.Cert},
		"MokList": {func(w *world) { w.sign(f.DB); w.v.MokList = lists(t, secureboot.CertificateList(owner, f.DB.Cert)) }, "MokListRT", owner, f.DB.Cert},
	} {
		w := newWorld(t)
		c.change(w)
		got := secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{Shim: &w.s, At: when.AddDate(50, 0, 0)})
		require.True(t, got.Allowed, got.Reason)
		require.Equal(t, c.variable, got.AuthorityVariable, name)
		require.Equal(t, secureboot.Signature{Owner: c.owner, Data: c.cert.Raw}, *got.Authority, name)
		require.Equal(t, c.cert, got.Certificate)
		require.Len(t, got.Warnings, 1)
		require.Contains(t, got.Warnings[0], " in "+c.variable+" has expired")
	}
	// A certificate of the vendor for modules is not looked for in MokListRT, and stands for
	// itself.
	w := newWorld(t)
	module := moduleSigner(t, h.PK, h.KEK)
	w.sign(module)
	w.s.VendorCertificate = module.Cert.Raw
	got := secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{Shim: &w.s})
	require.Equal(t, "Shim", got.AuthorityVariable)
	event, err := got.AuthorityEvent()
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix(event, append([]byte("S\x00h\x00i\x00m\x00"), module.Cert.Raw...)))
	require.Equal(t, []byte{0x50, 0xab, 0x5d, 0x60}, event[:4])

	event, err = secureboot.Verdict{}.AuthorityEvent()
	require.NoError(t, err)
	require.Nil(t, event)
	plain := secureboot.Evaluate(w.v, signed("x", h.DB), secureboot.EvaluateOptions{NoShim: true})
	require.Equal(t, "db", plain.AuthorityVariable)
}

// Where firmware would refuse what shim starts, a warning says so.
func TestShimWarnings(t *testing.T) {
	h := hierarchy(t)
	tbs, err := secureboot.CertificateDigestList(owner, crypto.SHA256, from, h.DB.Cert)
	require.NoError(t, err)
	w := newWorld(t)
	w.v.DBX = lists(t, tbs)
	got := secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{Shim: &w.s})
	require.True(t, got.Allowed)
	require.Len(t, got.Warnings, 1)
	require.Contains(t, got.Warnings[0], "shim does not look at those, firmware does")
	require.False(t, secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{NoShim: true}).Allowed)

	w.v.MokSBState = []byte{1}
	got = secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{Shim: &w.s})
	require.Len(t, got.Warnings, 1)
	require.Contains(t, got.Warnings[0], "the stub of systemd 262")
}

// A path to a certificate that denies counts, also if shim may not find it.
func TestShimDeniesEveryPath(t *testing.T) {
	h := hierarchy(t)
	notCA := issue(t, "not an authority", false, h.KEK, h.DB)
	below := issue(t, "below", false, h.PK, notCA)
	w := newWorld(t)
	w.im = imageOf(w.im.Digests, message(crypto.SHA256, imageSum[:], below))
	w.im.SBAT = []byte(sbatText)
	w.v.DB = lists(t, secureboot.CertificateList(owner, below.Cert))
	require.True(t, secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{Shim: &w.s}).Allowed)
	w.v.MokListX = lists(t, secureboot.CertificateList(owner, notCA.Cert))
	got := secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{Shim: &w.s})
	require.Equal(t, secureboot.RuleCertificateInMokListX, got.Rule, got.Reason)
	require.Contains(t, got.Warnings[0], "shim may not find the path")

	// The same path is none for a list that allows, as far as edk2 goes.
	w.v.MokListX, w.v.DB = []byte{}, lists(t, secureboot.CertificateList(owner, notCA.Cert))
	got = secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{Shim: &w.s})
	require.Equal(t, secureboot.RuleNotModelled, got.Rule, got.Reason)
	require.True(t, got.Unknown)
}

func TestShimLevel(t *testing.T) {
	s := secureboot.Shim{LevelAutomatic: "sbat,1,2024010900\nshim,3\n", LevelLatest: "sbat,1,2025010100\nshim,4\n"}
	original := "sbat,1,2021030218\n"
	for _, c := range []struct {
		secure, setup byte
		policy        []byte
		level, want   string
	}{
		{1, 0, nil, "", s.LevelAutomatic},
		{1, 0, []byte{1}, "", s.LevelLatest},
		{1, 0, []byte{2}, "", s.LevelAutomatic},
		{1, 0, []byte{3}, "", s.LevelAutomatic},
		{1, 0, []byte{9}, "", s.LevelAutomatic},
		{1, 0, []byte{1, 0}, "", s.LevelLatest},
		{0, 0, nil, "", original},
		{1, 1, nil, "", original},
		{0, 0, []byte{1}, "", s.LevelLatest},
		{0, 0, []byte{2}, "", s.LevelAutomatic},
		{0, 0, []byte{3}, "sbat,1,2030010100\nshim,9\n", original},
		{0, 0, nil, "sbat,1,2030010100\nshim,9\n", original},
		{0, 0, []byte{2}, "sbat,1,2030010100\nshim,9\n", "sbat,1,2030010100\nshim,9\n"},
		{1, 0, nil, original, s.LevelAutomatic},
		// the same date is kept
		{1, 0, nil, "sbat,1,2024010900\nother,3\n", "sbat,1,2024010900\nother,3\n"},
		{1, 0, nil, "sbat,1,2024010901\n", "sbat,1,2024010901\n"},
		{1, 0, nil, "sbat,1,2024010899\nx\n", s.LevelAutomatic},
		{1, 0, []byte{1}, "sbat,1,2024010901\n", s.LevelLatest},
		{1, 0, nil, "sbat,2,2020010100\n", "sbat,2,2020010100\n"}, // a higher version is kept
		// a lower one with a later date as well
		{1, 0, nil, "sbat,0,2030010100\n", "sbat,0,2030010100\n"},
		{1, 0, nil, "sbat,0,2020010100\n", s.LevelAutomatic},
		// versions are compared by their length first
		{1, 0, nil, "sbat,10,202001010\n", "sbat,10,202001010\n"},
		{1, 0, nil, "sbat,1,203001010\n", s.LevelAutomatic}, // too short to be one
		{1, 0, nil, "sbaT,1,2030010100\n", s.LevelAutomatic},
		// "1\nshim" is a version of six bytes
		{1, 0, nil, "sbat,1\nshim,9\ngrub\n", "sbat,1\nshim,9\ngrub\n"},
		{1, 0, nil, "sbat,11111111111111", "sbat,11111111111111"},
		{1, 0, nil, "sbat,1\x00,2030010100\n", s.LevelAutomatic},
		{1, 0, nil, "sbat,,,,,,,,,,,,,,,", s.LevelAutomatic},
	} {
		v := osmith.FirmwareVariables{SecureBoot: []byte{c.secure}, SetupMode: []byte{c.setup}, SbatPolicy: append([]byte{}, c.policy...), SbatLevel: append([]byte{}, c.level...)}
		got, err := s.Level(v)
		require.NoError(t, err)
		require.Equal(t, c.want, string(got), "%+v", c)
	}
	v := osmith.FirmwareVariables{SecureBoot: []byte{1}, SbatPolicy: []byte{}, SbatLevel: []byte{}}
	for _, broken := range []func(v *osmith.FirmwareVariables, s *secureboot.Shim){
		func(v *osmith.FirmwareVariables, s *secureboot.Shim) { v.SbatLevel = nil },
		func(v *osmith.FirmwareVariables, s *secureboot.Shim) { v.SbatPolicy = nil },
		func(v *osmith.FirmwareVariables, s *secureboot.Shim) { s.LevelAutomatic = "" },
		func(v *osmith.FirmwareVariables, s *secureboot.Shim) { v.SbatPolicy = []byte{1}; s.LevelLatest = "" },
	} {
		v, s := v, s
		broken(&v, &s)
		_, err := s.Level(v)
		require.ErrorIs(t, err, secureboot.ErrShimState)
	}
	for _, broken := range []func(v *osmith.FirmwareVariables){
		func(v *osmith.FirmwareVariables) { v.SecureBoot = []byte{2} },
		func(v *osmith.FirmwareVariables) { v.SetupMode = []byte{2} },
	} {
		v := v
		broken(&v)
		_, err := s.Level(v)
		_, ok := asFormatError(err)
		require.True(t, ok)
	}
}

func TestShimLists(t *testing.T) {
	h := hierarchy(t)
	own := secureboot.CertificateList(shimVendor, h.KEK.Cert)
	s := secureboot.Shim{VendorCertificate: h.KEK.Cert.Raw}
	b, err := s.MokListRT(osmith.FirmwareVariables{MokList: []byte{}})
	require.NoError(t, err)
	require.Equal(t, lists(t, own), b)
	// Two empty lists are the digest of no image.
	nothing := lists(t, secureboot.SHA256List(shimVendor, [32]byte{}))
	b, err = s.MokListXRT(osmith.FirmwareVariables{MokListX: []byte{}})
	require.NoError(t, err)
	require.Equal(t, nothing, b)
	for _, v := range []osmith.FirmwareVariables{{}, {MokListRT: nothing, MokListXRT: nothing}} {
		_, err = s.MokListRT(v)
		require.ErrorIs(t, err, secureboot.ErrShimState)
		_, err = s.MokListXRT(v)
		require.ErrorIs(t, err, secureboot.ErrShimState)
	}
}

func TestNewShim(t *testing.T) {
	h := hierarchy(t)
	good := vendorSection(h.KEK.Cert.Raw, nil)
	level := levelSection("sbat,1,2024010900\n", "sbat,1,2025010100\n")
	s, err := secureboot.NewShim(secureboot.Image{}, good, nil)
	require.NoError(t, err)
	require.Empty(t, s.LevelAutomatic)
	certs := lists(t, secureboot.CertificateList(owner, h.KEK.Cert))
	s, err = secureboot.NewShim(secureboot.Image{}, vendorSection(certs, certs), level)
	require.NoError(t, err)
	require.Equal(t, certs, s.VendorDB)
	require.Equal(t, certs, s.VendorDBX)
	require.Nil(t, s.VendorCertificate)
	put := func(b []byte, at int, n uint32) []byte {
		b = bytes.Clone(b)
		binary.LittleEndian.PutUint32(b[at:], n)
		return b
	}
	for name, c := range map[string]struct{ vendor, level []byte }{
		"no header":                 {nil, level},
		"half a header":             {good[:15], level},
		"trusted outside":           {put(good, 8, 17), level},
		"trusted too large":         {put(good, 0, 1<<31), level},
		"sum overflows":             {put(put(good, 0, 1<<31), 8, 1<<31), level},
		"refused outside":           {put(good, 4, 1), level},
		"neither":                   {vendorSection([]byte("neither a certificate nor a list"), nil), level},
		"refused are not lists":     {vendorSection(nil, []byte("no list")), level},
		"half a level header":       {good, level[:11]},
		"format":                    {good, put(level, 0, 1)},
		"automatic outside":         {good, put(level, 4, uint32(len(level)-4))},
		"latest far outside":        {good, put(level, 8, 1<<31)},
		"without an end":            {good, level[:len(level)-1]},
		"level that is none":        {good, levelSection("x", "sbat,1,2025010100\n")},
		"latest level that is none": {good, levelSection("sbat,1,2024010900\n", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := secureboot.NewShim(secureboot.Image{}, c.vendor, c.level)
			require.Nil(t, s)
			_, ok := asFormatError(err)
			require.True(t, ok, "%v", err)
			require.ErrorContains(t, err, "secureboot: ")
		})
	}
}

const shimNames = ".vendor_cert\x00.sbatlevel\x00"

// shimImage is a file with the sections of shim.
func shimImage(sections map[string][]byte, symbols uint32, names string) []byte {
	return petest.Shim(sections[".vendor_cert"], sections[".sbatlevel"], sections[".sbat"], symbols, names)
}

func TestReadShim(t *testing.T) {
	sections := map[string][]byte{}
	for _, name := range []string{"vendor_cert", "sbatlevel", "sbat"} {
		sections["."+name] = shimFile(t, "shim."+name)
	}
	// What ExampleReadShim reads. OSMITH_UPDATE=1 writes it.
	if os.Getenv("OSMITH_UPDATE") == "1" {
		require.NoError(t, os.WriteFile("testdata/shim/shimx64.efi", shimImage(sections, 0, shimNames), 0o644))
	}
	require.Equal(t, shimImage(sections, 0, shimNames), shimFile(t, "shimx64.efi"))
	for _, count := range []uint32{0, 3} {
		s, err := secureboot.ReadShim(bytes.NewReader(shimImage(sections, count, shimNames)))
		require.NoError(t, err)
		requireDebianShim(t, s)
		require.NotEmpty(t, s.Image.Digests[crypto.SHA256])
	}
	for name, b := range map[string][]byte{
		"no shim":                 petest.Kernel("6.12.0"),
		"no image":                []byte("shim"),
		"names outside the table": shimImage(sections, 0, ".vendor"),
		"other names":             shimImage(sections, 0, strings.Repeat("x", 40)),
		"table outside the file":  shimImage(sections, 0, shimNames)[:len(shimImage(sections, 0, shimNames))-1],
		"symbols outside the file": func() []byte {
			b := shimImage(sections, 0, shimNames)
			binary.LittleEndian.PutUint32(b[binary.LittleEndian.Uint32(b[0x3c:])+16:], 1<<30)
			return b
		}(),
		"bad section": shimImage(map[string][]byte{".vendor_cert": []byte("short"), ".sbat": sections[".sbat"], ".sbatlevel": sections[".sbatlevel"]}, 0, shimNames),
	} {
		s, err := secureboot.ReadShim(bytes.NewReader(b))
		require.Nil(t, s, name)
		_, ok := asFormatError(err)
		require.True(t, ok, "%s: %v", name, err)
	}
}

func asFormatError(err error) (*osmith.FormatError, bool) {
	for ; err != nil; err = unwrap(err) {
		if f, ok := err.(*osmith.FormatError); ok {
			return f, true
		}
	}
	return nil, false
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return nil
}

// What shim reads of a section .sbat, which is not what a loader of the image has.
func TestReadImageSBAT(t *testing.T) {
	build := func(sections ...petest.Section) secureboot.Image {
		b := petest.Image{SizeOfHeaders: 1024, Sections: append([]petest.Section{{Name: ".text", Content: []byte{0xf4}}}, sections...)}.Bytes()
		im, err := secureboot.ReadImage(bytes.NewReader(b))
		require.NoError(t, err)
		return im
	}
	text := petest.Section{Name: ".sbat", Content: []byte("sbat,1,x,x,1,x\n"), RawSize: 1024}
	require.Nil(t, build().SBAT)
	im := build(text)
	require.Len(t, im.SBAT, 1024)
	require.False(t, im.SBATRepeated)
	require.True(t, build(text, text).SBATRepeated)
	require.Len(t, build(petest.Section{Name: ".sbat", Content: bytes.Repeat([]byte("\n"), 1<<17)}).SBAT, 65537)

	b := petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}}, text}}.Bytes()
	i := bytes.Index(b, []byte(".sbat\x00\x00\x00"))
	binary.LittleEndian.PutUint32(b[i+8:], 1025) // larger in memory than in the file
	im, err := secureboot.ReadImage(bytes.NewReader(b))
	require.NoError(t, err)
	require.Nil(t, im.SBAT)
	im, err = secureboot.ReadImage(bytes.NewReader(petest.Kernel("6.12.0")))
	require.NoError(t, err)
	require.True(t, im.NXCompatible)
}

func joined(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

// Where it is not said whether shim starts an image and there is a SbatLevel, it has to pass both.
func TestPerhapsShim(t *testing.T) {
	h := hierarchy(t)
	for name, c := range map[string]struct {
		change func(w *world)
		rule   secureboot.Rule
	}{
		"both":                          {func(w *world) {}, secureboot.RuleCertificateInDB},
		"shim's state is unknown":       {func(w *world) { w.v.MokList, w.v.MokListX, w.v.MokDBState, w.v.MokPolicy = nil, nil, nil, nil }, secureboot.RuleCertificateInDB},
		"MokListX":                      {func(w *world) { w.v.MokListX = lists(t, secureboot.CertificateList(owner, h.DB.Cert)) }, secureboot.RuleShimUnknown},
		"copy of MokListX":              {func(w *world) { w.v.MokListX, w.v.MokListXRT = nil, lists(t, secureboot.SHA256List(owner, imageSum)) }, secureboot.RuleShimUnknown},
		"db is ignored":                 {func(w *world) { w.v.MokDBState = []byte{1} }, secureboot.RuleShimUnknown},
		"MokListX malformed":            {func(w *world) { w.v.MokListX = []byte{1} }, secureboot.RuleShimUnknown},
		"no .sbat":                      {func(w *world) { w.im.SBAT = nil }, secureboot.RuleSBATMissing},
		".sbat malformed":               {func(w *world) { w.im.SBAT = []byte("x") }, secureboot.RuleSBATMalformed},
		"below the level":               {func(w *world) { w.v.SbatLevel = []byte("sbat,1\nsystemd-boot,2\n") }, secureboot.RuleSBATRevoked},
		"SbatLevel malformed":           {func(w *world) { w.v.SbatLevel = []byte("sbat,1\ngrub\n") }, secureboot.RuleShimUnknown},
		"no SbatLevel":                  {func(w *world) { w.v.SbatLevel = []byte{}; w.im.SBAT, w.v.MokListX = nil, []byte{1} }, secureboot.RuleCertificateInDB},
		"trusted by MokList, not by db": {func(w *world) { w.v.MokList, w.v.DB = w.v.DB, nil }, secureboot.RuleNoPathToDB},
	} {
		w := newWorld(t)
		w.v.SbatLevel = []byte("sbat,1,2030010100\n")
		c.change(w)
		got := secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{})
		require.Equal(t, c.rule, got.Rule, "%s: %s", name, got.Reason)
		require.Equal(t, c.rule == secureboot.RuleCertificateInDB, got.Allowed)
		require.Equal(t, c.rule == secureboot.RuleShimUnknown || c.rule == secureboot.RuleSBATMissing, got.Unknown)
		require.Equal(t, c.rule != secureboot.RuleNoPathToDB, secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{NoShim: true}).Allowed)
	}
}

func TestEvaluateSetBehindShim(t *testing.T) {
	w := newWorld(t)
	h := hierarchy(t)
	w.s.Image = signed("shim", h.DB)
	w.s.Image.SBAT = []byte("sbat,1,x,x,1,x\nshim,4,x,x,1,x\n")
	w.im.Name = "loader"
	kernel := w.im
	kernel.Name, kernel.SBAT = "kernel", nil
	e := secureboot.EvaluateSet(w.v, []secureboot.Image{w.im, kernel}, secureboot.EvaluateSetOptions{Shim: &w.s, At: time.Time{}})
	require.Len(t, e.Images, 3)
	require.Equal(t, "shim", e.Images[0].Name)
	require.True(t, e.Images[0].Now.Allowed, e.Images[0].Now.Reason)
	require.True(t, e.Images[1].Now.Allowed)
	require.Equal(t, secureboot.RuleSBATMissing, e.Images[2].Now.Rule)
	require.False(t, e.Allowed())
	e = secureboot.EvaluateSet(w.v, []secureboot.Image{w.im, kernel}, secureboot.EvaluateSetOptions{Shim: &w.s, ByProgram: []string{"kernel"}})
	require.True(t, e.Allowed())
	b, err := e.MarshalJSON()
	require.NoError(t, err)
	require.Contains(t, string(b), `"authorityVariable":"db"`)

	// Firmware judges shim, whatever shim says of others.
	w.s.Image = signed("shim", foreignHierarchy(t).DB)
	w.s.Image.SBAT = []byte("sbat,1,x,x,1,x\n")
	e = secureboot.EvaluateSet(w.v, []secureboot.Image{w.im}, secureboot.EvaluateSetOptions{Shim: &w.s})
	require.Equal(t, secureboot.RuleNoPathToDB, e.Images[0].Now.Rule)
	require.False(t, e.Allowed())

	w.v.SbatLevel = []byte("sbat,1,2030010100\nsystemd-boot,2\n")
	require.False(t, secureboot.EvaluateSet(w.v, []secureboot.Image{w.im}, secureboot.EvaluateSetOptions{}).Allowed())
	require.True(t, secureboot.EvaluateSet(w.v, []secureboot.Image{w.im}, secureboot.EvaluateSetOptions{NoShim: true}).Allowed())
}
