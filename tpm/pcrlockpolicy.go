package tpm

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// LockPolicy is a pcrlock.json: the values that systemd-pcrlock make-policy allows, and the NV index that holds the
// policy's digest. The handles and the sealed PIN are as the TPM wrote them.
type LockPolicy struct {
	Bank      crypto.Hash
	Values    map[int][][]byte
	NVIndex   uint32
	NVHandle  []byte // ESYS's serialised handle
	NVPublic  []byte // TPM2B_NV_PUBLIC
	SRKHandle []byte
	// PINPublic and PINPrivate are the recovery PIN, sealed to the policy itself.
	PINPublic, PINPrivate []byte
}

type lockPolicyJSON struct {
	Bank       string          `json:"pcrBank"`
	Values     []lockPolicyPCR `json:"pcrValues"`
	NVIndex    *uint32         `json:"nvIndex,omitempty"`
	NVHandle   *string         `json:"nvHandle,omitempty"`
	NVPublic   *string         `json:"nvPublic,omitempty"`
	SRKHandle  *string         `json:"srkHandle,omitempty"`
	PINPublic  *string         `json:"pinPublic,omitempty"`
	PINPrivate *string         `json:"pinPrivate,omitempty"`
}

type lockPolicyPCR struct {
	PCR    int      `json:"pcr"`
	Values []string `json:"values"`
}

// ParseLockPolicy reads a pcrlock.json.
func ParseLockPolicy(data []byte) (*LockPolicy, error) {
	fail := func(format string, args ...any) (*LockPolicy, error) {
		return nil, &FormatError{Field: "pcrlock policy", Err: fmt.Errorf(format, args...)}
	}
	if len(data) > maxLockFile {
		return fail("%d bytes, want %d or fewer", len(data), maxLockFile)
	}
	var j lockPolicyJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fail("%w", err)
	}
	bank, err := BankByName(j.Bank)
	if err != nil {
		return fail("%w", err)
	}
	p := &LockPolicy{Bank: bank, Values: make(map[int][][]byte)}
	for _, x := range j.Values {
		if _, twice := p.Values[x.PCR]; twice || x.PCR < 0 || x.PCR >= PCRCount || len(x.Values) == 0 {
			return fail("PCR %d: want each PCR from 0 to %d once, with values", x.PCR, PCRCount-1)
		}
		for _, s := range x.Values {
			v, err := hex.DecodeString(s)
			if err != nil || len(v) != bank.Size() {
				return fail("PCR %d: value %q: want %d hexadecimal digits", x.PCR, escape(s), 2*bank.Size())
			}
			p.Values[x.PCR] = append(p.Values[x.PCR], v)
		}
	}
	if j.NVIndex != nil {
		p.NVIndex = *j.NVIndex
	}
	for _, f := range p.blobs(&j) {
		if *f.text == nil {
			continue
		}
		if *f.bytes, err = base64.StdEncoding.DecodeString(**f.text); err != nil {
			return fail("%s: %w", f.name, err)
		}
	}
	return p, nil
}

type lockBlob struct {
	name  string
	text  **string
	bytes *[]byte
}

func (p *LockPolicy) blobs(j *lockPolicyJSON) []lockBlob {
	return []lockBlob{
		{"nvHandle", &j.NVHandle, &p.NVHandle}, {"nvPublic", &j.NVPublic, &p.NVPublic}, {"srkHandle", &j.SRKHandle, &p.SRKHandle},
		{"pinPublic", &j.PINPublic, &p.PINPublic}, {"pinPrivate", &j.PINPrivate, &p.PINPrivate},
	}
}

// MarshalJSON is the file as systemd-pcrlock writes it, without a newline.
func (p *LockPolicy) MarshalJSON() ([]byte, error) {
	if err := checkBank(p.Bank); err != nil {
		return nil, err
	}
	j := lockPolicyJSON{Bank: BankName(p.Bank), Values: []lockPolicyPCR{}}
	for _, n := range sortedPCRs(p.Values) {
		x := lockPolicyPCR{PCR: n}
		for _, v := range p.Values[n] {
			if len(v) != p.Bank.Size() {
				return nil, fmt.Errorf("tpm: pcrlock policy: PCR %d: a value of %d bytes, want %d", n, len(v), p.Bank.Size())
			}
			x.Values = append(x.Values, hex.EncodeToString(v))
		}
		j.Values = append(j.Values, x)
	}
	if p.NVIndex != 0 {
		j.NVIndex = &p.NVIndex
	}
	for _, f := range p.blobs(&j) {
		if *f.bytes != nil {
			text := base64.StdEncoding.EncodeToString(*f.bytes)
			*f.text = &text
		}
	}
	return json.Marshal(j)
}

// Digest is the policy that the NV index holds.
func (p *LockPolicy) Digest() (PolicyDigest, error) { return LockPolicyDigest(p.Bank, p.Values) }

// Allows reports whether PCRs with these values satisfy the policy, and which do not. PCRs that the policy is about and
// that are not given do not.
func (p *LockPolicy) Allows(values map[int][]byte) (ok bool, bad []int) {
	for _, n := range sortedPCRs(p.Values) {
		found := false
		for _, v := range p.Values[n] {
			found = found || bytes.Equal(v, values[n])
		}
		if !found {
			bad = append(bad, n)
		}
	}
	return len(bad) == 0 && len(p.Values) > 0, bad
}
