package sealing

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/tpm"
)

// pkg is what errors of this package begin with.
const pkg = "sealing"

var (
	// ErrResponse is the cause of every error about an answer that no TPM gives: cut, of another
	// command, impossible.
	ErrResponse = errors.New("not a TPM response")
	// ErrTampered is the cause of every error about an answer that the TPM did not give, or not so:
	// it is vouched for by a key that only the TPM has, and that does not hold.
	ErrTampered = errors.New("the TPM's response was altered in transit")
	// ErrSRK is the cause of every error about a storage root key that is not fit to seal under.
	ErrSRK = errors.New("not a storage root key")
	// ErrMissingKey says that the TPM does not have the key that a secret was sealed under: it is
	// another TPM, or it was cleared. The secret cannot be had from it any more.
	ErrMissingKey = errors.New("the TPM lacks the storage key that sealed this secret (another TPM, or cleared)")
	// ErrPIN says that the PIN is not the one that the secret was sealed with.
	ErrPIN = errors.New("wrong PIN")
	// ErrNeedPIN says that there is a PIN and none was given.
	ErrNeedPIN = errors.New("a PIN is required")
	// ErrSelfTest says that what was sealed did not come out again. Nothing must be relied on that
	// was sealed so.
	ErrSelfTest = errors.New("the TPM returns different data from what was sealed")
	// ErrNotSupported is the cause of every error about a token that asks for what this package
	// does not do.
	ErrNotSupported = errors.New("not supported")
)

// BankState says why a bank of PCRs must not be sealed to.
type BankState int

const (
	BankStateAbsent BankState = iota + 1 // the TPM has not allocated it
	// nothing was ever measured into PCRs 0 to 15: a policy would hold for any boot
	BankStateZero
	// they are all ones, or ones and zeros: the firmware has capped the bank or locked it out
	BankStateOnes
)

func (s BankState) String() string {
	switch s {
	case BankStateAbsent:
		return "the TPM has no such bank"
	case BankStateZero:
		return "PCRs 0 to 15 are all zero: firmware does not measure into it"
	case BankStateOnes:
		return "PCRs 0 to 15 are all ones: firmware has given it up"
	}
	return fmt.Sprintf("state %d", int(s))
}

// BankError says that a bank of PCRs must not be sealed to, since a policy over it would hold
// nothing back.
type BankError struct {
	Bank  crypto.Hash
	State BankState
}

func (e *BankError) Error() string {
	return fmt.Sprintf("PCR bank %s: %v", pcrbank.Name(e.Bank), e.State)
}

// PolicyError says that the machine is not in a state that the secret was sealed for.
type PolicyError struct {
	Bank crypto.Hash
	Got  map[int][]byte // the PCRs of the policy as they are
	// Want are their values when it was sealed, and PCRs those that differ, ascending. Both are nil
	// if it is not known what the values were: a token of systemd does not say.
	Want map[int][]byte
	PCRs []int
	// Differences say which events made them differ, if logs were given: the causes of [tpm.Diff]
	// ([tpm.Causes]).
	Differences []tpm.Difference
	// Err is what failed, if it is not the value of a PCR: no signature, another key, an NV index.
	Err error
}

func (e *PolicyError) Error() string {
	var b strings.Builder
	b.WriteString("the policy does not hold:")
	switch {
	case e.Err != nil:
		fmt.Fprintf(&b, " %v", e.Err)
	case len(e.PCRs) == 0:
		fmt.Fprintf(&b, " %s PCRs %v differ from their values at sealing", pcrbank.Name(e.Bank), pcrbank.PCRs(e.Got))
	}
	for i, n := range e.PCRs {
		if i > 0 || e.Err != nil {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " %s PCR %d is %x, sealed for %x", pcrbank.Name(e.Bank), n, e.Got[n], e.Want[n])
	}
	for _, d := range e.Differences {
		fmt.Fprintf(&b, "; %v", d)
	}
	return b.String()
}

func (e *PolicyError) Unwrap() error { return e.Err }

// ErrNoSignature is the cause of a [*PolicyError] where no signature covers the present values of
// the PCRs: this is not a version, or not a phase of the boot, that the vendor has signed for.
var ErrNoSignature = errors.New("no signature for the current PCR values")

// LockoutError says that the TPM refuses PINs for some time, since too many wrong ones were tried.
type LockoutError struct{ Lockout }

func (e *LockoutError) Error() string {
	text := fmt.Sprintf("the TPM is locked out after %d of %d failed attempts", e.Failed, e.Most)
	switch {
	case e.Interval == 0:
		return text + " and does not recover by itself: reset the lockout with the lockout authorization"
	default:
		return fmt.Sprintf("%s: the next attempt is allowed in at most %v; the secret itself is intact", text, e.Wait().Round(time.Second))
	}
}
