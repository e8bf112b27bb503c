package cms

import (
	"bytes"
	"crypto/x509"

	"github.com/osmith-dev/osmith/internal/keycheck"
)

// Bounds on the search for a chain: OpenSSL's default depth is 100, real chains have at most four
// certificates.
const (
	maxDepth  = 16
	maxChecks = 256 // signatures tried per search
)

// Chain looks for a path of signatures from leaf to one of trusted, as firmware does (edk2
// Pkcs7Verify: OpenSSL with X509_V_FLAG_PARTIAL_CHAIN, X509_V_FLAG_NO_CHECK_TIME and purpose
// "any"): the leaf is itself trusted, or is issued by a trusted certificate, directly or through
// intermediates. Every issuer must be allowed to issue; dates, names of hosts, key usage of the
// leaf and revocation are not looked at. The path starts with leaf and ends with the trusted
// certificate; nil means that there is none.
func Chain(leaf *x509.Certificate, intermediates, trusted []*x509.Certificate) []*x509.Certificate {
	s := search{intermediates: intermediates, trusted: trusted}
	return s.from([]*x509.Certificate{leaf})
}

type search struct {
	intermediates, trusted []*x509.Certificate
	checks                 int
}

func (s *search) from(path []*x509.Certificate) []*x509.Certificate {
	last := path[len(path)-1]
	for _, t := range s.trusted {
		if bytes.Equal(t.Raw, last.Raw) {
			return path
		}
	}
	for _, t := range s.trusted {
		if s.issued(t, last, len(path)-1) {
			return append(path, t)
		}
	}
	if len(path) >= maxDepth {
		return nil
	}
	for _, c := range s.intermediates {
		if contains(path, c) || !s.issued(c, last, len(path)-1) {
			continue
		}
		if found := s.from(append(path[:len(path):len(path)], c)); found != nil {
			return found
		}
	}
	return nil
}

func contains(path []*x509.Certificate, c *x509.Certificate) bool {
	for _, p := range path {
		if bytes.Equal(p.Raw, c.Raw) {
			return true
		}
	}
	return false
}

// issued reports whether issuer signed cert and may do so with so many authorities below it.
func (s *search) issued(issuer, cert *x509.Certificate, below int) bool {
	if !bytes.Equal(issuer.RawSubject, cert.RawIssuer) || !mayIssue(issuer, below) {
		return false
	}
	if s.checks++; s.checks > maxChecks {
		return false
	}
	return keycheck.Public(issuer.PublicKey) == nil && issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// mayIssue follows OpenSSL's check_ca: basic constraints decide; without them a certificate of
// version 1 that signs itself, or one whose key usage says so, is an authority.
func mayIssue(c *x509.Certificate, below int) bool {
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return false
	}
	if c.BasicConstraintsValid {
		limited := c.MaxPathLen > 0 || c.MaxPathLenZero
		return c.IsCA && (!limited || below <= c.MaxPathLen)
	}
	selfSigned := bytes.Equal(c.RawSubject, c.RawIssuer)
	return (c.Version == 1 && selfSigned) || c.KeyUsage&x509.KeyUsageCertSign != 0
}
