package releasecli

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// Verification is what is said about an artifact that was verified, or refused. Digests are sha256:HEX, fingerprints lower-case
// hexadecimal.
type Verification struct {
	Digest       string      `json:"digest"`
	Verified     bool        `json:"verified"`
	Signatures   []Signature `json:"signatures"`   // that count
	Attestations []Signature `json:"attestations"` // that count
	Rejected     []Rejection `json:"rejected"`
	Reason       string      `json:"reason,omitempty"` // of a no: unsigned, untrusted, digest
	Error        string      `json:"error,omitempty"`
}

// Signature says who signed, and what.
type Signature struct {
	Authority     string `json:"authority"`         // of the policy; "" with -key
	Key           string `json:"key,omitempty"`     // fingerprint: SHA-256 of the SubjectPublicKeyInfo
	Issuer        string `json:"issuer,omitempty"`  // of a certificate
	Subject       string `json:"subject,omitempty"` // of a certificate
	Format        string `json:"format"`            // legacy, bundle
	Manifest      string `json:"manifest"`          // digest of what holds it
	PredicateType string `json:"predicateType,omitempty"`
}

// Rejection is a signature that does not count.
type Rejection struct {
	Manifest string `json:"manifest"`
	Format   string `json:"format,omitempty"`
	KeyHint  string `json:"keyHint,omitempty"` // what the signature says about its key: base64 of the fingerprint
	Reason   string `json:"reason"`            // otherKey, otherArtifact, notValid, digest, malformed, missing, other
	Error    string `json:"error"`
}

// NewVerification describes what cosign.Verify has returned. An error that is no refusal is returned as it is.
func NewVerification(artifact digest.Digest, result *cosign.Result, err error) (*Verification, error) {
	v := &Verification{Digest: string(artifact), Verified: err == nil,
		Signatures: []Signature{}, Attestations: []Signature{}, Rejected: []Rejection{}}
	if err != nil {
		if v.Reason = Reason(err); v.Reason == "" {
			return nil, err
		}
		v.Error = err.Error()
		var untrusted *cosign.UntrustedError
		if errors.As(err, &untrusted) {
			v.Rejected = rejections(untrusted.Rejected)
		}
		return v, nil
	}
	for _, s := range result.Signatures {
		about, err := describe(s)
		if err != nil {
			return nil, err
		}
		v.Signatures = append(v.Signatures, about)
	}
	for _, a := range result.Attestations {
		about, err := describe(a.Signature)
		if err != nil {
			return nil, err
		}
		about.PredicateType = a.PredicateType
		v.Attestations = append(v.Attestations, about)
	}
	v.Rejected = rejections(result.Rejected)
	return v, nil
}

// Reason names a refusal; "" for other errors.
func Reason(err error) string {
	var digest *osmith.DigestError
	switch {
	case errors.Is(err, cosign.ErrUnsigned):
		return "unsigned"
	case errors.Is(err, cosign.ErrUntrusted):
		return "untrusted"
	case errors.As(err, &digest):
		return "digest"
	}
	return ""
}

func describe(s cosign.Signature) (about Signature, err error) {
	about = Signature{Authority: s.Authority, Format: FormatNames[s.Format], Manifest: string(s.Manifest)}
	if s.Identity != nil {
		about.Issuer, about.Subject = s.Identity.Issuer, s.Identity.Subject
		return about, nil
	}
	about.Key, err = Fingerprint(s.Key)
	return about, err
}

func rejections(all []cosign.Rejection) []Rejection {
	out := make([]Rejection, 0, len(all))
	for _, r := range all {
		out = append(out, Rejection{Manifest: string(r.Manifest), Format: FormatNames[r.Format], KeyHint: r.Hint, Reason: rejectedFor(r.Err), Error: r.Err.Error()})
	}
	return out
}

// rejectedFor names why a signature does not count.
func rejectedFor(err error) string {
	var digest *osmith.DigestError
	var format *osmith.FormatError
	switch {
	case errors.Is(err, cosign.ErrOtherKey):
		return "otherKey"
	case errors.Is(err, cosign.ErrOtherArtifact):
		return "otherArtifact"
	case errors.Is(err, cosign.ErrNotValid):
		return "notValid"
	case errors.As(err, &digest):
		return "digest"
	case errors.As(err, &format):
		return "malformed"
	case errors.Is(err, cosign.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "missing"
	}
	return "other"
}

// String is for people.
func (v *Verification) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", v.Digest)
	for _, s := range v.Signatures {
		fmt.Fprintf(&b, "signed by %s\n", s)
	}
	for _, s := range v.Attestations {
		fmt.Fprintf(&b, "%s by %s\n", Shown(s.PredicateType), s)
	}
	for _, n := range v.Rejected {
		fmt.Fprintf(&b, "not counted: %s in %s\n", n.Reason, n.Manifest)
	}
	return b.String()
}

// String is a line about who signed.
func (s Signature) String() string {
	who := "key " + s.Key
	if s.Key == "" {
		who = fmt.Sprintf("%s of %s", Shown(s.Subject), Shown(s.Issuer))
	}
	if s.Authority != "" {
		who = fmt.Sprintf("%q, %s", s.Authority, who)
	}
	return fmt.Sprintf("%s (%s, %s)", who, s.Format, s.Manifest)
}

// Shown keeps what a stranger wrote from controlling the terminal.
func Shown(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
