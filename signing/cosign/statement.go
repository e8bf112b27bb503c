package cosign

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith/internal/strictjson"
)

// Types of in-toto statements (in-toto Attestation Framework, spec/v1/statement.md and
// spec/v0.1.0/statement.md). cosign 2 writes the old one for attestations.
const (
	statementType    = "https://in-toto.io/Statement/v1"
	statementTypeOld = "https://in-toto.io/Statement/v0.1"
)

// Predicate types of in-toto statements about artifacts.
const (
	// predicateType of cosign sign: the artifact is signed, and nothing else is said.
	predicateType = "https://sigstore.dev/cosign/sign/v1"

	PredicateSLSAProvenance   = "https://slsa.dev/provenance/v1"
	PredicateSLSAProvenance02 = "https://slsa.dev/provenance/v0.2"
	PredicateSPDX             = "https://spdx.dev/Document"
	PredicateCycloneDX        = "https://cyclonedx.org/bom"
)

// A claim is what an authentic payload says about its artifact: that it is signed
// (no predicate type), or something else.
type claim struct {
	predicateType string
	predicate     json.RawMessage
	reference     string // of a simple-signing payload: what it says the artifact is called
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
		Digest struct {
			SHA256 string `json:"sha256,omitzero"`
		} `json:"digest,omitzero"`
	}
)

// readStatement checks that an in-toto statement is about the artifact.
func readStatement(payload []byte, subject digest.Digest) (*claim, error) {
	var s statement
	document, predicate := splitStatement(payload)
	if err := decode("statement", document, &s); err != nil {
		return nil, err
	}
	if s.Predicate != nil {
		s.Predicate = predicate
	}
	switch {
	case s.Type != statementType && s.Type != statementTypeOld:
		return nil, malformed("statement: _type", "%q, want %q", s.Type, statementType)
	case s.PredicateType == "":
		return nil, malformed("statement: predicateType", "empty")
	case len(s.Subject) == 0:
		return nil, malformed("statement: subject", "empty")
	}
	if err := hasSubject(s.Subject, subject); err != nil {
		return nil, err
	}
	switch {
	case s.PredicateType != predicateType && s.Predicate == nil:
		return nil, malformed("statement: predicate", "missing")
	case s.PredicateType != predicateType:
		return &claim{predicateType: s.PredicateType, predicate: s.Predicate}, nil
	case s.Type != statementType:
		return nil, malformed("statement: _type", "%q, want %q for a signature", s.Type, statementType)
	}
	return new(claim), nil
}

// splitStatement returns the statement with null for its predicate, and the predicate: that can be
// large, and there is no need to copy it.
func splitStatement(payload []byte) (document []byte, predicate json.RawMessage) {
	members, err := strictjson.Object(payload)
	if err != nil {
		return payload, nil // decode says what is wrong
	}
	for _, m := range members {
		if m.Key == "predicate" {
			rest := payload[m.Offset+int64(len(m.Value)):]
			return slices.Concat(payload[:m.Offset], []byte("null"), rest), m.Value
		}
	}
	return payload, nil
}

func hasSubject(subjects []statementSubject, subject digest.Digest) error {
	var other string
	for i, s := range subjects {
		switch s.Digest.SHA256 {
		case "":
			return malformed(fmt.Sprintf("statement: subject[%d].digest.sha256", i), "missing")
		case subject.Encoded():
			return nil
		}
		other = s.Digest.SHA256
	}
	return fmt.Errorf("%w: %s:%s", ErrOtherArtifact, subject.Algorithm(), other)
}

// newStatement is what is signed about an artifact. An empty predicate type stands for
// a signature.
func newStatement(subject digest.Digest, c claim) ([]byte, error) {
	s := statement{Type: statementType, Subject: make([]statementSubject, 1), PredicateType: c.predicateType, Predicate: c.predicate}
	s.Subject[0].Digest.SHA256 = subject.Encoded()
	if c.predicateType == "" {
		s.PredicateType, s.Predicate = predicateType, json.RawMessage("{}")
	}
	if c.predicateType == predicateType {
		return nil, errors.New("an attestation cannot have the predicate type of a signature")
	}
	return json.Marshal(s)
}
