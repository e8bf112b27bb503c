package cosign

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Format is one of the two ways in which cosign stores a signature.
type Format int

const (
	// SimpleSigning is the format of cosign 1 and 2: a signed payload as a layer,
	// the signature as its annotation.
	SimpleSigning Format = iota + 1
	// Bundle is the format of cosign 3: a Sigstore bundle that refers to the
	// artifact as its subject.
	Bundle
)

func (f Format) String() string {
	switch f {
	case SimpleSigning:
		return "simple signing"
	case Bundle:
		return "bundle"
	}
	return fmt.Sprintf("format %d", int(f))
}

// A Policy says whose signature counts.
type Policy struct {
	// Keys are trusted, each alone: one signature by any of them is enough. Two
	// keys serve to replace one by the other. There must be at least one.
	Keys []crypto.PublicKey
}

// A Result is the proof that an artifact satisfies a policy.
type Result struct {
	Subject  ocispec.Descriptor // the artifact; its digest is what was signed
	Manifest []byte             // the artifact's manifest: the bytes that have this digest

	Signatures []Signature // that count; at least one
	Rejected   []Rejection // that do not
}

// A Signature is one that a trusted key made for the artifact.
type Signature struct {
	Format   Format
	Key      crypto.PublicKey // of the policy
	Payload  []byte           // what was signed: simple-signing JSON, or an in-toto statement
	Manifest digest.Digest    // of the manifest that holds the signature
}

// Verify checks that a trusted key signed the artifact, and that the source has the
// manifest that was signed. The artifact is what the digest of the descriptor names;
// where that came from does not matter.
//
// Without any signature the error is ErrUnsigned, without a good one it is an
// *UntrustedError. A policy without keys is an error.
func Verify(ctx context.Context, src Source, artifact ocispec.Descriptor, p Policy) (*Result, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	content, err := readBlob(ctx, src, artifact, maxManifest)
	if err != nil {
		return nil, err
	}
	candidates, err := src.Signatures(ctx, artifact)
	if err != nil {
		return nil, fmt.Errorf("cosign: %s: find signatures: %w", artifact.Digest, err)
	}
	if len(candidates) > maxCandidates {
		return nil, fmt.Errorf("cosign: %s: %d manifests with signatures, at most %d are looked at", artifact.Digest, len(candidates), maxCandidates)
	}
	v := &verification{src: src, policy: p, seen: map[string]bool{},
		Result: Result{Subject: artifact, Manifest: content}}
	for _, c := range candidates {
		if err := v.candidate(ctx, c); err != nil {
			return nil, err
		}
	}
	switch {
	case len(v.Signatures) > 0:
		return &v.Result, nil
	case len(v.Rejected) > 0:
		return nil, &UntrustedError{Subject: artifact.Digest, Rejected: v.Rejected}
	}
	return nil, fmt.Errorf("cosign: %s: %w", artifact.Digest, ErrUnsigned)
}

func (p Policy) check() error {
	if len(p.Keys) == 0 {
		return errors.New("cosign: policy: no keys: nothing could satisfy it")
	}
	for _, key := range p.Keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	return nil
}

// A verification goes through all candidates.
type verification struct {
	Result
	src    Source
	policy Policy
	seen   map[string]bool // signatures, by payload and value
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
	for _, layer := range m.Layers {
		format := layerFormat(layer)
		if format == 0 {
			continue
		}
		blob, err := readBlob(ctx, v.src, layer, maxPayload)
		if ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			reject(format, "", err)
			continue
		}
		var e *envelope
		if format == SimpleSigning {
			e, err = parseSimpleSigning(layer.Annotations[annotationSignature], blob)
		} else {
			e, err = parseBundle(blob)
		}
		if err != nil {
			reject(format, "", err)
			continue
		}
		if v.repeated(e) {
			continue
		}
		key, err := v.verify(e)
		if err != nil {
			reject(format, e.hint, err)
			continue
		}
		v.Signatures = append(v.Signatures, Signature{Format: format, Key: key, Payload: e.payload, Manifest: desc.Digest})
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

// An envelope is a signature, what it signs, and how to read that.
type envelope struct {
	hint      string // of the key; not trustworthy
	message   []byte // the exact bytes that were signed
	signature []byte
	payload   []byte // what the message is about

	// subject checks that the payload is a signature of the artifact.
	subject func(payload []byte, artifact digest.Digest) error
}

// verify returns the key of the policy that made the signature. Only then is the
// payload parsed.
func (v *verification) verify(e *envelope) (crypto.PublicKey, error) {
	for _, key := range v.policy.Keys {
		if verifySignature(key, e.message, e.signature) != nil {
			continue
		}
		if err := e.subject(e.payload, v.Subject.Digest); err != nil {
			return nil, err
		}
		return key, nil
	}
	for _, key := range v.policy.Keys {
		if hint, err := KeyHint(key); err == nil && hint == e.hint {
			return nil, fmt.Errorf("%w: it names a trusted key, so it or the payload was altered", ErrOtherKey)
		}
	}
	return nil, ErrOtherKey
}
