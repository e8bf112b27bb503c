package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/tokens"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

const schema = "osmith.seal/1"

// tokenResult is what a token asks for.
type tokenResult struct {
	Type     string `json:"type"`
	Keyslots []int  `json:"keyslots"`
	Bank     string `json:"bank,omitempty"`
	PCRs     []int  `json:"pcrs"` // that must have a value
	// that must be in a state that the public key signed for
	SignedPCRs   []int  `json:"signedPcrs"`
	PolicyRef    string `json:"policyRef,omitempty"`
	PCRLock      bool   `json:"pcrlock"`
	PIN          bool   `json:"pin"`
	Alternatives int    `json:"alternatives,omitempty"` // states, any of which will do
	// policy digests, one for each sealed object
	Policies []string `json:"policies"`
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
	// with -for: bank, pcrs, and states with their names, values, and the PCRs that differ from the
	// first
	States *policy.Union `json:"states,omitempty"`
}

// checkResult is the object of check. Verdict is "opens" if one of the tokens opens, "does not
// open" if none does, and "not known" otherwise.
type checkResult struct {
	cli.Header
	Verdict sealing.Verdict `json:"verdict"`
	Tokens  []checkedToken  `json:"tokens"`
	// tokens of a header that are of other types
	Skipped []tokens.Skipped `json:"skipped,omitempty"`
}

// checkedToken is a token and whether it opens.
type checkedToken struct {
	ID      *int            `json:"id,omitempty"` // in the header
	Token   tokenResult     `json:"token"`
	Verdict sealing.Verdict `json:"verdict"`
	Bank    string          `json:"bank,omitempty"` // that the PCRs were looked up in
	// why it does not open, or why that is not known
	Reasons []reasonObject `json:"reasons"`
	Assumes []string       `json:"assumes"` // what a yes takes for granted
}

// reasonObject is one of the reasons. Kind is pcr, signature, pin, bank, pcrlock, counter or
// policy; Verdict "does not open" or "not known".
type reasonObject struct {
	Verdict sealing.Verdict    `json:"verdict"`
	Kind    sealing.ReasonKind `json:"kind"`
	Bank    string             `json:"bank,omitempty"`
	PCRs    []int              `json:"pcrs,omitempty"`
	Want    []string           `json:"want,omitempty"` // values of the PCR, any of which would do
	Got     string             `json:"got,omitempty"`
	Text    string             `json:"text"`
}

func checkObject(t tokens.Numbered, a *sealing.Answer) checkedToken {
	o := checkedToken{Token: tokenObject(t.Token), Verdict: a.Verdict, Reasons: []reasonObject{}, Assumes: append([]string{}, a.Assumes...)}
	if t.ID >= 0 {
		o.ID = &t.ID
	}
	if a.Bank != 0 {
		o.Bank = tpm.BankName(a.Bank)
	}
	for _, r := range a.Reasons {
		x := reasonObject{Verdict: r.Verdict, Kind: r.Kind, PCRs: r.PCRs, Got: hex.EncodeToString(r.Got), Text: r.String()}
		if r.Bank != 0 {
			x.Bank = tpm.BankName(r.Bank)
		}
		for _, w := range r.Want {
			x.Want = append(x.Want, hex.EncodeToString(w))
		}
		o.Reasons = append(o.Reasons, x)
	}
	return o
}

// text is the token in lines.
func (o *checkedToken) text() string {
	var b strings.Builder
	b.WriteString("token")
	if o.ID != nil {
		fmt.Fprintf(&b, " %d", *o.ID)
	}
	if len(o.Token.Keyslots) > 0 {
		fmt.Fprintf(&b, ", slots %v", o.Token.Keyslots)
	}
	fmt.Fprintf(&b, ": %v\n", o.Verdict)
	for _, r := range o.Reasons {
		fmt.Fprintf(&b, "  %s\n", r.Text)
	}
	if o.Verdict == sealing.VerdictOpens {
		for _, text := range o.Assumes {
			fmt.Fprintf(&b, "  if %s\n", text)
		}
	}
	return b.String()
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

// bankObject is a bank that the TPM has. One that is not usable must not be sealed to, for the
// reason given.
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
