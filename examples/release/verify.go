package main

import (
	"cmp"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/cosign/keyless"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// maxFile bounds policies, keys, predicates and trusted roots, in bytes.
const maxFile = 64 << 20

// trust is what flags say about whom to believe.
type trust struct {
	policy, repository, at, root string
	keys                         cli.List
	proofs                       keyless.VerifierOptions
}

func trustFlags(set *flag.FlagSet) *trust {
	t := new(trust)
	set.StringVar(&t.policy, "policy", "", "`file` with a policy, JSON")
	set.Var(&t.keys, "key", "`file` with public keys, one of which must have signed; may be repeated")
	set.StringVar(&t.repository, "repository", "", "`name` by which the policy's rule is found (default: where the release comes from, if that has a name)")
	set.StringVar(&t.at, "at", "", "`time` at which authorities must be valid, such as 2026-01-31T00:00:00Z (default: now)")
	set.StringVar(&t.root, "trusted-root", "", "`file` trusted_root.json of the Sigstore instance, for policies that name identities")
	set.BoolVar(&t.proofs.WithoutLogEntry, "without-log-entry", false, "accept signatures that no transparency log has recorded")
	set.BoolVar(&t.proofs.WithoutCertificateTimestamps, "without-certificate-timestamps", false, "accept certificates that no certificate transparency log has recorded")
	return t
}

// load makes the policy for a repository, whose name may be empty. Its errors are no answers about
// an artifact, so their types are not kept.
func (t *trust) load(repository string) (p cosign.Policy, err error) {
	var identities cosign.IdentityVerifier
	if t.root != "" {
		text, err := cli.ReadFile(t.root, maxFile)
		if err != nil {
			return p, err
		}
		if identities, err = keyless.New(text, t.proofs); err != nil {
			return p, fmt.Errorf("%s: %v", t.root, err)
		}
	}
	switch {
	case (t.policy == "") == (len(t.keys) == 0):
		return p, cli.Usagef("want either -policy or -key")
	case t.policy == "":
		p.Keys, err = readKeys(t.keys)
		return p, err
	}
	text, err := cli.ReadFile(t.policy, maxFile)
	if err != nil {
		return p, err
	}
	rules, err := cosign.ParseRules(text, os.DirFS(filepath.Dir(t.policy)))
	if err != nil {
		return p, fmt.Errorf("%s: %v", t.policy, err)
	}
	if p, err = rules.For(cmp.Or(t.repository, repository)); err != nil {
		return p, fmt.Errorf("%s: %w (see -repository)", t.policy, err)
	}
	for _, a := range p.Authorities {
		if len(a.Identities) > 0 && identities == nil {
			return p, cli.Usagef("%s: authority %q has identities: -trusted-root is missing", t.policy, a.Name)
		}
	}
	p.At, p.Identities = time.Now(), identities
	if t.at != "" {
		if p.At, err = time.Parse(time.RFC3339, t.at); err != nil {
			return p, cli.Usagef("-at: %v", err)
		}
	}
	return p, nil
}

// readKeys reads the public keys of some files.
func readKeys(names []string) (keys []crypto.PublicKey, err error) {
	for _, name := range names {
		text, err := cli.ReadFile(name, maxFile)
		if err != nil {
			return nil, err
		}
		some, err := cosign.ParseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys = append(keys, some...)
	}
	return keys, nil
}

func verifyFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	trust, access, wanted := trustFlags(set), accessFlags(set), wantedFlags(set)
	return func(c *cli.Call, operands []string) error {
		p, v, _, err := verify(c, operands, trust, access)
		if v == nil {
			return err
		}
		if err == nil {
			err = wanted.check(c, p, v.result.Subject)
			if is[*release.WantedError](err) {
				v.Verified, v.Reason, v.Error = false, "wanted", err.Error()
			} else if err != nil {
				return err
			}
		}
		if err != nil {
			return errors.Join(err, c.Answer(v.object(c), ""))
		}
		return c.Answer(v.object(c), v.String())
	}
}

// A verified is what was checked against a policy.
type verified struct {
	verification
	place  *place
	result *cosign.Result
}

func (v *verified) object(c *cli.Call) any {
	if v.place.registry != nil {
		return registryResult{Header: c.Header(), Name: v.place.repository, Digest: v.Digest, Verification: &v.verification}
	}
	return verifyResult{c.Header(), v.verification}
}

// verify finds an artifact and checks it against the policy. A refusal is an error and has what is
// to be said about it, too.
func verify(c *cli.Call, operands []string, t *trust, a *access) (*place, *verified, cosign.Policy, error) {
	p, artifact, err := find(c, operands, a)
	if err != nil {
		return nil, nil, cosign.Policy{}, err
	}
	policy, err := t.load(p.repository)
	if err != nil {
		return nil, nil, policy, err
	}
	result, refused := cosign.Verify(c, p, artifact, policy)
	v, err := newVerification(artifact.Digest, result, refused)
	if err != nil {
		return nil, nil, policy, err
	}
	if refused != nil {
		refused = cli.No{Err: refused}
	}
	return p, &verified{*v, p, result}, policy, refused
}

// discard reads a blob to its end, which checks it.
func discard(r io.ReadCloser) error {
	_, err := io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// newVerification describes what cosign.Verify has returned. An error that is no refusal is
// returned as it is.
func newVerification(artifact digest.Digest, result *cosign.Result, err error) (*verification, error) {
	v := &verification{Digest: string(artifact), Verified: err == nil,
		Signatures: []signature{}, Attestations: []signature{}, Rejected: []rejection{}}
	if err != nil {
		if v.Reason = reason(err); v.Reason == "" {
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

// reason names a refusal; "" for other errors.
func reason(err error) string {
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

func describe(s cosign.Signature) (about signature, err error) {
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
	var digest *osmith.DigestError
	var format *osmith.FormatError
	switch {
	case errors.Is(err, cosign.ErrOtherKey):
		return "otherKey"
	case errors.Is(err, cosign.ErrOtherArtifact):
		return "otherArtifact"
	case errors.Is(err, cosign.ErrOtherReference):
		return "otherReference"
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
func (v *verification) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", v.Digest)
	for _, s := range v.Signatures {
		fmt.Fprintf(&b, "signed by %s\n", s)
	}
	for _, s := range v.Attestations {
		fmt.Fprintf(&b, "%s by %s\n", shown(s.PredicateType), s)
	}
	for _, n := range v.Rejected {
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
