package uki

import (
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

// What a caller may want to branch on. They arrive wrapped in a [PartError] or
// [osmith.FormatError], which say where.
var (
	ErrMissing      = errors.New("not given")
	ErrNotPE        = errors.New("not a PE image")
	ErrSigned       = errors.New("carries a Secure Boot signature already")
	ErrNotStub      = errors.New("not an EFI stub")
	ErrNotUKI       = errors.New("not a unified kernel image: no .linux section")
	ErrNotAddon     = errors.New("not an add-on")
	ErrNotProfile   = errors.New("not a profile: no .profile section")
	ErrUnknownUname = errors.New("kernel version not found")
	ErrUnknownStub  = errors.New("unknown stub version")
	// ErrHardwareDependent is returned for the measurements of an image in which the stub chooses a
	// section by the hardware (.dtbauto, .efifw).
	ErrHardwareDependent = errors.New("the measured section depends on the hardware")
)

// PartError says which part of an [Image] cannot be used.
type PartError struct {
	Part string // field of Image: "Stub", "Linux", "Cmdline"...
	Err  error
}

func (e *PartError) Error() string { return e.Part + ": " + e.Err.Error() }
func (e *PartError) Unwrap() error { return e.Err }

// SpaceError is returned when a part does not fit its place. Need and Have are bytes.
type SpaceError struct {
	What       string // "header of the stub", "section .sbat of the stub", "image"
	Need, Have int64
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s: needs %d bytes, has room for %d", e.What, e.Need, e.Have)
}

func partError(part, format string, args ...any) error {
	return &PartError{part, fmt.Errorf(format, args...)}
}

// formatError is an error of the PE reader, with the sentinel of this package for what is not an
// image at all.
func formatError(err error) *osmith.FormatError {
	f, ok := errors.AsType[*osmith.FormatError](err)
	if !ok {
		return &osmith.FormatError{Field: "image", Err: err}
	}
	if errors.Is(f.Err, pe.ErrNotPE) {
		return &osmith.FormatError{Offset: f.Offset, Field: f.Field, Err: ErrNotPE}
	}
	return f
}

// unusable is formatError for a part of an Image.
func unusable(part string, err error) error {
	f := formatError(err)
	if errors.Is(f.Err, ErrNotPE) {
		return &PartError{part, ErrNotPE}
	}
	return &PartError{part, f}
}
