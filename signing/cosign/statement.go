package cosign

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Types of in-toto statements (in-toto Attestation Framework, spec/v1/statement.md and
// spec/v0.1.0/statement.md). cosign 2 writes the old one for attestations.
const (
	statementType    = "https://in-toto.io/Statement/v1"
	statementTypeOld = "https://in-toto.io/Statement/v0.1"
)

// Predicate types of in-toto statements that are made about artifacts.
const (
	// predicateType of cosign sign: the artifact is signed, and nothing else is said.
	predicateType = "https://sigstore.dev/cosign/sign/v1"

	PredicateSLSAProvenance   = "https://slsa.dev/provenance/v1"
	PredicateSLSAProvenance02 = "https://slsa.dev/provenance/v0.2"
	PredicateSPDX             = "https://spdx.dev/Document"
	PredicateCycloneDX        = "https://cyclonedx.org/bom"
)

// readStatement checks that an in-toto statement is about the artifact.
func readStatement(payload []byte, subject digest.Digest) (*claim, error) {
	o, err := parseObject("statement", payload)
	if err != nil {
		return nil, err
	}
	typ, err := o.text("_type")
	if err != nil {
		return nil, err
	}
	if typ != statementType && typ != statementTypeOld {
		return nil, o.errorf("_type", "%q, want %q", typ, statementType)
	}
	predicate, err := o.text("predicateType")
	if err != nil {
		return nil, err
	}
	if predicate == "" {
		return nil, o.errorf("predicateType", "empty")
	}
	if err := hasSubject(o, subject); err != nil {
		return nil, err
	}
	if predicate == predicateType {
		if typ != statementType {
			return nil, o.errorf("_type", "%q, want %q for a signature", typ, statementType)
		}
		return new(claim), nil
	}
	// The document was parsed strictly, so there is one way to read the predicate.
	var raw struct {
		Predicate json.RawMessage `json:"predicate"`
	}
	if _, err := o.lookup("predicate"); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(payload, &raw); err != nil {
		return nil, &FormatError{Document: "statement", Err: err}
	}
	return &claim{predicateType: predicate, predicate: raw.Predicate}, nil
}

func hasSubject(o object, subject digest.Digest) error {
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

// The members of a statement, in the order in which cosign writes them.
type (
	statement struct {
		Type          string             `json:"_type"`
		Subject       []statementSubject `json:"subject"`
		PredicateType string             `json:"predicateType"`
		Predicate     json.RawMessage    `json:"predicate"`
	}
	statementSubject struct {
		Digest map[digest.Algorithm]string `json:"digest"`
	}
)

// newStatement is what is signed about an artifact. An empty predicate type stands for
// a signature.
func newStatement(subject digest.Digest, c claim) ([]byte, error) {
	s := statement{
		Type:          statementType,
		Subject:       []statementSubject{{map[digest.Algorithm]string{subject.Algorithm(): subject.Encoded()}}},
		PredicateType: c.predicateType,
		Predicate:     c.predicate,
	}
	if c.predicateType == "" {
		s.PredicateType, s.Predicate = predicateType, json.RawMessage("{}")
	}
	if c.predicateType == predicateType {
		return nil, errors.New("an attestation cannot have the predicate type of a signature")
	}
	return json.Marshal(s)
}
