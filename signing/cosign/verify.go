package cosign

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
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

	// signatures that count, of as many authorities as the policy requires
	Signatures []Signature
	// attestations that count, also those that the policy does not require
	Attestations []Attestation
	Rejected     []Rejection // signatures and attestations that do not count
}

// A Signature says who signed an artifact, and how. The authority is a trusted one of the policy.
type Signature struct {
	Format    Format
	Authority string           // name of the authority; empty for Policy.Keys
	Key       crypto.PublicKey // key of the policy; nil for a signature by certificate
	Identity  *VerifiedIdentity
	// what was signed: simple-signing JSON, an in-toto statement, or the artifact's manifest
	Payload   []byte
	Manifest  digest.Digest // descriptor of the manifest that holds the signature
	Reference string        // artifact's name in a simple-signing payload

	layer ocispec.Descriptor // that holds it there
}

// Signer is text for people that names the signer.
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

// An Attestation is a statement about the artifact that a trusted authority signed. Its content is
// as trustworthy as that authority.
type Attestation struct {
	Signature
	PredicateType string
	Predicate     json.RawMessage // bytes of the statement
}

// Verify checks that the authorities of the policy signed the artifact and made the required
// attestations, and that the source has the signed manifest. The digest of the descriptor
// identifies the artifact; the descriptor need not come from a trusted place.
//
// Without any signature the error is ErrUnsigned; with fewer valid signatures than the policy
// requires it is an *UntrustedError. A policy that no artifact can satisfy, or that names
// identities without an IdentityVerifier, is an error, too.
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
	v := &verification{src: src, policy: p, authorities: p.authorities(), seen: map[[sha256.Size]byte]bool{}, left: p.Limits.budget(),
		Result: Result{Subject: artifact, Manifest: content}}
	candidates, err := findSignatures(ctx, src, artifact)
	if incomplete, ok := errors.AsType[*IncompleteError](err); ok {
		// What was found elsewhere can satisfy the policy all the same.
		v.Rejected = append(v.Rejected, Rejection{Err: incomplete})
	} else if err != nil {
		return nil, err
	}
	for _, c := range candidates {
		if more, err := v.candidate(ctx, c); err != nil {
			return nil, err
		} else if !more {
			break
		}
	}
	// What is large comes last, so that it takes nothing from what is small.
	for _, l := range v.large {
		if n := l.layer.Size; n <= v.left.held && n <= p.Limits.layer(FormatBundle) && n >= int64(cap(v.buffer)) {
			v.buffer = nil
			for _, l := range v.large { // one buffer for all of them
				if l.layer.Size <= v.left.held && l.layer.Size <= p.Limits.layer(FormatBundle) {
					n = max(n, l.layer.Size)
				}
			}
			v.buffer = make([]byte, 0, n+1)
		}
		if more, err := v.layer(ctx, l.manifest, l.layer); err != nil {
			return nil, err
		} else if !more {
			break
		}
	}
	return v.judge()
}

// A verification goes through all candidates, as far as its budget goes.
type verification struct {
	Result
	src         ArtifactSource
	policy      Policy
	authorities []Authority
	seen        map[[sha256.Size]byte]bool // signatures, by value and payload
	left        budget
	satisfied   bool
	large       []largeLayer
	text        int    // bytes of annotations in large
	buffer      []byte // for what is large, until it is kept
}

// A largeLayer is one that waits until what is small was looked at.
type largeLayer struct {
	manifest digest.Digest
	layer    ocispec.Descriptor
}

// smallLayer is the size of what is looked at first, and maxLarge bounds what waits.
const (
	smallLayer   = 1 << 20
	maxLarge     = 64
	maxLargeText = 1 << 20 // bytes of annotations of what waits
)

func (v *verification) reject(manifest digest.Digest, f Format, hint string, err error) {
	v.Rejected = append(v.Rejected, Rejection{Manifest: manifest, Format: f, Hint: short(hint), Err: shorten(err)})
}

// exhausted notes why nothing more is looked at.
func (v *verification) exhausted(manifest digest.Digest, err error) (more bool, _ error) {
	if v.satisfied {
		err = fmt.Errorf("%w: the policy is satisfied", ErrNotRead)
	}
	v.reject(manifest, 0, "", err)
	return false, nil
}

// judge checks the signatures that were found against the policy.
func (v *verification) judge() (*Result, error) {
	if len(v.Signatures)+len(v.Attestations) == 0 && len(v.Rejected) == 1 {
		if incomplete, ok := errors.AsType[*IncompleteError](v.Rejected[0].Err); ok {
			return nil, fmt.Errorf("%s: %w", v.Subject.Digest, incomplete)
		}
	}
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
// error is that of the context. It returns whether there may be more.
func (v *verification) candidate(ctx context.Context, desc ocispec.Descriptor) (more bool, _ error) {
	if err := v.left.spendOne(&v.left.manifests, "manifests"); err != nil {
		return v.exhausted(desc.Digest, err)
	}
	if desc.Size <= maxManifest {
		if err := v.left.spend(desc.Size); err != nil {
			return v.exhausted(desc.Digest, err)
		}
	}
	content, err := readBlob(ctx, v.src, desc, maxManifest)
	if ctx.Err() != nil {
		return false, ctx.Err()
	} else if err != nil {
		v.reject(desc.Digest, 0, "", err)
		return true, nil
	}
	m, err := parseManifest(content)
	if err != nil {
		v.reject(desc.Digest, 0, "", err)
		return true, nil
	}
	if m.Subject != nil && m.Subject.Digest != v.Subject.Digest {
		// it does not say that it is about this artifact; a source may return others, too
		return true, nil
	}
	if err := atMost("signatures in the manifest", len(m.Layers), maxLayers); err != nil && m.format() != 0 {
		v.reject(desc.Digest, m.format(), "", err)
		return true, nil
	}
	for _, layer := range m.Layers {
		if layer.Size > smallLayer && layerFormat(layer) > FormatSimpleSigning {
			for name, text := range layer.Annotations {
				v.text += len(name) + len(text)
			}
			if len(v.large) == maxLarge || v.text > maxLargeText {
				v.reject(desc.Digest, layerFormat(layer), "", fmt.Errorf("%w: the limit on large attestations of one artifact", ErrNotRead))
				continue
			}
			v.large = append(v.large, largeLayer{desc.Digest, layer})
			continue
		}
		if more, err := v.layer(ctx, desc.Digest, layer); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// layer looks at one signature or attestation, as candidate does at a manifest.
func (v *verification) layer(ctx context.Context, manifest digest.Digest, layer ocispec.Descriptor) (more bool, _ error) {
	format := layerFormat(layer)
	if format == 0 {
		return true, nil
	}
	if err := v.left.spendOne(&v.left.signatures, "signatures"); err != nil {
		return v.exhausted(manifest, err)
	}
	limit := v.policy.Limits.layer(format)
	if layer.Size <= limit {
		if layer.Size > v.left.held {
			v.reject(manifest, format, "", &LimitError{"bytes of signatures and attestations that are kept", layer.Size, v.left.held})
			return true, nil
		}
		if err := v.left.spend(layer.Size); err != nil {
			return v.exhausted(manifest, err)
		}
	}
	blob, err := readBlobInto(ctx, v.src, layer, limit, v.buffer)
	if ctx.Err() != nil {
		return false, ctx.Err()
	} else if err != nil {
		v.reject(manifest, format, "", err)
		return true, nil
	}
	e, err := parseLayer(format, layer, blob, v.Manifest)
	if err != nil {
		v.reject(manifest, format, "", err)
		return true, nil
	}
	// Hashing is work, too: a bundle of a few bytes can be about a manifest of megabytes.
	if err := v.left.spend(int64(len(e.message))); err != nil {
		return v.exhausted(manifest, err)
	}
	if v.repeated(e) {
		return true, nil
	}
	s, c, err := v.verify(ctx, e)
	if ctx.Err() != nil {
		return false, ctx.Err()
	} else if err != nil {
		v.reject(manifest, format, e.hint, err)
		return true, nil
	}
	v.left.held -= layer.Size
	v.buffer = nil // it is the attestation's now
	s.Manifest, s.layer = manifest, layer
	if c.predicateType == "" {
		v.Signatures = append(v.Signatures, *s)
	} else {
		v.Attestations = append(v.Attestations, Attestation{*s, c.predicateType, c.predicate})
	}
	if !v.satisfied && v.satisfies() {
		v.satisfied = true
		more := v.policy.Limits.More
		if more == 0 {
			more = 64
		}
		v.left.manifests, v.left.signatures = min(v.left.manifests, max(more, 0)), min(v.left.signatures, max(more, 0)*8)
	}
	return true, nil
}

// satisfies reports whether what was found is as much as the policy asks for.
func (v *verification) satisfies() bool {
	if v.signers() < v.policy.threshold() {
		return false
	}
	for i := range v.policy.Attestations {
		if ok, _ := v.policy.Attestations[i].satisfied(v.Attestations); !ok {
			return false
		}
	}
	return true
}

// repeated reports whether another manifest held the same signature.
func (v *verification) repeated(e *envelope) bool {
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s", len(e.signature), e.signature)
	h.Write(e.message)
	id := [sha256.Size]byte(h.Sum(nil))
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
	if err := v.policy.referenced(c); err != nil {
		return nil, nil, named(err)
	}
	s.Format, s.Authority, s.Payload, s.Reference = e.format, a.Name, e.payload, c.reference
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
				return nil, nil, fmt.Errorf("%w: the payload names %s, so the manifest or the payload was altered", ErrOtherKey, whose)
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
		// The verifier is the caller's code, and the verdict depends on this comparison.
		if !slices.ContainsFunc(a.Identities, func(want Identity) bool { return want.Matches(id.Issuer, id.Subject) }) {
			return nil, nil, fmt.Errorf("%w: %q: the verifier accepted %s of %s, whom the policy does not name", ErrOtherKey, a.Name, id.Subject, id.Issuer)
		}
		return a, &Signature{Identity: id}, nil
	}
	return nil, nil, err
}
