package secureboot

import (
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
)

// Sentinels for what callers branch on.
var (
	// ErrUntrusted says that an update is well-formed and signed, but by none of the trusted certificates.
	ErrUntrusted = errors.New("secureboot: the update is not signed by a trusted certificate")

	// ErrSignature says that the signature of an update does not fit it: other content, another variable, attributes or time.
	ErrSignature = errors.New("secureboot: the signature does not fit the update")

	// ErrNoVariable says that there is nothing to delete.
	ErrNoVariable = errors.New("secureboot: the variable does not exist")
)

// A FormatError says where a signature list or an .auth file is not what it should be. Offset counts bytes from the start of the input.
type FormatError struct {
	Offset int64
	Field  string
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("secureboot: %s at byte %d: %v", e.Field, e.Offset, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

func bad(off int, field, format string, args ...any) error {
	return &FormatError{Offset: int64(off), Field: field, Err: fmt.Errorf(format, args...)}
}

// at turns an error of the CMS reader into one of this package.
func at(err error) error {
	if e, ok := errors.AsType[*osmith.FormatError](err); ok {
		return &FormatError{Offset: e.Offset, Field: e.Field, Err: e.Err}
	}
	return fmt.Errorf("secureboot: %w", err)
}
