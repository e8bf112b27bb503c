package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/osmith-dev/osmith"
)

// Limits of what is read; real messages stay far below.
const (
	MaxSize         = 4 << 20 // bytes of a message
	maxCertificates = 64
	maxSigners      = 16
	maxAttributes   = 64
	maxAlgorithms   = 16
)

// SignedData is a message as read. Slices point into the input.
type SignedData struct {
	Raw         []byte // the whole message, ContentInfo included when there is one
	Bare        bool   // there was no ContentInfo around it
	Version     int    // 1 as in PKCS #7, or 3
	ContentType asn1.ObjectIdentifier
	Content     []byte // the DER element carried, nil when detached

	ContentOffset int64 // of Content in the file

	Digests      []asn1.ObjectIdentifier
	Certificates []*x509.Certificate
	// revocation lists, an element of tag [1] whose content was not looked at; nil when there is
	// none
	Revocations []byte
	Signers     []SignerInfo
}

// A SignerInfo is one signature of a message.
type SignerInfo struct {
	RawIssuer    []byte   // with Serial the name of the certificate, or
	Serial       *big.Int // nil when SubjectKeyID names it
	SubjectKeyID []byte
	DigestOID    asn1.ObjectIdentifier
	Hash         crypto.Hash // 0 when DigestOID is not one that is accepted
	Attributes   []Attribute // signed attributes; nil when there are none
	SignatureOID asn1.ObjectIdentifier
	Signature    []byte
	Unsigned     []byte // unsigned attributes, an element of tag [1]: see SignedData.Timestamps

	rawAttributes  []byte // as signed: with the tag of a SET
	unsignedOffset int64
}

// An Attribute is a type and its values, each one DER element.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte
}

// Parse reads one message, with or without ContentInfo, and returns what follows it. The offset is
// that of b in the file that it comes from: offsets in errors and in the result count from the
// start of the file.
func Parse(b []byte, offset int64) (sd *SignedData, rest []byte, err error) {
	if len(b) > MaxSize {
		return nil, nil, &osmith.FormatError{Offset: offset, Field: "message", Err: fmt.Errorf("%d bytes, limit %d", len(b), MaxSize)}
	}
	c := &cursor{b: b, off: offset}
	outer, err := c.expect(tagSequence, "message")
	if err != nil {
		return nil, nil, err
	}
	sd = &SignedData{Raw: outer.full, Bare: true}
	in := outer.cursor()
	if in.is(tagOID) {
		sd.Bare = false
		if in, err = unwrap(in); err != nil {
			return nil, nil, err
		}
	}
	if err := sd.parse(in); err != nil {
		return nil, nil, err
	}
	return sd, c.b, nil
}

// unwrap enters ContentInfo ::= SEQUENCE { contentType, content [0] EXPLICIT } (RFC 5652, section
// 3).
func unwrap(c *cursor) (*cursor, error) {
	at := c.off
	id, err := c.oid("content type of the message")
	if err != nil {
		return nil, err
	}
	if !id.Equal(OIDSignedData) {
		return nil, &osmith.FormatError{Offset: at, Field: "content type of the message", Err: fmt.Errorf("%v, want SignedData (%v)", id, OIDSignedData)}
	}
	e, err := c.expect(tagContext0, "content of the message")
	if err == nil {
		err = c.end("message")
	}
	if err != nil {
		return nil, err
	}
	c = e.cursor()
	if e, err = c.expect(tagSequence, "SignedData"); err == nil {
		err = c.end("content of the message")
	}
	return e.cursor(), err
}

// parse reads SignedData (RFC 5652, section 5.1).
func (sd *SignedData) parse(c *cursor) error {
	at := c.off
	v, err := version(c, "SignedData version", 1, 3)
	if err != nil {
		return err
	}
	sd.Version = int(v)
	e, err := c.expect(tagSet, "digest algorithms")
	if err != nil {
		return err
	}
	for in := e.cursor(); !in.empty(); {
		if len(sd.Digests) == maxAlgorithms {
			return in.fail("digest algorithms", fmt.Errorf("more than %d", maxAlgorithms))
		}
		id, err := in.algorithm("digest algorithm")
		if err != nil {
			return err
		}
		sd.Digests = append(sd.Digests, id)
	}
	if e, err = c.expect(tagSequence, "encapsulated content"); err != nil {
		return err
	}
	if err := sd.parseContent(e.cursor()); err != nil {
		return err
	}
	if c.is(tagContext0) {
		if e, err = c.next("certificates"); err != nil {
			return err
		}
		if err := sd.parseCertificates(e.cursor()); err != nil {
			return err
		}
	}
	if c.is(tagContext1) {
		if e, err = c.next("revocation lists"); err != nil {
			return err
		}
		sd.Revocations = e.full
	}
	if e, err = c.expect(tagSet, "signers"); err != nil {
		return err
	}
	for in := e.cursor(); !in.empty(); {
		if len(sd.Signers) == maxSigners {
			return in.fail("signers", fmt.Errorf("more than %d", maxSigners))
		}
		si, err := parseSigner(in)
		if err != nil {
			return err
		}
		sd.Signers = append(sd.Signers, si)
	}
	// CMS has version 3 for these two; PKCS #7 knows 1 only. 4 and 5 come with certificates of
	// other kinds.
	if v == 3 && sd.ContentType.Equal(OIDData) && !slices.ContainsFunc(sd.Signers, func(si SignerInfo) bool { return si.Serial == nil }) {
		return &osmith.FormatError{Offset: at, Field: "SignedData version", Err: errors.New("3, but neither content type nor a signer calls for it")}
	}
	return c.end("SignedData")
}

func version(c *cursor, field string, accepted ...byte) (byte, error) {
	e, err := c.expect(tagInteger, field)
	if err != nil {
		return 0, err
	}
	if len(e.body) == 1 && bytes.IndexByte(accepted, e.body[0]) >= 0 {
		return e.body[0], nil
	}
	return 0, &osmith.FormatError{Offset: e.off, Field: field, Err: fmt.Errorf("0x%x, want one of %v", e.body, accepted)}
}

func (sd *SignedData) parseContent(c *cursor) (err error) {
	if sd.ContentType, err = c.oid("content type"); err != nil || c.empty() {
		return err
	}
	e, err := c.expect(tagContext0, "content")
	if err == nil {
		err = c.end("encapsulated content")
	}
	if err != nil {
		return err
	}
	in := e.cursor()
	// The tag is not signed. Types other than data have a structure of their own, which their
	// readers know.
	if sd.ContentType.Equal(OIDData) {
		e, err = in.expect(tagOctets, "content")
	} else {
		e, err = in.next("content")
	}
	if err != nil {
		return err
	}
	sd.Content, sd.ContentOffset = e.full, e.off
	return in.end("content")
}

func (sd *SignedData) parseCertificates(c *cursor) error {
	for !c.empty() {
		if len(sd.Certificates) == maxCertificates {
			return c.fail("certificates", fmt.Errorf("more than %d", maxCertificates))
		}
		if sd.Version == 3 && c.is(tagContext1) {
			// An attribute certificate of version 1, which Microsoft's timestamp authority sends
			// along (RFC 5652, sections 5.1 and 10.2.2).
			if _, err := c.next("attribute certificate"); err != nil {
				return err
			}
			continue
		}
		e, err := c.expect(tagSequence, "certificate")
		if err != nil {
			return err
		}
		cert, err := x509.ParseCertificate(e.full)
		if err != nil {
			return &osmith.FormatError{Offset: e.off, Field: "certificate", Err: err}
		}
		sd.Certificates = append(sd.Certificates, cert)
	}
	return nil
}

// parseSigner reads SignerInfo (RFC 5652, section 5.3).
func parseSigner(c *cursor) (si SignerInfo, err error) {
	e, err := c.expect(tagSequence, "signer")
	if err != nil {
		return si, err
	}
	in := e.cursor()
	v, err := version(in, "signer version", 1, 3) // 1: issuer and serial number, 3: key identifier
	if err != nil {
		return si, err
	}
	if v == 3 {
		if e, err = in.expect(tagPrimitive, "subject key identifier"); err != nil {
			return si, err
		}
		si.SubjectKeyID = e.body
	} else if err := si.parseName(in); err != nil {
		return si, err
	}
	if si.DigestOID, err = in.algorithm("digest algorithm of the signer"); err != nil {
		return si, err
	}
	si.Hash = HashByOID(si.DigestOID)
	if in.is(tagContext0) {
		if e, err = in.next("signed attributes"); err != nil {
			return si, err
		}
		if si.Attributes, err = parseAttributes(e.cursor(), "signed attribute"); err != nil {
			return si, err
		}
		si.rawAttributes = bytes.Clone(e.full)
		si.rawAttributes[0] = tagSet
	}
	if si.SignatureOID, err = in.algorithm("signature algorithm"); err != nil {
		return si, err
	}
	if e, err = in.expect(tagOctets, "signature"); err != nil {
		return si, err
	}
	si.Signature = e.body
	if in.is(tagContext1) {
		if e, err = in.next("unsigned attributes"); err != nil {
			return si, err
		}
		si.Unsigned, si.unsignedOffset = e.full, e.off
	}
	return si, in.end("signer")
}

func (si *SignerInfo) parseName(c *cursor) error {
	e, err := c.expect(tagSequence, "issuer and serial number")
	if err != nil {
		return err
	}
	in := e.cursor()
	if e, err = in.expect(tagSequence, "issuer"); err != nil {
		return err
	}
	si.RawIssuer = e.full
	if e, err = in.expect(tagInteger, "serial number"); err != nil {
		return err
	}
	if _, err := asn1.Unmarshal(e.full, &si.Serial); err != nil {
		return &osmith.FormatError{Offset: e.off, Field: "serial number", Err: err}
	}
	return in.end("issuer and serial number")
}

// parseAttributes reads the attributes of a set; what says which.
func parseAttributes(c *cursor, what string) ([]Attribute, error) {
	attrs := []Attribute{}
	for !c.empty() {
		if len(attrs) == maxAttributes {
			return nil, c.fail(what+"s", fmt.Errorf("more than %d", maxAttributes))
		}
		e, err := c.expect(tagSequence, what)
		if err != nil {
			return nil, err
		}
		in := e.cursor()
		var a Attribute
		if a.Type, err = in.oid("attribute type"); err != nil {
			return nil, err
		}
		if e, err = in.expect(tagSet, "attribute values"); err != nil {
			return nil, err
		}
		if err := in.end(what); err != nil {
			return nil, err
		}
		for in = e.cursor(); !in.empty(); {
			if len(a.Values) == maxAttributes {
				return nil, in.fail("attribute values", fmt.Errorf("more than %d", maxAttributes))
			}
			v, err := in.next("attribute value")
			if err != nil {
				return nil, err
			}
			a.Values = append(a.Values, v.full)
		}
		attrs = append(attrs, a)
	}
	return attrs, nil
}
