package upgrade

import (
	"fmt"
	"slices"
	"strings"
)

// Verdict names one of the four proofs a plan must give before anything is written.
type Verdict string

// The four verdicts, in the order in which a plan lists them.
const (
	Fits    Verdict = "fits"    // slot and ESP hold the set at the worst moment
	Boots   Verdict = "boots"   // firmware, loader and kernel will accept it
	Unlocks Verdict = "unlocks" // the TPM will release what is sealed to the signed PCR policy
	Returns Verdict = "returns" // the old set boots again if the new one fails
)

// Verdicts lists all four.
func Verdicts() []Verdict { return []Verdict{Fits, Boots, Unlocks, Returns} }

// ParseVerdict reads the name of a verdict.
func ParseVerdict(s string) (Verdict, error) {
	if v := Verdict(s); slices.Contains(Verdicts(), v) {
		return v, nil
	}
	return "", fmt.Errorf("upgrade: %q is no verdict: want fits, boots, unlocks or returns", s)
}

// Outcome is how one verdict came out. Higher is worse.
type Outcome int

// The outcomes of a verdict.
const (
	Pass Outcome = iota // proven
	Warn                // works, with a restriction that the reasons name
	Fail                // Apply refuses unless the verdict is overridden by name
)

var outcomeNames = [...]string{"pass", "warn", "fail"}

func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
	return outcomeNames[o]
}

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Judgement is one verdict with its reasons: what was proven, what was not, and what to do about it.
type Judgement struct {
	Verdict    Verdict  `json:"verdict"`
	Outcome    Outcome  `json:"outcome"` // the worst of the reasons'
	Reasons    []Reason `json:"reasons"`
	Overridden bool     `json:"overridden,omitempty"`
}

// Reason is one finding behind a judgement.
type Reason struct {
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text"`
	Err     error   `json:"-"` // typed, behind a failure
}

func (j *Judgement) add(o Outcome, text string, err error) {
	j.Outcome = max(j.Outcome, o)
	j.Reasons = append(j.Reasons, Reason{o, text, err})
}

func (j *Judgement) pass(format string, args ...any) { j.add(Pass, fmt.Sprintf(format, args...), nil) }
func (j *Judgement) warn(format string, args ...any) { j.add(Warn, fmt.Sprintf(format, args...), nil) }

// fail records err as a reason against the set.
func (j *Judgement) fail(err error) { j.add(Fail, strings.TrimPrefix(err.Error(), "upgrade: "), err) }

// RefusedError is returned by [Plan.Apply] for a plan with failed verdicts that nobody has overridden.
type RefusedError struct {
	Judgements []Judgement // the failed ones
}

func (e *RefusedError) Error() string {
	var parts []string
	for _, j := range e.Judgements {
		for _, r := range j.Reasons {
			if r.Outcome == Fail {
				parts = append(parts, fmt.Sprintf("%s: %s", j.Verdict, r.Text))
			}
		}
	}
	return "upgrade: refused, nothing was written: " + strings.Join(parts, "; ")
}

// Unwrap gives the typed errors behind the refusal to [errors.Is] and [errors.As].
func (e *RefusedError) Unwrap() []error {
	var errs []error
	for _, j := range e.Judgements {
		for _, r := range j.Reasons {
			if r.Err != nil {
				errs = append(errs, r.Err)
			}
		}
	}
	return errs
}
