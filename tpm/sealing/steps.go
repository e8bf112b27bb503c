package sealing

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// A step is one condition of a policy. It knows what it does to the policy digest, and how to satisfy it in a session.
type step interface {
	digest(policy.Digest) (policy.Digest, error)
	satisfy(t *TPM, s *attempt) error
}

// An attempt is a policy session, with what was learnt in it for the error if it fails.
type attempt struct {
	session tpm2.Session
	srk     *storageKey
	with    Unlock
	// running is the digest that the session should have.
	running policy.Digest
}

func digestOf(steps []step) (d policy.Digest, err error) {
	for _, s := range steps {
		if d, err = s.digest(d); err != nil {
			return policy.Digest{}, err
		}
	}
	return d, nil
}

// literal: some PCRs have these values.
type literal struct {
	bank   crypto.Hash
	pcrs   []int
	values map[int][]byte // nil: not known, whatever they are at present
}

func (l literal) digest(d policy.Digest) (policy.Digest, error) {
	return policy.PolicyPCR(d, l.bank, l.values)
}

// satisfy leaves out the expected digest: whether it is the right one shows when the policy is complete, and then all
// PCRs can be told at once.
func (l literal) satisfy(t *TPM, a *attempt) error {
	_, err := execute(t, tpm2.PolicyPCR{PolicySession: a.session.Handle(), Pcrs: selection(l.bank, l.pcrs)})
	if err != nil {
		return fmt.Errorf("sealing: PolicyPCR: %w", err)
	}
	return nil
}

// signed: some PCRs have values that a key has signed.
type signed struct {
	bank crypto.Hash
	pcrs []int
	key  *rsa.PublicKey
	ref  string
}

func (s signed) digest(policy.Digest) (policy.Digest, error) {
	return policy.PolicyAuthorize(s.key, policy.PolicyRef(s.ref))
}

func (s signed) satisfy(t *TPM, a *attempt) error {
	signature, approved, err := s.find(t, a)
	if err != nil {
		return err
	}
	key, err := t.loadPublicKey(s.key)
	if err != nil {
		return err
	}
	defer t.flush(key.Handle)
	ticket, err := t.verify(key, sha256.Sum256(signature.TBS()), signature.Value)
	if err != nil {
		return err
	}
	if err := (literal{bank: s.bank, pcrs: s.pcrs}).satisfy(t, a); err != nil {
		return err
	}
	_, err = execute(t, tpm2.PolicyAuthorize{
		PolicySession:  a.session.Handle(),
		ApprovedPolicy: tpm2.TPM2BDigest{Buffer: approved[:]},
		PolicyRef:      tpm2.TPM2BDigest{Buffer: policy.PolicyRef(s.ref)},
		KeySign:        key.Name,
		CheckTicket:    ticket,
	})
	if err != nil {
		return fmt.Errorf("sealing: PolicyAuthorize: %w", err)
	}
	return nil
}

// find is the signature for the present state of the PCRs.
func (s signed) find(t *TPM, a *attempt) (policy.Signature, policy.Digest, error) {
	fail := func(err error) (policy.Signature, policy.Digest, error) {
		return policy.Signature{}, policy.Digest{}, err
	}
	values, err := t.PCRs(s.bank, s.pcrs...)
	if err != nil {
		return fail(err)
	}
	digest, err := policy.PolicyPCR(a.running, s.bank, values)
	if err != nil {
		return fail(err)
	}
	fingerprint, err := policy.Fingerprint(s.key)
	if err != nil {
		return fail(err)
	}
	found, ok := a.with.Signatures.Find(policy.PCRPolicy{Bank: s.bank, PCRs: s.pcrs, Fingerprint: fingerprint, Ref: s.ref, Digest: digest})
	if !ok {
		return fail(&PolicyError{Bank: s.bank, Actual: values, Err: fmt.Errorf("%w: %s PCRs %v among %d signatures", ErrNoSignature, tpm.BankName(s.bank), s.pcrs, len(a.with.Signatures))})
	}
	if err := found.Verify(s.key); err != nil {
		return fail(&PolicyError{Bank: s.bank, Actual: values, Err: err})
	}
	return found, digest, nil
}

// authValue: the PIN is known.
type authValue struct{}

func (authValue) digest(d policy.Digest) (policy.Digest, error) {
	return policy.PolicyAuthValue(d), nil
}

func (authValue) satisfy(t *TPM, a *attempt) error {
	if _, err := execute(t, tpm2.PolicyAuthValue{PolicySession: a.session.Handle()}); err != nil {
		return fmt.Errorf("sealing: PolicyAuthValue: %w", err)
	}
	return nil
}

// satisfy goes through the steps in a session.
func (t *TPM) satisfy(a *attempt, steps []step) error {
	for _, s := range steps {
		if err := s.satisfy(t, a); err != nil {
			return err
		}
		// The digest counts for steps that others follow, and those know theirs beforehand.
		if d, err := s.digest(a.running); err == nil {
			a.running = d
		}
	}
	return nil
}

// reached compares what the session came to with what the object asks for.
func (t *TPM) reached(a *attempt, want policy.Digest) error {
	got, err := t.digest(a.session)
	if err != nil {
		return fmt.Errorf("sealing: read the policy digest: %w", err)
	}
	if !bytes.Equal(got, want[:]) {
		return errNotReached
	}
	return nil
}

var errNotReached = errors.New("sealing: the policy came to another digest")
