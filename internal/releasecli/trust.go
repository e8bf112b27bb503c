package releasecli

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// UsageError is a call that makes no sense.
type UsageError struct{ Text string }

func (e UsageError) Error() string { return e.Text }

func usagef(format string, args ...any) error { return UsageError{fmt.Sprintf(format, args...)} }

// Trust is what flags say about whom to believe.
type Trust struct {
	policy, repository, at string
	keys                   List
}

// AddTrust declares the flags.
func AddTrust(set *flag.FlagSet) *Trust {
	t := new(Trust)
	set.StringVar(&t.policy, "policy", "", "`file` with a policy, JSON")
	set.Var(&t.keys, "key", "`file` with public keys, one of which must have signed; may be repeated")
	set.StringVar(&t.repository, "repository", "", "`name` by which the policy's rule is found (default: where the release comes from, if that has a name)")
	set.StringVar(&t.at, "at", "", "`time` at which authorities must be valid, such as 2026-01-31T00:00:00Z (default: now)")
	return t
}

// Load makes the policy for a repository, whose name may be empty. identities may be nil; a policy that needs them is an error then.
func (t *Trust) Load(repository string, identities cosign.IdentityVerifier) (p cosign.Policy, err error) {
	switch {
	case (t.policy == "") == (len(t.keys) == 0):
		return p, usagef("want either -policy or -key")
	case t.policy == "":
		p.Keys, err = readKeys(t.keys)
		return p, err
	}
	text, err := ReadFile(t.policy)
	if err != nil {
		return p, err
	}
	rules, err := cosign.ParseRules(text, os.DirFS(filepath.Dir(t.policy)))
	if err != nil {
		return p, fmt.Errorf("%s: %v", t.policy, err) // no answer about the artifact, so its type is not kept
	}
	if p, err = rules.For(cmp.Or(t.repository, repository)); err != nil {
		return p, fmt.Errorf("%s: %w (see -repository)", t.policy, err)
	}
	for _, a := range p.Authorities {
		if len(a.Identities) > 0 && identities == nil {
			return p, fmt.Errorf("%s: authority %q: %w; signing/cosign/keyless/examples/release verifies those", t.policy, a.Name, cosign.ErrNoIdentityVerifier)
		}
	}
	p.At, p.Identities = time.Now(), identities
	if t.at != "" {
		if p.At, err = time.Parse(time.RFC3339, t.at); err != nil {
			return p, usagef("-at: %v", err)
		}
	}
	return p, nil
}

// IsRefusal reports whether an error says that an artifact is not to be trusted, and not that something went wrong.
func IsRefusal(err error) bool { return Reason(err) != "" || errors.Is(err, cosign.ErrNoRule) }

// A List is a flag that may be given several times.
type List []string

func (l *List) String() string { return "" }

// Set adds one.
func (l *List) Set(s string) error {
	*l = append(*l, s)
	return nil
}
