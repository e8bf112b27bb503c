package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// PendingSet is one of the boots that a machine may make before its secrets are sealed anew: with what runs now, with an upgrade that was installed and not booted yet, or
// with firmware that is announced (predicted with the log of a machine that has it as [Boot.Firmware]).
type PendingSet struct {
	Name  string // for people: "running", "version 3"
	Boots Alternatives
}

// PendingState is one state of some PCRs that a machine may be in.
type PendingState struct {
	Values  map[int][]byte
	Sets    []string // names of the sets that lead to it, in their order
	Changed []int    // PCRs that are not as in the first state, ascending
}

// String is a line: "running, version 3: as now" or "version 4: PCRs 4, 11 are others".
func (s PendingState) String() string {
	text := ""
	for i, name := range s.Sets {
		if i > 0 {
			text += ", "
		}
		text += escape(name)
	}
	if len(s.Changed) == 0 {
		return text + ": the first state"
	}
	return fmt.Sprintf("%s: other values in PCRs %v", text, s.Changed)
}

// PendingStates lists the states of some PCRs that any of the sets may lead to, each once, in the order of the sets, with the sets that lead to it and the PCRs in which it
// differs from the first: the union that a secret is sealed to, so that it is unlocked by what runs and by what is not booted yet. The values are what AnyState of
// package policy and Policy.Alternatives of package sealing take, and [Alternatives.Components] writes the same union for systemd-pcrlock. A PCR
// that one of the boots does not predict is an error: a policy that leaves it out would not be the one that was asked for.
func PendingStates(bank crypto.Hash, pcrs []int, sets ...PendingSet) (_ []PendingState, err error) {
	defer prefix.Add(pkg, &err)
	if len(sets) == 0 || len(pcrs) == 0 {
		return nil, errors.New("pending states: no sets or no PCRs")
	}
	if err := pcrbank.Check(bank); err != nil {
		return nil, err
	}
	var out []PendingState
	for _, set := range sets {
		states, err := set.Boots.States(bank, pcrs...)
		if err != nil {
			return nil, fmt.Errorf("pending states: %s: %w", escape(set.Name), prefix.Bare(err))
		}
		for _, values := range states {
			i := slices.IndexFunc(out, func(s PendingState) bool { return maps.EqualFunc(s.Values, values, bytes.Equal) })
			if i < 0 {
				i = len(out)
				out = append(out, PendingState{Values: values})
			}
			if !slices.Contains(out[i].Sets, set.Name) {
				out[i].Sets = append(out[i].Sets, set.Name)
			}
		}
	}
	for i := range out {
		for _, n := range slices.Sorted(maps.Keys(out[i].Values)) {
			if !bytes.Equal(out[i].Values[n], out[0].Values[n]) {
				out[i].Changed = append(out[i].Changed, n)
			}
		}
	}
	return out, nil
}
