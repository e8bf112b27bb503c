package secureboot

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/signedpe"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// What U-Boot's EFI loader does with an image, as its answers show it. Its source was not read for
// this file; "source" below comes from a description of that source. Images a00 to a24 (booted) and
// 00 to 24 (run: asked for a verdict) were given to 2025.01, to 2026.10-rc2 and to that with
// LEGACY_CRYPTO (testdata/uboot, testdata/firmware); then the images b to 2025.01, 2026.10-rc5 and
// 2023.01, all as Debian builds them, with many combinations of db and dbx
// (testdata/uboot/b-images.tar.gz, b-cases.txt). 2023.01 has no MbedTLS, and did with a00 to a24
// what legacy did: what it did with the images b stands for that row.
//
// The judge says yes to what is built like the images that ran, and no to what is like those that
// were refused or crashed it. Whatever is not like any of them cannot be told. Not covered, since
// Image does not have it: U-Boot refuses an image of another machine type before it looks at
// signatures.

// ubootRow is what differs between builds of U-Boot.
type ubootRow struct {
	name            Firmware
	legacy          bool // without MbedTLS
	shortListsCrash bool // lists of SHA-1 digests
}

func (r ubootRow) row() firmwareRow {
	return firmwareRow{r.name, func(l keyLists, im Image) Verdict {
		return (&ubootJudge{ubootRow: r, image: im, keyLists: l}).judge()
	}}
}

// ubootJudge judges one image.
type ubootJudge struct {
	ubootRow
	image Image
	keyLists
}

func (j *ubootJudge) judge() Verdict {
	if j.malformed != nil {
		return unknown(RuleNotModelled, "%v", j.malformed)
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
		return unknown(RuleNotModelled, "the image has gaps between its sections, or its sections are not in the order of their table: which bytes U-Boot hashes is unknown")
	}
	if len(j.image.table()) == 0 {
		return j.unsigned(sum)
	}
	return j.signed(sum)
}

// lists judges by the kinds of lists alone. nil: they are ones that were tried.
func (j *ubootJudge) lists() *Verdict {
	for _, l := range j.dbx {
		switch l.Type {
		case TypeX509:
			if err := unreadable(l); err != nil {
				r := unknown(RuleNotModelled, "dbx has a certificate that cannot be read: %v", err)
				return &r
			}
		case TypeSHA256, TypeX509SHA256, TypeX509SHA384, TypeX509SHA512:
		case TypeSHA1, TypeSHA224, TypeSHA384, TypeSHA512:
			// Booted with SHA-1 on 2025.01 (crash) and 2026.10 (refused), run with SHA-1 and
			// SHA-512 on 2026.10; the others and legacy: source.
			r := refuse(RuleDBXListType, "dbx has a list of type %s: U-Boot refuses every image then", TypeName(l.Type))
			if j.shortListsCrash {
				r = refuse(RuleDBXListType, "dbx has a list of type %s: this U-Boot crashes and resets at every image then", TypeName(l.Type))
			}
			return &r
		default:
			r := unknown(RuleNotModelled, "what U-Boot does with a list of type %s in dbx", TypeName(l.Type))
			return &r
		}
	}
	for _, l := range j.db {
		switch l.Type {
		case TypeX509:
			if err := unreadable(l); err != nil {
				// with dbp dbq 2025.01 and 2023.01 crashed at every image, 2026.10 at some
				r := unknown(RuleNotModelled, "db has a certificate that cannot be read: %v", err)
				return &r
			}
		case TypeSHA256:
		case TypeSHA384: // booted dbc: passed by
		case TypeSHA1: // booted dbi: 2026.10 passes it by, 2025.01 and 2023.01 crash at every image
			if j.shortListsCrash {
				r := refuse(RuleDBXListType, "db has a list of type %s: this U-Boot crashes and resets at every image then", TypeName(l.Type))
				return &r
			} else if j.legacy {
				r := unknown(RuleNotModelled, "what U-Boot does with a list of type %s in db", TypeName(l.Type))
				return &r
			}
		default:
			r := unknown(RuleNotModelled, "what U-Boot does with a list of type %s in db", TypeName(l.Type))
			return &r
		}
	}
	return nil
}

// unreadable is why a certificate of a list cannot be read, nil if all can.
func unreadable(l SignatureList) error {
	for _, e := range l.Signatures {
		if _, err := x509.ParseCertificate(e.Data); err != nil {
			return err
		}
	}
	return nil
}

// unsigned judges an image without signatures: a01 refused, a06 ran, both also with an ECDSA and an
// RSASSA-PSS certificate in db (booted).
func (j *ubootJudge) unsigned(sum []byte) Verdict {
	unaligned := j.image.Layout == LayoutUnaligned
	switch {
	case unaligned && hasDigests(j.db, crypto.SHA256):
		return unknown(RuleNotModelled, "a section has a SizeOfRawData that is not a multiple of FileAlignment: U-Boot computes a different digest of the image, and db has digests")
	case !unaligned && findDigest(j.dbx, crypto.SHA256, sum) != nil: // booted b plain with dx9
		return revoke(RuleDigestInDBX, "dbx has the digest of the image, SHA-256 %x", sum)
	case findDigest(j.db, crypto.SHA256, sum) == nil:
		return refuse(RuleUnsigned, "the image is not signed, and db does not have its digest, SHA-256 %x", sum)
	}
	return Verdict{Allowed: true, Rule: RuleDigestInDB, Reason: fmt.Sprintf("db has the digest of the image, SHA-256 %x", sum)}
}

// An ubootFinding is what one signature means to U-Boot.
type ubootFinding struct {
	kind   findingKind
	rule   Rule // RuleNotModelled if it is empty
	reason string
	by     *x509.Certificate // of db, if it is valid
}

type findingKind int

const (
	findingUnknown  findingKind = iota
	findingValid                // leads to db
	findingStranger             // does not, for whatever reason; others may
	findingRevoked              // refused, whatever the others are (a08, run 12 14)
	findingCrash                // at any place in the table (b ecgood goodec goodcrl)
)

// notLike is a signature that is not built like those that were tried.
func notLike(format string, args ...any) ubootFinding {
	return ubootFinding{kind: findingUnknown, reason: fmt.Sprintf(format, args...)}
}

func stranger(rule Rule, format string, args ...any) ubootFinding {
	return ubootFinding{kind: findingStranger, rule: rule, reason: fmt.Sprintf(format, args...)}
}

// signed judges all signatures of an image.
func (j *ubootJudge) signed(sum []byte) Verdict {
	messages, foreign, broken := j.messages()
	if broken != "" {
		return unknown(RuleNotModelled, "%s", broken)
	}
	found := map[findingKind][]ubootFinding{}
	var why []string
	for i, m := range messages {
		f := j.signature(m)
		found[f.kind] = append(found[f.kind], f)
		why = append(why, fmt.Sprintf("signature %d: %s", i, f.reason))
	}
	contiguous := j.image.Layout == LayoutContiguous // else U-Boot takes another digest
	switch {
	case len(found[findingRevoked]) > 0:
		f := found[findingRevoked][0]
		return revoke(f.rule, "%s", f.reason)
	case contiguous && findDigest(j.dbx, crypto.SHA256, sum) != nil:
		// booted a05, b g384 with dx9: whatever the digest algorithm of the signature is
		return revoke(RuleDigestInDBX, "dbx has the digest of the image, SHA-256 %x", sum)
	case foreign:
		// run 06 24, booted b gforeign: neither a good signature in front of it or behind it helps,
		// nor the digest in db
		return refuse(RuleCertificateType, "an entry of the certificate table has a type that U-Boot does not know: U-Boot refuses the image, whatever the other entries are")
	case len(found[findingUnknown]) > 0:
		f := found[findingUnknown][0]
		return unknown(cmp.Or(f.rule, RuleNotModelled), "%s", f.reason)
	case len(found[findingCrash]) > 0:
		f := found[findingCrash][0]
		return refuse(f.rule, "%s", f.reason)
	case len(found[findingValid]) > 0:
		// booted a03 a04, run 05, b chgood goodch invgood goodinv lategood goodlate: the others do
		// not matter
		f := found[findingValid][0]
		return Verdict{Allowed: true, Rule: RuleCertificateInDB, Reason: f.reason, Certificate: f.by}
	case !contiguous && hasDigests(j.db, crypto.SHA256):
		return unknown(RuleNotModelled, "%s; and db has digests, of which one may be that which U-Boot takes", strings.Join(why, "; "))
	case findDigest(j.db, crypto.SHA256, sum) != nil:
		// booted a07, with dbb all that is refused: U-Boot's last resort, by SHA-256 alone (dbc)
		return Verdict{Allowed: true, Rule: RuleDigestInDB, Reason: fmt.Sprintf("db has the digest of the image, SHA-256 %x", sum)}
	}
	return refuse(found[findingStranger][0].rule, "%s", strings.Join(why, "; "))
}

// messages splits the certificate table. foreign says that there is an entry of another type;
// broken why it cannot be told what U-Boot does.
func (j *ubootJudge) messages() (list [][]byte, foreign bool, broken string) {
	table := j.image.table()
	for pos := 0; pos < len(table); {
		left := table[pos:]
		var c winCertificateHeader
		if _, err := binary.Decode(left, binary.LittleEndian, &c); err != nil {
			return nil, false, fmt.Sprintf("the certificate table ends in the middle of an entry, at byte %d", pos)
		}
		size, head := int64(c.Length), int64(8)
		padded := (size + 7) &^ 7
		switch {
		case size <= head || padded > int64(len(left)):
			return nil, false, fmt.Sprintf("entry at byte %d of the certificate table: length %d, which the table of %d bytes does not have room for", pos, size, len(table))
		case c.Revision != certRevision && c.Revision != 0x0100: // booted b rev1
			return nil, false, fmt.Sprintf("entry at byte %d of the certificate table: revision 0x%04x", pos, c.Revision)
		case len(list) == maxSignatures:
			return nil, false, fmt.Sprintf("more than %d signatures", maxSignatures)
		case c.Type == certTypeEFIGUID: // booted b guid
			if head = 24; size <= head || efi.GUID(left[8:]) != guidPKCS7 {
				return nil, false, fmt.Sprintf("entry at byte %d of the certificate table: type 0x%04x with another GUID than that of PKCS #7", pos, c.Type)
			}
		case c.Type != certTypePKCS7:
			return list, true, ""
		}
		list = append(list, left[head:size])
		pos += int(padded)
	}
	return list, false, ""
}

// signature judges one message.
func (j *ubootJudge) signature(message []byte) ubootFinding {
	s, err := signedpe.ReadSignature(message, 0)
	if e, ok := errors.AsType[*osmith.FormatError](err); ok {
		return notLike("a signature that is not built as usual: %s: %v", e.Field, e.Err)
	} else if err != nil {
		return notLike("a signature that is not built as usual: %v", err)
	}
	signer := &s.Message.Signers[0]
	switch {
	case signer.Serial == nil: // run 15
		return j.fatal("the signer is named by its key identifier")
	case len(s.Message.Digests) != 1 && j.legacy: // run 04, which it ran
		return notLike("a message with %d digest algorithms", len(s.Message.Digests))
	case len(s.Message.Digests) != 1: // run 04
		return j.fatal("the message has %d digest algorithms", len(s.Message.Digests))
	case s.KeyPurpose:
		// booted Debian 11's GRUB for arm64: refused with MbedTLS, ran without, once each
		return notLike("the signature is of the kind that pesign before version 114 made")
	case j.legacy && s.Message.Bare: // run 02
		return j.fatal("the SignedData is not in a ContentInfo")
	case j.legacy && len(message) > 0xffff: // run 03
		return j.fatal("the message has more than 65,535 bytes")
	}
	parse := edk2.Parse
	if s.Message.Bare {
		parse = edk2.ParseSignedData
	}
	m, err := parse(message[:len(s.Message.Raw)])
	if s.Message.Revocations == nil && signer.Unsigned == nil && err != nil {
		return notLike("a signature that is not built as usual: %v", err)
	}
	if s.Signer != nil && err == nil {
		if f := j.revoked(&s, m); f != nil {
			return *f
		}
	}
	switch {
	case len(s.Message.Raw) != len(message) && !j.legacy:
		// booted b padc pad16 ossl; legacy ran them
		return j.fatal("%d bytes of padding are counted as a part of the signature", len(message)-len(s.Message.Raw))
	case s.Message.Revocations != nil: // booted b crl, run 19
		return j.fatal("the message has revocation lists")
	case signer.Unsigned != nil:
		// booted b unsat, and Debian's shim 16.1 for arm64, whose signatures have time stamps; run
		// 20
		return j.fatal("the signature has unsigned attributes, such as a time stamp")
	}
	for _, c := range s.Message.Certificates { // run 09, b eccar: not only the signer's
		fault, fatal := j.fault(c)
		if fatal {
			return j.fatal("the certificate %q: %s", c.Subject, fault)
		}
		if fault != "" {
			return notLike("the certificate %q, which the signature carries: %s", c.Subject, fault)
		}
	}
	switch {
	case s.Signer == nil: // run 05
		return stranger(RuleSignatureMalformed, "the signature does not contain its signer's certificate")
	case s.Hash == 0 || signer.Hash != s.Hash || !signer.DigestOID.Equal(s.Message.Digests[0]):
		return notLike("a digest algorithm other than SHA-256, SHA-384 and SHA-512, or two of them")
	case j.legacy && signer.SignatureOID.Equal(oidSHA256WithRSA): // booted b oid256
		return j.fatal("the signature algorithm of the signer is not rsaEncryption")
	case !signer.SignatureOID.Equal(oidRSAEncryption) && !signer.SignatureOID.Equal(oidSHA256WithRSA):
		return notLike("the signature algorithm %v", signer.SignatureOID)
	case len(signer.Attributes) == 0:
		return notLike("a signature without signed attributes")
	}
	timed := false
	for _, a := range signer.Attributes {
		switch {
		case a.Type.Equal(cms.OIDContentType), a.Type.Equal(cms.OIDMessageDigest), slices.ContainsFunc(oidsPassedBy, a.Type.Equal):
		case a.Type.Equal(cms.OIDSigningTime) && !timed && !s.SigningTime.IsZero():
			timed = true
		default:
			return notLike("a signed attribute %v, or one that cannot be read", a.Type)
		}
	}
	if s.Err != nil { // booted b invalid
		return stranger(RuleChain, "not valid: %v", s.Err)
	}
	if timed && j.outside(s.SigningTime, s.Signer) {
		// booted a12 a20; a11 (no time) and a19 (expired since, inside) ran; b has 60 more
		what := "outside of"
		if !signedpe.OutsideValidity(s.SigningTime, s.Signer.NotBefore, s.Signer.NotAfter) {
			what = "for this U-Boot, which is wrong by days at the end of a month, outside of"
		}
		return stranger(RuleSigningTime, "the signing time %s is %s the validity of the signer's certificate %q, %s to %s: U-Boot refuses that",
			dateTime(s.SigningTime), what, s.Signer.Subject, dateTime(s.Signer.NotBefore), dateTime(s.Signer.NotAfter))
	}
	f := j.path(&s)
	if f.kind == findingCrash { // booted b changed with dba: the digest is looked at later
		return f
	}
	return *cmp.Or(j.digest(&s, m), &f)
}

func (j *ubootJudge) outside(at time.Time, c *x509.Certificate) bool {
	if j.legacy {
		return signedpe.OutsideValidity(at, c.NotBefore, c.NotAfter)
	}
	return signedpe.OutsideValidityToMbedTLS(at, c.NotBefore, c.NotAfter)
}

func dateTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var (
	// The signature algorithm of a signer that osmith, OpenSSL and others write for PKCS #1 v1.5,
	// and the other that there is (RFC 3370, section 3.2).
	oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256WithRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}

	// Signed attributes that do not matter: S/MIME capabilities (booted b sbsign), SpcSpOpusInfo (b
	// opus), SpcStatementType (b ossl, which legacy ran; MbedTLS crashes at its padding).
	oidsPassedBy = []asn1.ObjectIdentifier{{1, 2, 840, 113549, 1, 9, 15}, {1, 3, 6, 1, 4, 1, 311, 2, 1, 12}, {1, 3, 6, 1, 4, 1, 311, 2, 1, 11}}
)

// fatal is a message that U-Boot cannot parse. MbedTLS: it crashes, since an error code of the
// parser is taken for a pointer (source). Without it: the signature counts for nothing (b goodcrl
// ecgood, and pss with dbb).
func (j *ubootJudge) fatal(format string, args ...any) ubootFinding {
	if j.legacy {
		return stranger(RuleParserFails, "this U-Boot cannot parse it: %s", fmt.Sprintf(format, args...))
	}
	return ubootFinding{kind: findingCrash, rule: RuleParserFails, reason: "U-Boot crashes and resets: " + fmt.Sprintf(format, args...)}
}

// digest checks the digest that was signed against that of the image. nil: it is the same.
func (j *ubootJudge) digest(s *signedpe.Signature, m *edk2.Message) *ubootFinding {
	own := j.image.Digests[s.Hash]
	same := string(s.Digest) == string(own)
	switch {
	case len(own) == 0:
		return &ubootFinding{rule: RuleDigestNotGiven, reason: fmt.Sprintf("the %v digest of the image was not given", s.Hash)}
	case j.image.Layout == LayoutUnaligned && same: // booted a21 a22; source
		return new(stranger(RuleSectionSize, "a section has a SizeOfRawData that is not a multiple of FileAlignment: U-Boot hashes it rounded up, and so computes a different digest from the signer's"))
	case j.image.Layout == LayoutUnaligned:
		return new(notLike("a section has a SizeOfRawData that is not a multiple of FileAlignment, and the signed digest is not that of these bytes"))
	case !same: // booted b changed
		return new(stranger(RuleImageChanged, "the image was changed after it was signed"))
	case j.legacy && !m.About(own): // run 17 18, which MbedTLS ran
		return new(stranger(RuleImageChanged, "the digest of the image is not the last thing that is signed"))
	}
	return nil
}

// revoked checks the certificates of a message against dbx. nil: dbx is about others.
func (j *ubootJudge) revoked(s *signedpe.Signature, m *edk2.Message) *ubootFinding {
	signer, err := edk2.ParseCertificate(s.Signer.Raw)
	if err != nil {
		return new(notLike("the signer's certificate %q: %v", s.Signer.Subject, err))
	}
	for _, l := range j.dbx {
		if l.Type != TypeX509 {
			continue
		}
		for _, e := range l.Signatures {
			c, err := x509.ParseCertificate(e.Data)
			if err != nil {
				return new(notLike("dbx has a certificate that cannot be read: %v", err))
			}
			switch fault, fatal := j.fault(c); {
			case fatal && j.legacy: // with dxa it runs what it runs without
			case fatal: // booted with dxa
				return new(j.fatal("the certificate %q in dbx: %s", c.Subject, fault))
			case fault != "":
				return new(notLike("the certificate %q in dbx: %s", c.Subject, fault))
			}
			to, err := edk2.ParseCertificate(e.Data)
			if err != nil {
				return new(notLike("dbx has a certificate that cannot be read: %v", err))
			}
			// Booted a08, dx7 (signer, issuer), dx6 (intermediate). One that is carried and leads
			// nowhere does not matter (run 03), nor does one of the same name (dxb).
			found, err := edk2.Leads(signer, m.Certificates, to)
			if selfIssued(s.Signer) {
				found = c.Equal(s.Signer)
			}
			switch {
			case found && c.Equal(s.Signer):
				return &ubootFinding{kind: findingRevoked, rule: RuleCertificateInDBX, reason: fmt.Sprintf("dbx has the certificate %q", c.Subject)}
			case found:
				return &ubootFinding{kind: findingRevoked, rule: RuleCertificateInDBX, reason: fmt.Sprintf("dbx has the certificate %q, which leads to the signer %q", c.Subject, s.Signer.Subject)}
			case err != nil:
				return new(notLike("the certificate %q in dbx: %v", c.Subject, err))
			}
		}
	}
	if tbsRevoked(j.dbx, s.Signer.RawTBSCertificate) {
		// booted b good with dx4 dx5 dxc: the time in it does not matter
		return &ubootFinding{kind: findingRevoked, rule: RuleCertificateDigestInDBX, reason: fmt.Sprintf("dbx has the digest of the certificate %q", s.Signer.Subject)}
	}
	for _, c := range s.Message.Certificates {
		if tbsRevoked(j.dbx, c.RawTBSCertificate) {
			// with dx8 U-Boot ran images with such an intermediate certificate
			return new(notLike("dbx has the digest of the certificate %q, which the signature carries, and which U-Boot may overlook", c.Subject))
		}
	}
	return nil
}
