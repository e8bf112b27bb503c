package sealing

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

var errNoPCRLock = errors.New("the policy of systemd-pcrlock (pcrlock.json) is needed")

// lockedBy: the PCRs are as the policy in an NV index allows.
type lockedBy struct {
	lock  *policy.PCRLock
	index *nvIndex // nil in tokens of systemd 255 and 256, which do not name it
}

func (t *Token) locked(lock *policy.PCRLock) (step, error) {
	if t.PCRLockNV == nil {
		return lockedBy{lock, nil}, nil
	}
	n, err := parseNV("tpm2_pcrlock_nv", t.PCRLockNV)
	return lockedBy{lock, n}, err
}

func (l lockedBy) digest(policy.Digest) (policy.Digest, error) {
	if l.index == nil {
		return policy.Digest{}, errors.New("sealing: PolicyAuthorizeNV: the NV index is not known")
	}
	return policy.PolicyAuthorizeNV(l.index.name)
}

func (l lockedBy) satisfy(t *TPM, a *attempt) error {
	if l.lock == nil {
		return &PolicyError{Err: errNoPCRLock}
	}
	handle := l.lock.NVIndex
	if l.index != nil {
		handle = uint32(l.index.handle)
	}
	index, err := t.readNV(handle)
	if errors.Is(err, ErrNoIndex) {
		return &PolicyError{Bank: l.lock.Bank, Err: inner{err}}
	}
	if err != nil {
		return err
	}
	if err := t.satisfyLock(l.lock, a); err != nil {
		return err
	}
	_, err = execute(t, tpm2.PolicyAuthorizeNV{
		AuthHandle: tpm2.TPMRHOwner, NVIndex: index.named(), PolicySession: a.session.Handle(),
	})
	if errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCPolicyFail) {
		return &PolicyError{Bank: l.lock.Bank, Err: fmt.Errorf("NV index 0x%08x holds another policy than pcrlock.json", handle)}
	}
	if err != nil {
		return fmt.Errorf("sealing: PolicyAuthorizeNV: %w", err)
	}
	return nil
}

// satisfyLock goes through the policy as systemd does: one PolicyPCR for all PCRs with one value, then for each of the others a
// PolicyPCR and a PolicyOR of the digests that its values lead to.
func (t *TPM) satisfyLock(l *policy.PCRLock, a *attempt) error {
	steps, err := t.lockSteps(l)
	if err != nil {
		return err
	}
	running := a.running
	for _, s := range steps {
		branches, err := s.branches(running)
		if err != nil {
			return err
		}
		if err := (literal{bank: l.Bank, pcrs: sortedKeys(s.values[0])}).satisfy(t, a); err != nil {
			return err
		}
		if running = branches[0]; len(branches) == 1 {
			continue
		}
		if err := t.or(a, branches); err != nil {
			return err
		}
		if running, err = policy.PolicyOR(branches...); err != nil {
			return err
		}
	}
	return nil
}

// either: PCRs have one of several sets of values.
type either struct {
	bank   crypto.Hash
	values []map[int][]byte
}

func (e either) branches(start policy.Digest) ([]policy.Digest, error) {
	var out []policy.Digest
	for _, v := range e.values {
		d, err := policy.PolicyPCR(start, e.bank, v)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// lockSteps splits the values, and tells beforehand which PCRs have none of theirs.
func (t *TPM) lockSteps(l *policy.PCRLock) ([]either, error) {
	pcrs := sortedKeys(l.Values)
	if err := checkPCRs(pcrs); err != nil || len(pcrs) == 0 {
		return nil, fmt.Errorf("sealing: pcrlock policy: PCRs %v: want some of 0 to %d", pcrs, tpm.PCRCount-1)
	}
	actual, err := t.PCRs(l.Bank, pcrs...)
	if err != nil {
		return nil, err
	}
	single := map[int][]byte{}
	var several []either
	wrong := &PolicyError{Bank: l.Bank, Actual: actual, Expected: map[int][]byte{}}
	for _, n := range pcrs {
		values := l.Values[n]
		if len(values) == 0 || len(values) > policy.MaxPolicyOR {
			return nil, fmt.Errorf("sealing: pcrlock policy: PCR %d has %d values: want 1 to %d", n, len(values), policy.MaxPolicyOR)
		}
		found := false
		e := either{bank: l.Bank}
		for _, v := range values {
			found = found || bytes.Equal(v, actual[n])
			e.values = append(e.values, map[int][]byte{n: v})
		}
		if !found {
			wrong.PCRs, wrong.Expected[n] = append(wrong.PCRs, n), values[0]
		}
		if len(values) == 1 {
			single[n] = values[0]
		} else {
			several = append(several, e)
		}
	}
	if len(wrong.PCRs) > 0 {
		return nil, wrong
	}
	if len(single) > 0 {
		several = append([]either{{l.Bank, []map[int][]byte{single}}}, several...)
	}
	return several, nil
}
