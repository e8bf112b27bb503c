package authenticode

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

// Sentinels for what callers branch on.
var (
	// ErrUnsigned says that an image carries no signature.
	ErrUnsigned = errors.New("authenticode: the image is not signed")

	// ErrUntrusted says that an image is intact and signed, but that no path leads from a signer to a trusted certificate.
	ErrUntrusted = errors.New("authenticode: no signature leads to a trusted certificate")

	// ErrNoMatch says that an image is signed, but that none of its signatures is the one to be removed or replaced.
	ErrNoMatch = errors.New("authenticode: no signature of the image is one of those asked for")

	// ErrNotPE says that a file is no PE image at all.
	ErrNotPE = pe.ErrNotPE
)

// A FormatError says where a PE image or a signature in it is not what it should be. Offset counts bytes from the start of the file.
type FormatError struct {
	Offset int64
	Field  string
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("authenticode: %s at 0x%x: %v", e.Field, e.Offset, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

// A DigestError says that an image is not the one that was signed.
type DigestError struct {
	Hash   crypto.Hash
	Signed []byte // what the signature says
	Actual []byte // what the image has
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("authenticode: the image was changed after it was signed: its %v digest is %x, the signed one %x", e.Hash, e.Actual, e.Signed)
}

// inFile turns an error of the PE or CMS reader into one of this package.
func inFile(err error) error {
	if e, ok := errors.AsType[*osmith.FormatError](err); ok {
		return &FormatError{Offset: e.Offset, Field: e.Field, Err: e.Err}
	}
	return fmt.Errorf("authenticode: %w", err)
}
