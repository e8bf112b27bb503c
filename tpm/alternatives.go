package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
)

// Alternatives are the logs of boots any one of which may happen: with this UKI or that, in this slot or the other, of
// one profile or another, with ExitBootServices called once or twice.
type Alternatives []*Log

// PredictAll predicts every boot. One that [Predict] would only know as one of several ways is all of them here.
func PredictAll(boots ...Boot) (Alternatives, error) {
	if len(boots) == 0 {
		return nil, errors.New("tpm: predict: no boots")
	}
	var out Alternatives
	for i, b := range boots {
		ways := []ExitBoot{b.ExitBoot}
		if b.ExitBoot == ExitUnknown && b.Firmware == nil && b.GPT != nil {
			ways = []ExitBoot{ExitOnce, ExitRetried}
		}
		for _, way := range ways {
			b.ExitBoot = way
			l, err := Predict(b)
			if err != nil {
				return nil, &wrapError{fmt.Sprintf("predict: boot %d", i), err}
			}
			out = append(out, l)
		}
	}
	return out, nil
}

// Values are the distinct values that each PCR may have, in the order of the alternatives. PCRs that one of them does
// not predict are left out.
func (a Alternatives) Values(bank crypto.Hash) (map[int][][]byte, error) {
	if len(a) == 0 {
		return nil, errors.New("tpm: no alternatives")
	}
	out := make(map[int][][]byte)
	count := make(map[int]int)
	for _, l := range a {
		values, err := l.Values(bank)
		if err != nil {
			return nil, err
		}
		for n, v := range values {
			count[n]++
			if !slices.ContainsFunc(out[n], func(o []byte) bool { return bytes.Equal(o, v) }) {
				out[n] = append(out[n], v)
			}
		}
	}
	for n := range out {
		if count[n] < len(a) {
			delete(out, n)
		}
	}
	return out, nil
}

// Policy joins the alternatives: the values of these PCRs must be those of one of the boots, all of the same one. That is
// more than systemd-pcrlock asks, whose policy ([LockPolicyDigest]) lets each PCR have any of its values.
func (a Alternatives) Policy(bank crypto.Hash, pcrs ...int) (*PolicyTree, error) {
	if len(a) == 0 || len(pcrs) == 0 {
		return nil, errors.New("tpm: alternatives: no boots or no PCRs for a policy")
	}
	var leaves []PolicyDigest
	for _, l := range a {
		values, err := l.Values(bank)
		if err != nil {
			return nil, err
		}
		chosen := make(map[int][]byte, len(pcrs))
		for _, n := range pcrs {
			v, ok := values[n]
			if !ok {
				return nil, fmt.Errorf("tpm: alternatives: PCR %d is not predicted", n)
			}
			chosen[n] = v
		}
		d, err := PolicyPCR(PolicyDigest{}, bank, chosen)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(leaves, d) {
			leaves = append(leaves, d)
		}
	}
	return NewPolicyTree(leaves...)
}

// Diff compares a boot with the alternative that it differs least from, and says which one that is.
func (a Alternatives) Diff(actual *Log) (index int, ds []Difference) {
	for i, l := range a {
		if d := Diff(l, actual); i == 0 || len(d) < len(ds) {
			index, ds = i, d
		}
	}
	return index, ds
}

// LockPolicyDigest is the policy that systemd-pcrlock makes of the values that PCRs may have: one PolicyPCR over all that
// have a single value, then for each other PCR, ascending, a PolicyOR of one PolicyPCR per value. systemd unlocks at most
// [MaxPolicyOR] values per PCR; more are a [*TooManyValuesError].
func LockPolicyDigest(bank crypto.Hash, values map[int][][]byte) (PolicyDigest, error) {
	single := make(map[int][]byte)
	for n, vs := range values {
		switch {
		case len(vs) == 0:
			return PolicyDigest{}, fmt.Errorf("tpm: pcrlock policy: PCR %d has no value", n)
		case len(vs) > MaxPolicyOR:
			return PolicyDigest{}, &TooManyValuesError{PCR: n, Values: len(vs)}
		case len(vs) == 1:
			single[n] = vs[0]
		}
	}
	if len(values) == 0 {
		return PolicyDigest{}, errors.New("tpm: pcrlock policy: no PCRs")
	}
	var d PolicyDigest
	var err error
	if len(single) > 0 {
		if d, err = PolicyPCR(d, bank, single); err != nil {
			return PolicyDigest{}, err
		}
	}
	for _, n := range sortedPCRs(values) {
		if len(values[n]) == 1 {
			continue
		}
		branches := make([]PolicyDigest, len(values[n]))
		for i, v := range values[n] {
			if branches[i], err = PolicyPCR(d, bank, map[int][]byte{n: v}); err != nil {
				return PolicyDigest{}, err
			}
		}
		if d, err = PolicyOR(branches...); err != nil {
			return PolicyDigest{}, err
		}
	}
	return d, nil
}

// TooManyValuesError says that a PCR may have more values than systemd could unlock for.
type TooManyValuesError struct{ PCR, Values int }

func (e *TooManyValuesError) Error() string {
	return fmt.Sprintf("tpm: pcrlock policy: PCR %d may have %d values; systemd unlocks for %d or fewer", e.PCR, e.Values, MaxPolicyOR)
}
