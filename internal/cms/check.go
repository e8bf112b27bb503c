package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// attribute returns the only value of the only attribute of a type.
func (si *SignerInfo) attribute(id asn1.ObjectIdentifier) ([]byte, error) {
	var value []byte
	for _, a := range si.Attributes {
		if !a.Type.Equal(id) {
			continue
		}
		if value != nil || len(a.Values) != 1 {
			return nil, fmt.Errorf("attribute %v does not have exactly one value", id)
		}
		value = a.Values[0]
	}
	if value == nil {
		return nil, fmt.Errorf("attribute %v is missing", id)
	}
	return value, nil
}

// SigningTime is the time that the signer claims, the zero time if none or none that can be read.
func (si *SignerInfo) SigningTime() time.Time {
	v, err := si.attribute(OIDSigningTime)
	if err != nil {
		return time.Time{}
	}
	var t time.Time
	if rest, err := asn1.Unmarshal(v, &t); err != nil || len(rest) != 0 {
		return time.Time{}
	}
	return t.UTC()
}

// Certificate returns the embedded certificate that a signer names, nil if it is not there.
func (sd *SignedData) Certificate(si *SignerInfo) *x509.Certificate {
	for _, c := range sd.Certificates {
		if si.Serial != nil && c.SerialNumber.Cmp(si.Serial) == 0 && bytes.Equal(c.RawIssuer, si.RawIssuer) {
			return c
		}
		if si.Serial == nil && len(si.SubjectKeyID) > 0 && bytes.Equal(c.SubjectKeyId, si.SubjectKeyID) {
			return c
		}
	}
	return nil
}

var errAttributes = errors.New("content other than id-data is signed without signed attributes (RFC 5652, section 5.3)")

// Check checks that a signer's signature was made by the key of cert over the content that the
// message carries, or over detached when it carries none. It says nothing about trust: see [Chain].
func (sd *SignedData) Check(si *SignerInfo, cert *x509.Certificate, detached []byte) error {
	if si.Hash == 0 {
		return fmt.Errorf("digest algorithm %v: want SHA-256, SHA-384 or SHA-512", si.DigestOID)
	}
	if !slices.ContainsFunc(sd.Digests, si.DigestOID.Equal) {
		return fmt.Errorf("digest algorithm %v of the signer is not among those of the message", si.DigestOID)
	}
	content := detached
	if sd.Content != nil {
		if detached != nil {
			return errors.New("content given for a message that carries its own")
		}
		e, err := (&cursor{b: sd.Content}).next("content")
		if err != nil {
			return err
		}
		content = e.body
	}
	sum := digest(si.Hash, content)
	if si.Attributes == nil {
		if !sd.ContentType.Equal(OIDData) {
			return errAttributes
		}
	} else {
		if err := sd.checkAttributes(si, sum); err != nil {
			return err
		}
		sum = digest(si.Hash, si.rawAttributes)
	}
	if err := checkSignature(cert, si.SignatureOID, si.Hash, sum, si.Signature); err != nil {
		return fmt.Errorf("certificate %q: %w", cert.Subject, err)
	}
	return nil
}

// ErrDigest says that the content is not what the signer digested.
var ErrDigest = errors.New("the content does not have the digest that was signed")

func (sd *SignedData) checkAttributes(si *SignerInfo, sum []byte) error {
	v, err := si.attribute(OIDContentType)
	if err != nil {
		return err
	}
	want, err := oidDER(sd.ContentType)
	if err != nil {
		return err
	}
	if !bytes.Equal(v, want) {
		return errors.New("the signed content type is not that of the message")
	}
	if v, err = si.attribute(OIDMessageDigest); err != nil {
		return err
	}
	if !bytes.Equal(v, tlv(tagOctets, sum)) {
		return ErrDigest
	}
	return nil
}
