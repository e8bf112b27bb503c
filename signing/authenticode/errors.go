package authenticode

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/pe"
)

// Sentinels for what callers branch on.
var (
	// ErrUnsigned says that an image carries no signature.
	ErrUnsigned = errors.New("the image is not signed")

	// ErrUntrusted says that an image is intact and signed, but that no path leads from a signer to a trusted certificate.
	ErrUntrusted = errors.New("no signature leads to a trusted certificate")

	// ErrNoMatch says that an image is signed, but that none of its signatures is the one to be removed or replaced.
	ErrNoMatch = errors.New("no signature of the image is one of those asked for")

	// ErrNotPE says that a file is no PE image at all.
	ErrNotPE = pe.ErrNotPE
)

// A DigestError says that an image is not the one that was signed.
type DigestError struct {
	Hash crypto.Hash
	Want []byte // what the signature says
	Got  []byte // what the image has
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("the image was changed after it was signed: its %v digest is %x, the signed one %x", e.Hash, e.Got, e.Want)
}
