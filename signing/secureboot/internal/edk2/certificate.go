package edk2

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
)

// A Certificate is what of an X.509 certificate matters to a chain (RFC 5280, section 4.1).
type Certificate struct {
	Raw    []byte // DER, without what may follow it
	RawTBS []byte // the part that is signed

	RawSubject, RawIssuer []byte // DER
	Serial                []byte // content of the INTEGER; may be negative

	subject, issuer                   []byte // in the form in which OpenSSL compares names
	key                               publicKey
	innerAlgorithm                    []byte // AlgorithmIdentifier, DER
	outerAlgorithm                    []byte
	signatureOID, signatureParameters []byte
	signature                         []byte
	unusedBits                        byte // of the signature
	v1                                bool
	selfIssued                        bool
	extensions
}

// extensions are those that a chain looks at.
type extensions struct {
	constraints, ca bool // basicConstraints are there; and its cA
	pathLength      int  // -1: none
	usage           bool // keyUsage is there
	certSign        bool // and its keyCertSign
	keyID           []byte
	authorityKeyID  []byte
	authoritySerial []byte   // content of the INTEGER
	authorityNames  [][]byte // directory names, as compared
	alternative     [][]byte // of subjectAltName: GeneralNames, DER
	constrained     *nameConstraints
	critical        string // a critical extension that is not handled
	proxy           bool
	netscapeCA      bool
	moduleSigning   bool   // extendedKeyUsage has the purpose of signing kernel modules
	invalid         string // why OpenSSL calls the certificate invalid
}

// maxExtensions bounds what is looked at.
const maxExtensions = 256

// ParseCertificate reads a certificate as the newest build does.
func ParseCertificate(der []byte) (*Certificate, error) { return Options{}.ParseCertificate(der) }

// ParseCertificate reads a certificate as d2i_X509 does: what follows it is not looked at.
func (o Options) ParseCertificate(der []byte) (*Certificate, error) {
	r := &reader{b: der}
	outer := r.take(tagSequence, "certificate")
	c := &Certificate{Raw: outer.full, extensions: extensions{pathLength: -1}}
	in := &reader{b: outer.body, err: r.err}
	tbs := in.take(tagSequence, "TBSCertificate")
	c.RawTBS = tbs.full
	if in.is(tagSequence) {
		e, _, err := next(in.b)
		if err != nil {
			return nil, err
		}
		c.outerAlgorithm = e.full
	}
	c.signatureOID, c.signatureParameters = in.algorithm("signature algorithm", o)
	bits := in.take(tagBits, "signature")
	in.end("certificate")
	if in.err != nil {
		return nil, in.err
	}
	if len(bits.body) == 0 || bits.body[0] > 7 {
		return nil, errors.New("signature: want a BIT STRING with at most 7 unused bits")
	}
	c.signature, c.unusedBits = bits.body[1:], bits.body[0]
	return c, c.parseTBS(tbs.body, o)
}

func (c *Certificate) parseTBS(b []byte, o Options) error {
	r := &reader{b: b}
	c.v1 = true
	if r.is(tagContext0) {
		in := &reader{b: r.any("version").body}
		v := in.integer("version")
		if in.err != nil {
			return in.err
		}
		c.v1 = bytes.Equal(v, []byte{0})
	}
	c.Serial = r.integer("serial number")
	if r.is(tagSequence) {
		e, _, err := next(r.b)
		if err != nil {
			return err
		}
		c.innerAlgorithm = e.full
	}
	r.algorithm("signature algorithm", o)
	c.RawIssuer = r.take(tagSequence, "issuer").full
	validity := r.take(tagSequence, "validity")
	c.RawSubject = r.take(tagSequence, "subject").full
	spki := r.take(tagSequence, "public key")
	if r.err != nil {
		return r.err
	}
	times := &reader{b: validity.body}
	for range 2 {
		if e := times.any("validity"); times.err == nil {
			if e.tag != tagUTCTime && e.tag != tagGeneralizedTime {
				return fmt.Errorf("validity: tag 0x%02x, want a UTCTime (0x17) or GeneralizedTime (0x18)", e.tag)
			}
			if err := o.timeLength(e); err != nil {
				return fmt.Errorf("validity: %w", err)
			}
		}
	}
	times.end("validity")
	if times.err != nil {
		return times.err
	}
	var err error
	if c.issuer, err = canonicalName(c.RawIssuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if c.subject, err = canonicalName(c.RawSubject); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	c.selfIssued = bytes.Equal(c.issuer, c.subject)
	if c.key, err = o.parseKey(spki.full); err != nil {
		return err
	}
	for _, tag := range []byte{tagPrimitive | 1, tagPrimitive | 2} { // unique identifiers
		if r.is(tag) {
			r.any("unique identifier")
		}
	}
	if r.is(tagContext3) {
		list := &reader{b: r.any("extensions").body}
		all := list.take(tagSequence, "extensions")
		list.end("extensions")
		if list.err != nil {
			return list.err
		}
		if err := c.parseExtensions(all.body, o); err != nil {
			return err
		}
	}
	r.end("TBSCertificate")
	return r.err
}

// Object identifiers of extensions, without the arc 2.5.29 (55 1d).
const (
	extSubjectKeyID      = 14
	extKeyUsage          = 15
	extSubjectAltName    = 17
	extBasicConstraints  = 19
	extNameConstraints   = 30
	extCRLPoints         = 31
	extPolicies          = 32
	extPolicyMappings    = 33
	extAuthorityKeyID    = 35
	extPolicyConstraints = 36
	extExtendedKeyUsage  = 37
	extInhibitAnyPolicy  = 54
)

// handled are the critical extensions that OpenSSL handles (X509_supported_extension), apart from
// those of arc 2.5.29.
var (
	oidProxy          = []byte{0x2b, 6, 1, 5, 5, 7, 1, 14}
	oidModuleSigning  = []byte{0x2b, 6, 1, 4, 1, 0x92, 8, 16, 1, 2}
	oidOCSPNoCheck    = []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 5} // since OpenSSL 3
	oidNetscapeType   = []byte{0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1}
	handledExtensions = map[byte]bool{
		extKeyUsage: true, extSubjectAltName: true, extBasicConstraints: true, extNameConstraints: true, extCRLPoints: true, extPolicies: true,
		extPolicyMappings: true, extPolicyConstraints: true, extExtendedKeyUsage: true, extInhibitAnyPolicy: true,
	}
)

// cachedExtensions are those of arc 2.5.29 that are decoded before a chain is judged
// (x509v3_cache_extensions): one that is malformed or there twice makes the certificate invalid.
// Others are not decoded.
var cachedExtensions = map[byte]bool{
	extBasicConstraints: true, extKeyUsage: true, extExtendedKeyUsage: true, extSubjectKeyID: true, extAuthorityKeyID: true, extSubjectAltName: true,
	extNameConstraints: true, extCRLPoints: true,
}

// extension takes one Extension.
func (r *reader) extension() (id []byte, critical bool, value []byte, err error) {
	in := &reader{b: r.take(tagSequence, "extension").body, err: r.err}
	id = in.oid("extension").body
	if in.is(tagBoolean) {
		critical = in.boolean("extension")
	}
	value = in.take(tagOctets, "extension").body
	in.end("extension")
	return id, critical, value, in.err
}

// checkExtensions checks the form of extensions whose values do not matter.
func checkExtensions(b []byte) error {
	for r := (&reader{b: b}); len(r.b) > 0; {
		if _, _, _, err := r.extension(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Certificate) parseExtensions(b []byte, o Options) error {
	seen := map[string]bool{}
	count := 0
	for r := (&reader{b: b}); len(r.b) > 0; {
		if count++; count > maxExtensions {
			return unknown("more than %d extensions in a certificate", maxExtensions)
		}
		id, critical, value, err := r.extension()
		if err != nil {
			return err
		}
		known := len(id) == 3 && id[0] == 0x55 && id[1] == 0x1d
		switch {
		case known && handledExtensions[id[2]], bytes.Equal(id, oidProxy), bytes.Equal(id, oidNetscapeType):
		case bytes.Equal(id, oidOCSPNoCheck) && !o.OpenSSL11:
		case critical:
			c.critical = oidText(id)
		}
		if known && !cachedExtensions[id[2]] || !known && !bytes.Equal(id, oidProxy) && !bytes.Equal(id, oidNetscapeType) {
			continue
		}
		if seen[string(id)] {
			c.invalid = "it has the extension " + oidText(id) + " twice"
		}
		seen[string(id)] = true
		switch {
		case bytes.Equal(id, oidProxy):
			c.proxy = true
		case bytes.Equal(id, oidNetscapeType):
			in := &reader{b: value}
			v := in.take(tagBits, "netscape certificate type").body
			if in.err != nil || len(v) == 0 {
				c.invalid = "netscape certificate type: no bit string"
			}
			c.netscapeCA = len(v) > 1 && v[1]&0x07 != 0
		default:
			if err := c.parseExtension(id[2], value, o); IsUnknown(err) {
				return err
			} else if err != nil {
				c.invalid = err.Error()
			}
		}
	}
	return nil
}

func (c *Certificate) parseExtension(id byte, value []byte, o Options) error {
	r := &reader{b: value}
	switch id {
	case extBasicConstraints:
		e := r.take(tagSequence, "basicConstraints")
		in := &reader{b: e.body, err: r.err}
		c.constraints = true
		if in.is(tagBoolean) {
			c.ca = in.boolean("basicConstraints")
		}
		if in.is(tagInteger) {
			v := in.integer("basicConstraints")
			switch {
			case in.err != nil:
			case v[0] >= 0x80 || !c.ca && o.OpenSSL11:
				return errors.New("basicConstraints: a path length that is negative, or belongs to a certificate that is not a CA")
			case len(v) > 3:
				c.pathLength = 1 << 20
			default:
				c.pathLength = 0
				for _, b := range v {
					c.pathLength = c.pathLength<<8 | int(b)
				}
			}
		}
		in.end("basicConstraints")
		return in.err
	case extKeyUsage:
		v := r.take(tagBits, "keyUsage").body
		if r.err != nil || len(v) == 0 || v[0] > 7 || len(v) == 1 && v[0] != 0 {
			return errors.New("keyUsage: no bit string")
		}
		v = v[1:]
		c.usage, c.certSign = true, len(v) > 0 && v[0]&0x04 != 0
		if !o.OpenSSL11 && len(bytes.Trim(v[:min(len(v), 2)], "\x00")) == 0 {
			return errors.New("keyUsage: a BIT STRING without bits")
		}
		return nil
	case extSubjectKeyID:
		c.keyID = r.take(tagOctets, "subjectKeyIdentifier").body
		return r.err
	case extAuthorityKeyID:
		return c.parseAuthority(value)
	case extNameConstraints:
		var err error
		c.constrained, err = parseNameConstraints(value)
		return err
	case extSubjectAltName:
		e := r.take(tagSequence, "subjectAltName")
		if r.err != nil {
			return r.err
		}
		for in := (&reader{b: e.body}); len(in.b) > 0; {
			n := in.any("subjectAltName")
			if in.err != nil {
				return in.err
			}
			if err := checkGeneralName(n); err != nil {
				return fmt.Errorf("subjectAltName: %w", err)
			}
			c.alternative = append(c.alternative, n.full)
		}
	case extExtendedKeyUsage:
		e := r.take(tagSequence, "extendedKeyUsage")
		for in := (&reader{b: e.body, err: r.err}); len(in.b) > 0 || in.err != nil; {
			c.moduleSigning = bytes.Equal(in.oid("extendedKeyUsage").body, oidModuleSigning) || c.moduleSigning
			if in.err != nil {
				return in.err
			}
		}
	case extCRLPoints:
		e := r.take(tagSequence, "crlDistributionPoints")
		if r.err == nil && len(e.body) > 0 {
			for in := (&reader{b: e.body}); len(in.b) > 0; {
				if in.take(tagSequence, "crlDistributionPoints"); in.err != nil {
					return in.err
				}
			}
		}
		return r.err
	}
	return nil
}

// parseAuthority reads AuthorityKeyIdentifier (RFC 5280, section 4.2.1.1).
func (c *Certificate) parseAuthority(value []byte) error {
	r := &reader{b: value}
	e := r.take(tagSequence, "authorityKeyIdentifier")
	in := &reader{b: e.body, err: r.err}
	if in.is(tagPrimitive) {
		c.authorityKeyID = in.any("authorityKeyIdentifier").body
	}
	if in.is(tagContext1) {
		for names := (&reader{b: in.any("authorityKeyIdentifier").body}); len(names.b) > 0; {
			n := names.any("name")
			if names.err != nil {
				return names.err
			}
			if err := checkGeneralName(n); err != nil {
				return fmt.Errorf("authorityKeyIdentifier: %w", err)
			}
			if n.tag == tagDirectoryName {
				name, err := canonicalName(n.body)
				if err != nil {
					return err
				}
				c.authorityNames = append(c.authorityNames, name)
			}
		}
	}
	if in.is(tagPrimitive | 2) {
		v := in.any("authorityKeyIdentifier").body
		if in.err == nil && (len(v) == 0 || len(minimal(v)) != len(v)) {
			return errors.New("authorityKeyIdentifier: a serial number that is not an INTEGER")
		}
		c.authoritySerial = v
	}
	in.end("authorityKeyIdentifier")
	return in.err
}

// oidText is an object identifier with dots, in hexadecimal if it cannot be read.
func oidText(id []byte) string {
	var oid x509.OID
	if err := oid.UnmarshalBinary(id); err != nil {
		return fmt.Sprintf("%x", id)
	}
	return oid.String()
}

// mayIssue is X509_check_ca: 0 for no, 1 for an authority by basicConstraints, more for one that is
// tolerated as the last of a chain.
func (c *Certificate) mayIssue() int {
	switch {
	case c.usage && !c.certSign:
		return 0
	case c.constraints && c.ca:
		return 1
	case c.constraints:
		return 0
	case c.v1 && c.selfIssued:
		return 3
	case c.usage:
		return 4
	case c.netscapeCA:
		return 5
	}
	return 0
}

// SignsModules reports whether the certificate is for signing kernel modules
// (1.3.6.1.4.1.2312.16.1.2, OID_EKU_MODSIGN of shim).
func (c *Certificate) SignsModules() bool { return c.moduleSigning }

// HasNameConstraints reports whether the certificate has the extension nameConstraints, of whatever
// content.
func (c *Certificate) HasNameConstraints() bool { return c.constrained != nil }
