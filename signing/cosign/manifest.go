package cosign

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names that cosign gives to what it stores.
const (
	mediaTypeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	mediaTypeDSSE          = "application/vnd.dsse.envelope.v1+json"
	mediaTypeBundle        = "application/vnd.dev.sigstore.bundle.v0.3+json"
	bundlePrefix           = "application/vnd.dev.sigstore.bundle"

	annotationSignature     = "dev.cosignproject.cosign/signature"
	annotationCertificate   = "dev.sigstore.cosign/certificate"
	annotationChain         = "dev.sigstore.cosign/chain"
	annotationLogEntry      = "dev.sigstore.cosign/bundle"
	annotationTimestamp     = "dev.sigstore.cosign/rfc3161timestamp"
	annotationContent       = "dev.sigstore.bundle.content"
	annotationPredicateType = "dev.sigstore.bundle.predicateType"
	annotationKind          = "kind" // of an index entry, by cosign save
	kindSignatures          = "dev.cosignproject.cosign/sigs"
	kindAttestations        = "dev.cosignproject.cosign/atts"
)

// A Format is one of the ways in which cosign stores a signature.
type Format int

const (
	// FormatSimpleSigning is the format of cosign 1 and 2: a signed payload as a layer,
	// the signature as its annotation.
	FormatSimpleSigning Format = iota + 1
	// FormatBundle is the format of cosign 3, for signatures and attestations: a Sigstore
	// bundle that refers to the artifact as its subject.
	FormatBundle
	// FormatDSSE is the format of the attestations of cosign 1 and 2: a signed envelope as a
	// layer.
	FormatDSSE
)

func (f Format) String() string {
	switch f {
	case FormatSimpleSigning:
		return "simple signing"
	case FormatBundle:
		return "bundle"
	case FormatDSSE:
		return "attestation"
	}
	return fmt.Sprintf("format %d", int(f))
}

// signatureTag is the name that the simple-signing format gives to the signatures
// of an artifact.
func signatureTag(subject digest.Digest) string {
	return string(subject.Algorithm()) + "-" + subject.Encoded() + ".sig"
}

// attestationTag is the name that cosign 2 gives to the attestations of an artifact.
func attestationTag(subject digest.Digest) string {
	return string(subject.Algorithm()) + "-" + subject.Encoded() + ".att"
}

// A manifest is an image manifest that leads to signatures. Nothing in it is signed,
// so nothing in it is relied on.
type manifest struct {
	ocispec.Manifest
}

func parseManifest(b []byte) (*manifest, error) {
	m := new(manifest)
	if err := fewValues("the manifest", b); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &m.Manifest); err != nil {
		return nil, malformed("manifest", "%w", err)
	}
	if m.SchemaVersion != 2 {
		return nil, malformed("manifest: schemaVersion", "%d, want 2", m.SchemaVersion)
	}
	return m, nil
}

// format returns the format of the manifest's signatures, or 0 if it has none.
func (m *manifest) format() Format {
	for _, layer := range m.Layers {
		if f := layerFormat(layer); f != 0 {
			return f
		}
	}
	return 0
}

func layerFormat(layer ocispec.Descriptor) Format {
	switch {
	case layer.MediaType == mediaTypeSimpleSigning:
		return FormatSimpleSigning
	case layer.MediaType == mediaTypeDSSE:
		return FormatDSSE
	case strings.HasPrefix(layer.MediaType, bundlePrefix):
		return FormatBundle
	}
	return 0
}

// mayHoldSignatures reports whether the manifest has signatures and refers to the
// artifact, or is known to be its own.
func (m *manifest) mayHoldSignatures(subject digest.Digest, own bool) bool {
	if m.Subject != nil {
		return m.format() != 0 && m.Subject.Digest == subject
	}
	f := m.format()
	return own && (f == FormatSimpleSigning || f == FormatDSSE)
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
