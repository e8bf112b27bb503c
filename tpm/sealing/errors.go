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
	// ErrResponse is the cause of every error about an answer that a TPM cannot have given: it is
	// truncated, belongs to a different command, or is impossible.
	ErrResponse = errors.New("not a TPM response")
	// ErrTampered is the cause of every error about an answer that did not come from the TPM or was
	// changed on the way: it fails the check with a key that only the TPM has.
	ErrTampered = errors.New("the TPM's response was altered in transit")
	// ErrSRK is the cause of every error about a storage root key that is not fit to seal under.
	ErrSRK = errors.New("not a storage root key")
	// ErrMissingKey says that the TPM lacks the key under which a secret was sealed: the TPM was
	// replaced or cleared. The secret can no longer be unsealed.
	ErrMissingKey = errors.New("the TPM lacks the storage key that sealed this secret (another TPM, or cleared)")
	// ErrPIN says that the PIN is wrong.
	ErrPIN = errors.New("wrong PIN")
	// ErrNeedPIN says that the secret needs a PIN and none was given.
	ErrNeedPIN = errors.New("a PIN is required")
	// ErrSelfTest says that the secret which was just sealed could not be unsealed again. Do not
	// rely on a secret sealed this way.
	ErrSelfTest = errors.New("the TPM returns different data from what was sealed")
	// ErrNotSupported is the cause of every error about a token that needs something that this
	// package does not support.
	ErrNotSupported = errors.New("not supported")
)

// BankState says why a bank of PCRs must not be sealed to.
type BankState int

const (
	BankStateAbsent BankState = iota + 1 // the TPM has not allocated it
	// PCRs 0 to 15 were never extended: a policy would hold for any boot
	BankStateZero
	// PCRs 0 to 15 are all ones, or ones and zeros: the firmware has capped the bank or locked it
	// out
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

// BankError says that a bank of PCRs must not be sealed to, since a policy over it would protect
// nothing.
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
	Got  map[int][]byte // present values of the policy's PCRs
	// Want are the values for which the secret was sealed, and PCRs are those that differ,
	// ascending. Both are nil if the values are unknown: a token of systemd does not record them.
	Want map[int][]byte
	PCRs []int
	// Differences are the events that made the PCRs differ ([tpm.Causes]), if logs were given.
	Differences []tpm.Difference
	// Err is what failed, if not the value of a PCR: a missing signature, a wrong key, an NV index.
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

// ErrNoSignature is the cause of a [*PolicyError] if no signature covers the present values of the
// PCRs: the vendor has not signed for this version, or not for this phase of the boot.
var ErrNoSignature = errors.New("no signature for the current PCR values")

// LockoutError says that the TPM refuses PINs for some time, since too many wrong PINs were tried.
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
