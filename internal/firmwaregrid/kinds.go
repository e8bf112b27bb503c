package firmwaregrid

import (
	"bytes"
	"crypto"
	"slices"
	"strings"
)

// A kind is one respect in which a certificate is unusual, and the places where it is tried.
type kind struct {
	name   string
	places string // of place
	key    string // of keys; "": an RSA key of 2048 bits
	change func(c *certificate)
}

// Places of an unusual certificate. Under all but inItself the signer's certificate leads to an
// authority in db.
const (
	inLeaf    = 'l' // the signer
	inBetween = 'b' // an authority that the message carries, under the one in db
	inDB      = 'd' // the authority in db
	inItself  = 's' // a signer that is in db itself, signed by itself
	inPinned  = 'p' // a signer that is in db itself, signed by a stranger
	inPlace   = 'i' // like inPinned, and the message carries the stranger's certificate
	inMessage = 'c' // a certificate that the message carries, and that no path needs
	inDBX     = 'x' // like inBetween, and the certificate is in dbx
)

var uri = tlv(0x86, []byte("http://exa mple/\x01%zz"))

func subjectAltName(names ...[]byte) []byte { return extension(ext(17), false, seq(names...)) }

func authorityKeyID(parts ...[]byte) []byte { return extension(ext(35), false, seq(parts...)) }

func nameConstraints(parts ...[]byte) []byte { return extension(ext(30), true, seq(parts...)) }

func permitted(name []byte) []byte { return tlv(0xa0, seq(name)) }
func excluded(name []byte) []byte  { return tlv(0xa1, seq(name)) }
func directory(name []byte) []byte { return tlv(0xa4, name) }

var unknownExtension = oid(1, 3, 6, 1, 4, 1, 99999, 1)

// kinds are all of them.
var kinds = []kind{
	{"ordinary", "lbdspxi", "", nil},

	// Serial numbers (RFC 5280, section 4.1.2.2: positive, at most 20 octets).
	{"serial-negative", "lbdsxc", "", func(c *certificate) { c.serial = integer(0x80, 1, 2) }},
	{"serial-zero", "ld", "", func(c *certificate) { c.serial = integer(0) }},
	{"serial-empty", "ldc", "", func(c *certificate) { c.serial = integer() }},
	{"serial-40-octets", "ld", "", func(c *certificate) { c.serial = integer(bytes.Repeat([]byte{0x11}, 40)...) }},
	{"serial-not-minimal", "ldc", "", func(c *certificate) { c.serial = integer(0, 0, 1) }},
	{"serial-not-minimal-negative", "lc", "", func(c *certificate) { c.serial = integer(0xff, 0xff, 1) }},

	// Versions.
	{"v1", "lbds", "", func(c *certificate) { c.version, c.extensions = nil, nil }},
	{"v1-explicit", "ld", "", func(c *certificate) { c.version, c.extensions = tlv(0xa0, integer(0)), nil }},
	{"v1-with-extensions", "lbd", "", func(c *certificate) { c.version = nil }},
	{"v2-with-extensions", "ld", "", func(c *certificate) { c.version = tlv(0xa0, integer(1)) }},
	{"v4", "ldc", "", func(c *certificate) { c.version = tlv(0xa0, integer(3)) }},
	{"version-of-two-octets", "lc", "", func(c *certificate) { c.version = tlv(0xa0, integer(1, 2)) }},
	{"unique-identifiers", "ld", "", func(c *certificate) {
		c.unique = slices.Concat(tlv(0x81, []byte{0, 1}), tlv(0x82, []byte{0, 2}))
	}},

	// Who may issue (OpenSSL, X509_check_ca).
	{"no-extensions", "lbds", "", only()},
	{"no-basic-constraints", "bd", "", only(certSign)},
	{"not-an-authority", "bd", "", only(basicConstraints(false), certSign)},
	{"constraints-alone", "bd", "", only(basicConstraints(true))},
	{"key-usage-without-cert-sign", "bd", "", only(basicConstraints(true), digitalSignature)},
	{"key-usage-empty", "lbspc", "", func(c *certificate) { c.extensions = [][]byte{basicConstraints(true), keyUsage(0)} }},
	{"key-usage-zero", "lspci", "", only(keyUsage(0, 0))},
	{"key-usage-decipher-only", "l", "", only(keyUsage(7, 0, 0x80))},
	{"key-usage-two-octets", "d", "", only(basicConstraints(true), keyUsage(7, 6, 0x80))},
	{"netscape-ca", "bd", "", only(extension(oid(2, 16, 840, 1, 113730, 1, 1), false, tlv(3, []byte{0, 7})))},
	{"path-length-0", "bd", "", func(c *certificate) { c.extensions[0] = basicConstraints(true, integer(0)) }},
	{"path-length-negative", "bdspc", "", func(c *certificate) { c.extensions[0] = basicConstraints(true, integer(0xff)) }},
	{"path-length-without-authority", "lspci", "", add(basicConstraints(false, integer(3)))},
	{"path-length-huge", "d", "", func(c *certificate) { c.extensions[0] = basicConstraints(true, integer(0x7f, 1, 2, 3, 4, 5, 6, 7, 8)) }},
	{"authority-as-signer", "l", "", only(basicConstraints(true), certSign)},
	{"boolean-one", "bd", "", func(c *certificate) { c.extensions[0] = extension(ext(19), true, seq([]byte{1, 1, 1})) }},
	{"boolean-false-written", "ld", "", add(seq(ext(32), []byte{1, 1, 0}, octets(seq(seq(oid(1, 3, 5))))))},
	{"boolean-two-octets", "lc", "", add(seq(ext(32), []byte{1, 2, 0, 0}, octets(seq(seq(oid(1, 3, 5))))))},

	// Purposes.
	{"server-only", "lds", "", func(c *certificate) {
		c.extensions = append(c.extensions[:1:1], extension(ext(37), false, seq(oid(1, 3, 6, 1, 5, 5, 7, 3, 1))))
	}},
	{"server-only-critical", "ld", "", func(c *certificate) {
		c.extensions = append(c.extensions[:1:1], extension(ext(37), true, seq(oid(1, 3, 6, 1, 5, 5, 7, 3, 1))))
	}},
	{"time-stamping-only", "l", "", only(extension(ext(37), true, seq(oid(1, 3, 6, 1, 5, 5, 7, 3, 8))))},
	{"encipherment-only", "ls", "", only(keyUsage(5, 0x20))},

	// Extensions.
	{"critical-unknown", "lbdspxci", "", add(extension(unknownExtension, true, null))},
	{"unknown", "ld", "", add(extension(unknownExtension, false, null))},
	{"unknown-twice", "lb", "", add(extension(unknownExtension, false, null), extension(unknownExtension, false, null))},
	{"constraints-twice", "lbdspci", "", add(basicConstraints(true), basicConstraints(true))},
	{"constraints-malformed", "lbdspc", "", func(c *certificate) {
		c.extensions = append(c.extensions[1:len(c.extensions):len(c.extensions)], extension(ext(19), true, null))
	}},
	{"value-with-tail", "ld", "", add(extension(ext(14), false, slices.Concat(octets([]byte("id")), null)))},
	{"extension-of-a-cut-identifier", "lc", "", add(extension([]byte{6, 2, 0x55, 0x9d}, false, null))},
	{"extension-of-a-padded-identifier", "lc", "", add(extension([]byte{6, 4, 0x55, 0x80, 0x1d, 0x63}, false, null))},
	{"extension-without-value", "lc", "", add(seq(unknownExtension))},
	{"extended-key-usage-malformed", "lsp", "", func(c *certificate) { c.extensions = [][]byte{extension(ext(37), false, null)} }},
	{"extended-key-usage-empty", "l", "", func(c *certificate) { c.extensions = [][]byte{extension(ext(37), false, seq())} }},
	{"extended-key-usage-twice", "l", "", add(codeSigning)},
	{"alt-name-of-an-unknown-type", "l", "", add(subjectAltName(tlv(0x8e, []byte("x"))))},
	{"alt-name-directory", "ld", "", add(subjectAltName(directory(cn("somebody"))))},
	{"alt-name-other", "l", "", add(subjectAltName(tlv(0xa0, oid(1, 3, 6, 1, 4, 1, 311, 20, 2, 3), tlv(0xa0, text(0x0c, "grid@example.org")))))},
	{"alt-name-dns", "l", "", add(subjectAltName(tlv(0x82, []byte("example.org"))))},
	{"netscape-type-malformed", "l", "", add(extension(oid(2, 16, 840, 1, 113730, 1, 1), false, null))},
	{"extensions-empty", "ld", "", func(c *certificate) {
		c.list = func([][]byte) []byte { return tlv(0xa3, seq()) }
	}},
	{"alt-name-malformed-uri", "lds", "", add(subjectAltName(uri))},
	{"alt-name-empty", "ld", "", add(subjectAltName())},
	{"alt-name-critical", "l", "", add(extension(ext(17), true, seq(tlv(0x82, []byte("example.org")))))},
	{"alt-name-malformed", "ldspc", "", add(extension(ext(17), false, null))},
	{"policies-critical", "ld", "", add(extension(ext(32), true, seq(seq(oid(1, 3, 5)))))},
	{"policies-malformed", "ld", "", add(extension(ext(32), false, null))},
	{"policy-constraints-critical", "d", "", add(extension(ext(36), true, seq(tlv(0x80, []byte{0}))))},
	{"policy-mappings-critical", "d", "", add(extension(ext(33), true, seq(seq(oid(1, 3, 5), oid(1, 3, 6)))))},
	{"inhibit-any-policy-critical", "d", "", add(extension(ext(54), true, integer(0)))},
	{"crl-points-critical", "l", "", add(extension(ext(31), true, seq()))},
	{"crl-points-malformed", "lspc", "", add(extension(ext(31), false, null))},
	{"freshest-crl-critical", "l", "", add(extension(ext(46), true, seq()))},
	{"authority-information-critical", "l", "", add(extension(oid(1, 3, 6, 1, 5, 5, 7, 1, 1), true, seq()))},
	{"ocsp-no-check-critical", "l", "", add(extension(oid(1, 3, 6, 1, 5, 5, 7, 48, 1, 5), true, null))},
	{"ip-addresses-critical", "l", "", add(extension(oid(1, 3, 6, 1, 5, 5, 7, 1, 7), true, seq()))},
	{"as-numbers-critical", "l", "", add(extension(oid(1, 3, 6, 1, 5, 5, 7, 1, 8), true, seq()))},
	{"proxy", "lbspi", "", add(extension(oid(1, 3, 6, 1, 5, 5, 7, 1, 14), true, seq(seq(oid(1, 3, 6, 1, 5, 5, 7, 21, 1)))))},
	{"subject-key-id-malformed", "ldspci", "", func(c *certificate) { c.extensions = append(c.extensions[:2:2], extension(ext(14), false, null)) }},
	{"subject-key-id-critical", "l", "", add(extension(ext(14), true, octets([]byte("id"))))},
	{"authority-key-id-critical", "l", "", func(c *certificate) {
		c.extensions = append(c.extensions, extension(ext(35), true, seq(tlv(0x80, c.issuerID))))
	}},

	// Issuers (OpenSSL, X509_check_issued).
	{"authority-key-id", "lb", "", func(c *certificate) { c.extensions = append(c.extensions, authorityKeyID(tlv(0x80, c.issuerID))) }},
	{"authority-key-id-of-another", "lb", "", add(authorityKeyID(tlv(0x80, []byte("another"))))},
	{"authority-key-id-malformed", "lspc", "", add(extension(ext(35), false, null))},
	{"authority-serial", "l", "", func(c *certificate) {
		c.extensions = append(c.extensions, authorityKeyID(tlv(0x80, c.issuerID), tlv(0xa1, directory(c.issuerOf)), tlv(0x82, c.serialOf[2:])))
	}},
	{"authority-serial-of-another", "l", "", func(c *certificate) {
		c.extensions = append(c.extensions, authorityKeyID(tlv(0x80, c.issuerID), tlv(0xa1, directory(c.issuerOf)), tlv(0x82, []byte{1})))
	}},
	{"authority-serial-alone", "l", "", add(authorityKeyID(tlv(0x82, []byte{1})))},
	{"authority-issuer-of-another", "l", "", func(c *certificate) {
		c.extensions = append(c.extensions, authorityKeyID(tlv(0xa1, directory(cn("another"))), tlv(0x82, c.serialOf[2:])))
	}},
	{"authority-issuer-second", "l", "", func(c *certificate) {
		c.extensions = append(c.extensions, authorityKeyID(tlv(0xa1, directory(cn("another")), directory(c.issuerOf)), tlv(0x82, c.serialOf[2:])))
	}},
	{"issuer-in-upper-case", "lb", "", func(c *certificate) { c.issuer = bytes.Replace(c.issuer, []byte("grid"), []byte("GRID"), 1) }},
	{"issuer-printable", "l", "", func(c *certificate) { c.issuer = retag(c.issuer, 0x13, 0) }},
	{"issuer-ia5", "l", "", func(c *certificate) { c.issuer = retag(c.issuer, 0x16, 0) }},
	{"issuer-bmp", "l", "", func(c *certificate) { c.issuer = retag(c.issuer, 0x1e, 1) }},
	{"issuer-universal", "l", "", func(c *certificate) { c.issuer = retag(c.issuer, 0x1c, 3) }},
	{"issuer-numeric", "l", "", func(c *certificate) { c.issuer = retag(c.issuer, 0x12, 0) }},
	{"issuer-bit-string", "l", "", func(c *certificate) { c.issuer = retag(c.issuer, 0x03, 0) }},
	{"issuer-with-spaces", "l", "", func(c *certificate) { c.issuer = cn("  grid   root ") }},
	{"issuer-with-a-tab", "l", "", func(c *certificate) { c.issuer = cn("grid\troot") }},
	{"issuer-without-space", "l", "", func(c *certificate) { c.issuer = cn("gridroot") }},
	{"issuer-of-another-name", "l", "", func(c *certificate) { c.issuer = cn("grid root 2") }},
	{"issuer-not-utf8", "lc", "", func(c *certificate) { c.issuer = cn("grid root\xff") }},
	{"issuer-empty", "l", "", func(c *certificate) { c.issuer = seq() }},
	{"subject-empty", "ld", "", func(c *certificate) { c.subject = seq() }},
	{"subject-not-utf8", "lsc", "", func(c *certificate) { c.subject = cn("grid leaf\xff") }},
	{"subject-of-two-attributes", "ld", "", func(c *certificate) {
		c.subject = seq(set(seq(oidOrganization, text(0x13, "grid")), seq(oidCommonName, text(0x0c, "set "+c.key()))))
	}},
	{"subject-t61", "d", "", func(c *certificate) { c.subject = seq(attribute(oidCommonName, text(0x14, "t61 \xe4 name"))) }},

	// Validity, which firmware does not look at, but parses.
	{"expired", "lbds", "", func(c *certificate) { c.validity = times("010101000000Z", "020101000000Z") }},
	{"not-yet-valid", "lds", "", func(c *certificate) { c.validity = times("450101000000Z", "490101000000Z") }},
	{"validity-reversed", "ld", "", func(c *certificate) { c.validity = times("400101000000Z", "200101000000Z") }},
	{"time-without-seconds", "ldc", "", func(c *certificate) { c.validity = times("2001010000Z", "4001010000Z") }},
	{"time-without-zone", "l", "", func(c *certificate) { c.validity = times("200101000000", "400101000000") }},
	{"time-of-thirteen-letters", "lds", "", func(c *certificate) { c.validity = times("thirteen long", "thirteen long") }},
	{"time-generalized-short", "l", "", func(c *certificate) { c.validity = seq(text(0x18, "202001010000Z"), text(0x18, "99991231235959Z")) }},
	{"time-with-offset", "l", "", func(c *certificate) { c.validity = times("200101000000+0100", "400101000000+0100") }},
	{"time-of-letters", "ldsc", "", func(c *certificate) { c.validity = times("never", "ever") }},
	{"time-generalized", "ld", "", func(c *certificate) { c.validity = seq(text(0x18, "20200101000000Z"), text(0x18, "99991231235959Z")) }},
	{"time-of-another-type", "lc", "", func(c *certificate) { c.validity = seq(text(0x13, "200101000000Z"), text(0x13, "400101000000Z")) }},

	// Name constraints.
	{"permitted-directory", "d", "", add(nameConstraints(permitted(directory(cn("leaf of permitted-directory d")))))},
	{"permitted-directory-of-another", "bd", "", add(nameConstraints(permitted(directory(cn("somebody")))))},
	{"excluded-directory", "bd", "", func(c *certificate) {
		c.extensions = append(c.extensions, nameConstraints(excluded(directory(seq()))))
	}},
	{"excluded-directory-of-another", "bd", "", add(nameConstraints(excluded(directory(cn("somebody")))))},
	{"permitted-dns", "bd", "", add(nameConstraints(permitted(tlv(0x82, []byte("example.org")))))},
	{"permitted-email", "d", "", add(nameConstraints(permitted(tlv(0x81, []byte("example.org")))))},
	{"permitted-directory-and-another", "d", "", add(nameConstraints(tlv(0xa0, seq(directory(cn("somebody"))), seq(directory(seq())))))},
	{"permitted-directory-with-minimum", "d", "", add(nameConstraints(tlv(0xa0, seq(directory(seq()), tlv(0x80, []byte{1})))))},
	{"permitted-directory-with-maximum", "d", "", add(nameConstraints(tlv(0xa0, seq(directory(seq()), tlv(0x81, []byte{1})))))},
	{"permitted-dns-with-maximum", "d", "", add(nameConstraints(tlv(0xa0, seq(tlv(0x82, []byte("example.org")), tlv(0x81, []byte{1})))))},
	{"name-constraints-empty", "d", "", add(nameConstraints())},
	{"name-constraints-not-critical", "d", "", add(extension(ext(30), false, seq(permitted(directory(cn("somebody"))))))},
	{"name-constraints-malformed", "dspci", "", add(nameConstraints(null))},
	{"name-constraints-in-signer", "l", "", add(nameConstraints(permitted(directory(cn("somebody")))))},

	// Keys.
	{"rsa-512", "ls", "rsa512", nil},
	{"rsa-1023", "ld", "rsa1023", nil},
	{"rsa-1024", "lds", "rsa1024", nil},
	{"rsa-2056", "ld", "rsa2056", nil},
	{"rsa-3072", "ld", "rsa3072", nil},
	{"rsa-4096", "lds", "rsa4096", nil},
	{"rsa-8192", "ld", "rsa8192", nil},
	{"rsa-exponent-1", "l", "e1", nil},
	{"rsa-exponent-3", "ld", "e3", nil},
	{"rsa-exponent-of-33-bits", "ld", "e32", nil},
	{"key-without-null", "lds", "", func(c *certificate) {
		c.spki = seq(seq(oidRSA), bits(seq(unsigned(c.own.n.Bytes()), unsigned(c.own.e.Bytes()))))
	}},
	{"key-negative-modulus", "l", "", func(c *certificate) {
		c.spki = seq(seq(oidRSA, null), bits(seq(tlv(2, c.own.n.Bytes()), unsigned(c.own.e.Bytes()))))
	}},
	{"key-with-tail", "l", "", func(c *certificate) {
		c.spki = seq(seq(oidRSA, null), bits(append(seq(unsigned(c.own.n.Bytes()), unsigned(c.own.e.Bytes())), 5, 0)))
	}},
	{"key-of-pss", "lds", "pss", nil},
	{"key-of-an-unknown-algorithm", "lbdsc", "", func(c *certificate) { c.spki = seq(seq(unknownExtension), bits([]byte("key"))) }},
	{"key-empty", "ldc", "", func(c *certificate) { c.spki = seq(seq(oidRSA, null), bits(nil)) }},
	{"ec-p256", "lbds", "p256", nil},
	{"ec-p384", "ls", "p384", nil},
	{"ec-k256", "lds", "k256", nil},
	{"ed25519", "l", "", func(c *certificate) { c.spki = seq(seq(oid(1, 3, 101, 112)), bits(make([]byte, 32))) }},

	// Signatures of certificates.
	{"signed-md5", "lb", "", func(c *certificate) { c.hash = crypto.MD5 }},
	{"signed-sha1", "lbd", "", func(c *certificate) { c.hash = crypto.SHA1 }},
	{"signed-sha224", "lb", "", func(c *certificate) { c.hash = crypto.SHA224 }},
	{"signed-sha384", "lb", "", func(c *certificate) { c.hash = crypto.SHA384 }},
	{"signed-sha512", "lb", "", func(c *certificate) { c.hash = crypto.SHA512 }},
	{"signed-pss", "lb", "", func(c *certificate) { c.inner, c.sign = pssParameters(), c.signer.signPSS }},
	{"algorithm-without-null", "lb", "", func(c *certificate) { c.inner = seq(oidRSAWith[crypto.SHA256]) }},
	{"algorithm-with-other-parameters", "l", "", func(c *certificate) { c.inner = seq(oidRSAWith[crypto.SHA256], octets([]byte("x"))) }},
	{"algorithm-with-empty-boolean", "l", "", func(c *certificate) { c.inner = seq(oidRSAWith[crypto.SHA256], []byte{1, 0}) }},
	{"algorithm-with-long-null", "l", "", func(c *certificate) { c.inner = seq(oidRSAWith[crypto.SHA256], []byte{5, 1, 0}) }},
	{"algorithm-with-two-parameters", "l", "", func(c *certificate) { c.inner = seq(oidRSAWith[crypto.SHA256], null, null) }},
	{"algorithms-differ", "lbdsci", "", func(c *certificate) { c.outer = seq(oidRSAWith[crypto.SHA512], null) }},
	{"algorithms-differ-in-null", "lb", "", func(c *certificate) { c.outer = seq(oidRSAWith[crypto.SHA256]) }},
	{"signature-wrong", "lbdsi", "", func(c *certificate) { c.sign = func([]byte) []byte { return make([]byte, 256) } }},
	{"signature-short", "lds", "", func(c *certificate) { c.sign = func([]byte) []byte { return []byte{1} } }},
	{"signature-unused-bits", "lb", "", func(c *certificate) { c.signature = func(s []byte) []byte { return tlv(3, []byte{3}, s) } }},
	{"signature-unused-bits-8", "lc", "", func(c *certificate) { c.signature = func(s []byte) []byte { return tlv(3, []byte{8}, s) } }},
	{"signature-digestinfo-without-null", "lb", "", func(c *certificate) {
		c.sign = func(tbs []byte) []byte { return c.signer.raw(seq(seq(oidHash[crypto.SHA256]), octets(sum(tbs)))) }
	}},
	{"signature-digestinfo-of-sha1", "l", "", func(c *certificate) {
		c.sign = func(tbs []byte) []byte { return c.signer.sign(crypto.SHA1, tbs) }
	}},
	{"signature-with-a-zero-in-front", "lb", "", func(c *certificate) {
		sign := c.signer
		c.sign = func(tbs []byte) []byte { return append([]byte{0}, sign.sign(crypto.SHA256, tbs)...) }
	}},

	// Encoding.
	{"bytes-behind", "lbdsc", "", func(c *certificate) { c.tail = []byte("tail") }},
	{"bytes-in-the-signed-part", "ldc", "", func(c *certificate) { c.behind = null }},
	{"length-not-minimal", "lbds", "", func(c *certificate) { c.subject = long(c.subject) }},
	{"length-indefinite", "ldsc", "", func(c *certificate) { c.validity = slices.Concat([]byte{0x30, 0x80}, c.validity[2:], []byte{0, 0}) }},
}

func sum(b []byte) []byte {
	w := crypto.SHA256.New()
	w.Write(b)
	return w.Sum(nil)
}

// key tells certificates of one kind apart.
func (c *certificate) key() string { return string(c.subject[len(c.subject)-1:]) }

// retag is a name of one UTF8String as another type, with a number of zero octets in front of each
// character.
func retag(name []byte, tag byte, zeros int) []byte {
	i := bytes.IndexByte(name, 0x0c)
	var out []byte
	for _, c := range name[i+2:] {
		out = append(append(out, make([]byte, zeros)...), c)
	}
	return seq(attribute(oidCommonName, tlv(tag, out)))
}

// long is an element with a length of more bytes than it needs.
func long(e []byte) []byte {
	return slices.Concat(e[:1], []byte{0x82, 0, e[1]}, e[2:])
}

// A Case is one question: does firmware start this image?
type Case struct {
	Name  string
	Image []byte

	db, dbx [][]byte // certificates that it needs there
}

// certificateCases tries each kind at each of its places.
func certificateCases(root *authority) (cases []Case) {
	stranger := issue(nil, "grid stranger", keys["stranger"], true, nil)
	for _, k := range kinds {
		for _, place := range k.places {
			name := k.name + " " + string(place)
			own := keys["leaf"]
			if k.key != "" {
				own = keys[k.key]
			}
			var signer *authority
			c := Case{Name: strings.ReplaceAll(name, " ", "-")}
			carried := [][]byte(nil)
			switch place {
			case inLeaf:
				signer = issue(root, "leaf of "+name, own, false, k.change)
			case inBetween, inDBX:
				if k.key == "" {
					own = keys["ca"]
				}
				between := issue(root, "grid "+name, own, true, k.change)
				carried = append(carried, between.der)
				if place == inDBX {
					c.dbx = append(c.dbx, between.der)
				}
				signer = issue(between, "leaf of "+name, keys["leaf"], false, nil)
			case inDB:
				if k.key == "" {
					own = keys["ca"]
				}
				top := issue(nil, "grid "+name, own, true, k.change)
				c.db = append(c.db, top.der)
				signer = issue(top, "leaf of "+name, keys["leaf"], false, nil)
			case inMessage:
				signer = issue(root, "leaf of "+name, keys["leaf"], false, nil)
				carried = append(carried, issue(root, "grid "+name, own, false, k.change).der)
			case inItself:
				signer = issue(nil, "grid "+name, own, false, k.change)
				c.db = append(c.db, signer.der)
			case inPinned, inPlace:
				signer = issue(stranger, "grid "+name, own, false, k.change)
				if place == inPlace {
					carried = append(carried, stranger.der)
				}
				c.db = append(c.db, signer.der)
			}
			image := program(name)
			m := about(image, signer, crypto.SHA256)
			m.certificates = append(m.certificates, carried...)
			c.Image = withTable(image, entry(0x0200, 2, m.der(indirectData(crypto.SHA256, digest(image, crypto.SHA256)))))
			cases = append(cases, c)
		}
	}
	return cases
}
