package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Replay computes the PCRs that the log leads to, in the given banks or in all banks of the log.
// Events of type EV_NO_ACTION extend no PCR; one of them may give the startup locality, with which
// PCR 0 then begins. Before an H-CRTM event, PCR 0 begins with 4. PCRs 17 to 22 begin with ones, or
// with zeros if the log extends one of them: only a dynamic launch extends them, and it resets them
// first. Events for PCRs that no TPM has are skipped (and are findings of [ParseLog]). For a log
// with other Registers, the numbers are those of its registers: Bank.PCR(1) is RTMR 0.
func (l *Log) Replay(banks ...crypto.Hash) (_ map[crypto.Hash]*Bank, err error) {
	defer prefix.Add(pkg, &err)
	if len(banks) == 0 {
		banks = l.Banks()
	}
	if err := pcrbank.CheckAll(banks); err != nil {
		return nil, err
	}
	out := make(map[crypto.Hash]*Bank, len(banks))
	for _, h := range banks {
		b := NewBank(h)
		err := l.replay(b, func(e *Event) ([]byte, bool) { d, ok := e.Digests[h]; return d, ok })
		if err != nil {
			return nil, err
		}
		out[h] = b
	}
	return out, nil
}

// ReplaySM3 computes the PCRs in the bank of SM3 ([AlgorithmSM3]), which [Log.Replay] lacks. The
// error is [ErrBank] if an event has no SM3 digest.
func (l *Log) ReplaySM3() (_ *Bank, err error) {
	defer prefix.Add(pkg, &err)
	b := &Bank{sm3: true}
	b.reset()
	if err := l.replay(b, func(e *Event) ([]byte, bool) { d, ok := e.foreign[AlgorithmSM3]; return d, ok }); err != nil {
		return nil, err
	}
	return b, nil
}

// replay extends a bank by the digests that the events have for it.
func (l *Log) replay(b *Bank, digestOf func(*Event) ([]byte, bool)) error {
	if l.dynamicLaunch() {
		b.dynamicLaunch()
	}
	// PCR 0, after which the locality can no longer be set; an event that tells it
	extended, told := false, false
	for i := range l.Events {
		e := &l.Events[i]
		if n, ok := e.locality(); ok && !extended {
			b.setLocality(n)
			told = true
		}
		if e.Type == EventEFIHCRTM && e.PCR == 0 && !extended && !told {
			b.setLocality(4) // which is where an H-CRTM measures from
		}
		if !e.extends() || e.PCR < 0 || e.PCR >= PCRCount {
			continue
		}
		if e.registers() != l.Registers {
			return fmt.Errorf("replay: event %d is for %s, in a log of %v: %w", i, e.registers().Name(e.PCR), l.Registers, ErrRegisters)
		}
		digest, ok := digestOf(e)
		if !ok {
			return fmt.Errorf("replay: event %d has no %s digest: %w", i, b.Name(), ErrBank)
		}
		if err := b.extend(e.PCR, digest); err != nil {
			return fmt.Errorf("replay: event %d: %w", i, err)
		}
		extended = extended || e.PCR == 0
	}
	return nil
}

// ErrRegisters is the cause of errors about logs of RTMRs where PCRs are asked for, and the other
// way round.
var ErrRegisters = errors.New("a log of other registers")

// dynamicLaunch reports whether the log tells of one.
func (l *Log) dynamicLaunch() bool {
	return slices.ContainsFunc(l.Events, func(e Event) bool { return e.extends() && e.PCR >= 17 && e.PCR <= 22 })
}

// Values are the PCRs of one bank that the log claims to know: for a predicted log those that its
// Coverage calls exact, for a parsed log all 24. For a log with other Registers the error is
// [ErrRegisters].
func (l *Log) Values(bank crypto.Hash) (_ map[int][]byte, err error) {
	defer prefix.Add(pkg, &err)
	if l.Registers != RegistersPCR {
		return nil, fmt.Errorf("PCR values of a log of %v: %w", l.Registers, ErrRegisters)
	}
	banks, err := l.Replay(bank)
	if err != nil {
		return nil, err
	}
	values := banks[bank].Values()
	for n := range values {
		if !l.covers(n) {
			delete(values, n)
		}
	}
	return values, nil
}

// Verify replays one bank and compares it with what a TPM reports for some PCRs. It returns a
// [*ReplayError] that names the PCRs which differ. Do not pass PCRs that the firmware's log does
// not hold, such as 10 and those that userspace extended. PCRs that a predicted log does not cover
// are a different error, and so is an empty map.
func (l *Log) Verify(bank crypto.Hash, pcrs map[int][]byte) (err error) {
	defer prefix.Add(pkg, &err)
	values, err := l.Values(bank)
	if err != nil {
		return err
	}
	if len(pcrs) == 0 {
		return errors.New("verify: no PCRs to compare")
	}
	bad := &ReplayError{Bank: bank, Want: make(map[int][]byte), Got: make(map[int][]byte)}
	for _, n := range pcrbank.PCRs(pcrs) {
		if n < 0 || n >= PCRCount {
			return fmt.Errorf("verify: PCR %d: want 0 to %d", n, PCRCount-1)
		}
		got, ok := values[n]
		if !ok {
			return fmt.Errorf("verify: PCR %d is not predicted", n)
		}
		if bytes.Equal(got, pcrs[n]) {
			continue
		}
		bad.PCRs = append(bad.PCRs, n)
		bad.Want[n], bad.Got[n] = bytes.Clone(pcrs[n]), got
	}
	if len(bad.PCRs) > 0 {
		return bad
	}
	return nil
}

// ReplayError says that a log does not lead to the values that a TPM reports.
type ReplayError struct {
	Bank crypto.Hash
	PCRs []int          // those that differ, ascending
	Want map[int][]byte // what the TPM reports for them
	Got  map[int][]byte // what the log replays to
}

func (e *ReplayError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the event log does not account for the TPM's %s bank:", BankName(e.Bank))
	for i, n := range e.PCRs {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " PCR %d is %x, the log gives %x", n, e.Want[n], e.Got[n])
	}
	return b.String()
}
