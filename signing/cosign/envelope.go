package cosign

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An envelope is a signature, what it signs, and how to read that.
type envelope struct {
	format    Format
	hint      string // of the key; not trustworthy
	message   []byte // the exact bytes that were signed
	signature []byte
	payload   []byte // what the message is about

	// bundle is a Sigstore bundle with the same signature by a certificate, for an
	// IdentityVerifier; nil if it is by a key.
	bundle []byte

	// read checks that the payload is about the artifact and says what it claims.
	read func(payload []byte, artifact digest.Digest) (*claim, error)
}

// A claim is what an authentic payload says about its artifact: that it is signed
// (no predicate type), or something else.
type claim struct {
	predicateType string
	predicate     json.RawMessage
}

// parseLayer reads what a layer of a manifest with signatures holds. The artifact is the
// manifest that is being verified.
func parseLayer(format Format, layer ocispec.Descriptor, blob, artifact []byte) (*envelope, error) {
	var e *envelope
	var err error
	switch format {
	case SimpleSigning:
		e, err = parseSimpleSigning(layer.Annotations[annotationSignature], blob)
	case DSSE:
		e, err = parseDSSE("attestation", blob)
	default:
		e, err = parseBundle(blob, artifact)
	}
	if err != nil {
		return nil, err
	}
	e.format = format
	if format != Bundle && layer.Annotations[annotationCertificate] != "" {
		if e.bundle, err = bundleOf(e, layer.Annotations); err != nil {
			return nil, err
		}
		e.hint = "certificate"
	}
	return e, nil
}
