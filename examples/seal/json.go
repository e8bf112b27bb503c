package main

import (
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

const schema = "osmith.seal/1"

// tokenResult is what a token asks for.
type tokenResult struct {
	Type         string   `json:"type"`
	Keyslots     []int    `json:"keyslots"`
	Bank         string   `json:"bank,omitempty"`
	PCRs         []int    `json:"pcrs"`       // that must have a value
	SignedPCRs   []int    `json:"signedPcrs"` // that must be in a state that the public key signed for
	PolicyRef    string   `json:"policyRef,omitempty"`
	PCRLock      bool     `json:"pcrlock"`
	PIN          bool     `json:"pin"`
	Alternatives int      `json:"alternatives,omitempty"` // states, any of which will do
	Policies     []string `json:"policies"`               // policy digests, one for each sealed object
}

func tokenObject(t *sealing.Token) tokenResult {
	r := tokenResult{
		Type: t.Type(), Keyslots: append([]int{}, t.Keyslots...), PCRs: append([]int{}, t.PCRs...), SignedPCRs: append([]int{}, t.PublicKeyPCRs...),
		PolicyRef: t.PublicKeyRef, PCRLock: t.PCRLock, PIN: t.PIN, Alternatives: len(t.Alternatives), Policies: []string{},
	}
	if t.Bank != 0 {
		r.Bank = tpm.BankName(t.Bank)
	}
	for _, p := range t.PolicyHashes {
		r.Policies = append(r.Policies, p.String())
	}
	return r
}

// sealResult is the object of seal.
type sealResult struct {
	cli.Header
	Token tokenResult `json:"token"`
	File  string      `json:"file"`
}

// unsealResult is the object of unseal.
type unsealResult struct {
	cli.Header
	Size   int64  `json:"size"`             // bytes
	Secret string `json:"secret,omitempty"` // base64; absent with -o
	File   string `json:"file,omitempty"`
}

// statusResult is the object of status.
type statusResult struct {
	cli.Header
	Banks   []bankObject  `json:"banks"`
	Lockout lockoutObject `json:"lockout"`
	Token   *tokenResult  `json:"token,omitempty"`
}

// bankObject is a bank that the TPM has. One that is not usable must not be sealed to, for the reason given.
type bankObject struct {
	Name    string `json:"name"`
	Usable  bool   `json:"usable"`
	Problem string `json:"problem,omitempty"`
}

// lockoutObject is the TPM's protection against guessing of PINs. Times are seconds.
type lockoutObject struct {
	Locked   bool   `json:"locked"`
	Failed   uint32 `json:"failed"`
	Most     uint32 `json:"most"`
	Interval int64  `json:"interval"`
	Wait     int64  `json:"wait"`
}
