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
)

// PolicySchema names the JSON form of a list of rules.
const PolicySchema = "osmith.policy/1"

// maxPolicy bounds a policy file and a key file, in bytes.
const maxPolicy = 1 << 20

// Rules say which policy holds for which repository. The first rule that matches counts.
type Rules []Rule

// A Rule is the policy for some repositories.
type Rule struct {
	// Repository is a pattern for the name of a repository without tag and digest, such as
	// registry.example/os/acme. An asterisk stands for any text but a slash, and "**" as the last
	// element for everything below; "**" alone for every artifact, also those of a layout that
	// tell no repository.
	Repository string
	Policy     Policy
}

// ErrNoRule says that no rule is about a repository, so nothing of it can be trusted.
var ErrNoRule = errors.New("no rule matches")

// For returns the policy for a repository. At and Identities are for the caller to set.
func (r Rules) For(repository string) (Policy, error) {
	for _, rule := range r {
		if matchRepository(rule.Repository, repository) {
			return rule.Policy, nil
		}
	}
	return Policy{}, fmt.Errorf("cosign: policy: repository %q: %w", repository, ErrNoRule)
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

// ParseRules reads the JSON form. Every member must be known and stand there once:
//
//	{"schema": "osmith.policy/1", "rules": [{
//	  "repository": "registry.example/os/*",
//	  "threshold": 2,
//	  "authorities": [
//	    {"name": "build", "keys": ["build.pub", "build-next.pub"]},
//	    {"name": "release", "keys": ["release.pub"], "notBefore": "2026-01-01T00:00:00Z"},
//	    {"name": "ci", "identities": [{"issuer": "https://ci.example", "subjectRegexp": "https://ci\\.example/os/.*"}]}],
//	  "attestations": [{"predicateTypes": ["https://slsa.dev/provenance/v1"], "authorities": ["build"]}]
//	}]}
//
// A key is the PEM text itself, or the name of a file in keys with one or more of them; keys may be nil.
// The result is complete but for Policy.At and Policy.Identities, and Verify judges it.
func ParseRules(b []byte, keys fs.FS) (Rules, error) {
	if len(b) > maxPolicy {
		return nil, &FormatError{Document: "policy", Err: fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, len(b), maxPolicy)}
	}
	o, err := parseObject("policy", b)
	if err != nil {
		return nil, err
	}
	if err := o.only("schema", "rules"); err != nil {
		return nil, err
	}
	if err := o.expect("schema", PolicySchema); err != nil {
		return nil, err
	}
	list, err := o.objects("rules")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, o.errorf("rules", "empty")
	}
	rules := make(Rules, 0, len(list))
	for _, r := range list {
		rule, err := parseRule(r, keys)
		if err != nil {
			return nil, err
		}
		rules = append(rules, *rule)
	}
	return rules, nil
}

func parseRule(o object, keys fs.FS) (*Rule, error) {
	err := o.only("repository", "threshold", "authorities", "attestations")
	if err != nil {
		return nil, err
	}
	r := new(Rule)
	if r.Repository, err = o.text("repository"); err != nil {
		return nil, err
	}
	if _, err := path.Match(r.Repository, ""); err != nil || r.Repository == "" {
		return nil, o.errorf("repository", "%q is not a pattern", r.Repository)
	}
	if r.Policy.Threshold, err = o.count("threshold"); err != nil {
		return nil, err
	}
	list, err := o.objects("authorities")
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		authority, err := parseAuthority(a, keys)
		if err != nil {
			return nil, err
		}
		r.Policy.Authorities = append(r.Policy.Authorities, *authority)
	}
	if !o.has("attestations") {
		return r, nil
	}
	if list, err = o.objects("attestations"); err != nil {
		return nil, err
	}
	for _, a := range list {
		rule, err := parseAttestationRule(a)
		if err != nil {
			return nil, err
		}
		r.Policy.Attestations = append(r.Policy.Attestations, *rule)
	}
	return r, nil
}

func parseAuthority(o object, keys fs.FS) (*Authority, error) {
	err := o.only("name", "keys", "identities", "notBefore", "notAfter")
	if err != nil {
		return nil, err
	}
	a := new(Authority)
	if a.Name, err = o.text("name"); err != nil {
		return nil, err
	}
	names, err := o.texts("keys")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		list, err := loadKeys(name, keys)
		if err != nil {
			return nil, o.errorf("keys", "%w", err)
		}
		a.Keys = append(a.Keys, list...)
	}
	if o.has("identities") {
		list, err := o.objects("identities")
		if err != nil {
			return nil, err
		}
		for _, i := range list {
			id, err := parseIdentity(i)
			if err != nil {
				return nil, err
			}
			a.Identities = append(a.Identities, *id)
		}
	}
	if a.NotBefore, err = o.time("notBefore"); err != nil {
		return nil, err
	}
	if a.NotAfter, err = o.time("notAfter"); err != nil {
		return nil, err
	}
	return a, nil
}

func parseIdentity(o object) (*Identity, error) {
	if err := o.only("issuer", "issuerRegexp", "subject", "subjectRegexp"); err != nil {
		return nil, err
	}
	id := new(Identity)
	for _, f := range []struct {
		key string
		to  *string
	}{{"issuer", &id.Issuer}, {"issuerRegexp", &id.IssuerRegexp}, {"subject", &id.Subject}, {"subjectRegexp", &id.SubjectRegexp}} {
		if !o.has(f.key) {
			continue
		}
		var err error
		if *f.to, err = o.text(f.key); err != nil {
			return nil, err
		}
	}
	if err := id.check(); err != nil {
		return nil, &FormatError{Document: o.document, Field: o.path, Err: err}
	}
	return id, nil
}

func parseAttestationRule(o object) (*AttestationRule, error) {
	err := o.only("predicateTypes", "authorities", "threshold")
	if err != nil {
		return nil, err
	}
	r := new(AttestationRule)
	if r.PredicateTypes, err = o.texts("predicateTypes"); err != nil {
		return nil, err
	}
	if r.Authorities, err = o.texts("authorities"); err != nil {
		return nil, err
	}
	if r.Threshold, err = o.count("threshold"); err != nil {
		return nil, err
	}
	return r, nil
}

func loadKeys(name string, keys fs.FS) ([]crypto.PublicKey, error) {
	if strings.HasPrefix(strings.TrimSpace(name), "-----BEGIN ") {
		return ParseKeys([]byte(name))
	}
	if keys == nil {
		return nil, fmt.Errorf("%q: not PEM text, and there is no place to find a file", name)
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
	list, err := ParseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return list, nil
}

// MarshalJSON writes the form that ParseRules reads, with the keys as PEM text. Policy.Keys become
// the authority "key". The functions of a policy cannot be written: a rule with AttestationRule.Check
// is an error.
func (r Rules) MarshalJSON() ([]byte, error) {
	doc := jsonRules{Schema: PolicySchema, Rules: []jsonRule{}}
	for _, rule := range r {
		j := jsonRule{Repository: rule.Repository, Threshold: rule.Policy.Threshold}
		for _, a := range rule.Policy.authorities() {
			authority, err := newJSONAuthority(a)
			if err != nil {
				return nil, err
			}
			j.Authorities = append(j.Authorities, *authority)
		}
		for _, a := range rule.Policy.Attestations {
			if a.Check != nil {
				return nil, fmt.Errorf("cosign: policy: attestation %s: its check is a function", a.String())
			}
			j.Attestations = append(j.Attestations, jsonAttestation{a.PredicateTypes, a.Authorities, a.Threshold})
		}
		doc.Rules = append(doc.Rules, j)
	}
	return json.Marshal(doc)
}

func newJSONAuthority(a Authority) (*jsonAuthority, error) {
	j := &jsonAuthority{Name: a.Name}
	if j.Name == "" {
		j.Name = "key"
	}
	for _, k := range a.Keys {
		text, err := cryptoutils.MarshalPublicKeyToPEM(k)
		if err != nil {
			return nil, fmt.Errorf("cosign: policy: authority %q: %w", j.Name, err)
		}
		j.Keys = append(j.Keys, string(text))
	}
	for _, id := range a.Identities {
		j.Identities = append(j.Identities, jsonIdentity(id))
	}
	for _, t := range []struct {
		at time.Time
		to *string
	}{{a.NotBefore, &j.NotBefore}, {a.NotAfter, &j.NotAfter}} {
		if !t.at.IsZero() {
			*t.to = t.at.UTC().Format(time.RFC3339)
		}
	}
	return j, nil
}

// The members of a policy in the order in which they are written.
type (
	jsonRules struct {
		Schema string     `json:"schema"`
		Rules  []jsonRule `json:"rules"`
	}
	jsonRule struct {
		Repository   string            `json:"repository"`
		Threshold    int               `json:"threshold,omitempty"`
		Authorities  []jsonAuthority   `json:"authorities"`
		Attestations []jsonAttestation `json:"attestations,omitempty"`
	}
	jsonAuthority struct {
		Name       string         `json:"name"`
		Keys       []string       `json:"keys,omitempty"`
		Identities []jsonIdentity `json:"identities,omitempty"`
		NotBefore  string         `json:"notBefore,omitempty"`
		NotAfter   string         `json:"notAfter,omitempty"`
	}
	jsonIdentity struct {
		Issuer        string `json:"issuer,omitempty"`
		IssuerRegexp  string `json:"issuerRegexp,omitempty"`
		Subject       string `json:"subject,omitempty"`
		SubjectRegexp string `json:"subjectRegexp,omitempty"`
	}
	jsonAttestation struct {
		PredicateTypes []string `json:"predicateTypes"`
		Authorities    []string `json:"authorities,omitempty"`
		Threshold      int      `json:"threshold,omitempty"`
	}
)
