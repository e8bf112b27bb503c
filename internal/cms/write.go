package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
)

// A Template says what is signed, by which certificate, and in which of the forms that firmware,
// kernel and tools expect. The zero value of every field but Certificate and the content is what a
// UEFI variable and dm-verity want: detached id-data under SHA-256, no signed attributes.
type Template struct {
	// Hash digests the content and the signed attributes: SHA-256 when zero, SHA-384 or SHA-512.
	Hash crypto.Hash

	// ContentType is id-data when nil.
	ContentType asn1.ObjectIdentifier

	// Content is one DER element that the message carries. The digest is over its value, without
	// tag and length, as PKCS #7 has it. When nil the message is detached and Digest is needed.
	Content []byte

	// Digest is the digest of detached content under Hash.
	Digest []byte

	// Attributes adds the signed attributes contentType and messageDigest, and signingTime when
	// SigningTime is not zero. The key then signs them instead of the content.
	Attributes  bool
	SigningTime time.Time

	// RawAttributes are signed attributes that were made elsewhere, a DER SET with the content type
	// and digest of this template and more; they take the place of those that Attributes and
	// SigningTime describe.
	RawAttributes []byte

	// Certificate is the signer's; it and Chain are carried in the message.
	Certificate *x509.Certificate
	Chain       []*x509.Certificate

	// Bare leaves out the ContentInfo around the SignedData, as UEFI variables want it.
	Bare bool
}

// A Request is what the key has to sign.
type Request struct {
	Hash   crypto.Hash // how Digest was made
	Digest []byte      // input of the signature
	// the signed attributes as DER SET, whose digest Digest is; nil when there are none
	Attributes []byte
}

func (t *Template) hash() crypto.Hash {
	if t.Hash == 0 {
		return crypto.SHA256
	}
	return t.Hash
}

func (t *Template) contentType() asn1.ObjectIdentifier {
	if t.ContentType == nil {
		return OIDData
	}
	return t.ContentType
}

// contentDigest checks the parts of the template against each other on the way.
func (t *Template) contentDigest() ([]byte, error) {
	h := t.hash()
	if HashOID(h) == nil {
		return nil, fmt.Errorf("digest %v: want SHA-256, SHA-384 or SHA-512", h)
	}
	if t.Certificate == nil {
		return nil, errors.New("no certificate of the signer")
	}
	if t.Content == nil {
		if len(t.Digest) != h.Size() {
			return nil, fmt.Errorf("digest of the detached content: %d bytes, %v has %d", len(t.Digest), h, h.Size())
		}
		return t.Digest, nil
	}
	c := cursor{b: t.Content}
	e, err := c.next("content")
	if err == nil {
		err = c.end("content")
	}
	if err != nil {
		return nil, err
	}
	sum := digest(h, e.body)
	if t.Digest != nil && !bytes.Equal(t.Digest, sum) {
		return nil, errors.New("the digest given is not that of the content given")
	}
	return sum, nil
}

// Prepare returns what the key has to sign. It depends on nothing but the template, so it can be
// repeated at any time and place.
func (t *Template) Prepare() (*Request, error) {
	sum, err := t.contentDigest()
	if err != nil {
		return nil, err
	}
	h := t.hash()
	if t.RawAttributes != nil {
		if err := t.checkRawAttributes(sum); err != nil {
			return nil, within("signed attributes to join", err)
		}
		return &Request{Hash: h, Digest: digest(h, t.RawAttributes), Attributes: t.RawAttributes}, nil
	}
	if !t.Attributes {
		return &Request{Hash: h, Digest: sum}, nil
	}
	attrs, err := t.signedAttributes(sum)
	if err != nil {
		return nil, err
	}
	return &Request{Hash: h, Digest: digest(h, attrs), Attributes: attrs}, nil
}

// checkRawAttributes checks that attributes from elsewhere are DER, in its order, and about the
// content of this template.
func (t *Template) checkRawAttributes(sum []byte) error {
	c := &cursor{b: t.RawAttributes}
	e, err := c.expect(tagSet, "signed attributes")
	if err == nil {
		err = c.end("signed attributes")
	}
	if err != nil {
		return err
	}
	var si SignerInfo
	if si.Attributes, err = parseAttributes(e.cursor(), "signed attribute"); err != nil {
		return err
	}
	var before []byte
	for in := e.cursor(); !in.empty(); {
		e, err := in.next("signed attribute")
		if err != nil {
			return err
		}
		if bytes.Compare(e.full, before) <= 0 {
			return &osmith.FormatError{Offset: e.off, Field: "signed attribute", Err: errors.New("not in the order that DER demands")}
		}
		before = e.full
	}
	return (&SignedData{ContentType: t.contentType()}).checkAttributes(&si, sum)
}

// signedAttributes encodes the SET that is signed (RFC 5652, sections 5.3, 5.4 and 11).
func (t *Template) signedAttributes(sum []byte) ([]byte, error) {
	ct, err := oidDER(t.contentType())
	if err != nil {
		return nil, err
	}
	attrs := make([][]byte, 0, 3)
	add := func(id asn1.ObjectIdentifier, value []byte) error {
		b, err := oidDER(id)
		if err != nil {
			return err
		}
		attrs = append(attrs, tlv(tagSequence, b, tlv(tagSet, value)))
		return nil
	}
	if err := add(OIDContentType, ct); err != nil {
		return nil, err
	}
	if err := add(OIDMessageDigest, tlv(tagOctets, sum)); err != nil {
		return nil, err
	}
	if !t.SigningTime.IsZero() {
		when, err := encodeTime(t.SigningTime)
		if err != nil {
			return nil, err
		}
		if err := add(OIDSigningTime, when); err != nil {
			return nil, err
		}
	}
	return setOf(tagSet, attrs...), nil
}

// encodeTime writes a Time in whole seconds: UTCTime for 1950 to 2049, else GeneralizedTime (RFC
// 5652, section 11.3).
func encodeTime(at time.Time) ([]byte, error) {
	at = at.UTC()
	switch y := at.Year(); {
	case y >= 1950 && y < 2050:
		return tlv(tagUTCTime, []byte(at.Format("060102150405Z"))), nil
	case y >= 0 && y <= 9999:
		return tlv(tagTime, []byte(at.Format("20060102150405Z"))), nil
	}
	return nil, fmt.Errorf("signing time %v: the year does not have four digits", at)
}

// Join builds the message from a signature over the Digest of [Template.Prepare], after checking it
// against the certificate: a message that would not verify is never returned.
func (t *Template) Join(signature []byte) ([]byte, error) {
	req, err := t.Prepare()
	if err != nil {
		return nil, err
	}
	alg, err := signatureAlgorithm(t.Certificate.PublicKey, req.Hash)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(t.Certificate, nil, req.Hash, req.Digest, signature); err != nil {
		return nil, fmt.Errorf("signature to join, certificate %q: %w", t.Certificate.Subject, err)
	}
	serial, err := asn1.Marshal(t.Certificate.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	digestAlg := DigestAlgorithm(req.Hash)
	info := [][]byte{
		{tagInteger, 1, 1},
		tlv(tagSequence, t.Certificate.RawIssuer, serial),
		digestAlg,
	}
	if req.Attributes != nil {
		// [0] IMPLICIT SET OF: the same element under another tag
		implicit := bytes.Clone(req.Attributes)
		implicit[0] = tagContext0
		info = append(info, implicit)
	}
	info = append(info, alg, tlv(tagOctets, signature))

	content, err := oidDER(t.contentType())
	if err != nil {
		return nil, err
	}
	if t.Content != nil {
		content = append(content, tlv(tagContext0, t.Content)...)
	}
	signed := tlv(tagSequence,
		[]byte{tagInteger, 1, 1},
		tlv(tagSet, digestAlg),
		tlv(tagSequence, content),
		setOf(tagContext0, t.certificates()...),
		tlv(tagSet, tlv(tagSequence, info...)),
	)
	if t.Bare {
		return signed, nil
	}
	id, err := oidDER(OIDSignedData)
	if err != nil {
		return nil, err
	}
	return tlv(tagSequence, id, tlv(tagContext0, signed)), nil
}

// certificates is the signer's certificate and the chain without repetitions.
func (t *Template) certificates() [][]byte {
	raw := [][]byte{t.Certificate.Raw}
next:
	for _, c := range t.Chain {
		for _, r := range raw {
			if bytes.Equal(r, c.Raw) {
				continue next
			}
		}
		raw = append(raw, c.Raw)
	}
	return raw
}

// Sign is Prepare, key.Sign and Join. RSA signs by PKCS #1 v1.5; an *ecdsa.PrivateKey signs by RFC
// 6979, so that both give the same bytes every time. Other keys are given the system's randomness
// and may do with it what they like.
func (t *Template) Sign(key crypto.Signer) ([]byte, error) {
	req, err := t.Prepare()
	if err != nil {
		return nil, err
	}
	signature, err := SignDigest(key, t.Certificate, req.Hash, req.Digest)
	if err != nil {
		return nil, err
	}
	return t.Join(signature)
}

// CheckKey checks that a key is there and is that of a certificate.
func CheckKey(key crypto.Signer, cert *x509.Certificate) error {
	if key == nil {
		return errors.New("no key")
	}
	if pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return fmt.Errorf("the key is not that of the certificate %q", cert.Subject)
	}
	return nil
}

// SignDigest has the key of a certificate sign a digest, deterministically where the kind of key
// allows it.
func SignDigest(key crypto.Signer, cert *x509.Certificate, h crypto.Hash, digest []byte) ([]byte, error) {
	if err := CheckKey(key, cert); err != nil {
		return nil, err
	}
	source := rand.Reader
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		source = nil // RFC 6979
	}
	signature, err := key.Sign(source, digest, h)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return signature, nil
}

func digest(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}
