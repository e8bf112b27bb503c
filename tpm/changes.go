package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Effect is what a change of a boot does to a PCR.
type Effect int

const (
	EffectUnknown Effect = iota // the PCR is not predicted before or after
	EffectNone                  // the PCR keeps its values
	// some ways in which the boot may go leave an old value, others a new one
	EffectMay
	EffectChanges // every possible value is new
)

// String is "not known", "none", "may change" or "changes".
func (e Effect) String() string {
	switch e {
	case EffectNone:
		return "none"
	case EffectMay:
		return "may change"
	case EffectChanges:
		return "changes"
	}
	return "not known"
}

// PCRChange is the effect on one PCR.
type PCRChange struct {
	PCR    int
	Effect Effect
	Note   string // why it is not known; "" otherwise
}

// String is a line: "PCR 11: changes".
func (c PCRChange) String() string {
	if c.Note != "" {
		return fmt.Sprintf("PCR %d: %v: %s", c.PCR, c.Effect, c.Note)
	}
	return fmt.Sprintf("PCR %d: %v", c.PCR, c.Effect)
}

// Changes says how the PCRs of a machine change when its boot changes.
type Changes struct {
	PCRs []PCRChange // 0 to 15
	// events that differ, without those that follow from other differences: see [Causes]
	Causes []Difference
}

// CompareBoots says how PCRs change when a machine boots as in next instead of as in before: it
// judges an upgrade before the upgrade is made. Both logs are predictions; if they have a baseline,
// it is the same earlier boot. A PCR counts as unchanged if all its possible values are the same in
// every bank that both logs predict; without a common bank the error is [ErrBank]. Package sealing
// computes from the predictions which secrets still unlock.
func CompareBoots(before, next Alternatives) (_ *Changes, err error) {
	defer prefix.Add(pkg, &err)
	if len(before) == 0 || len(next) == 0 {
		return nil, errors.New("no boots to compare")
	}
	var banks []crypto.Hash
	for _, h := range before[0].Banks() {
		if slices.Contains(next[0].Banks(), h) {
			banks = append(banks, h)
		}
	}
	if len(banks) == 0 {
		return nil, fmt.Errorf("boots to compare: no PCR bank is predicted for both: %w", ErrBank)
	}
	out := &Changes{}
	for n := range 16 {
		out.PCRs = append(out.PCRs, PCRChange{PCR: n, Effect: EffectNone})
	}
	for _, h := range banks {
		if err := out.compare(h, before, next); err != nil {
			return nil, err
		}
	}
	_, ds := before.Diff(next[0])
	out.Causes = Causes(ds)
	return out, nil
}

func (c *Changes) compare(bank crypto.Hash, before, next Alternatives) error {
	old, err := before.Values(bank)
	if err != nil {
		return prefix.Bare(err)
	}
	now, err := next.Values(bank)
	if err != nil {
		return prefix.Bare(err)
	}
	for i := range c.PCRs {
		p := &c.PCRs[i]
		if p.Note != "" {
			continue
		}
		switch {
		case now[p.PCR] == nil:
			p.Effect, p.Note = EffectUnknown, next.notPredicted(p.PCR)
		case old[p.PCR] == nil:
			p.Effect, p.Note = EffectUnknown, "before: "+before.notPredicted(p.PCR)
		default:
			p.Effect = max(p.Effect, effect(old[p.PCR], now[p.PCR]))
		}
	}
	return nil
}

// effect compares the values that a PCR may have.
func effect(old, now [][]byte) Effect {
	common := 0
	for _, v := range now {
		if slices.ContainsFunc(old, func(o []byte) bool { return bytes.Equal(o, v) }) {
			common++
		}
	}
	switch {
	case common == 0:
		return EffectChanges
	case common < len(now) || common < len(old):
		return EffectMay
	}
	return EffectNone
}

// notPredicted says why one of the boots does not predict the PCR.
func (a Alternatives) notPredicted(pcr int) string {
	for _, l := range a {
		for _, c := range l.Coverage {
			if c.PCR == pcr && !c.Prediction.known() && c.Prediction != PredictionOneOf {
				return c.Note
			}
		}
	}
	return "it is not predicted"
}
