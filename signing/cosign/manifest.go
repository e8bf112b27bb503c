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

// maxLayers bounds the signatures of one manifest.
const maxLayers = 256

// signatureTag is the name that the simple-signing format gives to the signatures
// of an artifact.
func signatureTag(subject digest.Digest) string {
	return string(subject.Algorithm()) + "-" + subject.Encoded() + ".sig"
}

// A manifest is an image manifest that leads to signatures. Nothing in it is signed,
// so nothing in it is relied on.
type manifest struct {
	ocispec.Manifest
}

func parseManifest(b []byte) (*manifest, error) {
	m := new(manifest)
	if err := json.Unmarshal(b, &m.Manifest); err != nil {
		return nil, &FormatError{Document: "manifest", Err: err}
	}
	if m.SchemaVersion != 2 {
		return nil, &FormatError{Document: "manifest", Field: "schemaVersion", Err: fmt.Errorf("%d, want 2", m.SchemaVersion)}
	}
	if len(m.Layers) > maxLayers && m.format() != 0 {
		return nil, &FormatError{Document: "manifest", Field: "layers", Err: fmt.Errorf("%d, at most %d are allowed", len(m.Layers), maxLayers)}
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
		return SimpleSigning
	case layer.MediaType == mediaTypeDSSE:
		return DSSE
	case strings.HasPrefix(layer.MediaType, bundlePrefix):
		return Bundle
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
	return own && (f == SimpleSigning || f == DSSE)
}
