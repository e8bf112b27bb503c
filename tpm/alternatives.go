package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Alternatives are the logs of boots any one of which may happen: with this UKI or that, in this
// slot or the other, of one profile or another, with ExitBootServices called once or twice.
type Alternatives []*Log

// PredictAll predicts every boot. Where [Predict] would report one of several ways, PredictAll
// returns a log for each of these ways.
func PredictAll(boots ...Boot) (_ Alternatives, err error) {
	defer prefix.Add(pkg, &err)
	if len(boots) == 0 {
		return nil, errors.New("predict: no boots")
	}
	var out Alternatives
	for i, b := range boots {
		ways := []ExitBoot{b.ExitBoot}
		if b.ExitBoot == ExitBootUnknown && b.Firmware == nil && b.GPT != nil {
			ways = []ExitBoot{ExitBootOnce, ExitBootRetried}
		}
		for _, way := range ways {
			b.ExitBoot = way
			l, err := predict(b)
			if err != nil {
				return nil, fmt.Errorf("predict: boot %d: %w", i, err)
			}
			out = append(out, l)
		}
	}
	return out, nil
}

// Values are the distinct values that each PCR may have, in the order of the alternatives. A PCR
// that one of the alternatives does not predict is left out.
func (a Alternatives) Values(bank crypto.Hash) (_ map[int][][]byte, err error) {
	defer prefix.Add(pkg, &err)
	if len(a) == 0 {
		return nil, errors.New("no alternatives")
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

// States are the values that the boots may leave in some PCRs: each distinct state once, in the
// order of the alternatives. A PCR that one of the alternatives does not predict is an error.
// AnyState of package policy makes the policy that any one of the states satisfies, and
// Policy.Alternatives of package sealing seals to that policy.
func (a Alternatives) States(bank crypto.Hash, pcrs ...int) (_ []map[int][]byte, err error) {
	defer prefix.Add(pkg, &err)
	if len(a) == 0 || len(pcrs) == 0 {
		return nil, errors.New("alternatives: no boots or no PCRs")
	}
	var out []map[int][]byte
	for _, l := range a {
		values, err := l.Values(bank)
		if err != nil {
			return nil, err
		}
		state := make(map[int][]byte, len(pcrs))
		for _, n := range pcrs {
			v, ok := values[n]
			if !ok {
				return nil, fmt.Errorf("alternatives: PCR %d is not predicted", n)
			}
			state[n] = v
		}
		same := func(o map[int][]byte) bool { return maps.EqualFunc(o, state, bytes.Equal) }
		if !slices.ContainsFunc(out, same) {
			out = append(out, state)
		}
	}
	return out, nil
}

// Diff compares a boot with the alternative that differs least from it, and returns the index of
// that alternative.
func (a Alternatives) Diff(actual *Log) (index int, ds []Difference) {
	for i, l := range a {
		if d := Diff(l, actual); i == 0 || len(d) < len(ds) {
			index, ds = i, d
		}
	}
	return index, ds
}
