package secureboot

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sbat"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// variableShim is the name under which shim measures its own certificate where that is not found in
// MokListRT.
const variableShim = "Shim"

// shimCrypto is OpenSSL as shim 15.8 to 16.1 has it: 1.0.2k, built without elliptic curves
// (Cryptlib/Include/openssl/opensslconf.h). How it finds a path is taken to be as in edk2, from
// which shim has AuthenticodeVerify. It is more tolerant in some of that (X509VerifyCb): where a
// path of signatures leads to a certificate and edk2 would not take it, it cannot be told.
var shimCrypto = edk2.Options{NoEC: true, OpenSSL11: true}

// shimList is one of the lists that shim looks at.
type shimList struct {
	name, variable          string // for people; in the event
	lists                   []SignatureList
	sha1                    bool // SHA-1 digests count, too
	byDigest, byCertificate Rule
	unnamed                 bool // a certificate that stands for itself, under the name Shim
	notKnown                string
}

// shimJudge is verify_buffer of shim for one image.
type shimJudge struct {
	image       Image
	sum         []byte // SHA-256
	deny, allow []shimList

	accepted *Verdict
	refused  Verdict // the first reason why a signature does not count
	open     []doubt // what cannot be told, if nothing else allows the image
	always   []doubt // what cannot be told in any case
	warnings []string
}

// doubt is something that cannot be told.
type doubt struct {
	rule Rule
	text string
}

// judge is what shim says to an image while Secure Boot is on: efi_main as far as it may stop
// there, then verify_buffer.
func (s *Shim) judge(v osmith.FirmwareVariables, im Image, byProgram bool) Verdict {
	text, err := s.level(v)
	if err != nil {
		return unknown(RuleShimUnknown, "%v", err)
	}
	level, err := sbat.ParseLevel(text)
	if err != nil {
		return refuse(RuleShimStops, "shim stops, since it cannot parse SbatLevel: %v", err)
	}
	switch r := checkSBAT(level, s.Image, false); {
	case r == nil:
	case r.Unknown || r.Rule == RuleSBATMissing:
		return unknown(RuleShimUnknown, "whether the level is above shim's own generation: %s", r.Reason)
	default:
		return refuse(RuleShimStops, "shim stops, because it fails its own check: %s", r.Reason)
	}
	if state(v.MokSBState) {
		return Verdict{Allowed: true, Rule: RuleShimVerifiesNothing, Reason: "MokSBState is set, and shim verifies nothing",
			Warnings: []string{"the stub of systemd 262 was seen not to start the kernel in a UKI while MokSBState is set: Error loading inner kernel with shim"}}
	}
	r := s.authenticate(v, im)
	if !r.Allowed && !r.Unknown {
		return r
	}
	if no := checkSBAT(level, im, byProgram); no != nil {
		return *no
	}
	return s.requireNX(v, im, r)
}

// requireNX is what read_header does with MokPolicy. Shim 16 sets the bit by itself if it is
// compatible and firmware enforces that (set_shim_nx_policy).
func (s *Shim) requireNX(v osmith.FirmwareVariables, im Image, r Verdict) Verdict {
	const requireNX = 1
	switch {
	case im.NXCompatible:
	case v.MokPolicy == nil:
		return unknown(RuleShimUnknown, "the image is not compatible with NX, and %v: MokPolicy", ErrShimState)
	case len(v.MokPolicy) == 1 && v.MokPolicy[0]&requireNX != 0:
		return refuse(RuleNXRequired, "MokPolicy requires images that are compatible with NX, and this image is not marked as compatible")
	case len(v.MokPolicy) != 1 && s.Image.NXCompatible:
		return unknown(RuleShimUnknown, "the image is not compatible with NX and shim is: where firmware enforces NX, shim asks for it")
	}
	return r
}

// state reads a variable of one byte as shim does: of another size it has no effect
// (maybe_mirror_one_mok_variable).
func state(content []byte) bool { return len(content) == 1 && content[0] != 0 }

// authenticate is verify_buffer_authenticode.
func (s *Shim) authenticate(v osmith.FirmwareVariables, im Image) Verdict {
	j := &shimJudge{image: im, sum: im.Digests[crypto.SHA256]}
	if len(j.sum) == 0 {
		return unknown(RuleDigestNotGiven, "the SHA-256 digest of the image was not given")
	}
	if err := j.readLists(s, v); err != nil {
		return unknown(RuleVariableMalformed, "%v", err)
	}
	r := j.verify()
	r.Warnings = append(r.Warnings, j.warnings...)
	return r
}

// readLists puts the lists into the order in which shim looks at them (check_denylist,
// check_allowlist).
func (j *shimJudge) readLists(s *Shim, v osmith.FirmwareVariables) error {
	denied, deniedUnknown := v.MokListX, ""
	if denied == nil {
		// more than MokListX: it has what the shim that ran was built to refuse
		denied = v.MokListXRT
	}
	if denied == nil {
		deniedUnknown = fmt.Sprintf("%v: MokListX", ErrShimState)
	}
	ignoreDB, dbUnknown := state(v.MokDBState), ""
	if v.MokDBState == nil {
		dbUnknown = fmt.Sprintf("%v: MokDBState, by which db may not count", ErrShimState)
	}
	own, err := s.vendorLists()
	if err != nil {
		return fmt.Errorf("the certificate of shim: %w", err)
	}
	enrolled, enrolledUnknown := []byte(nil), ""
	if all, err := copyOf("MokList", own, v.MokList, v.MokListRT); err != nil {
		enrolledUnknown = err.Error()
	} else {
		enrolled = bytes.TrimPrefix(all, own)
	}
	for _, l := range []struct {
		list *[]shimList
		data []byte
		on   bool
		shimList
	}{
		{&j.deny, s.VendorDBX, true, shimList{name: "shim's own dbx", sha1: true, byDigest: RuleDigestDeniedByVendor, byCertificate: RuleCertificateDeniedByShim}},
		{&j.deny, v.DBX, true, shimList{name: "dbx", sha1: true, byDigest: RuleDigestInDBX, byCertificate: RuleCertificateInDBX}},
		{&j.deny, denied, true, shimList{name: "MokListX", byDigest: RuleDigestInMokListX, byCertificate: RuleCertificateInMokListX, notKnown: deniedUnknown}},
		{&j.allow, v.DB, !ignoreDB, shimList{name: "db", variable: "db", sha1: true, byDigest: RuleDigestInDB, byCertificate: RuleCertificateInDB, notKnown: dbUnknown}},
		{&j.allow, s.VendorDB, true, shimList{name: "shim's own db", variable: "vendor_db", byDigest: RuleDigestOfVendor, byCertificate: RuleCertificateOfVendor}},
		{&j.allow, own, len(s.VendorCertificate) > 0, shimList{name: "shim", variable: "MokListRT", byDigest: RuleDigestOfVendor, byCertificate: RuleCertificateOfVendor}},
		{&j.allow, enrolled, true, shimList{name: "MokList", variable: "MokListRT", byDigest: RuleDigestInMokList, byCertificate: RuleCertificateInMokList, notKnown: enrolledUnknown}},
		{&j.allow, own, len(s.VendorCertificate) > 0, shimList{name: "shim", variable: variableShim, byCertificate: RuleCertificateOfVendor, unnamed: true}},
	} {
		if !l.on {
			continue
		}
		if l.lists, err = parseLists(l.data); err != nil {
			return fmt.Errorf("%s cannot be parsed: %w", l.name, err)
		}
		*l.list = append(*l.list, l.shimList)
	}
	return nil
}

// verify follows the order of shim: the digest in a list that denies, the digest in one that
// allows, then each signature by itself, of which one is enough.
func (j *shimJudge) verify() Verdict {
	for _, l := range j.deny {
		_, h, missing := j.findDigest(l)
		if h != 0 {
			return revoke(l.byDigest, "%s has the digest of the image, %v %x", l.name, h, j.image.Digests[h])
		}
		if missing != "" {
			return unknown(RuleDigestNotGiven, "%s", missing)
		}
	}
	for _, l := range j.deny {
		if l.notKnown != "" {
			j.always = append(j.always, doubt{RuleShimUnknown, l.notKnown})
		}
	}
	for _, l := range j.allow {
		e, h, missing := j.findDigest(l)
		if missing != "" {
			j.open = append(j.open, doubt{RuleDigestNotGiven, missing})
			j.always = append(j.always, doubt{RuleDigestNotGiven, missing})
		}
		if h != 0 && !l.unnamed {
			return j.accept(l, e, nil, Verdict{Allowed: true, Rule: l.byDigest, Reason: fmt.Sprintf("%s has the digest of the image, %v %x", l.name, h, j.image.Digests[h])})
		}
	}
	table := j.image.table()
	if len(table) == 0 {
		return j.refuse(refuse(RuleUnsigned, "the image is not signed, and no list has its digest, SHA-256 %x", j.sum))
	}
	if r := j.walk(table); r != nil {
		return j.refuse(*r)
	}
	if j.accepted != nil {
		return *j.accepted
	}
	if j.refused.Reason == "" {
		j.refused = refuse(RuleSignaturePassedBy, "the certificate table has no signature that shim knows")
	}
	return j.refuse(j.refused)
}

// refuse is a refusal, unless what is not known may be what allows the image.
func (j *shimJudge) refuse(r Verdict) Verdict {
	for _, l := range j.allow {
		if l.notKnown != "" {
			j.open = append(j.open, doubt{RuleShimUnknown, l.notKnown})
		}
	}
	if len(j.open) > 0 {
		return unknown(j.open[0].rule, "%s; otherwise: %s", j.open[0].text, r.Reason)
	}
	return r
}

// accept is a permission by an entry of a list, for certificate c or by digest, unless what is not
// known may be against it.
func (j *shimJudge) accept(l shimList, e *Signature, c *x509.Certificate, r Verdict) Verdict {
	if l.notKnown != "" {
		j.always = append(j.always, doubt{RuleShimUnknown, l.notKnown})
	}
	if len(j.always) > 0 {
		return unknown(j.always[0].rule, "%s; otherwise: %s", j.always[0].text, r.Reason)
	}
	r.Authority, r.AuthorityVariable, r.Certificate = e, l.variable, c
	return r
}

// findDigest looks for the digest of the image: SHA-256, and SHA-1 in some lists. missing says that
// a digest to compare was not given.
func (j *shimJudge) findDigest(l shimList) (e *Signature, h crypto.Hash, missing string) {
	if e := findDigest(l.lists, crypto.SHA256, j.sum); e != nil {
		return e, crypto.SHA256, ""
	}
	if !l.sha1 || !hasDigests(l.lists, crypto.SHA1) {
		return nil, 0, ""
	}
	sum := j.image.Digests[crypto.SHA1]
	if len(sum) == 0 {
		return nil, 0, fmt.Sprintf("%s has SHA-1 digests, and that of the image was not given", l.name)
	}
	if e := findDigest(l.lists, crypto.SHA1, sum); e != nil {
		return e, crypto.SHA1, ""
	}
	return nil, 0, ""
}

// walk goes through the certificate table as verify_buffer_authenticode does. A result ends the
// matter.
func (j *shimJudge) walk(table []byte) *Verdict {
	count := 0
	for pos := 0; pos < len(table); {
		var c winCertificateHeader
		if _, err := binary.Decode(table[pos:], binary.LittleEndian, &c); err != nil || c.Length < 8 || uint64(c.Length) > uint64(len(table)-pos) {
			r := refuse(RuleTableMalformed, "the certificate table cannot be read to its end: entry at byte %d of %d", pos, len(table))
			return &r
		}
		if c.Type == certTypePKCS7 {
			if count++; count > maxSignatures {
				r := unknown(RuleNotModelled, "more than %d signatures", maxSignatures)
				return &r
			}
			j.signature(count-1, table[pos+8:pos+int(c.Length)])
		}
		pos += (int(c.Length) + 7) &^ 7
	}
	return nil
}

// signature is verify_one_signature. A signature that is denied says nothing about the others.
func (j *shimJudge) signature(i int, message []byte) {
	if j.accepted != nil {
		return
	}
	m, err := shimCrypto.Parse(message)
	var signers []*edk2.Certificate
	if err == nil {
		signers, err = m.SignerCertificates()
	}
	switch {
	case edk2.IsUnknown(err), edk2.IsStrict(err): // which the OpenSSL of shim may read
		j.doubt("signature %d: %v", i, err)
		return
	case err != nil:
		j.because(refuse(RuleSignatureMalformed, "signature %d: %v", i, err))
		return
	case !m.About(j.sum):
		j.because(refuse(RuleImageChanged, "signature %d: the image was changed after it was signed, or its signature does not use SHA-256, the only digest that shim accepts", i))
		return
	}
	for _, l := range j.deny {
		if j.denied(i, l, m, signers) {
			return
		}
	}
	closest := ""
	for _, l := range j.allow {
		for _, list := range l.lists {
			e, root, err := j.leads(l, list, m)
			switch {
			case edk2.IsUnknown(err):
				// a list further on may allow the image, but by another authority
				j.doubt("signature %d and a certificate in %s: %v", i, l.name, err)
				return
			case root == nil:
				continue
			case err != nil:
				// Shim's OpenSSL and its X509VerifyCb were seen to take some of what edk2 refuses:
				// extensions that are there twice, critical ones of a certificate that is trusted
				// itself.
				found, unclear := edk2.Leads(signers[0], m.Certificates, root)
				switch {
				case !found && unclear == nil:
				case !edk2.IsChain(err):
					closest = fmt.Sprintf("signature %d: the certificate %q in %s: %v", i, subject(root), l.name, err)
				default:
					j.doubt("signature %d: the certificate %q in %s: edk2 would refuse it, but shim is more tolerant in some cases: %v", i, subject(root), l.name, err)
				}
				continue
			}
			where := l.name + " has"
			if l.byCertificate == RuleCertificateOfVendor {
				where = "shim trusts"
			}
			// nil where crypto/x509 does not parse it, as the field says
			c, _ := x509.ParseCertificate(root.Raw)
			r := j.accept(l, e, c, Verdict{Allowed: true, Rule: l.byCertificate, Reason: fmt.Sprintf("%s the certificate %q%s", where, subject(root), leads(root, signers))})
			j.warnOfDigests(signers, root)
			j.accepted = &r
			return
		}
	}
	if closest != "" {
		j.because(refuse(RuleChain, "%s", closest))
		return
	}
	j.because(refuse(RuleNotTrustedByShim, "signature %d: signed by %q, issued by %q: no certificate in db, in shim or in MokList is on that chain", i, subject(signers[0]), edk2.Name(signers[0].RawIssuer)))
}

// denied reports whether a signature leads to a certificate of a list that denies, or whether that
// cannot be told.
func (j *shimJudge) denied(i int, l shimList, m *edk2.Message, signers []*edk2.Certificate) bool {
	for _, list := range l.lists {
		_, root, err := j.leads(l, list, m)
		if edk2.IsUnknown(err) {
			j.doubt("signature %d and a certificate in %s: %v", i, l.name, err)
			return true
		}
		if root == nil {
			continue
		}
		if err == nil {
			j.because(revoke(l.byCertificate, "%s has the certificate %q%s", l.name, subject(root), leads(root, signers)))
			return true
		}
		for _, s := range signers {
			found, unclear := edk2.Leads(s, m.Certificates, root)
			if unclear != nil {
				j.doubt("signature %d and a certificate in %s: %v", i, l.name, unclear)
				return true
			}
			if found {
				j.warnings = append(j.warnings, fmt.Sprintf("shim may not find the path from the signer %q to the certificate %q in %s, and run the image", subject(s), subject(root), l.name))
				j.because(revoke(l.byCertificate, "%s has the certificate %q%s", l.name, subject(root), leads(root, signers)))
				return true
			}
		}
	}
	return false
}

// doubt keeps what cannot be told of a signature.
func (j *shimJudge) doubt(format string, args ...any) {
	j.open = append(j.open, doubt{RuleNotModelled, fmt.Sprintf(format, args...)})
}

// leads checks a signature against the certificate of a list at which shim looks, nil if it looks
// at none. The error says why it does not lead there, or that this cannot be told.
func (j *shimJudge) leads(l shimList, list SignatureList, m *edk2.Message) (*Signature, *edk2.Certificate, error) {
	e, root, err := j.certificate(l, list)
	if root == nil {
		return e, nil, err
	}
	path, err := m.VerifyImage(root, j.sum, shimCrypto)
	if err == nil && slices.ContainsFunc(path, (*edk2.Certificate).HasNameConstraints) {
		err = edk2.Unknown("name constraints, which the OpenSSL of shim reads in its own way")
	}
	return e, root, err
}

// certificate returns the one of a list at which shim looks, nil if it looks at none
// (check_db_cert_in_ram): the first, if it has the length of a certificate in two bytes, which is
// all of the entry, and is not for kernel modules. Shim's own certificate is not asked for that.
// The error is one of [edk2.IsUnknown], also for what its OpenSSL may read although later ones do
// not.
func (j *shimJudge) certificate(l shimList, list SignatureList) (*Signature, *edk2.Certificate, error) {
	if list.Type != TypeX509 || len(list.Signatures) == 0 {
		return nil, nil, nil
	}
	e := &list.Signatures[0]
	const lengthSize = 4
	if d := e.Data; !l.unnamed && (len(d) < lengthSize || d[0] != 0x30 || d[1] != 0x82 || int(binary.BigEndian.Uint16(d[2:])) != len(d)-lengthSize) {
		return nil, nil, nil
	}
	c, err := shimCrypto.ParseCertificate(e.Data)
	switch {
	case edk2.IsUnknown(err):
		return nil, nil, err
	case edk2.IsStrict(err):
		return nil, nil, edk2.Unknown("a certificate that later versions of OpenSSL do not read: %v", err)
	case err != nil || c.SignsModules() && !l.unnamed:
		return nil, nil, nil
	}
	return e, c, nil
}

// warnOfDigests says where firmware would refuse what shim starts, since shim does not look at
// digests of certificates.
func (j *shimJudge) warnOfDigests(signers []*edk2.Certificate, root *edk2.Certificate) {
	for _, l := range j.deny {
		for _, c := range append([]*edk2.Certificate{root}, signers...) {
			if tbsRevoked(l.lists, c.RawTBS) {
				j.warnings = append(j.warnings, fmt.Sprintf("%s has the digest of the certificate %q: shim does not look at those, firmware does", l.name, subject(c)))
				return
			}
		}
	}
}

// because keeps the first reason, or one that the image is revoked.
func (j *shimJudge) because(r Verdict) {
	if j.refused.Reason == "" || r.Revoked && !j.refused.Revoked {
		j.refused = r
	}
}
