package cosign

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Policy says whose signatures an artifact must have. The zero value is an error: a policy that
// accepts everything does not exist.
type Policy struct {
	// Keys are an authority without a name: one signature by any of them is enough. With two keys,
	// one can replace the other.
	Keys []crypto.PublicKey

	// Authorities are the signers whose signatures count, besides the owner of Keys.
	Authorities []Authority

	// Threshold is how many different authorities must have signed; 0 means 1.
	Threshold int

	// Attestations are the attestations that the artifact must have, too.
	Attestations []AttestationRule

	// References are patterns, as those of a Rule, for the artifact's name that a signature must
	// state (docker-reference). Without References, any name or none is accepted. Only signatures
	// of FormatSimpleSigning state a name, so with References only these count.
	References []string

	// At is the time at which authorities must be valid, because a signature by a key does not
	// state its time. It is required if an authority has NotBefore or NotAfter.
	At time.Time

	// Limits bound what is read; the zero value has defaults.
	Limits Limits

	// Identities checks signatures by certificate. Without it, a policy that names an identity is
	// an error, ErrNoIdentityVerifier, even if it also names keys. Package keyless has an
	// IdentityVerifier.
	Identities IdentityVerifier
}

// An Authority is a signer whose signature counts once: by any of the keys, or by a
// certificate for any of the identities.
type Authority struct {
	Name string // distinct within a policy
	Keys []crypto.PublicKey

	Identities []Identity

	// NotBefore and NotAfter, if not zero, are the first and the last second at which the authority
	// is trusted.
	NotBefore, NotAfter time.Time
}

// An Identity is the signer that a certificate of Fulcio names. Issuer and subject must both be
// given, each either as its exact value or as a regular expression (of package regexp) that the
// whole value must match.
type Identity struct {
	Issuer        string // issuer of the OpenID Connect token, such as https://accounts.google.com
	IssuerRegexp  string
	Subject       string // mail address or URI
	SubjectRegexp string
}

// Matches reports whether a certificate with this issuer and subject has this identity.
func (id Identity) Matches(issuer, subject string) bool {
	is, err1 := matcher(id.Issuer, id.IssuerRegexp)
	sub, err2 := matcher(id.Subject, id.SubjectRegexp)
	return err1 == nil && err2 == nil && is(issuer) && sub(subject)
}

func (id Identity) String() string {
	show := func(exact, expr string) string {
		if expr != "" {
			return "/" + expr + "/"
		}
		return exact
	}
	return show(id.Subject, id.SubjectRegexp) + " of " + show(id.Issuer, id.IssuerRegexp)
}

// matcher compares with a value or a regular expression, of which one must be given.
func matcher(exact, expr string) (func(string) bool, error) {
	switch {
	case (exact == "") == (expr == ""):
		return nil, errors.New("want either a value or a regular expression")
	case exact != "":
		return func(s string) bool { return s == exact }, nil
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, err
	}
	return re.MatchString, nil
}

func (id Identity) check() error {
	if _, err := matcher(id.Issuer, id.IssuerRegexp); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if _, err := matcher(id.Subject, id.SubjectRegexp); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	return nil
}

// ErrNoIdentityVerifier says that a policy names identities but has no IdentityVerifier: set
// Policy.Identities.
var ErrNoIdentityVerifier = errors.New("the policy names identities, but Policy.Identities, which verifies certificates, is not set: see package keyless")

// authorities are those of the policy, Keys included.
func (p *Policy) authorities() []Authority {
	if len(p.Keys) == 0 {
		return p.Authorities
	}
	return append([]Authority{{Keys: p.Keys}}, p.Authorities...)
}

func (p *Policy) threshold() int { return max(p.Threshold, 1) }

// check refuses policies that cannot be satisfied, that everybody could satisfy, or
// that leave open what they mean.
func (p *Policy) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("policy: "+format, args...)
	}
	all := p.authorities()
	if len(all) == 0 {
		return fail("no keys and no authorities: nothing could satisfy it")
	}
	var keys []crypto.PublicKey
	names := map[string]bool{}
	for i, a := range all {
		unnamed := i == 0 && len(p.Keys) > 0
		if a.Name == "" && !unnamed {
			return fail("authority %d has no name", i)
		}
		if names[a.Name] {
			return fail("two authorities have the name %q", a.Name)
		}
		names[a.Name] = true
		if err := p.checkAuthority(a); err != nil {
			return fail("authority %q: %w", a.Name, err)
		}
		for _, k := range a.Keys {
			if slices.ContainsFunc(keys, func(o crypto.PublicKey) bool { return equalKeys(k, o) }) {
				return fail("authority %q: a key stands in the policy twice; one signature would count as two", a.Name)
			}
		}
		keys = append(keys, a.Keys...)
	}
	if p.Threshold < 0 || p.threshold() > len(all) {
		return fail("threshold %d with %d authorities: want at least 1 and at most all of them", p.Threshold, len(all))
	}
	for _, pattern := range p.References {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fail("reference %q is not a pattern", pattern)
		}
	}
	for i, r := range p.Attestations {
		if err := r.check(names, len(all)); err != nil {
			return fail("attestation %d: %w", i, err)
		}
	}
	return nil
}

func (p *Policy) checkAuthority(a Authority) error {
	switch {
	case len(a.Keys)+len(a.Identities) == 0:
		return errors.New("no keys and no identities")
	case len(a.Identities) > 0 && p.Identities == nil:
		return ErrNoIdentityVerifier
	case (!a.NotBefore.IsZero() || !a.NotAfter.IsZero()) && p.At.IsZero():
		return errors.New("valid for a limited time, but Policy.At is not set")
	case !a.NotAfter.IsZero() && a.NotAfter.Before(a.NotBefore):
		return errors.New("its validity ends before it begins")
	}
	for i, k := range a.Keys {
		if err := checkKey(k); err != nil {
			return err
		}
		if slices.ContainsFunc(a.Keys[:i], func(o crypto.PublicKey) bool { return equalKeys(k, o) }) {
			return fmt.Errorf("key %d is listed twice", i)
		}
	}
	for _, id := range a.Identities {
		if err := id.check(); err != nil {
			return fmt.Errorf("identity %s: %w", id, err)
		}
	}
	return nil
}

// valid reports whether the authority is believed at that time.
func (a *Authority) valid(at time.Time) error {
	switch {
	case !a.NotBefore.IsZero() && at.Before(a.NotBefore):
		return fmt.Errorf("%w: %q is accepted from %s on", ErrNotValid, a.Name, a.NotBefore.UTC().Format(time.RFC3339))
	case !a.NotAfter.IsZero() && at.After(a.NotAfter):
		return fmt.Errorf("%w: %q was accepted until %s", ErrNotValid, a.Name, a.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func equalKeys(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// An AttestationRule requires a signed statement about the artifact, such as where it was built.
type AttestationRule struct {
	// PredicateTypes are the types of statement that satisfy the rule, such as
	// PredicateSLSAProvenance; at least one must be given.
	PredicateTypes []string

	// Authorities are the names of the policy's authorities whose statements count; none means all
	// of them. Threshold is how many of them must have made a statement; 0 means 1.
	Authorities []string
	Threshold   int

	// Contents are the values that the predicate must have, all of them.
	Contents []Content

	// Check judges the predicate of an authentic statement about the artifact; a statement for
	// which it returns an error does not count. Nil accepts all statements.
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
			return fmt.Errorf("authority %q is listed twice", name)
		}
	}
	for _, c := range r.Contents {
		if err := c.check(); err != nil {
			return fmt.Errorf("contents: %w", err)
		}
	}
	if len(r.Authorities) > 0 {
		all = len(r.Authorities)
	}
	if r.Threshold < 0 || max(r.Threshold, 1) > all {
		return fmt.Errorf("threshold %d with %d authorities: want at least 1 and at most all of them", r.Threshold, all)
	}
	return nil
}

func (r *AttestationRule) String() string {
	text := strings.Join(r.PredicateTypes, " or ")
	if len(r.Authorities) > 0 {
		text += " by " + strings.Join(r.Authorities, ", ")
	}
	for _, c := range r.Contents {
		text += " with " + c.String()
	}
	if r.Threshold > 1 {
		text += fmt.Sprintf(" (%d of them)", r.Threshold)
	}
	return text
}

// satisfied counts the authorities whose attestations satisfy a rule. The errors of
// Contents and Check are the reasons why others do not.
func (r *AttestationRule) satisfied(all []Attestation) (bool, []error) {
	var by []string
	var reasons []error
	for _, a := range all {
		if !slices.Contains(r.PredicateTypes, a.PredicateType) ||
			len(r.Authorities) > 0 && !slices.Contains(r.Authorities, a.Authority) || slices.Contains(by, a.Authority) {
			continue
		}
		if err := r.says(&a); err != nil {
			reasons = append(reasons, fmt.Errorf("%s by %s: %w", a.PredicateType, a.Signer(), err))
			continue
		}
		by = append(by, a.Authority)
	}
	return len(by) >= max(r.Threshold, 1), reasons
}

// says checks the predicate of an attestation against what the rule demands of it.
func (r *AttestationRule) says(a *Attestation) error {
	for i := range r.Contents {
		if err := r.Contents[i].holds(a.Predicate); err != nil {
			return err
		}
	}
	if r.Check == nil {
		return nil
	}
	return r.Check(a.PredicateType, a.Predicate)
}

// An IdentityVerifier checks signatures that were made with a short-lived certificate instead of a
// known key.
type IdentityVerifier interface {
	// VerifyIdentity checks a Sigstore bundle (JSON, version 0.1 to 0.3) that carries a
	// certificate: that the signature in it is over message or, in a DSSE envelope, over the
	// message that the envelope is encoded as; that the certificate was valid when the signature
	// was made, as far as the verifier demands proof; and that one of the identities matches the
	// certificate. It returns what the certificate says.
	VerifyIdentity(ctx context.Context, bundle, message []byte, ids []Identity) (*VerifiedIdentity, error)
}

// A VerifiedIdentity is the signer that the certificate of a signature names.
type VerifiedIdentity struct {
	Issuer, Subject string
	Time            time.Time // time of the signature, attested by a log or a timestamp authority
}
