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

// parseSimpleSigning reads a signature from the annotation of its payload.
func parseSimpleSigning(annotation string, payload []byte) (*envelope, error) {
	sig, err := base64.StdEncoding.Strict().DecodeString(annotation)
	if err == nil && len(sig) == 0 {
		err = errors.New("missing")
	}
	if err != nil {
		return nil, &FormatError{Document: "manifest", Field: "annotation " + annotationSignature, Err: err}
	}
	return &envelope{
		message:   payload,
		signature: sig,
		payload:   payload,
		read:      readPayload,
	}, nil
}

// readPayload checks that a payload says no more than that the artifact is signed.
func readPayload(payload []byte, subject digest.Digest) (*claim, error) {
	if err := checkPayload(payload, subject); err != nil {
		return nil, err
	}
	return new(claim), nil
}

// checkPayload checks that a payload is a signature of the artifact.
func checkPayload(payload []byte, subject digest.Digest) error {
	o, err := parseObject("payload", payload)
	if err != nil {
		return err
	}
	critical, err := o.object("critical")
	if err != nil {
		return err
	}
	if err := critical.expect("type", payloadType); err != nil {
		return err
	}
	image, err := critical.object("image")
	if err != nil {
		return err
	}
	got, err := image.text("docker-manifest-digest")
	if err != nil {
		return err
	}
	if got != string(subject) {
		return fmt.Errorf("%w: %s", ErrOtherArtifact, got)
	}
	return nil
}

// A simplePayload has the members of a payload in the order in which cosign writes
// them.
type simplePayload struct {
	Critical struct {
		Identity struct {
			DockerReference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			DockerManifestDigest digest.Digest `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]string `json:"optional"`
}

func newPayload(subject digest.Digest, o SignOptions) ([]byte, error) {
	var p simplePayload
	p.Critical.Identity.DockerReference = o.Reference
	p.Critical.Image.DockerManifestDigest = subject
	p.Critical.Type = payloadType
	return json.Marshal(p)
}
