package cosign

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// A Store is an ArtifactSource that signatures can be written to. Dir is one.
type Store interface {
	ArtifactSource
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
	return signAll(ctx, store, artifact, signer.Public(), signDigests(signer, o.Rand), o)
}

// SignWith is Sign by a signer of package signature of Sigstore: a key in a KMS, for
// instance, loaded by one of its modules. It must sign as cosign does with such a key:
// ECDSA and RSA with SHA-256.
func SignWith(ctx context.Context, store Store, artifact ocispec.Descriptor, signer signature.Signer, o SignOptions) error {
	key, err := signer.PublicKey(options.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("cosign: sign: %w", err)
	}
	return signAll(ctx, store, artifact, key, func(message []byte, _ crypto.Hash) ([]byte, error) {
		return signer.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
	}, o)
}

// A signFunc signs a message, with that hash if it is not 0.
type signFunc func(message []byte, h crypto.Hash) ([]byte, error)

func signDigests(signer crypto.Signer, random io.Reader) signFunc {
	return func(message []byte, h crypto.Hash) ([]byte, error) {
		if h != 0 {
			state := h.New()
			state.Write(message)
			message = state.Sum(nil)
		}
		return signer.Sign(random, message, h)
	}
}

func signAll(ctx context.Context, store Store, artifact ocispec.Descriptor, key crypto.PublicKey, sign signFunc, o SignOptions) error {
	formats := o.Formats
	if len(formats) == 0 {
		formats = []Format{SimpleSigning, Bundle}
	}
	for _, format := range formats {
		d, err := Prepare(artifact, key, format, o)
		if err != nil {
			return err
		}
		if err := d.sign(ctx, store, sign); err != nil {
			return err
		}
	}
	return nil
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

// Prepare makes the draft of a signature by the private half of a key. Of the
// options, only those about the payload matter.
func Prepare(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, o SignOptions) (*Draft, error) {
	d, err := newDraft(artifact, key, format, predicateType)
	if err != nil {
		return nil, err
	}
	switch format {
	case SimpleSigning:
		d.payload, err = newPayload(artifact.Digest, o)
	case Bundle:
		d.payload, err = newStatement(artifact.Digest, claim{})
	default:
		err = errors.New("not a format of signatures")
	}
	if err != nil {
		return nil, fmt.Errorf("cosign: %v: %w", format, err)
	}
	return d, nil
}

func newDraft(artifact ocispec.Descriptor, key crypto.PublicKey, format Format, predicateType string) (*Draft, error) {
	if err := checkDescriptor(artifact); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return &Draft{format: format, artifact: artifact, key: key, hash: signingHash(key), predicateType: predicateType}, nil
}

func (d *Draft) sign(ctx context.Context, store Store, sign signFunc) error {
	sig, err := sign(d.Message(), d.hash)
	if err != nil {
		return fmt.Errorf("cosign: sign: %w", err)
	}
	return d.Join(ctx, store, sig)
}

// Message returns the bytes to be signed.
func (d *Draft) Message() []byte {
	if d.format == SimpleSigning {
		return bytes.Clone(d.payload)
	}
	return preAuthenticationEncoding(dssePayloadType, d.payload)
}

// Hash returns the hash to sign the message with, SHA-256: ECDSA signatures are ASN.1,
// RSA signatures PKCS #1 v1.5. It is 0 for Ed25519, which signs the message itself.
func (d *Draft) Hash() crypto.Hash { return d.hash }

// Join puts draft and signature together and stores them, if the signature is right.
func (d *Draft) Join(ctx context.Context, store Store, sig []byte) error {
	if err := verifySignature(d.key, d.Message(), sig); err != nil {
		return fmt.Errorf("cosign: sign: the signature does not fit the key: %w", err)
	}
	switch d.format {
	case Bundle:
		return d.joinBundle(store, sig)
	case DSSE:
		return d.joinDSSE(ctx, store, sig)
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
			annotationPredicateType: d.predicateType,
		},
	}, "")
	if err != nil {
		return fmt.Errorf("cosign: bundle: %w", err)
	}
	return nil
}
