package cosign

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// SignOptions are choices for a signature or an attestation. The zero value signs in both formats,
// and attests as a bundle.
type SignOptions struct {
	// formats to write; none means FormatSimpleSigning and FormatBundle for Sign, FormatBundle for
	// Attest
	Formats []Format

	// Reference is the artifact's name in the payload of the simple-signing format, such as
	// registry.example/os. Policies can require it (Policy.References).
	Reference string

	// Limits are the limits of the verifiers; Sign and Attest refuse what exceeds them.
	Limits Limits

	// Rand is handed to the signer. Without it, ECDSA signatures are deterministic
	// (RFC 6979) if the signer is an *ecdsa.PrivateKey.
	Rand io.Reader
}

// Sign signs an artifact with a key and stores the signatures. The artifact itself need not be in
// the store when it is signed, but cosign and Verify expect to find it there. A key that hashes the
// message itself is a [crypto.MessageSigner]; [SigstoreSigner] makes one from a signer of Sigstore.
func Sign(ctx context.Context, store Store, artifact ocispec.Descriptor, signer crypto.Signer, o SignOptions) (err error) {
	defer prefix.Add("cosign", &err)
	formats := o.Formats
	if len(formats) == 0 {
		formats = []Format{FormatSimpleSigning, FormatBundle}
	}
	for _, format := range formats {
		d, err := prepare(artifact, signer.Public(), format, o)
		if err != nil {
			return err
		}
		if err := d.sign(ctx, store, signer, o.Rand); err != nil {
			return err
		}
	}
	return nil
}

// Attest signs a statement about an artifact with a key and stores it: a bundle unless
// the options say FormatDSSE. The predicate is a JSON object.
func Attest(ctx context.Context, store Store, artifact ocispec.Descriptor, predicateType string, predicate []byte, signer crypto.Signer, o SignOptions) (err error) {
	defer prefix.Add("cosign", &err)
	formats := o.Formats
	if len(formats) == 0 {
		formats = []Format{FormatBundle}
	}
	for _, format := range formats {
		d, err := prepareAttestation(artifact, signer.Public(), format, predicateType, predicate, o.Limits)
		if err != nil {
			return err
		}
		if err := d.sign(ctx, store, signer, o.Rand); err != nil {
			return err
		}
	}
	return nil
}

// SigstoreSigner makes a signer for [Sign] and [Attest] from a signer of Sigstore's package
// signature, such as a key in a KMS. The Sigstore signer must sign as cosign does with such a key:
// ECDSA and RSA with SHA-256. The result signs messages; its method Sign, which is for digests,
// returns an error.
func SigstoreSigner(ctx context.Context, signer signature.Signer) (crypto.Signer, error) {
	key, err := signer.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, prefix.Error("cosign", fmt.Errorf("sign: %w", err))
	}
	return &sigstoreSigner{ctx, signer, key}, nil
}

type sigstoreSigner struct {
	ctx    context.Context
	signer signature.Signer
	key    crypto.PublicKey
}

var _ crypto.MessageSigner = (*sigstoreSigner)(nil)

func (s *sigstoreSigner) Public() crypto.PublicKey { return s.key }

func (s *sigstoreSigner) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.signer.SignMessage(bytes.NewReader(message), options.WithContext(s.ctx))
}

func (s *sigstoreSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("a Sigstore signer signs messages, not digests")
}

// A Draft is a signature that lacks its value, which may be made elsewhere.
type Draft struct {
	format        Format
	artifact      ocispec.Descriptor
	key           crypto.PublicKey
	hash          crypto.Hash
	payload       []byte
	predicateType string
}

// Prepare makes the draft of a signature by the private half of a key. Only the options for the
// payload are used.
func Prepare(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, o SignOptions) (*Draft, error) {
	d, err := prepare(artifact, key, format, o)
	return d, prefix.Error("cosign", err)
}

func prepare(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, o SignOptions) (*Draft, error) {
	d, err := newDraft(artifact, key, format, predicateType)
	if err != nil {
		return nil, err
	}
	switch format {
	case FormatSimpleSigning:
		d.payload, err = newPayload(artifact.Digest, o)
	case FormatBundle:
		d.payload, err = newStatement(artifact.Digest, claim{})
	default:
		err = errors.New("not a signature format")
	}
	if err == nil {
		err = atMost("bytes of the payload", len(d.payload), maxPayload)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", format, err)
	}
	return d, nil
}

// PrepareAttestation makes the draft of an attestation by the private half of a key, in
// the format FormatBundle or FormatDSSE. The statement has at most 32 MiB.
func PrepareAttestation(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, predicateType string, predicate []byte) (*Draft, error) {
	d, err := prepareAttestation(artifact, key, format, predicateType, predicate, Limits{})
	return d, prefix.Error("cosign", err)
}

func prepareAttestation(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, predicateType string, predicate []byte, l Limits) (*Draft, error) {
	if format != FormatBundle && format != FormatDSSE {
		return nil, fmt.Errorf("%v: not an attestation format", format)
	}
	if predicateType == "" {
		return nil, errors.New("attestation: no predicate type")
	}
	if err := atMost("bytes of the predicate", int64(len(predicate)), l.attestation()); err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	if err := decode("predicate", predicate, new(struct{})); err != nil {
		return nil, err
	}
	d, err := newDraft(artifact, key, format, predicateType)
	if err != nil {
		return nil, err
	}
	if d.payload, err = newStatement(artifact.Digest, claim{predicateType: predicateType, predicate: predicate}); err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	if err := atMost("bytes of the statement", int64(len(d.payload)), l.attestation()); err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	return d, nil
}

func newDraft(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, predicateType string) (*Draft, error) {
	if err := ocilayout.CheckDescriptor(artifact); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return &Draft{format: format, artifact: artifact, key: key, hash: signingHash(key), predicateType: predicateType}, nil
}

func (d *Draft) sign(ctx context.Context, store Store, signer crypto.Signer, random io.Reader) error {
	sig, err := crypto.SignMessage(signer, random, d.Message(), d.hash)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return d.join(ctx, store, sig)
}

// Message returns the bytes to be signed.
func (d *Draft) Message() []byte {
	if d.format == FormatSimpleSigning {
		return bytes.Clone(d.payload)
	}
	return preAuthenticationEncoding(dssePayloadType, d.payload)
}

// Hash returns the hash to sign the message with, SHA-256: ECDSA signatures are ASN.1,
// RSA signatures PKCS #1 v1.5. It is 0 for Ed25519, which signs the message itself.
func (d *Draft) Hash() crypto.Hash { return d.hash }

// Join puts draft and signature together and stores them, if the signature is right.
func (d *Draft) Join(ctx context.Context, store Store, sig []byte) error {
	return prefix.Error("cosign", d.join(ctx, store, sig))
}

func (d *Draft) join(ctx context.Context, store Store, sig []byte) error {
	if err := verifySignature(d.key, d.Message(), sig); err != nil {
		return fmt.Errorf("sign: the signature does not fit the key: %w", err)
	}
	switch d.format {
	case FormatBundle:
		return d.joinBundle(ctx, store, sig)
	case FormatDSSE:
		return d.joinDSSE(ctx, store, sig)
	}
	return d.joinSimpleSigning(ctx, store, sig)
}

func (d *Draft) joinBundle(ctx context.Context, store Store, sig []byte) error {
	candidates, err := findSignatures(ctx, store, d.artifact)
	if err != nil && !errors.Is(err, ErrIncomplete) { // what cannot be listed is not replaced
		return err
	}
	// One more may be the same again, and the store knows that by its digest only.
	if err := atMost("manifests with signatures of "+string(d.artifact.Digest), len(candidates)+1, maxCandidates); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	hint, err := KeyHint(d.key)
	if err != nil {
		return err
	}
	content, err := newBundle(hint, d.payload, sig)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if err := checkManifest("of the bundle", ocispec.Manifest{Annotations: map[string]string{annotationPredicateType: d.predicateType}}); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	layer, err := store.WriteBlob(mediaTypeBundle, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("bundle: %w", prefix.Bare(err))
	}
	return writeReferrer(store, d.artifact, layer, d.predicateType)
}

// writeReferrer stores a manifest that holds a bundle and refers to its artifact.
func writeReferrer(store Store, artifact, layer ocispec.Descriptor, predicateType string) error {
	config, err := store.WriteBlob(ocispec.MediaTypeEmptyJSON, bytes.NewReader(ocispec.DescriptorEmptyJSON.Data))
	if err != nil {
		return fmt.Errorf("bundle: %w", prefix.Bare(err))
	}
	_, err = store.WriteManifest(ocispec.Manifest{
		ArtifactType: mediaTypeBundle,
		Config:       config,
		Layers:       []ocispec.Descriptor{layer},
		Subject:      &ocispec.Descriptor{MediaType: artifact.MediaType, Digest: artifact.Digest, Size: artifact.Size},
		Annotations:  map[string]string{annotationContent: "dsse-envelope", annotationPredicateType: predicateType},
	}, "")
	if err != nil {
		return fmt.Errorf("bundle: %w", prefix.Bare(err))
	}
	return nil
}

// joinSimpleSigning adds the signature to those that the artifact has: in this
// format all of them are in the one manifest under the tag.
func (d *Draft) joinSimpleSigning(ctx context.Context, store Store, sig []byte) error {
	layer, err := store.WriteBlob(mediaTypeSimpleSigning, bytes.NewReader(d.payload))
	if err != nil {
		return fmt.Errorf("payload: %w", prefix.Bare(err))
	}
	layer.Annotations = map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(sig)}
	return d.joinTagged(ctx, store, []ocispec.Descriptor{layer}, signatureTag(d.artifact.Digest))
}

// joinDSSE adds an attestation to those under the tag.
func (d *Draft) joinDSSE(ctx context.Context, store Store, sig []byte) error {
	content, err := json.Marshal(newDSSE(d.payload, sig))
	if err != nil {
		return fmt.Errorf("attestation: %w", err)
	}
	layer, err := store.WriteBlob(mediaTypeDSSE, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("attestation: %w", prefix.Bare(err))
	}
	// The signature is in the envelope; cosign wants the annotation all the same.
	layer.Annotations = map[string]string{annotationSignature: "", "predicateType": d.predicateType}
	return d.joinTagged(ctx, store, []ocispec.Descriptor{layer}, attestationTag(d.artifact.Digest))
}

// maxMerges bounds how often a signature is added anew because another program wrote the tag in the
// meantime.
const maxMerges = 64

// looks is how often the tag is looked at after it was written.
const looks = 3

// ErrBusy says that other programs wrote to a tag each time that a signature was to be added to it.
// Their signatures are intact: try again.
var ErrBusy = errors.New("other writers keep changing the tag")

// MergeTag adds layers to the manifest that a tag such as sha256-HEX.sig names, and returns once
// concurrent writers can no longer remove them. The store, a Settler, must have the blobs of the
// layers. The error is or wraps a [*LimitError] if the manifest would exceed the limits, and
// [ErrBusy] if other programs keep writing to the tag.
func MergeTag(ctx context.Context, store Store, tag string, layers []ocispec.Descriptor) error {
	if _, ok := store.(Settler); !ok {
		return fmt.Errorf("cosign: merge: %T does not implement Settler", store)
	}
	return prefix.Error("cosign", (&Draft{}).joinTagged(ctx, store, layers, tag))
}

// joinTagged writes the manifest under the tag anew, with more layers and everything that was
// there. Registries cannot compare and swap a tag, so it is looked at right before and for a while
// after, and what others have added meanwhile is merged.
func (d *Draft) joinTagged(ctx context.Context, store Store, more []ocispec.Descriptor, tag string) error {
	for range maxMerges {
		before, m, err := d.tagged(ctx, store, tag)
		if err != nil {
			return err
		}
		n := len(m.Layers)
		m.Layers = appendLayers(m.Layers, more)
		if before.Digest != "" && len(m.Layers) == n {
			// Written a moment ago, by an attempt whose answer was lost perhaps.
			if kept, err := keeps(ctx, store, tag, before, m.Layers); kept || err != nil {
				return err
			}
			continue
		}
		if m.Config, err = writeConfig(store, m.Layers, tag); err != nil {
			return err
		}
		if err := checkManifest(tag, m); err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		written, err := replaceTagged(ctx, store, m, tag, before.Digest)
		if errors.Is(err, ErrBusy) {
			continue
		} else if err != nil {
			return fmt.Errorf("manifest: %w", prefix.Bare(err))
		}
		if kept, err := keeps(ctx, store, tag, written, m.Layers); kept || err != nil {
			return err
		}
	}
	return fmt.Errorf("sign: %s: %w", tag, ErrBusy)
}

// replaceTagged writes what a tag is to name, if it names what it named before.
func replaceTagged(ctx context.Context, store Store, m ocispec.Manifest, tag string, before digest.Digest) (ocispec.Descriptor, error) {
	if settler, ok := store.(Settler); ok {
		return settler.ReplaceManifest(ctx, m, tag, before)
	}
	now, err := resolveTag(ctx, store, tag)
	if err == nil && now.Digest != before {
		err = ErrBusy
	}
	if err != nil {
		return now, err
	}
	return store.WriteManifest(m, tag)
}

func writeConfig(store Store, layers []ocispec.Descriptor, tag string) (config ocispec.Descriptor, err error) {
	if err := atMost("signatures in the manifest "+tag, len(layers), maxLayers); err != nil {
		return config, fmt.Errorf("sign: %w", err)
	}
	content, err := newConfig(layers)
	if err != nil {
		return config, fmt.Errorf("config: %w", err)
	}
	if config, err = store.WriteBlob(ocispec.MediaTypeImageConfig, bytes.NewReader(content)); err != nil {
		return config, fmt.Errorf("config: %w", prefix.Bare(err))
	}
	return config, nil
}

// resolveTag returns what a tag names. Without a tag, and from a store that cannot tell, that is
// the zero descriptor.
func resolveTag(ctx context.Context, store Store, tag string) (ocispec.Descriptor, error) {
	resolver, ok := store.(TagResolver)
	if !ok {
		return ocispec.Descriptor{}, nil
	}
	desc, err := resolver.ResolveTag(ctx, tag)
	if errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, nil
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("tag %s: %w", tag, prefix.Bare(err))
	}
	return desc, nil
}

// keeps reports whether what was written under a tag is still there after a while, or what others
// have written has all of it, too.
func keeps(ctx context.Context, store Store, tag string, written ocispec.Descriptor, layers []ocispec.Descriptor) (bool, error) {
	settler, ok := store.(Settler)
	if !ok {
		return true, nil
	}
	for range looks {
		if err := settler.Settle(ctx); err != nil {
			return false, err
		}
		now, err := resolveTag(ctx, store, tag)
		if err != nil {
			return false, err
		}
		if now.Digest == written.Digest {
			continue
		}
		if now.Digest == "" {
			return false, nil
		}
		m, err := taggedManifest(ctx, store, now, tag)
		if err != nil {
			return false, err
		}
		if len(appendLayers(m.Layers, layers)) > len(m.Layers) {
			return false, nil
		}
		written = now
	}
	return true, nil
}

// taggedManifest reads the manifest under a tag, which must be one that can be written again
// without a loss.
func taggedManifest(ctx context.Context, store Store, desc ocispec.Descriptor, tag string) (*manifest, error) {
	content, err := readBlob(ctx, store, desc, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("tag %s: cannot read the manifest, so the signature is not added: %w", tag, err)
	}
	m, err := parseManifest(content)
	if err != nil {
		return nil, fmt.Errorf("tag %s: cannot read the manifest, so the signature is not added: %w", tag, err)
	}
	switch m.MediaType {
	case "", ocispec.MediaTypeImageManifest, "application/vnd.docker.distribution.manifest.v2+json":
		return m, nil
	}
	return nil, fmt.Errorf("tag %s: names a %q, want %q: the signature is not added", tag, m.MediaType, ocispec.MediaTypeImageManifest)
}

// tagged returns the manifest to add to, and the descriptor of what has the tag now. All that the
// manifest under the tag has is kept, also what cannot be read here: it belongs to another signer.
func (d *Draft) tagged(ctx context.Context, store Store, tag string) (ocispec.Descriptor, ocispec.Manifest, error) {
	var none ocispec.Manifest
	desc, err := resolveTag(ctx, store, tag)
	if err != nil {
		return desc, none, err
	}
	if desc.Digest != "" {
		m, err := taggedManifest(ctx, store, desc, tag)
		if err != nil {
			return desc, none, err
		}
		return desc, ocispec.Manifest{Layers: m.Layers, Annotations: m.Annotations, ArtifactType: m.ArtifactType, Subject: m.Subject}, nil
	}
	layers, err := d.untagged(ctx, store)
	return desc, ocispec.Manifest{Layers: layers}, err
}

// untagged returns the layers of the draft's format in manifests that name no subject: what "cosign
// save" has stored without a tag. The manifests stay where they are, so what is evidently about
// another artifact need not come along.
func (d *Draft) untagged(ctx context.Context, store Store) ([]ocispec.Descriptor, error) {
	if _, ok := store.(Settler); ok {
		return nil, nil // a registry has such manifests under tags only
	}
	candidates, err := findSignatures(ctx, store, d.artifact)
	if err != nil {
		return nil, err
	}
	var layers []ocispec.Descriptor
	for _, c := range candidates {
		content, err := readBlob(ctx, store, c, maxManifest)
		if err != nil {
			return nil, err
		}
		m, err := parseManifest(content)
		if err != nil {
			return nil, err
		}
		for _, layer := range m.Layers {
			if m.Subject == nil && layerFormat(layer) == d.format && !d.foreign(ctx, store, layer) {
				layers = appendLayers(layers, []ocispec.Descriptor{layer})
			}
		}
	}
	return layers, nil
}

// foreign reports whether a layer is evidently about another artifact.
func (d *Draft) foreign(ctx context.Context, store Store, layer ocispec.Descriptor) bool {
	blob, err := readBlob(ctx, store, layer, Limits{}.layer(d.format))
	if err != nil {
		return false
	}
	e, err := parseLayer(d.format, layer, blob, nil)
	if err != nil {
		return false
	}
	_, err = e.read(e.payload, d.artifact.Digest)
	return errors.Is(err, ErrOtherArtifact)
}

// appendLayers appends signatures that are not there already.
func appendLayers(layers, more []ocispec.Descriptor) []ocispec.Descriptor {
	type identity struct {
		payload digest.Digest
		value   string
	}
	have := map[identity]bool{}
	for _, layer := range layers {
		have[identity{layer.Digest, layer.Annotations[annotationSignature]}] = true
	}
	for _, layer := range more {
		if id := (identity{layer.Digest, layer.Annotations[annotationSignature]}); !have[id] {
			have[id] = true
			layers = append(layers, layer)
		}
	}
	return layers
}
