package main

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

const (
	schema          = "osmith.attest/1"
	referenceSchema = "osmith.attest-reference/1"
)

// serveResult is the object of serve, printed when it listens.
type serveResult struct {
	cli.Header
	Address string `json:"address"`
}

// proveResult is the object of prove.
type proveResult struct {
	cli.Header
	verdict
}

// verdict is what the verifier says, the answer to /evidence.
type verdict struct {
	Trusted bool `json:"trusted"`
	// the log that the boot is like; if it is not trusted, the closest
	Reference      string `json:"reference,omitempty"`
	EndorsementKey string `json:"endorsementKey"` // SHA-256 of its public area
	// those that count, as the TPM vouches for
	PCRs     map[string]string `json:"pcrs,omitempty"`
	Problems []problem         `json:"problems"` // why it is not trusted
	// events by which the boot differs from the reference
	Differences []difference `json:"differences"`
}

// problem is a reason. Code is one of "endorsement-key", "challenge", "quote", "pcr-selection",
// "log" (it is not what was measured), "pcr" (it has another value than in any reference).
type problem struct {
	Code string `json:"code"`
	PCR  *int   `json:"pcr,omitempty"`
	Text string `json:"text"`
}

type difference struct {
	PCR  int    `json:"pcr"`
	Kind string `json:"kind"` // changed, missing, extra
	Text string `json:"text"`
}

// challengeRequest is what is posted to /challenge.
type challengeRequest struct {
	EndorsementKey []byte `json:"endorsementKey"` // TPMT_PUBLIC
	AttestationKey []byte `json:"attestationKey"` // TPMT_PUBLIC
}

// challengeReply is the answer. Quote the PCRs of the bank.
type challengeReply struct {
	Session   string             `json:"session"`
	Nonce     []byte             `json:"nonce"`
	Challenge *sealing.Challenge `json:"challenge"`
	Bank      string             `json:"bank"`
	PCRs      []int              `json:"pcrs"`
}

// evidence is what is posted to /evidence.
type evidence struct {
	Session      string            `json:"session"`
	Answer       []byte            `json:"answer"`
	Attest       []byte            `json:"attest"`    // TPMS_ATTEST
	Signature    []byte            `json:"signature"` // TPMT_SIGNATURE
	PCRs         map[string]string `json:"pcrs"`
	Log          []byte            `json:"log"`
	UserspaceLog []byte            `json:"userspaceLog,omitempty"`
}

func encodePCRs(values map[int][]byte) map[string]string {
	text := map[string]string{}
	for n, v := range values {
		text[strconv.Itoa(n)] = hex.EncodeToString(v)
	}
	return text
}

func decodePCRs(text map[string]string) (map[int][]byte, error) {
	values := map[int][]byte{}
	for key, s := range text {
		n, err := strconv.Atoi(key)
		if err != nil {
			return nil, fmt.Errorf("PCR %q: not a number", key)
		}
		if values[n], err = hex.DecodeString(s); err != nil {
			return nil, fmt.Errorf("PCR %d: %w", n, err)
		}
	}
	return values, nil
}
