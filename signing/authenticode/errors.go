package authenticode

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// Sentinels for what callers branch on.
var (
	// ErrUnsigned says that an image carries no signature.
	ErrUnsigned = errors.New("the image is not signed")

	// ErrUntrusted says that an image is intact and signed, but that no path leads from a signer to
	// a trusted certificate.
	ErrUntrusted = errors.New("no signature leads to a trusted certificate")

	// ErrNoMatch says that an image is signed, but lacks the signature that was to be removed or
	// replaced.
	ErrNoMatch = errors.New("the image has none of the requested signatures")

	// ErrNotPE says that a file is not a PE image.
	ErrNotPE = pe.ErrNotPE
)

// A SigningTimeError says that a signature would claim a time at which the signer's certificate is
// not valid, or at which U-Boot considers it invalid.
type SigningTimeError struct {
	Time        time.Time
	Certificate *x509.Certificate
}

func (e *SigningTimeError) Error() string {
	text := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	if c := e.Certificate; !signedpe.OutsideValidity(e.Time, c.NotBefore, c.NotAfter) {
		return fmt.Sprintf("signing time %s: the certificate %q is valid from %s to %s, but U-Boot 2025.01 to 2026.10 is wrong by up to three days where a month ends in between, "+
			"and refuses the image: give a later time, or none", text(e.Time), c.Subject, text(c.NotBefore), text(c.NotAfter))
	}
	return fmt.Sprintf("signing time %s: the certificate %q is valid from %s to %s, and U-Boot refuses an image signed outside that time: give a time within it, or none",
		text(e.Time), e.Certificate.Subject, text(e.Certificate.NotBefore), text(e.Certificate.NotAfter))
}

// A DigestError says that an image changed after it was signed.
type DigestError struct {
	Hash crypto.Hash
	Want []byte // digest that the signature states
	Got  []byte // digest of the image
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("the image was changed after it was signed: its %v digest is %x, the signed one %x", e.Hash, e.Got, e.Want)
}
