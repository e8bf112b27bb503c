package cosign

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// payloadType is the critical.type of the payloads that cosign signs
// (SIGNATURE_SPEC.md, "Payloads").
const payloadType = "cosign container image signature"

// A simplePayload has the members of a payload in the order in which cosign writes them. Those of
// type any may be whatever they are.
type simplePayload struct {
	Critical struct {
		Identity any `json:"identity"`
		Image    struct {
			DockerManifestDigest digest.Digest `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional any `json:"optional"`
}

// parseSimpleSigning reads a signature from the annotation of its payload.
func parseSimpleSigning(annotation string, payload []byte) (*envelope, error) {
	sig, err := base64.StdEncoding.Strict().DecodeString(annotation)
	if err == nil && len(sig) == 0 {
		err = errors.New("missing")
	}
	if err != nil {
		return nil, malformed("manifest: annotation "+annotationSignature, "%w", err)
	}
	return &envelope{
		message:   payload,
		signature: sig,
		payload:   payload,
		read:      readPayload,
	}, nil
}

// readPayload checks that a payload says that the artifact is signed, and no more.
func readPayload(payload []byte, subject digest.Digest) (*claim, error) {
	var p simplePayload
	if err := decode("payload", payload, &p); err != nil {
		return nil, err
	}
	if got := p.Critical.Type; got != payloadType {
		return nil, malformed("payload: critical.type", "%q, want %q", got, payloadType)
	}
	if got := p.Critical.Image.DockerManifestDigest; got != subject {
		return nil, fmt.Errorf("%w: %s", ErrOtherArtifact, got)
	}
	identity, _ := p.Critical.Identity.(map[string]any)
	reference, _ := identity["docker-reference"].(string)
	return &claim{reference: reference}, nil
}

func newPayload(subject digest.Digest, o SignOptions) ([]byte, error) {
	var p simplePayload
	p.Critical.Identity = map[string]string{"docker-reference": o.Reference}
	p.Critical.Image.DockerManifestDigest = subject
	p.Critical.Type = payloadType
	return json.Marshal(p)
}
