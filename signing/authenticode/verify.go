package authenticode

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/pe"
)

// A Signature is what one signature of an image says. Only Err is a judgement; whether the image still has that digest, and whether the
// signer is trusted, is for [Verify] or, in a machine's view, for secureboot.Variables.Evaluate, whose Candidate has the same fields, so
// that a plain conversion hands one over.
type Signature struct {
	Hash         crypto.Hash         // digest algorithm, 0 if it is not SHA-256, SHA-384 or SHA-512
	Digest       []byte              // digest of the image when it was signed
	Signer       *x509.Certificate   // nil if the signature does not carry it
	Certificates []*x509.Certificate // all that the signature carries
	SigningTime  time.Time           // as the signer claims, zero if it does not
	Err          error               // why the signature is not one by Signer over Digest; nil if it is
}

// Signatures lists the signatures of an image in the order of the file, without an error or an entry for an unsigned one.
// A certificate table that cannot be read is a [*FormatError]; a well-formed signature with an outdated algorithm or a
// wrong signature value is listed with its Err.
func Signatures(src osmith.Source) ([]Signature, error) {
	f, err := parse(src)
	if err != nil {
		return nil, err
	}
	return signatures(f, src)
}

func signatures(f *pe.File, src osmith.Source) ([]Signature, error) {
	_, entries, err := readTable(f, src)
	if err != nil {
		return nil, err
	}
	return parseSignatures(entries)
}

func parseSignatures(entries []entry) ([]Signature, error) {
	sigs := make([]Signature, 0, len(entries))
	for _, e := range entries {
		if e.data == nil {
			continue
		}
		sd, err := parseMessage(e.data, e.offset)
		if err != nil {
			return nil, err
		}
		s, err := newSignature(sd, e.offset)
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, s)
	}
	return sigs, nil
}

// parseMessage reads the PKCS #7 message at an offset of the file, padding included where a tool counts that.
func parseMessage(b []byte, offset int64) (*cms.SignedData, error) {
	sd, rest, err := cms.Parse(b, offset)
	if err != nil {
		return nil, inFile(err)
	}
	bad := func(off int, err error) (*cms.SignedData, error) {
		return nil, &FormatError{Offset: offset + int64(off), Field: "signature", Err: err}
	}
	// Some tools count the padding, all of it: headers have multiples of 8 bytes.
	if n := len(rest); n >= certAlignment || (n > 0 && len(b)%certAlignment != 0) || !allZero(rest) {
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

func newSignature(sd *cms.SignedData, offset int64) (Signature, error) {
	h, sum, err := parseIndirectData(sd)
	if err != nil {
		return Signature{}, &FormatError{Offset: offset + sd.ContentOffset, Field: "SpcIndirectDataContent", Err: err}
	}
	si := &sd.Signers[0]
	s := Signature{Hash: h, Digest: sum, Signer: sd.Certificate(si), Certificates: sd.Certificates, SigningTime: si.SigningTime()}
	switch {
	case h == 0:
		s.Err = errors.New("authenticode: the digest algorithm of the image is not SHA-256, SHA-384 or SHA-512")
	case si.Hash != h:
		s.Err = fmt.Errorf("authenticode: the image is digested with %v, its signature with algorithm %v", h, si.DigestOID)
	case s.Signer == nil:
		s.Err = errors.New("authenticode: the signature does not carry the signer's certificate")
	default:
		if err := sd.Check(si, s.Signer, nil); err != nil {
			s.Err = fmt.Errorf("authenticode: %w", err)
		}
	}
	return s, nil
}

// Verify checks an image as firmware does: one signature is enough that is valid, is about the image as it is, and whose signer is one
// of the trusted certificates or issued by one, directly or through certificates that the signature carries. Dates are not looked at.
// It returns the first such signature, or [ErrUnsigned], a [*DigestError], an error wrapping [ErrUntrusted] that names the
// signers, the Err of the signature, or a [*FormatError].
//
// Revocation is not part of it: for the answer of a machine with db and dbx see package secureboot.
func Verify(src osmith.Source, trusted []*x509.Certificate) (*Signature, error) {
	f, err := parse(src)
	if err != nil {
		return nil, err
	}
	sigs, err := signatures(f, src)
	if err != nil {
		return nil, err
	}
	if len(sigs) == 0 {
		return nil, ErrUnsigned
	}
	var hashes []crypto.Hash
	for _, s := range sigs {
		if s.Err == nil {
			hashes = append(hashes, s.Hash)
		}
	}
	actual, err := digests(f, src, hashes)
	if err != nil {
		return nil, err
	}
	// Of several failures the one is reported that came closest to a success.
	var invalid, changed, untrusted error
	for i := range sigs {
		s := &sigs[i]
		switch {
		case s.Err != nil:
			invalid = firstOf(invalid, s.Err)
		case !bytes.Equal(s.Digest, actual[s.Hash]):
			changed = firstOf(changed, &DigestError{Hash: s.Hash, Signed: s.Digest, Actual: actual[s.Hash]})
		case cms.Chain(s.Signer, s.Certificates, trusted) == nil:
			untrusted = firstOf(untrusted, fmt.Errorf("%w: signed by %q, issued by %q", ErrUntrusted, s.Signer.Subject, s.Signer.Issuer))
		default:
			return s, nil
		}
	}
	return nil, firstOf(untrusted, firstOf(changed, invalid))
}

// firstOf returns the first error that is one.
func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
