package authenticode

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// A Signature is what one signature of an image states. Of its fields, only Err is a verdict;
// [Verify] decides whether the image still has that digest and whether the signer is trusted, and
// package secureboot does so for a given machine.
type Signature struct {
	Hash         crypto.Hash         // digest algorithm, 0 if it is not SHA-256, SHA-384 or SHA-512
	Digest       []byte              // digest of the image when it was signed
	Signer       *x509.Certificate   // nil if the signature does not carry it
	Certificates []*x509.Certificate // all certificates that the signature carries
	SigningTime  time.Time           // the signer's claim, zero if there is none
	// why the signature is not a valid signature by Signer over Digest; nil if it is valid
	Err error

	Offset  int64  // of Message in the file, in bytes
	Message []byte // PKCS #7 SignedData, DER, without padding: see [Attach]

	signed *cms.SignedData
}

// Signatures lists the signatures of an image in the order of the file, An unsigned image has no
// entries, which is not an error. A certificate table that cannot be read is a
// [*osmith.FormatError]; a well-formed signature with an outdated algorithm or a wrong signature
// value is listed with its Err.
func Signatures(src osmith.Source) (list []Signature, err error) {
	defer prefix.Add("authenticode", &err)
	_, list, err = read(src)
	return list, err
}

// read reads the headers and the signatures of an image.
func read(src osmith.Source) (*pe.File, []Signature, error) {
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, nil, err
	}
	entries, err := signedpe.ReadTable(f, src)
	if err != nil {
		return nil, nil, err
	}
	list, err := signatures(entries)
	return f, list, err
}

func signatures(entries []signedpe.Entry) ([]Signature, error) {
	found, err := signedpe.Signatures(entries)
	if err != nil {
		return nil, err
	}
	list := make([]Signature, len(found))
	for i, s := range found {
		list[i] = Signature{
			Hash: s.Hash, Digest: s.Digest, Signer: s.Signer, Certificates: s.Message.Certificates, SigningTime: s.SigningTime,
			Err: prefix.Error("authenticode", s.Err), Offset: s.Offset, Message: s.Message.Raw, signed: s.Message,
		}
	}
	return list, nil
}

// SignedBy selects the signatures that name a certificate as their signer's, whether or not the
// signatures are valid: for [Remove] and SignOptions.Replace.
func SignedBy(cert *x509.Certificate) func(i int, s Signature) bool {
	return func(_ int, s Signature) bool { return s.Signer != nil && s.Signer.Equal(cert) }
}

// A Timestamp is an authority's statement that a signature existed at some time. It is added after
// signing, and the signature does not cover it. Its presence does not mean that the authority is
// trusted.
type Timestamp struct {
	// true for a token of RFC 3161, false for the older PKCS #9 counter-signature
	RFC3161   bool
	Time      time.Time         // zero when Err is set
	Authority *x509.Certificate // authority that made the statement, nil if it is unknown
	// why it is not a valid statement by Authority about this signature; nil if it is valid
	Err error
}

// Timestamps are the counter-signatures of a signature from [Signatures], each checked to cover
// that signature and to be made by its authority. Firmware and [Verify] ignore counter-signatures.
func (s *Signature) Timestamps() []Timestamp {
	if s.signed == nil {
		return nil
	}
	var list []Timestamp
	for _, t := range s.signed.Timestamps(&s.signed.Signers[0]) {
		t.Err = prefix.Error("authenticode", t.Err)
		list = append(list, Timestamp(t))
	}
	return list
}
