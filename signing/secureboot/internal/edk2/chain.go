package edk2

import (
	"bytes"
	"fmt"
)

// Options are what differs between builds of edk2. The zero value is the newest.
type Options struct {
	// NoEC says that the build has no elliptic curves: signatures by such keys are never valid.
	NoEC bool

	// OnlySHA256 and NoContentInfo say that updates of variables are taken with SHA-256 alone, and
	// as a bare SignedData alone.
	OnlySHA256, NoContentInfo bool

	// NoEmptyCertificates says that a list of certificates without bytes is refused.
	NoEmptyCertificates bool

	// LooseAppend says that an append overlooks malformed lists.
	LooseAppend bool

	// OpenSSL11 says that it has OpenSSL 1.1.1, not 3: that takes short times and an empty
	// keyUsage, but no path length of a certificate that is no authority, and no critical
	// id-pkix-ocsp-nocheck.
	OpenSSL11 bool
}

// timeLength refuses times that are too short (OpenSSL 3, asn1_ex_c2i).
func (o Options) timeLength(e element) error {
	want := map[byte]int{tagUTCTime: 13, tagGeneralizedTime: 15}[e.tag]
	if !o.OpenSSL11 && len(e.body) < want {
		return strict("a time of %d characters, want at least %d", len(e.body), want)
	}
	return nil
}

// maxDepth is OpenSSL's default of intermediate certificates.
const maxDepth = 100

// issued is X509_check_issued: by names, key identifiers and key usage, not by the signature. A
// certificate that is invalid issues nothing, and is issued by none (ossl_x509_likely_issued), but
// in db itself it is found all the same, and not asked further what it is good for. Lenovo has such
// a platform key, with two keyUsage.
func issued(c, issuer *Certificate) bool {
	switch {
	case c.invalid != "" || issuer.invalid != "":
		return false
	case !bytes.Equal(c.issuer, issuer.subject):
		return false
	case c.authorityKeyID != nil && issuer.keyID != nil && !bytes.Equal(c.authorityKeyID, issuer.keyID):
		return false
	case c.authoritySerial != nil && !sameInteger(c.authoritySerial, issuer.Serial):
		return false
	case len(c.authorityNames) > 0 && !bytes.Equal(c.authorityNames[0], issuer.issuer):
		return false
	case issuer.usage && !issuer.certSign:
		return false
	}
	return true
}

// selfSigned is X509_self_signed without a look at the signature.
func (c *Certificate) selfSigned() bool { return c.selfIssued && issued(c, c) }

// chain is X509_verify_cert with one trusted certificate: it builds the path that OpenSSL builds,
// the first issuer that fits each time, trusted before others, and checks it. An error that is no
// [UnknownError] means that firmware refuses.
func chain(leaf *Certificate, others []*Certificate, anchor *Certificate, o Options) ([]*Certificate, error) {
	path := []*Certificate{leaf}
	trusted := false
	for len(path) <= maxDepth {
		last := path[len(path)-1]
		self := last.selfSigned()
		if issued(last, anchor) {
			if !self {
				path, trusted = append(path, anchor), true
				break
			}
			if bytes.Equal(last.Raw, anchor.Raw) {
				trusted = true
				break
			}
		}
		if self {
			break
		}
		var found *Certificate
		for _, c := range others {
			if issued(last, c) && !contains(path, c) {
				found = c
				break
			}
		}
		if found == nil {
			break
		}
		path = append(path, found)
	}
	if len(path) > maxDepth {
		return nil, unknown("a chain of more than %d certificates", maxDepth)
	}
	// The last resort is a direct match of the leaf. What was put behind it stays in the path, and
	// is checked.
	if !trusted && !bytes.Equal(leaf.Raw, anchor.Raw) {
		for _, c := range append([]*Certificate{leaf, anchor}, others...) {
			if c.invalid != "" {
				return nil, fmt.Errorf("no path leads from the signer %q to the certificate %q, where %q is malformed: %s", leaf.Subject(), anchor.Subject(), c.Subject(), c.invalid)
			}
		}
		return nil, fmt.Errorf("no path leads from the signer %q to the certificate %q", leaf.Subject(), anchor.Subject())
	}
	return path, checkPath(path, o)
}

func contains(path []*Certificate, c *Certificate) bool {
	for _, p := range path {
		if bytes.Equal(p.Raw, c.Raw) {
			return true
		}
	}
	return false
}

// checkPath checks extensions, path lengths and signatures.
func checkPath(path []*Certificate, o Options) error {
	var open error // what the model does not know; a definite refusal comes first
	length := 0
	for i, c := range path {
		name := fmt.Sprintf("%s certificate %q", [...]string{"the signer's", "an issuer's"}[min(i, 1)], c.Subject())
		switch {
		case c.critical != "":
			return fmt.Errorf("%s has the critical extension %s, which OpenSSL does not handle: issue it again without the extension", name, c.critical)
		case c.proxy:
			return fmt.Errorf("%s is a proxy certificate (RFC 3820), which OpenSSL refuses", name)
		}
		if i == 0 {
			continue
		}
		switch ca := c.mayIssue(); {
		case ca == 0:
			return fmt.Errorf("%s is not a CA certificate: its basicConstraints or keyUsage do not let it issue others", name)
		case ca > 1 && i+1 < len(path):
			return fmt.Errorf("%s has no basicConstraints, and is not the last of the chain", name)
		}
		if c.pathLength >= 0 && length > c.pathLength {
			return fmt.Errorf("%s may have %d authorities below it, and has %d", name, c.pathLength, length)
		}
		if !c.selfIssued {
			length++
		}
	}
	if err := checkNameConstraints(path); IsUnknown(err) {
		open = err
	} else if err != nil {
		return err
	}
	for i, c := range path {
		if o.NoEC && (c.key.kind == keyEC || c.key.curve) {
			return fmt.Errorf("the certificate %q has a key on an elliptic curve, and this firmware has none: use an RSA key", c.Subject())
		}
		if i+1 == len(path) {
			break
		}
		if err := c.signedBy(path[i+1], o); IsUnknown(err) {
			open = err
		} else if err != nil {
			return fmt.Errorf("the certificate %q is not signed by %q: %w", c.Subject(), path[i+1].Subject(), err)
		}
	}
	return open
}

// checkNameConstraints checks each certificate against the constraints of those above. Self-issued
// ones are left out, but for the signer's.
func checkNameConstraints(path []*Certificate) (open error) {
	for i, c := range path {
		if i > 0 && c.selfIssued {
			continue
		}
		for _, above := range path[i+1:] {
			if above.constrained == nil {
				continue
			}
			if err := above.constrained.checkNames(c, i == 0); IsUnknown(err) {
				open = err
			} else if err != nil {
				return err
			}
		}
	}
	return open
}

// maxSearch bounds the signatures that Leads checks.
const maxSearch = 64

// Leads reports whether some path of signatures leads from leaf to another certificate, whichever
// way firmware would go: by names and signatures alone. The error is an [UnknownError] if that
// cannot be told.
func Leads(leaf *Certificate, others []*Certificate, to *Certificate) (bool, error) {
	checks := 0
	seen := map[string]bool{}
	var open error
	var from func(c *Certificate) bool
	signed := func(c, issuer *Certificate) bool {
		if !bytes.Equal(c.issuer, issuer.subject) {
			return false
		}
		if checks++; checks > maxSearch {
			open = unknown("more than %d signatures would have to be checked", maxSearch)
			return false
		}
		err := c.signedBy(issuer, Options{})
		if IsUnknown(err) {
			open = err
		}
		return err == nil
	}
	from = func(c *Certificate) bool {
		if bytes.Equal(c.Raw, to.Raw) || signed(c, to) {
			return true
		}
		seen[string(c.Raw)] = true
		for _, next := range others {
			if !seen[string(next.Raw)] && signed(c, next) && from(next) {
				return true
			}
		}
		return false
	}
	if from(leaf) {
		return true, nil
	}
	return false, open
}
