package cosign

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
)

const (
	dssePayloadType = "application/vnd.in-toto+json"
	statementType   = "https://in-toto.io/Statement/v1"
	predicateType   = "https://sigstore.dev/cosign/sign/v1"
)

// parseBundle reads a Sigstore bundle (protobuf-specs, sigstore_bundle.proto) that
// holds a DSSE envelope.
func parseBundle(b []byte) (*envelope, error) {
	o, err := parseObject("bundle", b)
	if err != nil {
		return nil, err
	}
	mediaType, err := o.text("mediaType")
	if err != nil {
		return nil, err
	}
	if mediaType != mediaTypeBundle && mediaType != bundlePrefix+"+json;version=0.3" {
		return nil, o.errorf("mediaType", "%q, want %q", mediaType, mediaTypeBundle)
	}
	dsse, err := o.object("dsseEnvelope")
	if err != nil {
		return nil, err
	}
	if err := dsse.expect("payloadType", dssePayloadType); err != nil {
		return nil, err
	}
	payload, err := dsse.base64("payload")
	if err != nil {
		return nil, err
	}
	list, err := dsse.objects("signatures")
	if err != nil {
		return nil, err
	}
	// sigstore_bundle.proto demands exactly one.
	if len(list) != 1 {
		return nil, dsse.errorf("signatures", "%d, want 1", len(list))
	}
	sig, err := list[0].base64("sig")
	if err != nil {
		return nil, err
	}
	if len(sig) == 0 {
		return nil, list[0].errorf("sig", "empty")
	}
	return &envelope{
		hint:      bundleHint(o),
		message:   preAuthenticationEncoding(dssePayloadType, payload),
		signature: sig,
		payload:   payload,
		subject:   checkStatement,
	}, nil
}

// bundleHint returns the name of the key, or what the bundle has instead of one.
func bundleHint(o object) string {
	material, err := o.object("verificationMaterial")
	if err != nil {
		return ""
	}
	for _, name := range []string{"certificate", "x509CertificateChain"} {
		if _, ok := material.members[name]; ok {
			return name
		}
	}
	key, err := material.object("publicKey")
	if err != nil {
		return ""
	}
	hint, err := key.text("hint")
	if err != nil {
		return ""
	}
	return hint
}

// base64 decodes a member as protobuf's JSON mapping writes bytes.
func (o object) base64(key string) ([]byte, error) {
	s, err := o.text(key)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, o.errorf(key, "%w", err)
	}
	return b, nil
}

// preAuthenticationEncoding is the PAE of DSSE 1.0, protocol.md, "Signature
// Definition".
func preAuthenticationEncoding(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// checkStatement checks that an in-toto statement is a signature of the artifact.
func checkStatement(payload []byte, subject digest.Digest) error {
	o, err := parseObject("statement", payload)
	if err != nil {
		return err
	}
	if err := o.expect("_type", statementType); err != nil {
		return err
	}
	if err := o.expect("predicateType", predicateType); err != nil {
		return err
	}
	subjects, err := o.objects("subject")
	if err != nil {
		return err
	}
	if len(subjects) == 0 {
		return o.errorf("subject", "empty")
	}
	var other string
	for _, s := range subjects {
		digests, err := s.object("digest")
		if err != nil {
			return err
		}
		got, err := digests.text(string(subject.Algorithm()))
		if err != nil {
			return err
		}
		if got == subject.Encoded() {
			return nil
		}
		other = got
	}
	return fmt.Errorf("%w: %s:%s", ErrOtherArtifact, subject.Algorithm(), other)
}

// The members of a statement and a bundle, in the order in which cosign writes them.
type (
	statement struct {
		Type          string             `json:"_type"`
		Subject       []statementSubject `json:"subject"`
		PredicateType string             `json:"predicateType"`
		Predicate     struct{}           `json:"predicate"`
	}
	statementSubject struct {
		Digest map[digest.Algorithm]string `json:"digest"`
	}
	bundle struct {
		MediaType            string `json:"mediaType"`
		VerificationMaterial struct {
			PublicKey struct {
				Hint string `json:"hint"`
			} `json:"publicKey"`
		} `json:"verificationMaterial"`
		DSSEEnvelope struct {
			Payload     []byte          `json:"payload"`
			PayloadType string          `json:"payloadType"`
			Signatures  []dsseSignature `json:"signatures"`
		} `json:"dsseEnvelope"`
	}
	dsseSignature struct {
		Sig []byte `json:"sig"`
	}
)

func newStatement(subject digest.Digest) ([]byte, error) {
	return json.Marshal(statement{
		Type:          statementType,
		Subject:       []statementSubject{{map[digest.Algorithm]string{subject.Algorithm(): subject.Encoded()}}},
		PredicateType: predicateType,
	})
}

func newBundle(hint string, payload, sig []byte) ([]byte, error) {
	b := bundle{MediaType: mediaTypeBundle}
	b.VerificationMaterial.PublicKey.Hint = hint
	b.DSSEEnvelope.Payload = payload
	b.DSSEEnvelope.PayloadType = dssePayloadType
	b.DSSEEnvelope.Signatures = []dsseSignature{{sig}}
	return json.Marshal(b)
}
