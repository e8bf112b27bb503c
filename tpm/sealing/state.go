package sealing

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/tpm"
)

// StateOf returns what event logs say about a machine, for [Token.Check].
//
// A prediction ([tpm.Predict], [tpm.ParsePrediction]) gives the PCRs for which its Coverage has one
// value, at the moment for which it was made. It includes userspace, so userspace must be nil. The
// log of a machine's firmware gives no values on its own, because userspace measures into nearly
// all PCRs afterwards: userspace is systemd's log up to the moment when the secret is requested,
// and an empty log says that userspace measures nothing before that moment. Logs do not give PCRs
// 10 and 16 to 23.
func StateOf(firmware *tpm.Log, userspace *tpm.UserspaceLog) (_ State, err error) {
	defer prefix.Add(pkg, &err)
	s := State{PCRs: map[crypto.Hash]map[int][]byte{}, Unknown: map[int]string{}}
	if firmware.Registers != tpm.RegistersPCR {
		return State{}, fmt.Errorf("state: a log of %v: %w: want one of a TPM", firmware.Registers, tpm.ErrRegisters)
	}
	predicted := firmware.Coverage != nil
	if predicted && userspace != nil {
		return State{}, errors.New("state: a userspace log is given together with a prediction, which already has one")
	}
	log := firmware
	switch {
	case predicted:
		for _, c := range firmware.Coverage {
			s.Unknown[c.PCR] = fmt.Sprintf("%v: %s", c.Prediction, c.Note)
		}
	case userspace == nil:
		s.Banks = firmware.Banks()
		for n := range pcrbank.Count {
			s.Unknown[n] = "what userspace measures before the secret is asked for is not given"
		}
		return s, nil
	default:
		s.Banks = firmware.Banks()
		log = firmware.WithUserspace(userspace)
	}
	for _, bank := range firmware.Banks() {
		values, err := log.Values(bank)
		if errors.Is(err, tpm.ErrBank) { // userspace has not logged this one
			continue
		}
		if err != nil {
			return State{}, prefix.Bare(err)
		}
		s.PCRs[bank] = values
		for n := range values {
			if n == tpm.PCRIMA || n >= firstOfOthers {
				delete(values, n)
				s.Unknown[n] = "it is extended by others than the firmware and systemd"
			} else {
				delete(s.Unknown, n)
			}
		}
	}
	return s, nil
}

// firstOfOthers is the first of the PCRs for debugging, dynamic launches and applications (TCG PC
// Client Platform TPM Profile 1.05, table 7).
const firstOfOthers = 16
