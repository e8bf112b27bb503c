package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
)

// Identifiers of what makes a timestamp: the token of RFC 3161 as Authenticode attaches it
// (attribute szOID_RFC3161_counterSign of Microsoft's wincrypt.h), its content type (RFC 3161,
// section 2.4.2), and the counter-signature of PKCS #9 that came before (RFC 5652, section 11.4).
var (
	oidTimestampToken   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 3, 3, 1}
	oidTimestampInfo    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidCountersignature = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 6}
)

// A Timestamp is an authority's statement that a signature was there at a time.
type Timestamp struct {
	RFC3161   bool              // a token of RFC 3161; else a counter-signature of PKCS #9
	Time      time.Time         // zero when Err is set
	Authority *x509.Certificate // whose statement it is, nil if that cannot be told
	Err       error             // why it is not such a statement about this signature
}

// Timestamps lists what the unsigned attributes of a signer say about the time of its signature.
// Each is checked to be about this signature and to be signed by its authority, in whom trust is up
// to the caller.
func (sd *SignedData) Timestamps(si *SignerInfo) []Timestamp {
	if si.Unsigned == nil {
		return nil
	}
	c := &cursor{b: si.Unsigned, off: si.unsignedOffset}
	e, err := c.next("unsigned attributes")
	var attrs []Attribute
	if err == nil {
		attrs, err = parseAttributes(e.cursor(), "unsigned attribute")
	}
	if err != nil {
		return []Timestamp{{Err: err}}
	}
	var list []Timestamp
	for _, a := range attrs {
		for _, v := range a.Values {
			var t Timestamp
			switch {
			case a.Type.Equal(oidTimestampToken):
				t = Timestamp{RFC3161: true}
				t.Err = t.readToken(v, si)
			case a.Type.Equal(oidCountersignature):
				t.Err = t.readCountersignature(v, sd, si)
			default:
				continue
			}
			if t.Err != nil {
				t.Time = time.Time{}
			}
			list = append(list, t)
		}
	}
	return list
}

// readToken reads a TimeStampToken, a SignedData over TSTInfo (RFC 3161, section 2.4.2).
func (t *Timestamp) readToken(b []byte, si *SignerInfo) error {
	token, rest, err := Parse(b, 0)
	if err != nil {
		return within("timestamp token", err)
	}
	switch {
	case len(rest) != 0:
		return errors.New("timestamp token: " + errTrailing.Error())
	case !token.ContentType.Equal(oidTimestampInfo) || token.Content == nil:
		return fmt.Errorf("timestamp token: content type %v, want TSTInfo (%v)", token.ContentType, oidTimestampInfo)
	case len(token.Signers) != 1:
		return fmt.Errorf("timestamp token: %d signers, want 1", len(token.Signers))
	}
	content := &cursor{b: token.Content, off: token.ContentOffset}
	e, err := content.expect(tagOctets, "content")
	if err != nil {
		return within("timestamp token", err)
	}
	h, imprint, at, err := parseTimestampInfo(e.cursor())
	if err != nil {
		return within("timestamp token", err)
	}
	t.Time = at
	if t.Authority = token.Certificate(&token.Signers[0]); t.Authority == nil {
		return errors.New("timestamp token: the certificate of the signer is missing")
	}
	if err := token.Check(&token.Signers[0], t.Authority, nil); err != nil {
		return within("timestamp token", err)
	}
	if h == 0 || !bytes.Equal(imprint, digest(h, si.Signature)) {
		return errors.New("timestamp token: made for a different signature")
	}
	return nil
}

// parseTimestampInfo reads the beginning of TSTInfo: version, policy, messageImprint, serialNumber
// and genTime. Accuracy, nonce and names that may follow are signed, and of no use here.
func parseTimestampInfo(c *cursor) (h crypto.Hash, imprint []byte, at time.Time, err error) {
	e, err := c.expect(tagSequence, "TSTInfo")
	if err != nil {
		return 0, nil, at, err
	}
	in := e.cursor()
	if _, err = version(in, "TSTInfo version", 1); err != nil {
		return 0, nil, at, err
	}
	if _, err = in.oid("TSTInfo policy"); err != nil {
		return 0, nil, at, err
	}
	if e, err = in.expect(tagSequence, "messageImprint"); err != nil {
		return 0, nil, at, err
	}
	mi := e.cursor()
	id, err := mi.algorithm("hashAlgorithm")
	if err != nil {
		return 0, nil, at, err
	}
	if e, err = mi.expect(tagOctets, "hashedMessage"); err != nil {
		return 0, nil, at, err
	}
	imprint = e.body
	if _, err = in.expect(tagInteger, "TSTInfo serial number"); err != nil {
		return 0, nil, at, err
	}
	if e, err = in.expect(tagTime, "genTime"); err != nil {
		return 0, nil, at, err
	}
	if _, err := asn1.Unmarshal(e.full, &at); err != nil {
		return 0, nil, at, &osmith.FormatError{Offset: e.off, Field: "genTime", Err: err}
	}
	return HashByOID(id), imprint, at.UTC(), nil
}

// readCountersignature reads a SignerInfo whose content is the signature of si; the certificates
// are those of the message.
func (t *Timestamp) readCountersignature(b []byte, sd *SignedData, si *SignerInfo) error {
	c := &cursor{b: b}
	counter, err := parseSigner(c)
	if err == nil {
		err = c.end("counter-signature")
	}
	if err != nil {
		return within("counter-signature", err)
	}
	if t.Authority = sd.Certificate(&counter); t.Authority == nil {
		return errors.New("counter-signature: the certificate of the signer is missing")
	}
	over := SignedData{ContentType: OIDData, Digests: []asn1.ObjectIdentifier{counter.DigestOID}}
	if err := over.Check(&counter, t.Authority, si.Signature); err != nil {
		return within("counter-signature", err)
	}
	if t.Time = counter.SigningTime(); t.Time.IsZero() {
		return errors.New("counter-signature: no time")
	}
	return nil
}
