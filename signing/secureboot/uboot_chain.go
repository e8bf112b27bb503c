package secureboot

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/internal/signedpe"
)

// fault says what of a certificate differs from those of the images that were tried, "" if nothing
// does; fatal, that U-Boot is known not to be able to parse it.
func (j *ubootJudge) fault(c *x509.Certificate) (text string, fatal bool) {
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA: // booted b c384 c512
	case x509.ECDSAWithSHA256: // booted a23, run 16, b eccar
		return "it has an ECDSA signature", true
	case x509.SHA256WithRSAPSS: // run 23, b pss
		return "it has an RSASSA-PSS signature", true
	default:
		return fmt.Sprintf("its signature algorithm is %v", c.SignatureAlgorithm), false
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok:
		return fmt.Sprintf("its key is %v", c.PublicKeyAlgorithm), false
	case key.N.BitLen() == 1024 && !j.legacy: // booted b small, which legacy refused
	case key.N.BitLen() != 2048 && key.N.BitLen() != 3072 && key.N.BitLen() != 4096:
		// booted a00 a17 a18
		return fmt.Sprintf("its key has %d bits", key.N.BitLen()), false
	}
	switch {
	case key.E != 65537:
		return fmt.Sprintf("its key has the exponent %d", key.E), false
	case c.Version != 3:
		return fmt.Sprintf("it is of version %d", c.Version), false
	}
	for _, e := range c.Extensions {
		known := len(e.Id) == 4 && e.Id[0] == 2 && e.Id[1] == 5 && e.Id[2] == 29
		switch {
		case known && slices.Contains([]int{15, 19, 37}, e.Id[3]):
			// keyUsage, basicConstraints, extKeyUsage (b ekucr: critical)
		case known && !e.Critical && slices.Contains([]int{14, 17, 31, 32, 35}, e.Id[3]):
			// key identifiers (run 22: another's too); b san pol
		case e.Critical && !known: // booted a16, run 09 10: MbedTLS crashed, legacy ran them
			if !j.legacy {
				return fmt.Sprintf("it has the critical extension %v", e.Id), true
			}
		case !known: // booted b ext pol, run 03
		default: // run 11, name constraints: MbedTLS crashed, legacy ran it
			return fmt.Sprintf("it has the extension %v", e.Id), false
		}
	}
	return "", false
}

// path looks for the way from the signer's certificate to db.
func (j *ubootJudge) path(s *signedpe.Signature) ubootFinding {
	db, f := j.anchors(s)
	if f != nil {
		return *f
	}
	last := s.Signer
	for depth := 1; ; depth++ {
		var issuer *x509.Certificate
		var inDB bool
		if !selfIssued(last) {
			// booted b twin with db6 db7 db8, goodtwin: such a certificate leads nowhere, also if
			// another of its name and key is in db
			issuer, inDB, f = issuerOf(last, s.Message.Certificates, db)
		}
		switch {
		case f != nil:
			return *f
		case issuer == nil && keyIn(db, last): // booted b notca with dbt
			return notLike("the certificate %q was signed by the key of a certificate in db whose name differs from its issuer", last.Subject)
		case issuer == nil: // booted a02 a15, b twin, run 01
			return stranger(RuleNoPathToDB, "signed by %q, issued by %q: no certificate in db is on that chain", s.Signer.Subject, s.Signer.Issuer)
		case depth > 3: // booted a14, b chain3: signer, two intermediates, the one in db
			return notLike("more than two intermediate certificates")
		case issuer.BasicConstraintsValid && !issuer.IsCA:
			// booted b notca: refused, and with dbs, where that is in db itself, ran
			return notLike("the certificate %q, which issued that of %q, is not a CA certificate", issuer.Subject, last.Subject)
		case !issuer.BasicConstraintsValid || (issuer.MaxPathLen > 0 || issuer.MaxPathLenZero) && issuer.MaxPathLen < depth-1:
			// booted b plim: within its limit
			return notLike("the issuer's certificate %q has no basic constraints, or limits the length of a path to less", issuer.Subject)
		case inDB && tbsRevoked(j.dbx, issuer.RawTBSCertificate): // booted b leaf with dx4 dx5 dxc
			return ubootFinding{kind: findingRevoked, rule: RuleCertificateDigestInDBX, reason: fmt.Sprintf("dbx has the digest of the certificate %q", issuer.Subject)}
		case inDB:
			// booted a13 a14 a24; b i1 to ia and more: whether the issuer's certificate is valid at
			// the signing time does not matter
			return ubootFinding{kind: findingValid, by: issuer, reason: fmt.Sprintf("db has the certificate %q, which leads to the signer %q", issuer.Subject, s.Signer.Subject)}
		}
		last = issuer
	}
}

// keyIn reports whether a certificate of db has the key that signed c, by whatever name.
func keyIn(db []*x509.Certificate, c *x509.Certificate) bool {
	return !selfIssued(c) && slices.ContainsFunc(db, func(o *x509.Certificate) bool {
		return o.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	})
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// anchors are the certificates of db. The finding is the end of the matter: the signer's own is
// found, or U-Boot cannot go on. It goes from the last list to the first, parses each certificate
// that it meets, and looks for the signer's own first, in all of them (a00 with a-dbec runs, b good
// with dba crashes).
func (j *ubootJudge) anchors(s *signedpe.Signature) (db []*x509.Certificate, f *ubootFinding) {
	for _, l := range slices.Backward(j.db) {
		if l.Type != TypeX509 {
			continue
		}
		own, odd := false, (*ubootFinding)(nil)
		for _, e := range l.Signatures {
			c, err := x509.ParseCertificate(e.Data)
			if err != nil {
				odd = new(notLike("db has a certificate that cannot be read: %v", err))
				continue
			}
			switch fault, fatal := j.fault(c); {
			case fatal && j.legacy: // booted a02 a13 with a-dbec, b with dba dbf dbg: passed by
			case fatal:
				odd = new(j.fatal("the certificate %q in db, which U-Boot comes to before that of the signer %q: %s", c.Subject, s.Signer.Subject, fault))
			case fault != "":
				odd = new(notLike("the certificate %q in db, which U-Boot comes to before that of the signer %q: %s", c.Subject, s.Signer.Subject, fault))
			default:
				db, own = append(db, c), own || c.Equal(s.Signer)
			}
		}
		switch {
		case odd != nil && own: // which one in a list of several comes first was not tried
			return nil, new(notLike("%s", odd.reason))
		case odd != nil:
			return nil, odd
		case own: // booted a00 a17 a18, b leaf with db9
			return nil, &ubootFinding{kind: findingValid, by: s.Signer, reason: fmt.Sprintf("db has the certificate %q", s.Signer.Subject)}
		}
	}
	return db, nil
}

// issuerOf returns the certificate that issued c, nil if there is none: one of that name with
// another key counts for nothing (b twin, leaf with db8 and, with both, db6 db7).
func issuerOf(c *x509.Certificate, carried, db []*x509.Certificate) (issuer *x509.Certificate, inDB bool, f *ubootFinding) {
	named := 0
	for i, list := range [][]*x509.Certificate{carried, db} {
		for _, o := range list {
			if !bytes.Equal(o.RawSubject, c.RawIssuer) || o.Equal(c) {
				continue
			}
			if i == 0 {
				named++
			}
			if o.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
				continue
			}
			if issuer != nil && !issuer.Equal(o) {
				return nil, false, new(notLike("several certificates %q may have issued that of %q", o.Subject, c.Subject))
			}
			issuer, inDB = o, inDB || i == 1
		}
	}
	if named > 1 { // run 21: refused, the wrong one was the first
		return nil, false, new(notLike("the signature carries several certificates of the name %q, which issued that of %q", c.Issuer, c.Subject))
	}
	return issuer, inDB, nil
}
