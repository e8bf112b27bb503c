package tokens

import (
	"errors"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// Boots are the boots that may happen, each with the signed policies that its UKI has.
type Boots struct {
	All        tpm.Alternatives
	Signatures []policy.Signatures
}

// Add adds ways in which a boot may go.
func (b *Boots) Add(ways tpm.Alternatives, signatures policy.Signatures) {
	for _, way := range ways {
		b.All, b.Signatures = append(b.All, way), append(b.Signatures, signatures)
	}
}

// Worst is the verdict of the boot that the token is least sure to be unlocked by.
func (b *Boots) Worst(t *sealing.Token, pin bool) (answer *sealing.Answer, err error) {
	rank := map[sealing.Verdict]int{sealing.VerdictOpens: 0, sealing.VerdictUnknown: 1, sealing.VerdictDoesNotOpen: 2}
	for i, log := range b.All {
		state, err := sealing.StateOf(log, nil)
		if err != nil {
			return nil, err
		}
		state.Signatures, state.PIN = b.Signatures[i], pin
		a, err := t.Check(state)
		if err != nil {
			return nil, err
		}
		if answer == nil || rank[a.Verdict] > rank[answer.Verdict] {
			answer = a
		}
	}
	if answer == nil {
		return nil, errors.New("no boots")
	}
	return answer, nil
}
