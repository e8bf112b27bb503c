package edk2

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
)

// A Message is a PKCS #7 SignedData as d2i_PKCS7 reads it.
type Message struct {
	Certificates []*Certificate
	Signers      []Signer

	algorithms  []crypto.Hash // 0: one that is not known
	contentType []byte
	content     []byte // the element that is carried, nil if there is none
}

// A Signer is one SignerInfo.
type Signer struct {
	issuer     []byte // as compared
	serial     []byte
	hash       crypto.Hash
	attributes []byte // signed ones as they are signed, nil if there are none
	digests    [][]byte
	signature  []byte
}

var (
	oidSignedData      = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}
	oidSPCIndirectData = []byte{0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 4}
	oidData            = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}
	oidMessageDigest   = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4}
)

// Bounds of a message; OpenSSL has none, and real ones stay far below.
const (
	maxCertificates = 64
	maxSigners      = 16
	maxAttributes   = 128
)

// wrapped reports whether edk2 takes b for a ContentInfo (WrapPkcs7Data): it looks at fixed places.
func wrapped(b []byte) bool {
	return len(b) > 17 && b[4] == 0x06 && b[5] == 0x09 && bytes.Equal(b[6:15], oidSignedData) && b[15] == 0xa0 && b[16] == 0x82
}

// Parse reads a message in a ContentInfo as the newest build does.
func Parse(b []byte) (*Message, error) { return Options{}.Parse(b) }

// Parse reads a message in a ContentInfo. Bytes behind it are not looked at.
func (o Options) Parse(b []byte) (*Message, error) {
	r := &reader{b: b}
	in := &reader{b: r.take(tagSequence, "message").body, err: r.err}
	id := in.oid("content type of the message").body
	if in.err == nil && !bytes.Equal(id, oidSignedData) {
		return nil, errors.New("its content type is not SignedData (1.2.840.113549.1.7.2)")
	}
	e := in.take(tagContext0, "message")
	in.end("message")
	if in.err != nil {
		return nil, in.err
	}
	inner := &reader{b: e.body}
	sd := inner.take(tagSequence, "SignedData")
	inner.end("message")
	if inner.err != nil {
		return nil, inner.err
	}
	return o.parseSignedData(sd.body)
}

// ParseSignedData reads a message with or without a ContentInfo as the newest build does.
func ParseSignedData(b []byte) (*Message, error) { return Options{}.ParseSignedData(b) }

// ParseSignedData reads a message with or without a ContentInfo, as Pkcs7Verify and Pkcs7GetSigners
// take it.
func (o Options) ParseSignedData(b []byte) (*Message, error) {
	if wrapped(b) {
		return o.Parse(b)
	}
	if len(b) > 0xffff {
		return nil, fmt.Errorf("a SignedData of %d bytes, want at most 65535", len(b))
	}
	r := &reader{b: b}
	sd := r.take(tagSequence, "SignedData")
	r.end("SignedData") // the wrapping counts all bytes as its content
	if r.err != nil {
		return nil, r.err
	}
	return o.parseSignedData(sd.body)
}

func (o Options) parseSignedData(b []byte) (*Message, error) {
	m := &Message{}
	r := &reader{b: b}
	r.integer("version")
	algorithms := &reader{b: r.take(tagSet, "digest algorithms").body}
	for len(algorithms.b) > 0 && algorithms.err == nil && len(m.algorithms) <= maxSigners {
		h, err := algorithms.digest("digest algorithm", o)
		if err != nil {
			return nil, err
		}
		m.algorithms = append(m.algorithms, h)
	}
	content := &reader{b: r.take(tagSequence, "content").body}
	m.contentType = content.oid("content type").body
	if len(content.b) > 0 {
		in := &reader{b: content.take(tagContext0, "content").body}
		e := in.any("content")
		switch m.content = e.full; e.tag {
		case tagSequence, tagSet: // kept with their header
		case tagOctets, 0x0c, 0x13, 0x14, 0x16, 0x1a, 0x1e: // kept without
			m.content = e.body
		default:
			return nil, unknown("content of the type 0x%02x", e.tag)
		}
		in.end("content")
		content.end("content")
		content.err = errors.Join(content.err, in.err)
	}
	if err := errors.Join(r.err, algorithms.err, content.err); err != nil {
		return nil, err
	}
	if r.is(tagContext0) {
		for in := (&reader{b: r.any("certificates").body}); len(in.b) > 0; {
			if len(m.Certificates) == maxCertificates {
				return nil, unknown("more than %d certificates in a message", maxCertificates)
			}
			e := in.take(tagSequence, "certificate")
			if in.err != nil {
				return nil, in.err
			}
			c, err := o.ParseCertificate(e.full)
			if err != nil {
				return nil, fmt.Errorf("a certificate of the message: %w", err)
			}
			m.Certificates = append(m.Certificates, c)
		}
	}
	if r.is(tagContext1) {
		for in := (&reader{b: r.any("revocation lists").body}); len(in.b) > 0; {
			if err := o.revocationList(in.take(tagSequence, "revocation list").body); in.err != nil || err != nil {
				return nil, errors.Join(in.err, err)
			}
		}
	}
	for in := (&reader{b: r.take(tagSet, "signers").body}); r.err == nil && len(in.b) > 0; {
		if len(m.Signers) == maxSigners {
			return nil, unknown("more than %d signers of a message", maxSigners)
		}
		e := in.take(tagSequence, "signer")
		if in.err != nil {
			return nil, in.err
		}
		s, err := o.parseSigner(e.body)
		if err != nil {
			return nil, err
		}
		m.Signers = append(m.Signers, s)
	}
	r.end("SignedData")
	return m, r.err
}

// revocationList checks the form of a CertificateList (RFC 5280, section 5.1), which has to be one,
// and then counts for nothing.
func (o Options) revocationList(b []byte) error {
	r := &reader{b: b}
	tbs := &reader{b: r.take(tagSequence, "revocation list").body}
	r.algorithm("revocation list", o)
	r.take(tagBits, "revocation list")
	r.end("revocation list")
	if tbs.is(tagInteger) {
		tbs.integer("revocation list")
	}
	tbs.algorithm("revocation list", o)
	name := tbs.take(tagSequence, "revocation list").full
	if err := errors.Join(r.err, tbs.err); err != nil {
		return err
	}
	if _, err := canonicalName(name); err != nil {
		return fmt.Errorf("revocation list: %w", err)
	}
	for i := 0; i < 2 && (i == 0 || tbs.is(tagUTCTime) || tbs.is(tagGeneralizedTime)); i++ {
		e := tbs.any("revocation list")
		if tbs.err != nil || e.tag != tagUTCTime && e.tag != tagGeneralizedTime {
			return errors.New("revocation list: it has no time")
		}
		if err := o.timeLength(e); err != nil {
			return fmt.Errorf("revocation list: %w", err)
		}
	}
	if tbs.is(tagSequence) {
		for in := (&reader{b: tbs.any("revocation list").body}); len(in.b) > 0; {
			one := &reader{b: in.take(tagSequence, "revocation list").body, err: in.err}
			one.integer("revocation list")
			if e := one.any("revocation list"); one.err != nil || e.tag != tagUTCTime && e.tag != tagGeneralizedTime || o.timeLength(e) != nil {
				return errors.New("revocation list: an entry without a time")
			}
			if len(one.b) > 0 {
				if err := checkExtensions(one.take(tagSequence, "revocation list").body); err != nil {
					return err
				}
			}
			if one.end("revocation list"); one.err != nil {
				return one.err
			}
		}
	}
	if tbs.is(tagContext0) {
		list := &reader{b: tbs.any("revocation list").body}
		err := checkExtensions(list.take(tagSequence, "revocation list").body)
		if list.end("revocation list"); list.err != nil || err != nil {
			return errors.Join(list.err, err)
		}
	}
	tbs.end("revocation list")
	return tbs.err
}

func (o Options) parseSigner(b []byte) (s Signer, err error) {
	r := &reader{b: b}
	r.integer("signer version")
	name := &reader{b: r.take(tagSequence, "issuer and serial number").body}
	issuer := name.take(tagSequence, "issuer")
	s.serial = name.integer("serial number")
	name.end("issuer and serial number")
	s.hash, err = r.digest("digest algorithm of the signer", o)
	if err != nil {
		return s, err
	}
	if r.err != nil || name.err != nil {
		return s, errors.Join(r.err, name.err)
	}
	if s.issuer, err = canonicalName(issuer.full); err != nil {
		return s, err
	}
	if r.is(tagContext0) {
		e := r.any("signed attributes")
		var rewritten bool
		if s.digests, rewritten, err = o.attributes(e.body); err != nil {
			return s, err
		}
		if rewritten || !canonicalLength(e) {
			return s, unknown("signed attributes that are not in DER: OpenSSL encodes them again")
		}
		if len(e.body) > 0 {
			s.attributes = bytes.Clone(e.full)
			s.attributes[0] = tagSet
		}
	}
	r.algorithm("signature algorithm", o) // which OpenSSL does not look at: it goes by the key
	s.signature = r.take(tagOctets, "signature").body
	if r.is(tagContext1) {
		if _, _, err := o.attributes(r.any("unsigned attributes").body); err != nil {
			return s, err
		}
	}
	r.end("signer")
	return s, r.err
}

// digest takes the identifier of a digest algorithm: 0 for one that is not known.
func (r *reader) digest(what string, o Options) (crypto.Hash, error) {
	id, parameters := r.algorithm(what, o)
	if len(parameters) > 0 && !bytes.Equal(parameters, []byte{tagNull, 0}) {
		return 0, unknown("parameters of a digest algorithm")
	}
	return hashOf(id), nil
}

// IsData reports whether the message signs plain data, which it may carry.
func (m *Message) IsData() bool { return bytes.Equal(m.contentType, oidData) }

// attributes checks the form of attributes and returns the first values of messageDigest ones, nil
// for one that is no OCTET STRING. rewritten says that they are not in DER.
func (o Options) attributes(b []byte) (digests [][]byte, rewritten bool, err error) {
	n := 0
	for r := (&reader{b: b}); len(r.b) > 0; {
		if n++; n > maxAttributes {
			return nil, false, unknown("more than %d attributes of a signer", maxAttributes)
		}
		e := r.take(tagSequence, "attribute")
		in := &reader{b: e.body, err: r.err}
		id := in.oid("attribute")
		set := in.take(tagSet, "attribute values")
		in.end("attribute")
		if in.err != nil {
			return nil, false, in.err
		}
		rewritten = rewritten || !canonicalLength(e) || !canonicalLength(id) || !canonicalLength(set)
		values := &reader{b: set.body}
		var last []byte
		for first := true; len(values.b) > 0; first = false {
			v := values.value("attribute value", o)
			if values.err != nil {
				return nil, false, values.err
			}
			rewritten = rewritten || !canonicalLength(v) || bytes.Compare(last, v.full) > 0
			last = v.full
			if first && bytes.Equal(id.body, oidMessageDigest) {
				digest := v.body
				if v.tag != tagOctets {
					digest = nil
				}
				digests = append(digests, digest)
			}
		}
	}
	return digests, rewritten, nil
}

// canonicalLength reports whether an element's length is written as DER wants it.
func canonicalLength(e element) bool {
	head := 2
	if n := len(e.body); n > 0x7f {
		for ; n > 0; n >>= 8 {
			head++
		}
	}
	return len(e.full) == head+len(e.body) && e.full[1] != 0x80
}

// SignerCertificates is Pkcs7GetSigners: the certificates that the signers name by issuer and
// serial number. It is an error if one of them is not there, or if there is no signer.
func (m *Message) SignerCertificates() ([]*Certificate, error) {
	var out []*Certificate
	for i := range m.Signers {
		s := &m.Signers[i]
		var found *Certificate
		for _, c := range m.Certificates {
			if sameInteger(c.Serial, s.serial) && bytes.Equal(c.issuer, s.issuer) {
				found = c
				break
			}
		}
		if found == nil {
			return nil, fmt.Errorf("the message does not carry the certificate of its signer, serial number %x, among its %d: sign again with the certificate", s.serial, len(m.Certificates))
		}
		out = append(out, found)
	}
	if out == nil {
		return nil, errors.New("the message has no signer, want one")
	}
	return out, nil
}

// Verify is PKCS7_verify against one trusted certificate: every signer's certificate must lead to
// it, and every signature be one of the content. An error that is no [UnknownError] means that
// firmware refuses. The path of the first signer is returned.
func (m *Message) Verify(trusted *Certificate, content []byte, o Options) ([]*Certificate, error) {
	signers, err := m.SignerCertificates()
	if err != nil {
		return nil, err
	}
	var open error
	var first []*Certificate
	for i, c := range signers {
		path, err := chain(c, m.Certificates, trusted, o)
		if IsUnknown(err) {
			open = err
		} else if err != nil {
			return nil, &chainError{err}
		}
		if i == 0 {
			first = path
		}
	}
	for _, h := range m.algorithms {
		if h == 0 {
			return nil, unknown("a digest algorithm of the message other than SHA-1 and SHA-2")
		}
	}
	for i := range m.Signers {
		if err := m.check(&m.Signers[i], signers[i], content); IsUnknown(err) {
			open = err
		} else if err != nil {
			return nil, err
		}
	}
	return first, open
}

// A chainError is one of the path to the trusted certificate.
type chainError struct{ error }

func (e *chainError) Unwrap() error { return e.error }

// IsChain reports whether an error of Verify is about the path to the trusted certificate, not
// about the signature of the content.
func IsChain(err error) bool {
	_, ok := errors.AsType[*chainError](err)
	return ok
}

// check is PKCS7_signatureVerify.
func (m *Message) check(s *Signer, cert *Certificate, content []byte) error {
	listed := false
	for _, h := range m.algorithms {
		listed = listed || h == s.hash
	}
	if s.hash == 0 || !listed {
		return errors.New("the signer's digest algorithm is not among those that the message lists")
	}
	sum := sumOf(s.hash, content)
	if s.attributes != nil {
		if len(s.digests) == 0 || !bytes.Equal(s.digests[0], sum) {
			return fmt.Errorf("the content does not have the %v digest that was signed", s.hash)
		}
		sum = sumOf(s.hash, s.attributes)
	}
	return cert.key.verify(s.hash, sum, s.signature)
}

// imageHashPlace is where edk2 looks for the digest algorithm of an image, counted from the start
// of the message.
const imageHashPlace = 32

// ImageHash is how firmware chooses the digest of an image for a signature (HashPeImageByType): by
// the object identifier at a fixed place, and only if the message's length takes two bytes. 0:
// firmware passes the signature by.
func ImageHash(message []byte) crypto.Hash {
	if len(message) < imageHashPlace || message[1]&0x82 != 0x82 {
		return 0
	}
	for _, d := range digestHashes {
		if bytes.HasPrefix(message[imageHashPlace:], d.oid) {
			if d.hash == crypto.SHA224 { // listed, but not compiled in
				return 0
			}
			return d.hash
		}
	}
	return 0
}

// Names reports whether the object identifier of a hash is anywhere in messages, which are not read
// for that.
func Names(messages []byte, h crypto.Hash) bool {
	for _, d := range digestHashes {
		if d.hash == h {
			return bytes.Contains(messages, d.oid)
		}
	}
	return true
}

// VerifyImage is AuthenticodeVerify: m, which was read from message, signs an image with a digest.
func (m *Message) VerifyImage(trusted *Certificate, digest []byte, o Options) ([]*Certificate, error) {
	content, err := m.indirectData(digest)
	if err != nil {
		return nil, err
	}
	return m.Verify(trusted, content, o)
}

var errImageDigest = errors.New("the image was changed after it was signed, or the digest is not the last thing that is signed")

// About reports whether the message is about an image with a digest.
func (m *Message) About(digest []byte) bool {
	_, err := m.indirectData(digest)
	return err == nil
}

// indirectData is the content of SpcIndirectDataContent, whose last bytes have to be the digest of
// the image.
func (m *Message) indirectData(digest []byte) ([]byte, error) {
	if !bytes.Equal(m.contentType, oidSPCIndirectData) || m.content == nil {
		return nil, errors.New("the message is not about an image: its content is not SpcIndirectDataContent")
	}
	b := m.content
	if len(b) < 4 {
		return nil, errImageDigest
	}
	var head, size int
	switch n := b[1]; {
	case n < 0x80:
		head, size = 2, int(n)
	case n == 0x81:
		head, size = 3, int(b[2])
	case n == 0x82:
		head, size = 4, int(b[2])<<8|int(b[3])
	default:
		return nil, unknown("SpcIndirectDataContent with a length of more than two bytes")
	}
	if head+size > len(b) || size < len(digest) {
		return nil, errImageDigest
	}
	content := b[head : head+size]
	if !bytes.HasSuffix(content, digest) {
		return nil, errImageDigest
	}
	return content, nil
}
