package cosign

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith"
)

var (
	// ErrUnsigned says that an artifact has no signature at all.
	ErrUnsigned = errors.New("not signed")

	// ErrUntrusted says that the signatures of an artifact do not satisfy the policy. The error is
	// an *UntrustedError.
	ErrUntrusted = errors.New("no signature by a trusted key")

	// ErrTooLarge says that a document is larger than the limit for reading it into memory.
	ErrTooLarge = errors.New("too large")

	// ErrNotRead is the reason for a rejection: a limit was reached, or the policy was satisfied,
	// before this signature and those after it were read.
	ErrNotRead = errors.New("not looked at")

	// ErrIncomplete says that a source could not look everywhere for signatures of an artifact. The
	// error is an *IncompleteError.
	ErrIncomplete = errors.New("the search for signatures was incomplete")

	// ErrNotFound says that a source lacks the requested blob or manifest.
	ErrNotFound = errors.New("not found")

	// ErrOtherKey is the reason for a rejection: no key of the policy made the signature, or the
	// signed content was altered afterwards.
	ErrOtherKey = errors.New("not made by a trusted key")

	// ErrNotValid is the reason for a rejection: the authority that made the signature is not valid
	// at the time of the policy.
	ErrNotValid = errors.New("not valid at this time")

	// ErrOtherReference is the reason for a rejection: a trusted key made the signature, but for a
	// name that the policy does not accept.
	ErrOtherReference = errors.New("signed for a different name")

	// ErrOtherArtifact is the reason for a rejection: a trusted key made the signature, but for a
	// different artifact.
	ErrOtherArtifact = errors.New("signed for a different artifact")
)

// An IncompleteError is what [ArtifactSource.Signatures] returns besides what it has found, if it
// could not look everywhere: a registry whose referrers API fails may have signatures under tags.
// Verify returns it if no signature was found, because the signatures may be in a place that could
// not be read.
type IncompleteError struct {
	Errs []error // errors of the places that could not be read
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("%v: %v", ErrIncomplete, errors.Join(e.Errs...))
}

// Is reports whether the target is ErrIncomplete.
func (e *IncompleteError) Is(target error) bool { return target == ErrIncomplete }

// Unwrap returns the errors of the places.
func (e *IncompleteError) Unwrap() []error { return e.Errs }

// An UntrustedError lists what a policy requires and what the artifact has.
type UntrustedError struct {
	Subject digest.Digest
	// how many authorities must have signed, and how many the policy has
	Want, Of int
	Signed   []string // names of the authorities that have signed
	// names of the authorities that have not signed; Policy.Keys have no name
	Absent   []string
	Missing  []MissingAttestation // attestations that the policy requires
	Rejected []Rejection          // signatures and attestations that do not count, and why
}

// A MissingAttestation is a rule of the policy that no attestation satisfies.
type MissingAttestation struct {
	Rule    string  // its predicate types and authorities
	Reasons []error // why the attestations that were found do not count
}

func (e *UntrustedError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: ", e.Subject)
	switch {
	case len(e.Signed) == 0:
		fmt.Fprintf(&text, "%v%s", ErrUntrusted, of(e.Absent))
	case len(e.Signed) < e.Want:
		fmt.Fprintf(&text, "signed only by %s: want signatures of %d of %d authorities%s", strings.Join(e.Signed, " and "), e.Want, e.Of, of(e.Absent))
	default:
		fmt.Fprintf(&text, "signed by %s", strings.Join(e.Signed, " and "))
	}
	for _, m := range e.Missing {
		fmt.Fprintf(&text, "; no attestation %s", m.Rule)
		for _, r := range m.Reasons {
			fmt.Fprintf(&text, " (%v)", r)
		}
	}
	if len(e.Rejected) == 0 {
		return text.String()
	}
	fmt.Fprintf(&text, ": %d found, none of which is accepted", len(e.Rejected))
	const shown = 4
	for i, r := range e.Rejected {
		switch {
		case i == shown:
			text.WriteString("; ...")
			return text.String()
		case i == 0:
			text.WriteString(": ")
		default:
			text.WriteString("; ")
		}
		text.WriteString(r.String())
	}
	return text.String()
}

// of names the authorities of no signature in a message.
func of(names []string) string {
	if len(names) == 0 {
		return ""
	}
	quoted := make([]string, 0, len(names))
	for _, name := range names {
		quoted = append(quoted, strconv.Quote(name))
	}
	return " (none by " + strings.Join(quoted, ", ") + ")"
}

// Is reports whether the target is ErrUntrusted, or ErrIncomplete if the source could not look
// everywhere.
func (e *UntrustedError) Is(target error) bool {
	return target == ErrUntrusted || target == ErrIncomplete && slices.ContainsFunc(e.Rejected, func(r Rejection) bool { return errors.Is(r.Err, ErrIncomplete) })
}

// Hints returns the distinct key hints that the signatures carry, in the order in
// which they were found. KeyHint gives the hint of a known key.
func (e *UntrustedError) Hints() []string {
	var hints []string
	seen := map[string]bool{"": true}
	for _, r := range e.Rejected {
		if !seen[r.Hint] {
			seen[r.Hint] = true
			hints = append(hints, r.Hint)
		}
	}
	return hints
}

// A Rejection is a signature that does not count, and why.
type Rejection struct {
	// descriptor of the manifest that holds or should hold the signature; empty for what the source
	// could not list
	Manifest digest.Digest
	Format   Format // zero if it is unknown
	Hint     string // the signature's hint about its key; not trustworthy
	Err      error
}

func (r Rejection) String() string {
	if r.Manifest == "" {
		return r.Err.Error()
	}
	text := string(r.Manifest)
	if r.Format != 0 {
		text = r.Format.String() + " in " + text
	}
	if r.Hint != "" {
		text += fmt.Sprintf(" (key %q)", r.Hint)
	}
	return fmt.Sprintf("%s: %v", text, r.Err)
}

// maxText bounds what is kept of an untrusted text, in bytes.
const maxText = 256

func short(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(strings.Clone(text[:maxText]), "") + "..."
}

// shortError is an error whose text is kept in part only, and what it is.
type shortError struct {
	text string
	is   []error
}

func (e *shortError) Error() string   { return e.text }
func (e *shortError) Unwrap() []error { return e.is }

// shorten keeps an error from holding on to much of a document.
func shorten(err error) error {
	text := err.Error()
	if len(text) <= 4*maxText {
		return err
	}
	s := &shortError{text: short(text)}
	for _, is := range []error{ErrOtherKey, ErrOtherArtifact, ErrOtherReference, ErrTooLarge, ErrNotFound, ErrNotValid, ErrNotRead} {
		if errors.Is(err, is) {
			s.is = append(s.is, is)
		}
	}
	if format, ok := errors.AsType[*osmith.FormatError](err); ok {
		s.is = append(s.is, &osmith.FormatError{Offset: format.Offset, Field: short(format.Field), Err: errors.New(short(format.Err.Error()))})
	}
	return s
}
