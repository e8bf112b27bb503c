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

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Store is a Source that signatures can be written to. Dir is one.
type Store interface {
	Source
	// WriteBlob stores a blob and describes it.
	WriteBlob(mediaType string, content io.Reader) (ocispec.Descriptor, error)
	// WriteManifest stores a manifest, and lets a tag name it if that is not empty.
	WriteManifest(m ocispec.Manifest, tag string) (ocispec.Descriptor, error)
}

// SignOptions are choices for a signature. The zero value signs in both formats.
type SignOptions struct {
	Formats []Format // to write; none means SimpleSigning and Bundle

	// Reference is what the payload of the simple-signing format says the artifact
	// is called, such as registry.example/os. Verifiers here do not look at it.
	Reference string

	// Rand is handed to the signer. Without it, ECDSA signatures are deterministic
	// (RFC 6979) if the signer is an *ecdsa.PrivateKey.
	Rand io.Reader
}

// Sign signs an artifact with a key and stores the signatures. The artifact itself
// need not be in the store; cosign and Verify want to find it there.
func Sign(ctx context.Context, store Store, artifact ocispec.Descriptor, signer crypto.Signer, o SignOptions) error {
	formats := o.Formats
	if len(formats) == 0 {
		formats = []Format{SimpleSigning, Bundle}
	}
	for _, format := range formats {
		d, err := Prepare(artifact, signer.Public(), format, o)
		if err != nil {
			return err
		}
		message := d.Message()
		if d.Hash() != 0 {
			h := d.Hash().New()
			h.Write(message)
			message = h.Sum(nil)
		}
		sig, err := signer.Sign(o.Rand, message, d.Hash())
		if err != nil {
			return fmt.Errorf("cosign: sign: %w", err)
		}
		if err := d.Join(ctx, store, sig); err != nil {
			return err
		}
	}
	return nil
}

// A Draft is a signature that lacks its value, which may be made elsewhere.
type Draft struct {
	format   Format
	artifact ocispec.Descriptor
	key      crypto.PublicKey
	hash     crypto.Hash
	payload  []byte
}

// Prepare makes the draft of a signature by the private half of a key. Of the
// options, only those about the payload matter.
func Prepare(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, o SignOptions) (*Draft, error) {
	if err := checkDescriptor(artifact); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	d := &Draft{format: format, artifact: artifact, key: key, hash: signingHash(key)}
	var err error
	switch format {
	case SimpleSigning:
		d.payload, err = newPayload(artifact.Digest, o)
	case Bundle:
		d.payload, err = newStatement(artifact.Digest)
	default:
		err = errors.New("unknown")
	}
	if err != nil {
		return nil, fmt.Errorf("cosign: %v: %w", format, err)
	}
	return d, nil
}

// Message returns the bytes to be signed.
func (d *Draft) Message() []byte {
	if d.format == Bundle {
		return preAuthenticationEncoding(dssePayloadType, d.payload)
	}
	return bytes.Clone(d.payload)
}

// Hash returns the hash to sign the message with, SHA-256: ECDSA signatures are ASN.1,
// RSA signatures PKCS #1 v1.5. It is 0 for Ed25519, which signs the message itself.
func (d *Draft) Hash() crypto.Hash { return d.hash }

// Join puts draft and signature together and stores them, if the signature is right.
func (d *Draft) Join(ctx context.Context, store Store, sig []byte) error {
	if err := verifySignature(d.key, d.Message(), sig); err != nil {
		return fmt.Errorf("cosign: sign: the signature does not fit the key: %w", err)
	}
	if d.format == Bundle {
		return d.joinBundle(store, sig)
	}
	return d.joinSimpleSigning(ctx, store, sig)
}

func (d *Draft) joinBundle(store Store, sig []byte) error {
	hint, err := KeyHint(d.key)
	if err != nil {
		return err
	}
	content, err := newBundle(hint, d.payload, sig)
	if err != nil {
		return fmt.Errorf("cosign: bundle: %w", err)
	}
	layer, err := store.WriteBlob(mediaTypeBundle, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("cosign: bundle: %w", err)
	}
	config, err := store.WriteBlob(ocispec.MediaTypeEmptyJSON, bytes.NewReader(ocispec.DescriptorEmptyJSON.Data))
	if err != nil {
		return fmt.Errorf("cosign: bundle: %w", err)
	}
	_, err = store.WriteManifest(ocispec.Manifest{
		ArtifactType: mediaTypeBundle,
		Config:       config,
		Layers:       []ocispec.Descriptor{layer},
		Subject:      &ocispec.Descriptor{MediaType: d.artifact.MediaType, Digest: d.artifact.Digest, Size: d.artifact.Size},
		Annotations: map[string]string{
			annotationContent:       "dsse-envelope",
			annotationPredicateType: predicateType,
		},
	}, "")
	if err != nil {
		return fmt.Errorf("cosign: bundle: %w", err)
	}
	return nil
}

// joinSimpleSigning adds the signature to those that the artifact has: in this
// format all of them are in the one manifest under the tag.
func (d *Draft) joinSimpleSigning(ctx context.Context, store Store, sig []byte) error {
	layers, err := d.signatures(ctx, store)
	if err != nil {
		return err
	}
	layer, err := store.WriteBlob(mediaTypeSimpleSigning, bytes.NewReader(d.payload))
	if err != nil {
		return fmt.Errorf("cosign: payload: %w", err)
	}
	layer.Annotations = map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(sig)}
	layers = appendLayer(layers, layer)
	content, err := newConfig(layers)
	if err != nil {
		return fmt.Errorf("cosign: config: %w", err)
	}
	config, err := store.WriteBlob(ocispec.MediaTypeImageConfig, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("cosign: config: %w", err)
	}
	_, err = store.WriteManifest(ocispec.Manifest{Config: config, Layers: layers}, signatureTag(d.artifact.Digest))
	if err != nil {
		return fmt.Errorf("cosign: manifest: %w", err)
	}
	return nil
}

// signatures returns the layers of the simple-signing manifests of the artifact.
func (d *Draft) signatures(ctx context.Context, store Store) ([]ocispec.Descriptor, error) {
	candidates, err := store.Signatures(ctx, d.artifact)
	if err != nil {
		return nil, fmt.Errorf("cosign: %s: find signatures: %w", d.artifact.Digest, err)
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
			if layerFormat(layer) != SimpleSigning {
				continue
			}
			payload, err := readBlob(ctx, store, layer, maxPayload)
			if err != nil {
				return nil, err
			}
			if checkPayload(payload, d.artifact.Digest) == nil {
				layers = appendLayer(layers, layer)
			}
		}
	}
	return layers, nil
}

// appendLayer appends a signature unless it is there already.
func appendLayer(layers []ocispec.Descriptor, layer ocispec.Descriptor) []ocispec.Descriptor {
	for _, have := range layers {
		if have.Digest == layer.Digest && have.Annotations[annotationSignature] == layer.Annotations[annotationSignature] {
			return layers
		}
	}
	return append(layers, layer)
}

// An imageConfig is the image configuration that tools expect even of a manifest
// that holds signatures.
type imageConfig struct {
	Architecture string         `json:"architecture"`
	OS           string         `json:"os"`
	RootFS       ocispec.RootFS `json:"rootfs"`
	Config       struct{}       `json:"config"`
}

func newConfig(layers []ocispec.Descriptor) ([]byte, error) {
	c := imageConfig{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	for _, layer := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, layer.Digest)
	}
	return json.Marshal(c)
}
