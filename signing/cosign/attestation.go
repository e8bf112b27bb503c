package cosign

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An AttestationRule asks for a signed statement about the artifact, such as where it
// was built.
type AttestationRule struct {
	// PredicateTypes are the types of statement that satisfy the rule, one of which
	// there must be: PredicateSLSAProvenance, PredicateSPDX...
	PredicateTypes []string

	// Authorities are the names of those of the policy whose statements count; none
	// means all of them. Threshold is how many must have made one; 0 means 1.
	Authorities []string
	Threshold   int

	// Check looks at the predicate of an authentic statement about the artifact; a
	// statement that it returns an error for does not count. nil accepts all.
	Check func(predicateType string, predicate json.RawMessage) error
}

func (r *AttestationRule) check(names map[string]bool, all int) error {
	if len(r.PredicateTypes) == 0 || slices.Contains(r.PredicateTypes, "") {
		return errors.New("no predicate type")
	}
	if slices.Contains(r.PredicateTypes, predicateType) {
		return fmt.Errorf("%s is the predicate type of signatures", predicateType)
	}
	for i, name := range r.Authorities {
		if !names[name] {
			return fmt.Errorf("the policy has no authority %q", name)
		}
		if slices.Contains(r.Authorities[:i], name) {
			return fmt.Errorf("authority %q stands there twice", name)
		}
	}
	if len(r.Authorities) > 0 {
		all = len(r.Authorities)
	}
	if r.Threshold < 0 || max(r.Threshold, 1) > all {
		return fmt.Errorf("a threshold of %d with %d authorities", r.Threshold, all)
	}
	return nil
}

func (r *AttestationRule) String() string {
	text := strings.Join(r.PredicateTypes, " or ")
	if len(r.Authorities) > 0 {
		text += " by " + strings.Join(r.Authorities, ", ")
	}
	if r.Threshold > 1 {
		text += fmt.Sprintf(" (%d of them)", r.Threshold)
	}
	return text
}

// An Attestation is a statement about the artifact that a trusted authority signed. What
// it says is true as far as that authority is believed.
type Attestation struct {
	Signed
	PredicateType string
	Predicate     json.RawMessage // as it stands in the statement
}

// satisfied counts the authorities whose attestations satisfy a rule. The errors of
// Check are the reasons why others do not.
func (r *AttestationRule) satisfied(all []Attestation) (bool, []error) {
	var by []string
	var reasons []error
	for _, a := range all {
		if !slices.Contains(r.PredicateTypes, a.PredicateType) ||
			len(r.Authorities) > 0 && !slices.Contains(r.Authorities, a.Authority) || slices.Contains(by, a.Authority) {
			continue
		}
		if r.Check != nil {
			if err := r.Check(a.PredicateType, a.Predicate); err != nil {
				reasons = append(reasons, fmt.Errorf("%s by %s: %w", a.PredicateType, a.Signer(), err))
				continue
			}
		}
		by = append(by, a.Authority)
	}
	return len(by) >= max(r.Threshold, 1), reasons
}

// attestationTag is the name that cosign 2 gives to the attestations of an artifact.
func attestationTag(subject digest.Digest) string {
	return string(subject.Algorithm()) + "-" + subject.Encoded() + ".att"
}

// Attest signs a statement about an artifact with a key and stores it: a bundle unless
// the options say DSSE. The predicate is a JSON value.
func Attest(ctx context.Context, store Store, artifact ocispec.Descriptor, predicateType string, predicate []byte, signer crypto.Signer, o SignOptions) error {
	formats := o.Formats
	if len(formats) == 0 {
		formats = []Format{Bundle}
	}
	for _, format := range formats {
		d, err := PrepareAttestation(artifact, signer.Public(), format, predicateType, predicate)
		if err != nil {
			return err
		}
		if err := d.sign(ctx, store, signDigests(signer, o.Rand)); err != nil {
			return err
		}
	}
	return nil
}

// PrepareAttestation makes the draft of an attestation by the private half of a key, in
// the format Bundle or DSSE.
func PrepareAttestation(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, predicateType string, predicate []byte) (*Draft, error) {
	if format != Bundle && format != DSSE {
		return nil, fmt.Errorf("cosign: %v: not a format of attestations", format)
	}
	if predicateType == "" {
		return nil, errors.New("cosign: attestation: no predicate type")
	}
	if _, err := parseObject("predicate", predicate); err != nil {
		return nil, err
	}
	d, err := newDraft(artifact, key, format, predicateType)
	if err != nil {
		return nil, err
	}
	if d.payload, err = newStatement(artifact.Digest, claim{predicateType, predicate}); err != nil {
		return nil, fmt.Errorf("cosign: attestation: %w", err)
	}
	return d, nil
}
