package authenticode

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/cms"
)

// Identifiers of the Authenticode specification, "SpcIndirectDataContent" and "SpcPeImageData".
var (
	oidIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidPEImageData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
)

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

// peImageData is SpcPeImageData { flags ”, file [0] { [2] { [0] BMPString "<<<Obsolete>>>" } } } as signtool and sbsign write it: no
// flags (the specification's default, includeResources, is written by nobody) and the text that stands for a file link.
var peImageData = func() []byte {
	const text = "<<<Obsolete>>>"
	var name []byte
	for i := range len(text) {
		name = append(name, 0, text[i])
	}
	n := byte(len(name))
	b := []byte{0x30, n + 9, 0x03, 1, 0, 0xa0, n + 4, 0xa2, n + 2, 0x80, n}
	return append(b, name...)
}()

// encodeIndirectData returns the signed content for the digest of an image.
func encodeIndirectData(h crypto.Hash, sum []byte) ([]byte, error) {
	var d indirectData
	d.Data.Type = oidPEImageData
	d.Data.Value = asn1.RawValue{FullBytes: peImageData}
	d.MessageDigest.Algorithm = pkix.AlgorithmIdentifier{Algorithm: cms.HashOID(h), Parameters: asn1.NullRawValue}
	d.MessageDigest.Digest = sum
	b, err := asn1.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("authenticode: encode the digest: %w", err)
	}
	return b, nil
}

// parseIndirectData returns the digest that a signature is about; the hash is 0 when it is not one that is accepted.
func parseIndirectData(sd *cms.SignedData) (h crypto.Hash, sum []byte, err error) {
	if !sd.ContentType.Equal(oidIndirectData) {
		return 0, nil, fmt.Errorf("content type %v, want SpcIndirectData (%v)", sd.ContentType, oidIndirectData)
	}
	if sd.Content == nil {
		return 0, nil, errors.New("the message carries no content")
	}
	var d indirectData
	rest, err := asn1.Unmarshal(sd.Content, &d)
	if err != nil {
		return 0, nil, err
	}
	if len(rest) != 0 {
		return 0, nil, errors.New("bytes follow SpcIndirectData")
	}
	if !d.Data.Type.Equal(oidPEImageData) {
		return 0, nil, fmt.Errorf("it is about %v, not about a PE image (%v)", d.Data.Type, oidPEImageData)
	}
	h = cms.HashByOID(d.MessageDigest.Algorithm.Algorithm)
	if h != 0 && len(d.MessageDigest.Digest) != h.Size() {
		return 0, nil, fmt.Errorf("digest of %d bytes for %v", len(d.MessageDigest.Digest), h)
	}
	return h, bytes.Clone(d.MessageDigest.Digest), nil
}
