package sealing

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
	"github.com/osmith-dev/osmith/tpm"
)

// Quote is what a TPM says about its PCRs, signed. Its JSON has everything that a verifier needs
// for [Quote.Verify], also on a different machine.
type Quote struct {
	Attest    []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE

	// PCRs are the values that were quoted, by bank. Only a digest of them is signed: in a quote
	// that was received they are a claim until Verify has checked them against that digest.
	PCRs map[crypto.Hash]map[int][]byte
}

// quoteJSON is a quote as it is transported.
type quoteJSON struct {
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
	// values in hexadecimal by names of banks and numbers
	PCRs map[string]map[string]string `json:"pcrs,omitempty"`
}

// MarshalJSON is an object with "attest" and "signature" in base64, and "pcrs": {"sha256": {"7":
// HEX}}.
func (q Quote) MarshalJSON() ([]byte, error) {
	out := quoteJSON{Attest: q.Attest, Signature: q.Signature}
	for bank, values := range q.PCRs {
		if err := pcrbank.Check(bank); err != nil {
			return nil, prefix.Error(pkg, fmt.Errorf("quote: %w", err))
		}
		if out.PCRs == nil {
			out.PCRs = map[string]map[string]string{}
		}
		text := make(map[string]string, len(values))
		for n, v := range values {
			text[strconv.Itoa(n)] = hex.EncodeToString(v)
		}
		out.PCRs[pcrbank.Name(bank)] = text
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes. It verifies nothing: see [Quote.Verify].
func (q *Quote) UnmarshalJSON(data []byte) (err error) {
	defer prefix.Add(pkg, &err)
	var in quoteJSON
	if err := strictjson.Unmarshal(data, &in, strictjson.KnownFields); err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	fail := func(bank string, err error) error {
		return &osmith.FormatError{Offset: -1, Field: "quote: " + bank, Err: err}
	}
	out := Quote{Attest: in.Attest, Signature: in.Signature}
	for name, text := range in.PCRs {
		bank, err := pcrbank.ByName(name)
		if err != nil || pcrbank.Name(bank) != name {
			return fail(fmt.Sprintf("bank %.40q", name), pcrbank.ErrUnknown)
		}
		values := make(map[int][]byte, len(text))
		for key, s := range text {
			n, err := number(key)
			if err != nil || n < 0 || n >= pcrbank.Count {
				return fail(name, fmt.Errorf("PCR %.40q: want 0 to %d", key, pcrbank.Count-1))
			}
			if values[n], err = hex.DecodeString(s); err != nil || len(values[n]) != bank.Size() {
				return fail(name, fmt.Errorf("PCR %d: want %d hexadecimal digits", n, 2*bank.Size()))
			}
		}
		if out.PCRs == nil {
			out.PCRs = map[crypto.Hash]map[int][]byte{}
		}
		out.PCRs[bank] = values
	}
	*q = out
	return nil
}

// Verify verifies the quote offline as [tpm.VerifyQuote] does, for a verifier that sent nonce, and
// checks the PCRs against the signed digest. It returns the proved values: those of PCRs that the
// quote covers. If the PCRs do not lead to the signed digest, the error is a [*tpm.QuoteError].
func (q *Quote) Verify(key crypto.PublicKey, nonce []byte) (_ *tpm.Quote, pcrs map[crypto.Hash]map[int][]byte, err error) {
	defer prefix.Add(pkg, &err)
	quoted, err := tpm.VerifyQuote(key, q.Attest, q.Signature, nonce)
	if err != nil {
		return nil, nil, err
	}
	if pcrs, err = quoted.Values(q.PCRs); err != nil {
		return nil, nil, err
	}
	return quoted, pcrs, nil
}
