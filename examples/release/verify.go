package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
)

func verifyFlags(set *flag.FlagSet) func(*call, []string) error {
	trust := addTrustFlags(set)
	return func(c *call, operands []string) error {
		l, artifact, err := c.find(operands[0], operands[1])
		if err != nil {
			return err
		}
		policy, err := trust.load(l)
		if err != nil {
			return err
		}
		result, err := cosign.Verify(c, l, artifact, policy)
		return c.verified(artifact, result, err)
	}
}

// verified answers for verify: err is nil, a refusal, or an error that says nothing about the artifact.
func (c *call) verified(artifact ocispec.Descriptor, result *cosign.Result, err error) error {
	r := verifyResult{header: c.header(), Digest: string(artifact.Digest), Verified: err == nil,
		Signatures: []signature{}, Attestations: []signature{}, Rejected: []rejection{}}
	if err == nil {
		if err := r.fill(result); err != nil {
			return err
		}
		return c.Answer(r, r.text())
	}
	if r.Reason = reasonOf(err); r.Reason == "" {
		return err
	}
	r.Error = err.Error()
	var untrusted *cosign.UntrustedError
	if errors.As(err, &untrusted) {
		r.Rejected = rejections(untrusted.Rejected)
	}
	return errors.Join(cli.No{Err: err}, c.Answer(r, ""))
}

// reasonOf names a refusal.
func reasonOf(err error) string {
	var digest *cosign.DigestError
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

func (r *verifyResult) fill(result *cosign.Result) error {
	for _, s := range result.Signatures {
		about, err := describe(s)
		if err != nil {
			return err
		}
		r.Signatures = append(r.Signatures, about)
	}
	for _, a := range result.Attestations {
		about, err := describe(a.Signed)
		if err != nil {
			return err
		}
		about.PredicateType = a.PredicateType
		r.Attestations = append(r.Attestations, about)
	}
	r.Rejected = rejections(result.Rejected)
	return nil
}

func describe(s cosign.Signed) (about signature, err error) {
	about = signature{Authority: s.Authority, Format: formatNames[s.Format], Manifest: string(s.Manifest)}
	if s.Identity != nil {
		about.Issuer, about.Subject = s.Identity.Issuer, s.Identity.Subject
		return about, nil
	}
	about.Key, err = fingerprint(s.Key)
	return about, err
}

func rejections(all []cosign.Rejection) []rejection {
	out := make([]rejection, 0, len(all))
	for _, r := range all {
		out = append(out, rejection{Manifest: string(r.Manifest), Format: formatNames[r.Format], KeyHint: r.Hint, Reason: rejectedFor(r.Err), Error: r.Err.Error()})
	}
	return out
}

// rejectedFor names why a signature does not count.
func rejectedFor(err error) string {
	var digest *cosign.DigestError
	var format *cosign.FormatError
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

func (r *verifyResult) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Digest)
	for _, s := range r.Signatures {
		fmt.Fprintf(&b, "signed by %s\n", s)
	}
	for _, s := range r.Attestations {
		fmt.Fprintf(&b, "%s by %s\n", shown(s.PredicateType), s)
	}
	for _, n := range r.Rejected {
		fmt.Fprintf(&b, "not counted: %s in %s\n", n.Reason, n.Manifest)
	}
	return b.String()
}

// String is a line about who signed.
func (s signature) String() string {
	who := "key " + s.Key
	if s.Key == "" {
		who = fmt.Sprintf("%s of %s", shown(s.Subject), shown(s.Issuer))
	}
	if s.Authority != "" {
		who = fmt.Sprintf("%q, %s", s.Authority, who)
	}
	return fmt.Sprintf("%s (%s, %s)", who, s.Format, s.Manifest)
}

// discard reads a blob to its end, which checks it.
func discard(r io.ReadCloser) error {
	_, err := io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
