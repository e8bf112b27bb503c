package authenticode

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// Verify checks an image as firmware does: one signature suffices if it is valid, covers the image
// as it is, and its signer is one of the trusted certificates or was issued by one, directly or
// through certificates that the signature carries. Dates are ignored. It returns the first such
// signature, or [ErrUnsigned], a [*DigestError], an error wrapping [ErrUntrusted] that names the
// signers, the Err of the signature, or a [*osmith.FormatError].
//
// Verify does not check revocation: package secureboot answers for a machine with db and dbx.
func Verify(src osmith.Source, trusted []*x509.Certificate) (s *Signature, err error) {
	defer prefix.Add("authenticode", &err)
	f, sigs, err := read(src)
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
	got, err := signedpe.Digests(f, src, hashes...)
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
		case !bytes.Equal(s.Digest, got[s.Hash]):
			changed = firstOf(changed, &DigestError{Hash: s.Hash, Want: s.Digest, Got: got[s.Hash]})
		case cms.Chain(s.Signer, s.Certificates, trusted) == nil:
			untrusted = firstOf(untrusted, fmt.Errorf("%w: signed by %q, issued by %q, want a signer that chains to %s", ErrUntrusted, s.Signer.Subject, s.Signer.Issuer, subjects(trusted)))
		default:
			return s, nil
		}
	}
	return nil, firstOf(untrusted, firstOf(changed, invalid))
}

// subjects names certificates.
func subjects(certs []*x509.Certificate) string {
	if len(certs) == 0 {
		return "a trusted certificate, of which none was given"
	}
	var names []string
	for _, c := range certs {
		names = append(names, fmt.Sprintf("%q", c.Subject))
	}
	return strings.Join(names, " or ")
}

// firstOf returns the first error that is one.
func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
