package policy

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// PCRLock is a pcrlock.json: the values that systemd-pcrlock make-policy allows, and the NV index
// that holds the policy's digest. The handles and the sealed PIN are as the TPM wrote them. Package
// tpm makes the .pcrlock files that make-policy reads.
type PCRLock struct {
	Bank      crypto.Hash      `json:"-"`
	Values    map[int][][]byte `json:"-"`
	NVIndex   uint32           `json:"nvIndex,omitzero"`
	NVHandle  []byte           `json:"nvHandle,omitzero"` // ESYS's serialised handle
	NVPublic  []byte           `json:"nvPublic,omitzero"` // TPM2B_NV_PUBLIC
	SRKHandle []byte           `json:"srkHandle,omitzero"`
	// PINPublic and PINPrivate are the recovery PIN, sealed to the policy itself.
	PINPublic  []byte `json:"pinPublic,omitzero"`
	PINPrivate []byte `json:"pinPrivate,omitzero"`
}

// pcrLockFile is the file: bank and values in systemd's form, then the fields of a PCRLock without
// its methods.
type pcrLockFile struct {
	Bank   string         `json:"pcrBank"`
	Values []pcrLockValue `json:"pcrValues"`
	pcrLockFields
}

type pcrLockFields PCRLock

type pcrLockValue struct {
	PCR    int      `json:"pcr"`
	Values []string `json:"values"`
}

// maxPCRLock bounds the file in bytes; it has a few KiB.
const maxPCRLock = 4 << 20

// ParsePCRLock reads a pcrlock.json.
func ParsePCRLock(data []byte) (*PCRLock, error) {
	fail := func(format string, args ...any) (*PCRLock, error) {
		return nil, prefix.Error(pkg, &osmith.FormatError{Offset: -1, Field: "pcrlock.json", Err: fmt.Errorf(format, args...)})
	}
	if len(data) > maxPCRLock {
		return fail("%d bytes, want %d or fewer", len(data), maxPCRLock)
	}
	var f pcrLockFile
	if err := strictjson.Unmarshal(data, &f); err != nil {
		return nil, prefix.Error(pkg, fmt.Errorf("pcrlock.json: %w", err))
	}
	bank, err := pcrbank.ByName(f.Bank)
	if err != nil {
		return fail("pcrBank: %w", err)
	}
	p := PCRLock(f.pcrLockFields)
	p.Bank, p.Values = bank, make(map[int][][]byte)
	for _, x := range f.Values {
		if _, twice := p.Values[x.PCR]; twice || x.PCR < 0 || x.PCR >= pcrbank.Count || len(x.Values) == 0 {
			return fail("PCR %d: want each PCR from 0 to %d once, with values", x.PCR, pcrbank.Count-1)
		}
		for _, s := range x.Values {
			v, err := hex.DecodeString(s)
			if err != nil || len(v) != bank.Size() {
				return fail("PCR %d: value %.160q: want %d hexadecimal digits", x.PCR, s, 2*bank.Size())
			}
			p.Values[x.PCR] = append(p.Values[x.PCR], v)
		}
	}
	return &p, nil
}

// MarshalJSON is the file as systemd-pcrlock writes it, without a newline.
func (p *PCRLock) MarshalJSON() (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if err := pcrbank.Check(p.Bank); err != nil {
		return nil, err
	}
	f := pcrLockFile{Bank: pcrbank.Name(p.Bank), Values: []pcrLockValue{}, pcrLockFields: pcrLockFields(*p)}
	for _, n := range pcrbank.PCRs(p.Values) {
		x := pcrLockValue{PCR: n}
		for _, v := range p.Values[n] {
			if len(v) != p.Bank.Size() {
				return nil, fmt.Errorf("pcrlock.json: PCR %d: a value of %d bytes, want %d", n, len(v), p.Bank.Size())
			}
			x.Values = append(x.Values, hex.EncodeToString(v))
		}
		f.Values = append(f.Values, x)
	}
	return json.Marshal(f)
}

// Digest is the policy that the NV index holds.
func (p *PCRLock) Digest() (Digest, error) { return PCRLockDigest(p.Bank, p.Values) }

// Allows reports whether PCRs with these values satisfy the policy, and which PCRs do not. A PCR of
// the policy whose value is not given does not satisfy it.
func (p *PCRLock) Allows(values map[int][]byte) (ok bool, bad []int) {
	for _, n := range pcrbank.PCRs(p.Values) {
		if !slices.ContainsFunc(p.Values[n], func(v []byte) bool { return bytes.Equal(v, values[n]) }) {
			bad = append(bad, n)
		}
	}
	return len(bad) == 0 && len(p.Values) > 0, bad
}

// PCRLockDigest is the policy that systemd-pcrlock makes from the values that PCRs may have: one
// PolicyPCR over all PCRs with a single value, then for each other PCR, ascending, a PolicyOR of
// one PolicyPCR per value. systemd unlocks at most [MaxPolicyOR] values per PCR; more are a
// [*TooManyValuesError].
func PCRLockDigest(bank crypto.Hash, values map[int][][]byte) (d Digest, err error) {
	defer prefix.Add(pkg, &err)
	single := make(map[int][]byte)
	for n, vs := range values {
		switch {
		case len(vs) == 0:
			return Digest{}, fmt.Errorf("pcrlock policy: PCR %d has no value", n)
		case len(vs) > MaxPolicyOR:
			return Digest{}, &TooManyValuesError{PCR: n, Values: len(vs)}
		case len(vs) == 1:
			single[n] = vs[0]
		}
	}
	if len(values) == 0 {
		return Digest{}, errors.New("pcrlock policy: no PCRs")
	}
	if len(single) > 0 {
		if d, err = PolicyPCR(d, bank, single); err != nil {
			return Digest{}, err
		}
	}
	for _, n := range pcrbank.PCRs(values) {
		if len(values[n]) == 1 {
			continue
		}
		branches := make([]Digest, len(values[n]))
		for i, v := range values[n] {
			if branches[i], err = PolicyPCR(d, bank, map[int][]byte{n: v}); err != nil {
				return Digest{}, err
			}
		}
		if d, err = PolicyOR(branches...); err != nil {
			return Digest{}, err
		}
	}
	return d, nil
}

// TooManyValuesError says that a PCR may have more values than systemd can unlock for.
type TooManyValuesError struct{ PCR, Values int }

func (e *TooManyValuesError) Error() string {
	return fmt.Sprintf("pcrlock policy: PCR %d has %d possible values, want at most %d: systemd unlocks for no more", e.PCR, e.Values, MaxPolicyOR)
}
