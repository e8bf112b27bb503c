package signedpe

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
)

// Identifiers of the Authenticode specification, "SpcIndirectDataContent" and "SpcPeImageData".
var (
	OIDIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidPEImageData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}

	// oidKeyPurpose is a key purpose, individual code signing, which pesign before version 114
	// wrote for oidPEImageData: the signatures of Debian 11 and of fwupd in Debian 12 have it, and
	// firmware, which looks at the digest alone, takes them.
	oidKeyPurpose = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 21}
)

// A Signature is what one signature of an image says: see authenticode.Signature for what each
// field is.
type Signature struct {
	Hash        crypto.Hash
	Digest      []byte
	Signer      *x509.Certificate
	SigningTime time.Time
	Err         error // without the name of a package

	KeyPurpose bool // SpcIndirectData is of the type that old pesign wrote

	Offset  int64           // of Message in the file
	Message *cms.SignedData // with all certificates
}

// Signatures reads the signatures in the entries of a certificate table.
func Signatures(entries []Entry) ([]Signature, error) {
	list := make([]Signature, 0, len(entries))
	for _, e := range entries {
		if e.Message == nil {
			continue
		}
		s, err := ReadSignature(e.Message, e.MessageOffset)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// ReadSignature reads the PKCS #7 message at an offset of the file, padding included where a tool
// counts that. A well-formed one with an outdated algorithm or a wrong signature value is not an
// error, but has its Err.
func ReadSignature(b []byte, offset int64) (Signature, error) {
	sd, err := parseMessage(b, offset)
	if err != nil {
		return Signature{}, err
	}
	h, sum, keyPurpose, err := parseIndirectData(sd)
	if err != nil {
		return Signature{}, &osmith.FormatError{Offset: max(sd.ContentOffset, offset), Field: "SpcIndirectDataContent", Err: err}
	}
	si := &sd.Signers[0]
	s := Signature{Hash: h, Digest: sum, Signer: sd.Certificate(si), SigningTime: si.SigningTime(), KeyPurpose: keyPurpose, Offset: offset, Message: sd}
	switch {
	case h == 0:
		s.Err = errors.New("the digest algorithm of the image is not SHA-256, SHA-384 or SHA-512")
	case si.Hash != h:
		s.Err = fmt.Errorf("the image is digested with %v, its signature with algorithm %v", h, si.DigestOID)
	case s.Signer == nil:
		s.Err = errors.New("the signature does not carry the signer's certificate")
	default:
		s.Err = sd.Check(si, s.Signer, nil)
	}
	return s, nil
}

func parseMessage(b []byte, offset int64) (*cms.SignedData, error) {
	sd, rest, err := cms.Parse(b, offset)
	if err != nil {
		return nil, err
	}
	bad := func(off int, err error) (*cms.SignedData, error) {
		return nil, &osmith.FormatError{Offset: offset + int64(off), Field: "signature", Err: err}
	}
	// Some tools count the padding, all of it: headers have multiples of 8 bytes.
	if n := len(rest); n >= Alignment || (n > 0 && len(b)%Alignment != 0) || !allZero(rest) {
		return bad(len(sd.Raw), fmt.Errorf("%d bytes follow it that are not padding", len(rest)))
	}
	if sd.Version != 1 {
		return bad(0, fmt.Errorf("SignedData version %d, want 1", sd.Version))
	}
	if len(sd.Signers) != 1 {
		return bad(0, fmt.Errorf("%d signers in one message, want 1", len(sd.Signers)))
	}
	return sd, nil
}

// indirectData is what an Authenticode signature signs:
//
//	SpcIndirectDataContent ::= SEQUENCE { data SpcAttributeTypeAndOptionalValue, messageDigest DigestInfo }
type indirectData struct {
	Data struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue `asn1:"optional"`
	}
	MessageDigest digestInfo
}

type digestInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Digest    []byte
}

// peImageData is SpcPeImageData { flags ”, file [0] { [2] { [0] BMPString "<<<Obsolete>>>" } } } as
// signtool and sbsign write it: no flags (the specification's default, includeResources, is written
// by no tool) and the text that stands for a file link.
var peImageData = func() []byte {
	const text = "<<<Obsolete>>>"
	var name []byte
	for i := range len(text) {
		name = append(name, 0, text[i]) // UTF-16BE
	}
	n := byte(len(name))
	b := []byte{0x30, n + 9, 0x03, 1, 0, 0xa0, n + 4, 0xa2, n + 2, 0x80, n}
	return append(b, name...)
}()

// EncodeIndirectData returns the signed content for the digest of an image.
func EncodeIndirectData(h crypto.Hash, sum []byte) ([]byte, error) {
	var d indirectData
	d.Data.Type = oidPEImageData
	d.Data.Value = asn1.RawValue{FullBytes: peImageData}
	d.MessageDigest.Algorithm = pkix.AlgorithmIdentifier{Algorithm: cms.HashOID(h), Parameters: asn1.NullRawValue}
	d.MessageDigest.Digest = sum
	b, err := asn1.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode the digest: %w", err)
	}
	return b, nil
}

// parseIndirectData returns the digest that a signature is about; the hash is 0 when it is not one
// that is accepted.
func parseIndirectData(sd *cms.SignedData) (h crypto.Hash, sum []byte, keyPurpose bool, err error) {
	if !sd.ContentType.Equal(OIDIndirectData) {
		return 0, nil, false, fmt.Errorf("content type %v, want SpcIndirectData (%v)", sd.ContentType, OIDIndirectData)
	}
	if sd.Content == nil {
		return 0, nil, false, errors.New("the message carries no content")
	}
	var d indirectData
	rest, err := asn1.Unmarshal(sd.Content, &d)
	if err != nil {
		return 0, nil, false, err
	}
	if len(rest) != 0 {
		return 0, nil, false, errors.New("bytes follow SpcIndirectData")
	}
	keyPurpose = d.Data.Type.Equal(oidKeyPurpose)
	if !keyPurpose && !d.Data.Type.Equal(oidPEImageData) {
		return 0, nil, false, fmt.Errorf("got content %v, want a PE image (%v)", d.Data.Type, oidPEImageData)
	}
	h = cms.HashByOID(d.MessageDigest.Algorithm.Algorithm)
	if h != 0 && len(d.MessageDigest.Digest) != h.Size() {
		return 0, nil, false, fmt.Errorf("digest of %d bytes for %v", len(d.MessageDigest.Digest), h)
	}
	return h, bytes.Clone(d.MessageDigest.Digest), keyPurpose, nil
}
