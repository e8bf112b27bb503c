package cosign

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// A Result is the proof that an artifact satisfies a policy.
type Result struct {
	Subject  ocispec.Descriptor // the artifact; its digest is what was signed
	Manifest []byte             // the artifact's manifest: the bytes that have this digest

	Signatures   []Signature   // that count; of as many authorities as the policy asks for
	Attestations []Attestation // that count, whether or not the policy asks for them
	Rejected     []Rejection   // that do not
}

// A Signature says who signed an artifact, and how. The authority is one of the policy, and trusted.
type Signature struct {
	Format    Format
	Authority string           // of the policy; empty for Policy.Keys
	Key       crypto.PublicKey // of the policy; nil for a signature by certificate
	Identity  *VerifiedIdentity
	Payload   []byte        // what was signed: simple-signing JSON, an in-toto statement, or the artifact's manifest
	Manifest  digest.Digest // of the manifest that holds the signature
}

// Signer names who signed, for a person.
func (s *Signature) Signer() string {
	who := fmt.Sprintf("authority %q", s.Authority)
	if s.Authority == "" {
		who = "a key of the policy"
	}
	if s.Identity != nil {
		who += fmt.Sprintf(" (%s of %s)", s.Identity.Subject, s.Identity.Issuer)
	}
	return who
}

// An Attestation is a statement about the artifact that a trusted authority signed. What
// it says is true as far as that authority is believed.
type Attestation struct {
	Signature
	PredicateType string
	Predicate     json.RawMessage // as it stands in the statement
}

// Verify checks that those whom the policy names signed the artifact and made the attestations it
// asks for, and that the source has the manifest that was signed. The artifact is what
// the digest of the descriptor names; where that came from does not matter.
//
// Without any signature the error is ErrUnsigned, without as many good ones as the policy
// asks for it is an *UntrustedError. A policy that could not be satisfied, or that names identities
// without a way to check them, is an error, too.
func Verify(ctx context.Context, src ArtifactSource, artifact ocispec.Descriptor, p Policy) (*Result, error) {
	result, err := verify(ctx, src, artifact, p)
	return result, prefix.Error("cosign", err)
}

func verify(ctx context.Context, src ArtifactSource, artifact ocispec.Descriptor, p Policy) (*Result, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	content, err := readBlob(ctx, src, artifact, maxManifest)
	if err != nil {
		return nil, err
	}
	candidates, err := findSignatures(ctx, src, artifact)
	if err != nil {
		return nil, err
	}
	if len(candidates) > maxCandidates {
		return nil, fmt.Errorf("%s: %d manifests with signatures, at most %d are looked at", artifact.Digest, len(candidates), maxCandidates)
	}
	v := &verification{src: src, policy: p, authorities: p.authorities(), seen: map[string]bool{},
		Result: Result{Subject: artifact, Manifest: content}}
	for _, c := range candidates {
		if err := v.candidate(ctx, c); err != nil {
			return nil, err
		}
	}
	return v.judge()
}

// A verification goes through all candidates.
type verification struct {
	Result
	src         ArtifactSource
	policy      Policy
	authorities []Authority
	seen        map[string]bool // signatures, by payload and value
}

// judge holds what was found against the policy.
func (v *verification) judge() (*Result, error) {
	if len(v.Signatures)+len(v.Attestations)+len(v.Rejected) == 0 {
		return nil, fmt.Errorf("%s: %w%s", v.Subject.Digest, ErrUnsigned, of(v.absent()))
	}
	u := &UntrustedError{Subject: v.Subject.Digest, Want: v.policy.threshold(), Of: len(v.authorities), Absent: v.absent(), Rejected: v.Rejected}
	for _, s := range v.Signatures {
		if name := s.Signer(); !slices.Contains(u.Signed, name) {
			u.Signed = append(u.Signed, name)
		}
	}
	for i := range v.policy.Attestations {
		r := &v.policy.Attestations[i]
		if ok, reasons := r.satisfied(v.Attestations); !ok {
			u.Missing = append(u.Missing, MissingAttestation{r.String(), reasons})
		}
	}
	if v.signers() < u.Want || len(u.Missing) > 0 {
		return nil, u
	}
	return &v.Result, nil
}

// absent names the authorities that have not signed.
func (v *verification) absent() (names []string) {
	for _, a := range v.authorities {
		signed := slices.ContainsFunc(v.Signatures, func(s Signature) bool { return s.Authority == a.Name })
		if a.Name != "" && !signed {
			names = append(names, a.Name)
		}
	}
	return names
}

// signers counts the authorities that have signed.
func (v *verification) signers() int {
	names := map[string]bool{}
	for _, s := range v.Signatures {
		names[s.Authority] = true
	}
	return len(names)
}

// candidate looks at one manifest. What is wrong with it is a rejection; the only
// error is that of the context.
func (v *verification) candidate(ctx context.Context, desc ocispec.Descriptor) error {
	reject := func(f Format, hint string, err error) {
		v.Rejected = append(v.Rejected, Rejection{Manifest: desc.Digest, Format: f, Hint: hint, Err: err})
	}
	content, err := readBlob(ctx, v.src, desc, maxManifest)
	if ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		reject(0, "", err)
		return nil
	}
	m, err := parseManifest(content)
	if err != nil {
		reject(0, "", err)
		return nil
	}
	if m.Subject != nil && m.Subject.Digest != v.Subject.Digest {
		return nil // it does not say that it is about this artifact; a source may return others, too
	}
	if err := atMost("signatures in the manifest", len(m.Layers), maxLayers); err != nil && m.format() != 0 {
		reject(m.format(), "", err)
		return nil
	}
	for _, layer := range m.Layers {
		format := layerFormat(layer)
		if format == 0 {
			continue
		}
		blob, err := readBlob(ctx, v.src, layer, v.policy.Limits.layer(format))
		if ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			reject(format, "", err)
			continue
		}
		e, err := parseLayer(format, layer, blob, v.Manifest)
		if err != nil {
			reject(format, "", err)
			continue
		}
		if v.repeated(e) {
			continue
		}
		s, c, err := v.verify(ctx, e)
		if ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			reject(format, e.hint, err)
			continue
		}
		s.Manifest = desc.Digest
		if c.predicateType == "" {
			v.Signatures = append(v.Signatures, *s)
		} else {
			v.Attestations = append(v.Attestations, Attestation{*s, c.predicateType, c.predicate})
		}
	}
	return nil
}

// repeated reports whether another manifest held the same signature.
func (v *verification) repeated(e *envelope) bool {
	id := string(e.signature) + "\x00" + string(e.message)
	if v.seen[id] {
		return true
	}
	v.seen[id] = true
	return false
}

// verify finds the authority of the policy that made the signature. Only then is the
// payload parsed.
func (v *verification) verify(ctx context.Context, e *envelope) (*Signature, *claim, error) {
	a, s, err := v.authority(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	named := func(err error) error {
		if a.Name == "" {
			return err
		}
		return fmt.Errorf("signed by %q: %w", a.Name, err)
	}
	if err := a.valid(v.policy.At); err != nil {
		return nil, nil, err
	}
	c, err := e.read(e.payload, v.Subject.Digest)
	if err != nil {
		return nil, nil, named(err)
	}
	s.Format, s.Authority, s.Payload = e.format, a.Name, e.payload
	return s, c, nil
}

// authority returns who made a signature.
func (v *verification) authority(ctx context.Context, e *envelope) (*Authority, *Signature, error) {
	for i := range v.authorities {
		for _, key := range v.authorities[i].Keys {
			if verifySignature(key, e.message, e.signature) == nil {
				return &v.authorities[i], &Signature{Key: key}, nil
			}
		}
	}
	if e.bundle != nil && v.policy.Identities != nil {
		return v.certified(ctx, e)
	}
	for i := range v.authorities {
		for _, key := range v.authorities[i].Keys {
			if hint, err := KeyHint(key); err == nil && hint == e.hint {
				whose := "a trusted key"
				if name := v.authorities[i].Name; name != "" {
					whose = fmt.Sprintf("a key of %q", name)
				}
				return nil, nil, fmt.Errorf("%w: it names %s, so it or the payload was altered", ErrOtherKey, whose)
			}
		}
	}
	return nil, nil, ErrOtherKey
}

// certified returns whose certificate made a signature.
func (v *verification) certified(ctx context.Context, e *envelope) (*Authority, *Signature, error) {
	err := ErrOtherKey
	for i := range v.authorities {
		a := &v.authorities[i]
		if len(a.Identities) == 0 {
			continue
		}
		id, e := v.policy.Identities.VerifyIdentity(ctx, e.bundle, e.message, a.Identities)
		if e != nil {
			err = fmt.Errorf("%w: %q: %w", ErrOtherKey, a.Name, e)
			continue
		}
		// The verifier is code of somebody else, and this is what everything hangs on.
		if !slices.ContainsFunc(a.Identities, func(want Identity) bool { return want.Matches(id.Issuer, id.Subject) }) {
			return nil, nil, fmt.Errorf("%w: %q: the verifier accepted %s of %s, whom the policy does not name", ErrOtherKey, a.Name, id.Subject, id.Issuer)
		}
		return a, &Signature{Identity: id}, nil
	}
	return nil, nil, err
}
