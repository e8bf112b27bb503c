package secureboot

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/signedpe"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// What U-Boot's EFI loader does with an image, as its answers show it: 50 images, most of them in several configurations, were given to the three
// builds (testdata/uboot, testdata/firmware). Its source was not read for this file; "source" below is what somebody else read there. The judge
// says yes to what is built like the images that ran, and no to what is like those that were refused or crashed it. Whatever is
// not like any of them cannot be told. Not covered, since secureboot.Image does not know it: U-Boot refuses an image of another machine type
// before it looks at signatures.

// ubootRow is what differs between builds of U-Boot.
type ubootRow struct {
	name            Firmware
	legacy          bool // LEGACY_CRYPTO in place of MbedTLS
	dbxDigestsCrash bool
}

func (r ubootRow) row() firmwareRow {
	return firmwareRow{r.name, func(v osmith.FirmwareVariables, im Image) Verdict {
		return (&ubootJudge{ubootRow: r, image: im}).judge(v)
	}}
}

// ubootJudge judges one image.
type ubootJudge struct {
	ubootRow
	image   Image
	db, dbx []SignatureList
}

func dateTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (j *ubootJudge) judge(v osmith.FirmwareVariables) Verdict {
	var err error
	if j.db, err = parseLists(v.DB); err != nil {
		return unknown(RuleNotModelled, "db cannot be parsed: %v", err)
	}
	if j.dbx, err = parseLists(v.DBX); err != nil {
		return unknown(RuleNotModelled, "dbx cannot be parsed: %v", err)
	}
	if r := j.lists(); r != nil {
		return *r
	}
	sum := j.image.Digests[crypto.SHA256]
	switch {
	case len(sum) == 0:
		return unknown(RuleDigestNotGiven, "the SHA-256 digest of the image was not given")
	case j.image.Layout == LayoutUnknown:
		return unknown(RuleNotModelled, "the layout of the image was not given")
	case j.image.Layout != LayoutContiguous && j.image.Layout != LayoutUnaligned:
		return unknown(RuleNotModelled, "the image has gaps between its sections, or bytes behind them, or sections in another order than their table: which of them U-Boot hashes is not known")
	}
	if len(j.image.table()) == 0 {
		return j.unsigned(sum)
	}
	return j.signed(sum)
}

// lists judges by the kinds of lists alone. nil: they are ones that U-Boot knows.
func (j *ubootJudge) lists() *Verdict {
	for _, l := range j.dbx {
		switch l.Type {
		case TypeX509, TypeSHA256:
		case TypeSHA1, TypeSHA224, TypeSHA384, TypeSHA512:
			// Booted with SHA-1 on 2025.01 (crash) and 2026.10 (refused), run with SHA-1 and SHA-512 on 2026.10; the others and legacy: source.
			r := refuse(RuleDBXListType, "dbx has a list of type %s: U-Boot refuses every image then", TypeName(l.Type))
			if j.dbxDigestsCrash {
				r = refuse(RuleDBXListType, "dbx has a list of type %s: this U-Boot crashes and resets at every image then", TypeName(l.Type))
			}
			return &r
		default:
			if _, ok := certificateHashes[l.Type]; !ok {
				r := unknown(RuleNotModelled, "what U-Boot does with a list of type %s in dbx", TypeName(l.Type))
				return &r
			}
		}
	}
	for _, l := range j.db {
		if l.Type != TypeX509 && l.Type != TypeSHA256 {
			r := unknown(RuleNotModelled, "what U-Boot does with a list of type %s in db", TypeName(l.Type))
			return &r
		}
	}
	return nil
}

// unsigned judges an image without signatures: a01 refused, a06 ran, both also with an ECDSA and an RSASSA-PSS certificate in db (booted).
func (j *ubootJudge) unsigned(sum []byte) Verdict {
	unaligned := j.image.Layout == LayoutUnaligned
	switch {
	case unaligned && hasDigests(j.db, crypto.SHA256):
		return unknown(RuleNotModelled, "a section has a SizeOfRawData that is not a multiple of FileAlignment: U-Boot takes another digest of the image, and db has digests")
	case !unaligned && findDigest(j.dbx, crypto.SHA256, sum) != nil: // as a05, which is signed
		return revoke(RuleDigestInDBX, "dbx has the digest of the image, SHA-256 %x", sum)
	case findDigest(j.db, crypto.SHA256, sum) == nil:
		return refuse(RuleUnsigned, "the image is not signed, and db does not have its digest, SHA-256 %x", sum)
	}
	if r := j.revocationsByTime(); r != nil {
		return *r
	}
	return Verdict{Allowed: true, Rule: RuleDigestInDB, Reason: fmt.Sprintf("db has the digest of the image, SHA-256 %x", sum)}
}

// revocationsByTime: nothing was booted with digests of certificates in dbx.
func (j *ubootJudge) revocationsByTime() *Verdict {
	for _, l := range j.dbx {
		if _, ok := certificateHashes[l.Type]; ok {
			r := unknown(RuleNotModelled, "what U-Boot does with an image that a list of type %s in dbx is not about", TypeName(l.Type))
			return &r
		}
	}
	return nil
}

// An ubootFinding is what one signature means to U-Boot.
type ubootFinding struct {
	kind   findingKind
	rule   Rule // of one that is revoked or refused; RuleNotModelled if it is empty
	reason string
	by     *x509.Certificate // of db, if it is valid
}

type findingKind int

const (
	findingUnknown  findingKind = iota
	findingValid                // leads to db
	findingStranger             // does not, and others may
	findingRevoked              // refused, whatever the others are (a08, cases 12, 14)
	findingRefused              // refused if it is the only one, and db does not have the digest
	findingFatal                // the message cannot be parsed: refused (legacy) or a crash
)

// signed judges all signatures of an image.
func (j *ubootJudge) signed(sum []byte) Verdict {
	messages, foreign, broken := j.messages()
	if broken != "" {
		return unknown(RuleNotModelled, "%s", broken)
	}
	var found []ubootFinding
	var count [findingFatal + 1]int
	for _, m := range messages {
		f := j.signature(m)
		found, count[f.kind] = append(found, f), count[f.kind]+1
	}
	first := func(kind findingKind) ubootFinding {
		for _, f := range found {
			if f.kind == kind {
				return f
			}
		}
		return ubootFinding{}
	}
	inDBX, inDB := findDigest(j.dbx, crypto.SHA256, sum) != nil, findDigest(j.db, crypto.SHA256, sum) != nil
	if j.image.Layout != LayoutContiguous {
		inDBX = false // it is about another digest; and the image is refused or unknown
	}
	switch {
	case count[findingRevoked] > 0:
		return revoke(first(findingRevoked).rule, "%s", first(findingRevoked).reason)
	case inDBX && j.all(messages, crypto.SHA256): // booted a05
		return revoke(RuleDigestInDBX, "dbx has the digest of the image, SHA-256 %x", sum)
	case foreign && len(messages) == 0: // run 06 24: the good signature behind it does not help, nor does the digest in db
		return refuse(RuleCertificateType, "the first entry of the certificate table is of a type that U-Boot does not know: it refuses the image then, whatever follows")
	case foreign:
		return unknown(RuleNotModelled, "an entry of a type that U-Boot does not know follows signatures")
	case inDBX:
		return unknown(RuleNotModelled, "dbx has the SHA-256 digest of the image, whose signature is by another digest algorithm")
	case count[findingUnknown] > 0:
		f := first(findingUnknown)
		return unknown(cmp.Or(f.rule, RuleNotModelled), "%s", f.reason)
	case count[findingFatal] > 0 && len(found) == 1:
		return refuse(RuleParserFails, "%s", first(findingFatal).reason)
	case count[findingFatal] > 0:
		return unknown(RuleNotModelled, "one of %d signatures: %s", len(found), first(findingFatal).reason)
	case count[findingRefused] > 0 && len(found) == 1 && !inDB:
		return refuse(first(findingRefused).rule, "%s", first(findingRefused).reason)
	case count[findingRefused] > 0:
		return unknown(RuleNotModelled, "there are several signatures, or db has the digest of the image too: %s", first(findingRefused).reason)
	}
	if r := j.revocationsByTime(); r != nil {
		return *r
	}
	if count[findingValid] > 0 { // booted a03 a04, run 05: strangers beside it do not matter
		f := first(findingValid)
		return Verdict{Allowed: true, Rule: RuleCertificateInDB, Reason: f.reason, Certificate: f.by}
	}
	// Only strangers. Booted a07: the digest in db is U-Boot's last resort. With another digest algorithm than SHA-256 it was not tried.
	if inDB {
		if !j.all(messages, crypto.SHA256) {
			return unknown(RuleNotModelled, "db has the SHA-256 digest of the image, and no signature leads to db")
		}
		return Verdict{Allowed: true, Rule: RuleDigestInDB, Reason: fmt.Sprintf("db has the digest of the image, SHA-256 %x", sum)}
	}
	var why []string
	for i, f := range found {
		why = append(why, fmt.Sprintf("signature %d: %s", i, f.reason))
	}
	return refuse(RuleNoPathToDB, "%s", strings.Join(why, "; "))
}

// all reports whether all messages digest the image by a hash.
func (j *ubootJudge) all(messages [][]byte, h crypto.Hash) bool {
	for _, m := range messages {
		if s, err := signedpe.ReadSignature(m, 0); err != nil || s.Hash != h {
			return false
		}
	}
	return true
}

// messages splits the certificate table. foreign says that the walk ended at an entry of another type; broken why it cannot be told what U-Boot does.
func (j *ubootJudge) messages() (list [][]byte, foreign bool, broken string) {
	table := j.image.table()
	for pos := 0; pos < len(table); {
		left := table[pos:]
		var c winCertificateHeader
		if _, err := binary.Decode(left, binary.LittleEndian, &c); err != nil {
			return nil, false, fmt.Sprintf("the certificate table ends in the middle of an entry, at byte %d", pos)
		}
		size := int64(c.Length)
		padded := (size + 7) &^ 7
		switch {
		case size <= 8 || padded > int64(len(left)):
			return nil, false, fmt.Sprintf("entry at byte %d of the certificate table: length %d, which the table of %d bytes does not have room for", pos, size, len(table))
		case c.Revision != certRevision:
			return nil, false, fmt.Sprintf("entry at byte %d of the certificate table: revision 0x%04x", pos, c.Revision)
		case c.Type == certTypeEFIGUID:
			return nil, false, fmt.Sprintf("entry at byte %d of the certificate table: type 0x%04x", pos, c.Type)
		case c.Type != certTypePKCS7:
			return list, true, ""
		case len(list) == maxSignatures:
			return nil, false, fmt.Sprintf("more than %d signatures", maxSignatures)
		}
		list = append(list, left[8:size])
		pos += int(padded)
	}
	return list, false, ""
}

// notLike is a signature that is not built like those that were tried.
func notLike(format string, args ...any) ubootFinding {
	return ubootFinding{kind: findingUnknown, reason: fmt.Sprintf(format, args...)}
}

// signature judges one message.
func (j *ubootJudge) signature(message []byte) ubootFinding {
	s, err := signedpe.ReadSignature(message, 0)
	parse := edk2.Parse
	if err == nil && s.Message.Bare {
		parse = edk2.ParseSignedData
	}
	if e, ok := errors.AsType[*osmith.FormatError](err); ok {
		return notLike("a signature that is not built as usual: %s: %v", e.Field, e.Err)
	} else if err != nil {
		return notLike("a signature that is not built as usual: %v", err)
	}
	signer := &s.Message.Signers[0]
	switch {
	case signer.Serial == nil: // run 15
		return j.fatal("the signer is named by its key identifier")
	case len(s.Message.Digests) != 1: // run 04: MbedTLS crashed, legacy ran it
		if j.legacy {
			return notLike("a message with %d digest algorithms", len(s.Message.Digests))
		}
		return j.fatal("the message has %d digest algorithms", len(s.Message.Digests))
	case j.legacy && s.Message.Bare: // run 02
		return j.fatal("the SignedData is not in a ContentInfo")
	case j.legacy && len(message) > 0xffff: // run 03
		return j.fatal("the message has more than 65,535 bytes")
	}
	m, err := parse(message)
	if err != nil {
		return notLike("a signature that is not built as usual: %v", err)
	}
	if s.Signer != nil {
		if f := j.revoked(&s, m); f != nil {
			return *f
		}
	}
	switch {
	case len(s.Message.Raw) != len(message):
		return notLike("%d bytes of padding are counted as a part of the signature", len(message)-len(s.Message.Raw))
	case s.Message.Revocations != nil:
		return notLike("revocation lists in a message")
	case signer.Unsigned != nil:
		return notLike("unsigned attributes, such as a time stamp")
	}
	for _, c := range s.Message.Certificates { // run 09: not only the signer's
		fault, fatal := j.fault(c)
		if fatal {
			return j.fatal("the certificate %q: %s", c.Subject, fault)
		}
		if fault != "" {
			return notLike("the certificate %q, which the signature carries: %s", c.Subject, fault)
		}
	}
	if s.Signer == nil {
		return ubootFinding{kind: findingStranger, reason: "it does not carry its signer's certificate"} // run 05
	}
	if s.Err != nil {
		return notLike("a signature that is not valid: %v", s.Err)
	}
	if !signer.SignatureOID.Equal(oidRSAEncryption) {
		return notLike("the signature algorithm %v", signer.SignatureOID)
	}
	timed := false
	for _, a := range signer.Attributes {
		switch {
		case a.Type.Equal(cms.OIDContentType), a.Type.Equal(cms.OIDMessageDigest):
		case a.Type.Equal(cms.OIDSigningTime) && !timed && !s.SigningTime.IsZero():
			timed = true
		default:
			return notLike("a signed attribute %v, or one that cannot be read", a.Type)
		}
	}
	if f := j.digest(&s, m); f != nil {
		return *f
	}
	// Booted a12 a20 (outside), a11 (no time), a19 (expired since, inside).
	if timed && (s.SigningTime.Before(s.Signer.NotBefore) || s.SigningTime.After(s.Signer.NotAfter)) {
		return ubootFinding{kind: findingRefused, rule: RuleSigningTime, reason: fmt.Sprintf("the signing time %s is outside of the validity of the signer's certificate %q, %s to %s: U-Boot refuses that",
			dateTime(s.SigningTime), s.Signer.Subject, dateTime(s.Signer.NotBefore), dateTime(s.Signer.NotAfter))}
	}
	return j.path(&s)
}

// oidRSAEncryption is the signature algorithm of a signer that osmith, OpenSSL and others write for PKCS #1 v1.5 (RFC 3370, section 3.2).
var oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}

// fatal is a message that U-Boot cannot parse: MbedTLS crashes, since an error code of the parser is taken for a pointer (source); legacy refuses.
func (j *ubootJudge) fatal(format string, args ...any) ubootFinding {
	what := "U-Boot crashes and resets"
	if j.legacy {
		what = "this U-Boot cannot parse the signature"
	}
	return ubootFinding{kind: findingFatal, reason: what + ": " + fmt.Sprintf(format, args...)}
}

// digest holds the digest that was signed against that of the image. nil: it is the same.
func (j *ubootJudge) digest(s *signedpe.Signature, m *edk2.Message) *ubootFinding {
	refused := func(rule Rule, reason string) *ubootFinding {
		return &ubootFinding{kind: findingRefused, rule: rule, reason: reason}
	}
	own := j.image.Digests[s.Hash]
	same := bytes.Equal(s.Digest, own)
	switch {
	case s.Hash == 0 || len(own) == 0:
		return &ubootFinding{rule: RuleDigestNotGiven, reason: fmt.Sprintf("the %v digest of the image was not given", s.Hash)}
	case j.image.Layout == LayoutUnaligned && same: // booted a21 a22; source
		return refused(RuleSectionSize, "a section has a SizeOfRawData that is not a multiple of FileAlignment: U-Boot hashes it rounded up, and takes another digest than the signer")
	case j.image.Layout == LayoutUnaligned:
		return new(notLike("a section has a SizeOfRawData that is not a multiple of FileAlignment, and the signed digest is not that of these bytes"))
	case !same: // as a21 a22
		return refused(RuleImageChanged, "the image was changed after it was signed")
	case j.legacy && !m.About(own): // run 17 18, which MbedTLS ran
		return refused(RuleImageChanged, "the digest of the image is not the last thing that is signed")
	}
	return nil
}

// revoked holds the certificates of a message against dbx. nil: dbx is about others.
func (j *ubootJudge) revoked(s *signedpe.Signature, m *edk2.Message) *ubootFinding {
	for _, l := range j.dbx {
		if h, ok := certificateHashes[l.Type]; ok { // source: the time in it does not matter
			for _, c := range s.Message.Certificates {
				w := h.New()
				w.Write(c.RawTBSCertificate)
				sum := w.Sum(nil)
				for _, e := range l.Signatures {
					switch {
					case !bytes.HasPrefix(e.Data, sum):
					case c.Equal(s.Signer):
						return &ubootFinding{kind: findingRevoked, rule: RuleCertificateDigestInDBX, reason: fmt.Sprintf("dbx has the digest of the certificate %q", c.Subject)}
					default:
						return new(notLike("dbx has the digest of the certificate %q, which the signature carries", c.Subject))
					}
				}
			}
		}
		if l.Type != TypeX509 {
			continue
		}
		for _, e := range l.Signatures {
			c, err := x509.ParseCertificate(e.Data)
			if err != nil {
				return new(notLike("dbx has a certificate that cannot be read: %v", err))
			}
			if c.Equal(s.Signer) { // booted a08, run 12 14
				return &ubootFinding{kind: findingRevoked, rule: RuleCertificateInDBX, reason: fmt.Sprintf("dbx has the certificate %q", c.Subject)}
			}
			if fault, _ := j.fault(c); fault != "" {
				return new(notLike("the certificate %q in dbx: %s", c.Subject, fault))
			}
			if f := leadsToDBX(s, m, e.Data, c); f != nil {
				return f
			}
		}
	}
	return nil
}

// leadsToDBX: whether U-Boot notices a certificate in dbx that is not the signer's own, but leads to it, was not tried. One that is carried and leads
// nowhere does not matter (run 03).
func leadsToDBX(s *signedpe.Signature, m *edk2.Message, raw []byte, c *x509.Certificate) *ubootFinding {
	to, err := edk2.ParseCertificate(raw)
	if err != nil {
		return new(notLike("dbx has a certificate that cannot be read: %v", err))
	}
	signer, err := edk2.ParseCertificate(s.Signer.Raw)
	if err != nil {
		return new(notLike("the signer's certificate %q: %v", s.Signer.Subject, err))
	}
	found, err := edk2.Leads(signer, m.Certificates, to)
	switch {
	case found:
		return new(notLike("dbx has the certificate %q, which leads to the signer %q", c.Subject, s.Signer.Subject))
	case err != nil:
		return new(notLike("the certificate %q in dbx: %v", c.Subject, err))
	}
	return nil
}

// fault says what of a certificate differs from those of the images that were tried, "" if nothing does; fatal, that U-Boot is known not to be able to
// parse it.
func (j *ubootJudge) fault(c *x509.Certificate) (text string, fatal bool) {
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA:
	case x509.ECDSAWithSHA256: // booted a23, run 16
		return "it has an ECDSA signature", true
	case x509.SHA256WithRSAPSS: // run 23
		return "it has an RSASSA-PSS signature", true
	default:
		return fmt.Sprintf("its signature algorithm is %v", c.SignatureAlgorithm), false
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok:
		return fmt.Sprintf("its key is %v", c.PublicKeyAlgorithm), false
	case key.N.BitLen() != 2048 && key.N.BitLen() != 3072 && key.N.BitLen() != 4096: // booted a00 a17 a18
		return fmt.Sprintf("its key has %d bits", key.N.BitLen()), false
	case key.E != 65537:
		return fmt.Sprintf("its key has the exponent %d", key.E), false
	case c.Version != 3:
		return fmt.Sprintf("it is of version %d", c.Version), false
	}
	for _, e := range c.Extensions {
		known := len(e.Id) == 4 && e.Id[0] == 2 && e.Id[1] == 5 && e.Id[2] == 29
		switch {
		case known && (e.Id[3] == 15 || e.Id[3] == 19): // keyUsage, basicConstraints
		case known && !e.Critical && (e.Id[3] == 14 || e.Id[3] == 35 || e.Id[3] == 37): // key identifiers (run 22: another's too), extKeyUsage
		case known && e.Id[3] == 30: // run 11: MbedTLS crashed, legacy ran it
			return "it has name constraints", false
		case e.Critical && !known: // booted a16, run 09 10: MbedTLS crashed, legacy ran them
			if !j.legacy {
				return fmt.Sprintf("it has the critical extension %v", e.Id), true
			}
		case !e.Critical && !known && !j.legacy: // run 03, in a certificate that is not needed
		default:
			return fmt.Sprintf("it has the extension %v", e.Id), false
		}
	}
	return "", false
}

// path looks for the way from the signer's certificate to db.
func (j *ubootJudge) path(s *signedpe.Signature) ubootFinding {
	// Booted a00 a17 a18, with an ECDSA and with an RSASSA-PSS certificate in front of it in db too: for this search the others are not parsed.
	for _, l := range j.db {
		for _, e := range l.Signatures {
			if l.Type == TypeX509 && bytes.Equal(e.Data, s.Signer.Raw) {
				return ubootFinding{kind: findingValid, by: s.Signer, reason: fmt.Sprintf("db has the certificate %q", s.Signer.Subject)}
			}
		}
	}
	db, f := j.anchors(s)
	if f != nil {
		return *f
	}
	last := s.Signer
	for depth := 1; ; depth++ {
		issuer, inDB, several := issuerOf(last, s.Message.Certificates, db)
		switch {
		case several: // run 21: refused, the wrong one was the first
			return notLike("several certificates of the name %q may have issued that of %q", last.Issuer, last.Subject)
		case issuer == nil: // booted a02 a15, run 01
			return ubootFinding{kind: findingStranger, reason: fmt.Sprintf("signed by %q, whose certificate %q issued: no certificate in db leads there", s.Signer.Subject, s.Signer.Issuer)}
		case depth > 2: // booted a14: signer, one intermediate, the one in db
			return notLike("more than one intermediate certificate")
		case !issuer.BasicConstraintsValid || !issuer.IsCA || issuer.MaxPathLen > 0 || issuer.MaxPathLenZero || issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCertSign == 0:
			return notLike("the issuer's certificate %q is not one of an authority, or limits the length of a path", issuer.Subject)
		case issuer.CheckSignature(last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature) != nil:
			return notLike("the certificate %q names %q as its issuer, whose certificate has another key", last.Subject, issuer.Subject)
		case !s.SigningTime.IsZero() && (s.SigningTime.Before(issuer.NotBefore) || s.SigningTime.After(issuer.NotAfter)):
			return notLike("the signing time %s is outside of the validity of the issuer's certificate %q", dateTime(s.SigningTime), issuer.Subject)
		case inDB: // booted a13 a14 a24
			return ubootFinding{kind: findingValid, by: issuer, reason: fmt.Sprintf("db has the certificate %q, which leads to the signer %q", issuer.Subject, s.Signer.Subject)}
		}
		last = issuer
	}
}

// anchors are the certificates of db. The finding is what happens when U-Boot goes through them and cannot.
func (j *ubootJudge) anchors(s *signedpe.Signature) (db []*x509.Certificate, f *ubootFinding) {
	for _, l := range j.db {
		if l.Type != TypeX509 {
			continue
		}
		for _, e := range l.Signatures {
			c, err := x509.ParseCertificate(e.Data)
			if err != nil {
				return nil, new(notLike("db has a certificate that cannot be read: %v", err))
			}
			fault, fatal := j.fault(c)
			switch {
			case fatal && j.legacy && c.SignatureAlgorithm == x509.ECDSAWithSHA256: // booted a02 a13 with it in front: passed by
			case fatal && !j.legacy && c.SignatureAlgorithm != x509.SHA256WithRSA && !maybeIssuer(db, s):
				// Booted a02 a13 with ECDSA, on 2025.01 and 2026.10; with RSASSA-PSS: reported of them.
				return nil, &ubootFinding{kind: findingFatal, reason: fmt.Sprintf("U-Boot crashes and resets: the certificate %q in db: %s, and that of the signer %q is not in db itself",
					c.Subject, fault, s.Signer.Subject)}
			case fault != "":
				return nil, new(notLike("the certificate %q in db, while that of the signer %q is not in db itself: %s", c.Subject, s.Signer.Subject, fault))
			default:
				db = append(db, c)
			}
		}
	}
	return db, nil
}

// maybeIssuer reports whether U-Boot may have found what it looks for among the certificates so far.
func maybeIssuer(db []*x509.Certificate, s *signedpe.Signature) bool {
	for _, c := range db {
		for _, carried := range s.Message.Certificates {
			if bytes.Equal(c.RawSubject, carried.RawIssuer) {
				return true
			}
		}
	}
	return false
}

// issuerOf returns the one certificate with the name of an issuer; several, that there are more.
func issuerOf(c *x509.Certificate, carried, db []*x509.Certificate) (issuer *x509.Certificate, inDB, several bool) {
	for i, list := range [][]*x509.Certificate{carried, db} {
		for _, o := range list {
			if !bytes.Equal(o.RawSubject, c.RawIssuer) || o.Equal(c) {
				continue
			}
			if issuer != nil && !issuer.Equal(o) {
				return nil, false, true
			}
			issuer, inDB = o, inDB || i == 1
		}
	}
	return issuer, inDB, false
}
