package keyless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// maxTrustedRoot bounds the trusted root, in bytes; that of the public instance has 7 KiB.
const maxTrustedRoot = 4 << 20

// VerifierOptions say which proofs are asked for. The zero value is what Sigstore's public instance
// gives.
type VerifierOptions struct {
	// LogEntries, Timestamps and CertificateTimestamps are how many logs or authorities
	// must vouch for the signature, its time and its certificate; 0 means 1.
	LogEntries            int
	Timestamps            int
	CertificateTimestamps int

	// WithoutLogEntry accepts signatures that no transparency log has recorded, for a private
	// Sigstore with a timestamp authority and no log. Signatures by a stolen identity then go
	// unnoticed.
	WithoutLogEntry bool

	// WithoutCertificateTimestamps accepts certificates that no certificate transparency log has
	// recorded, for a private authority without one.
	WithoutCertificateTimestamps bool
}

// A Verifier checks signatures against one trusted root. It may be used by several goroutines.
type Verifier struct {
	verifier *verify.Verifier
}

var _ cosign.IdentityVerifier = (*Verifier)(nil)

// New reads a trusted root: the JSON document that Sigstore's TUF repository and "cosign
// trusted-root create" call trusted_root.json. It is never fetched, and how it came here is what
// all trust rests on.
func New(trustedRoot []byte, o VerifierOptions) (v *Verifier, err error) {
	defer prefix.Add("keyless", &err)
	if len(trustedRoot) > maxTrustedRoot {
		return nil, fmt.Errorf("trusted root: %d bytes, at most %d are allowed", len(trustedRoot), maxTrustedRoot)
	}
	for name, n := range map[string]int{"LogEntries": o.LogEntries, "Timestamps": o.Timestamps, "CertificateTimestamps": o.CertificateTimestamps} {
		if n < 0 {
			return nil, fmt.Errorf("options: %s is %d", name, n)
		}
	}
	if o.WithoutLogEntry && o.LogEntries > 0 || o.WithoutCertificateTimestamps && o.CertificateTimestamps > 0 {
		return nil, errors.New("options: proofs are both required and waived")
	}
	material, err := root.NewTrustedRootFromJSON(trustedRoot)
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	if len(material.FulcioCertificateAuthorities()) == 0 {
		return nil, errors.New("trusted root: no certificate authority")
	}
	// A time is always asked for: without one, any certificate would be good for ever.
	options := []verify.VerifierOption{verify.WithObserverTimestamps(max(o.Timestamps, 1))}
	if !o.WithoutLogEntry {
		options = append(options, verify.WithTransparencyLog(max(o.LogEntries, 1)))
	}
	if !o.WithoutCertificateTimestamps {
		options = append(options, verify.WithSignedCertificateTimestamps(max(o.CertificateTimestamps, 1)))
	}
	verifier, err := verify.NewVerifier(material, options...)
	if err != nil {
		return nil, err
	}
	return &Verifier{verifier}, nil
}

// VerifyIdentity implements cosign.IdentityVerifier.
func (v *Verifier) VerifyIdentity(ctx context.Context, text, message []byte, ids []cosign.Identity) (who *cosign.VerifiedIdentity, err error) {
	defer prefix.Add("keyless", &err)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, errors.New("no identity is trusted")
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	artifact, err := artifactOf(&b, message)
	if err != nil {
		return nil, err
	}
	// Who signed is compared below, by the rules of package cosign, for any number of identities.
	result, err := v.verifier.Verify(&b, verify.NewPolicy(artifact, verify.WithoutIdentitiesUnsafe()))
	if err != nil {
		return nil, err
	}
	if result.Signature == nil || result.Signature.Certificate == nil {
		return nil, errors.New("the signature is not by a certificate")
	}
	c := result.Signature.Certificate
	id := cosign.VerifiedIdentity{Issuer: c.Issuer, Subject: c.SubjectAlternativeName, Time: earliest(result)}
	for _, want := range ids {
		if want.Matches(id.Issuer, id.Subject) {
			return &id, nil
		}
	}
	return nil, &IdentityError{Want: ids, Got: id}
}

// artifactOf says what the signature in the bundle must be over. The message of a DSSE envelope is
// in the bundle itself; that it is the one that package cosign has read there, and nothing that
// another reader of JSON sees, is made sure.
func artifactOf(b *bundle.Bundle, message []byte) (verify.ArtifactPolicyOption, error) {
	content, err := b.SignatureContent()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	e := content.EnvelopeContent()
	if e == nil {
		return verify.WithArtifact(bytes.NewReader(message)), nil
	}
	raw := e.RawEnvelope()
	payload, err := raw.DecodeB64Payload()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if !bytes.Equal(dsse.PAE(raw.PayloadType, payload), message) {
		return nil, errors.New("bundle: the envelope holds a different message from the one to verify")
	}
	// Package cosign compares the subject of the statement with the artifact.
	return verify.WithoutArtifactUnsafe(), nil
}

// earliest is the first time that a log or an authority attests.
func earliest(r *verify.VerificationResult) time.Time {
	var first time.Time
	for _, t := range r.VerifiedTimestamps {
		if first.IsZero() || t.Timestamp.Before(first) {
			first = t.Timestamp
		}
	}
	return first
}

// An IdentityError says that a signature is good, but its signer is not trusted.
type IdentityError struct {
	Want []cosign.Identity // any of them
	Got  cosign.VerifiedIdentity
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("signed by %s of %s, want %v", e.Got.Subject, e.Got.Issuer, e.Want)
}
