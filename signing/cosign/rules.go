package cosign

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// PolicySchema names the JSON form of a list of rules.
const PolicySchema = "osmith.policy/1"

// maxPolicy bounds a policy file and a key file, in bytes.
const maxPolicy = 1 << 20

// maxThreshold bounds a threshold in a policy file.
const maxThreshold = 1000

// Rules say which policy holds for which repository. The first rule that matches counts.
type Rules []Rule

// A Rule is the policy for some repositories.
type Rule struct {
	// Repository is a pattern for the name of a repository without tag and digest, such as
	// registry.example/os/acme. An asterisk stands for any text without a slash, and "**" as the
	// last element for everything below; "**" alone stands for every artifact, also one of a layout
	// without a repository name.
	Repository string
	Policy     Policy
}

// ErrNoRule says that no rule covers a repository, so its artifacts cannot be trusted: add a rule.
var ErrNoRule = errors.New("no rule matches")

// For returns the policy for a repository. The caller sets At and Identities.
func (r Rules) For(repository string) (Policy, error) {
	for _, rule := range r {
		if matchRepository(rule.Repository, repository) {
			return rule.Policy, nil
		}
	}
	return Policy{}, prefix.Error("cosign", fmt.Errorf("policy: repository %q: %w", repository, ErrNoRule))
}

func matchRepository(pattern, name string) bool {
	if pattern == "**" {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "/**"); ok {
		n := strings.Count(prefix, "/") + 1
		parts := strings.Split(name, "/")
		if len(parts) <= n {
			return false
		}
		pattern, name = prefix, strings.Join(parts[:n], "/")
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// ParseRules reads the JSON form. Every member must be known and given once:
//
//	{"schema": "osmith.policy/1", "rules": [{
//	  "repository": "registry.example/os/*",
//	  "threshold": 2,
//	  "authorities": [
//	    {"name": "build", "keys": ["build.pub", "build-next.pub"]},
//	    {"name": "release", "keys": ["release.pub"], "notBefore": "2026-01-01T00:00:00Z"},
//	    {"name": "ci", "identities": [{"issuer": "https://ci.example", "subjectRegexp": "https://ci\\.example/os/.*"}]}],
//	  "references": ["registry.example/os/acme"],
//	  "attestations": [{"predicateTypes": ["https://slsa.dev/provenance/v1"], "authorities": ["build"],
//	    "contents": [{"pointer": "/runDetails/builder/id", "values": ["https://build.example"]}]}]
//	}]}
//
// A key is the PEM text itself, or the name of a file in keys that holds one or more keys; keys may
// be nil. The result is complete except for Policy.At and Policy.Identities; Verify checks the
// policies.
func ParseRules(b []byte, keys fs.FS) (Rules, error) {
	rules, err := parseRules(b, keys)
	return rules, prefix.Error("cosign", err)
}

func parseRules(b []byte, keys fs.FS) (Rules, error) {
	if len(b) > maxPolicy {
		return nil, malformed("policy", "%w: %d bytes, at most %d are allowed", ErrTooLarge, len(b), maxPolicy)
	}
	var doc jsonRules
	if err := decode("policy", b, &doc, strictjson.KnownFields); err != nil {
		return nil, err
	}
	if doc.Schema != PolicySchema {
		return nil, malformed("policy: schema", "%q, want %q", doc.Schema, PolicySchema)
	}
	if len(doc.Rules) == 0 {
		return nil, malformed("policy: rules", "empty")
	}
	rules := make(Rules, 0, len(doc.Rules))
	for i, j := range doc.Rules {
		rule, err := j.rule(fmt.Sprintf("policy: rules[%d]", i), keys)
		if err != nil {
			return nil, err
		}
		rules = append(rules, *rule)
	}
	return rules, nil
}

// rule is what a member of the document means; where is its path.
func (j *jsonRule) rule(where string, keys fs.FS) (*Rule, error) {
	if _, err := path.Match(j.Repository, ""); err != nil || j.Repository == "" {
		return nil, malformed(where+".repository", "%q is not a pattern", j.Repository)
	}
	r := &Rule{Repository: j.Repository}
	r.Policy.References = j.References
	for i, pattern := range j.References {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return nil, malformed(fmt.Sprintf("%s.references[%d]", where, i), "%q is not a pattern", pattern)
		}
	}
	var err error
	if r.Policy.Threshold, err = threshold(where, j.Threshold); err != nil {
		return nil, err
	}
	for i, a := range j.Authorities {
		authority, err := a.authority(fmt.Sprintf("%s.authorities[%d]", where, i), keys)
		if err != nil {
			return nil, err
		}
		r.Policy.Authorities = append(r.Policy.Authorities, *authority)
	}
	for i, a := range j.Attestations {
		n, err := threshold(fmt.Sprintf("%s.attestations[%d]", where, i), a.Threshold)
		if err != nil {
			return nil, err
		}
		rule := AttestationRule{PredicateTypes: a.PredicateTypes, Authorities: a.Authorities, Threshold: n}
		for k, c := range a.Contents {
			content := Content(c)
			if err := content.check(); err != nil {
				return nil, malformed(fmt.Sprintf("%s.attestations[%d].contents[%d]", where, i, k), "%w", err)
			}
			rule.Contents = append(rule.Contents, content)
		}
		r.Policy.Attestations = append(r.Policy.Attestations, rule)
	}
	return r, nil
}

// threshold returns a number from 1 to 1000, 0 without the member.
func threshold(where string, n *int) (int, error) {
	if n == nil {
		return 0, nil
	}
	if *n < 1 || *n > maxThreshold {
		return 0, malformed(where+".threshold", "%d, want 1 to %d", *n, maxThreshold)
	}
	return *n, nil
}

func (j *jsonAuthority) authority(where string, keys fs.FS) (*Authority, error) {
	a := &Authority{Name: j.Name}
	for _, name := range j.Keys {
		list, err := loadKeys(name, keys)
		if err != nil {
			return nil, malformed(where+".keys", "%w", err)
		}
		a.Keys = append(a.Keys, list...)
	}
	for i, id := range j.Identities {
		if err := Identity(id).check(); err != nil {
			return nil, malformed(fmt.Sprintf("%s.identities[%d]", where, i), "%w", err)
		}
		a.Identities = append(a.Identities, Identity(id))
	}
	for _, t := range []struct {
		name string
		text *string
		to   *time.Time
	}{{"notBefore", j.NotBefore, &a.NotBefore}, {"notAfter", j.NotAfter, &a.NotAfter}} {
		if t.text == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339, *t.text)
		if err != nil || at.IsZero() {
			return nil, malformed(where+"."+t.name, "%q, want a time such as 2026-01-31T12:00:00Z", *t.text)
		}
		*t.to = at
	}
	return a, nil
}

func loadKeys(name string, keys fs.FS) ([]crypto.PublicKey, error) {
	if strings.HasPrefix(strings.TrimSpace(name), "-----BEGIN ") {
		return parseKeys([]byte(name))
	}
	if keys == nil {
		return nil, fmt.Errorf("%q: not PEM text, and no file system was given to read a file from", name)
	}
	info, err := fs.Stat(keys, path.Clean(name))
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPolicy {
		return nil, fmt.Errorf("%q: %d bytes, at most %d are allowed", name, info.Size(), maxPolicy)
	}
	b, err := fs.ReadFile(keys, path.Clean(name))
	if err != nil {
		return nil, err
	}
	list, err := parseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return list, nil
}

// MarshalJSON writes the form that ParseRules reads, with the keys as PEM text. Policy.Keys become
// the authority "key". The functions of a policy cannot be written: a rule with
// AttestationRule.Check is an error.
func (r Rules) MarshalJSON() (b []byte, err error) {
	defer prefix.Add("cosign", &err)
	doc := jsonRules{Schema: PolicySchema, Rules: []jsonRule{}}
	for _, rule := range r {
		thresholds := []int{rule.Policy.Threshold}
		for _, a := range rule.Policy.Attestations {
			thresholds = append(thresholds, a.Threshold)
		}
		for _, n := range thresholds {
			if err := atMost("threshold", n, maxThreshold); err != nil {
				return nil, fmt.Errorf("policy: %w", err)
			}
		}
		j := jsonRule{Repository: rule.Repository, Threshold: optional(rule.Policy.Threshold), Authorities: []jsonAuthority{}, References: rule.Policy.References}
		for _, a := range rule.Policy.authorities() {
			authority, err := newJSONAuthority(a)
			if err != nil {
				return nil, err
			}
			j.Authorities = append(j.Authorities, *authority)
		}
		for _, a := range rule.Policy.Attestations {
			if a.Check != nil {
				return nil, fmt.Errorf("policy: attestation %s: its check is a function", a.String())
			}
			attestation := jsonAttestation{PredicateTypes: a.PredicateTypes, Authorities: a.Authorities, Threshold: optional(a.Threshold)}
			for _, c := range a.Contents {
				attestation.Contents = append(attestation.Contents, jsonContent(c))
			}
			j.Attestations = append(j.Attestations, attestation)
		}
		doc.Rules = append(doc.Rules, j)
	}
	if b, err = json.Marshal(doc); err != nil {
		return nil, err
	}
	if err := atMost("bytes of the policy", len(b), maxPolicy); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return b, nil
}

func newJSONAuthority(a Authority) (*jsonAuthority, error) {
	j := &jsonAuthority{Name: a.Name}
	if j.Name == "" {
		j.Name = "key"
	}
	for _, k := range a.Keys {
		text, err := cryptoutils.MarshalPublicKeyToPEM(k)
		if err != nil {
			return nil, fmt.Errorf("policy: authority %q: %w", j.Name, err)
		}
		j.Keys = append(j.Keys, string(text))
	}
	for _, id := range a.Identities {
		j.Identities = append(j.Identities, jsonIdentity(id))
	}
	if !a.NotBefore.IsZero() {
		j.NotBefore = new(a.NotBefore.UTC().Format(time.RFC3339))
	}
	if !a.NotAfter.IsZero() {
		j.NotAfter = new(a.NotAfter.UTC().Format(time.RFC3339))
	}
	return j, nil
}

// optional is how a threshold is written: not at all, when it is the default.
func optional(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

// The members of a policy in the order in which they are written. A nil pointer stands for an
// absent member.
type (
	jsonRules struct {
		Schema string     `json:"schema"`
		Rules  []jsonRule `json:"rules"`
	}
	jsonRule struct {
		Repository   string            `json:"repository"`
		Threshold    *int              `json:"threshold,omitempty"`
		Authorities  []jsonAuthority   `json:"authorities"`
		References   []string          `json:"references,omitempty"`
		Attestations []jsonAttestation `json:"attestations,omitempty"`
	}
	jsonAuthority struct {
		Name       string         `json:"name"`
		Keys       []string       `json:"keys,omitempty"`
		Identities []jsonIdentity `json:"identities,omitempty"`
		NotBefore  *string        `json:"notBefore,omitempty"`
		NotAfter   *string        `json:"notAfter,omitempty"`
	}
	jsonIdentity struct {
		Issuer        string `json:"issuer,omitempty"`
		IssuerRegexp  string `json:"issuerRegexp,omitempty"`
		Subject       string `json:"subject,omitempty"`
		SubjectRegexp string `json:"subjectRegexp,omitempty"`
	}
	jsonAttestation struct {
		PredicateTypes []string      `json:"predicateTypes,omitempty"`
		Authorities    []string      `json:"authorities,omitempty"`
		Threshold      *int          `json:"threshold,omitempty"`
		Contents       []jsonContent `json:"contents,omitempty"`
	}
	jsonContent struct {
		Pointer string   `json:"pointer"`
		Values  []string `json:"values,omitempty"`
		Regexp  string   `json:"regexp,omitempty"`
	}
)
