package sealing

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// A step is one condition of a policy. It knows what it does to the policy digest, and how to
// satisfy it in a session.
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

// satisfy leaves out the expected digest: whether it is the right one shows when the policy is
// complete, and then all PCRs can be told at once.
func (l literal) satisfy(t *TPM, a *attempt) error {
	_, err := execute(t, tpm2.PolicyPCR{PolicySession: a.session.Handle(), Pcrs: selection(l.bank, l.pcrs)})
	if err != nil {
		return fmt.Errorf("PolicyPCR: %w", err)
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
		return fmt.Errorf("PolicyAuthorize: %w", err)
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
		return fail(&PolicyError{Bank: s.bank, Got: values, Err: fmt.Errorf("%w: %s PCRs %v in %d signatures", ErrNoSignature, pcrbank.Name(s.bank), s.pcrs, len(a.with.Signatures))})
	}
	if err := found.Verify(s.key); err != nil {
		return fail(&PolicyError{Bank: s.bank, Got: values, Err: err})
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
		return fmt.Errorf("PolicyAuthValue: %w", err)
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
		return fmt.Errorf("read the policy digest: %w", err)
	}
	if !bytes.Equal(got, want[:]) {
		return errNotReached
	}
	return nil
}

var errNotReached = errors.New("the policy digest differs")

// loadPublicKey loads the key so that the TPM verifies with it. Its name is what a policy holds, so
// the template is systemd's ([policy.KeyName]).
func (t *TPM) loadPublicKey(key *rsa.PublicKey) (tpm2.NamedHandle, error) {
	rsp, err := execute(t, tpm2.LoadExternal{
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type:             tpm2.TPMAlgRSA,
			NameAlg:          tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{UserWithAuth: true, Decrypt: true, SignEncrypt: true},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
				KeyBits: tpm2.TPMKeyBits(key.N.BitLen()), Exponent: uint32(key.E),
			}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
		}),
		Hierarchy: tpm2.TPMRHOwner,
	})
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("load the public key: %w", err)
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}

// verify has the TPM verify an RSASSA-PKCS1-v1_5 signature with SHA-256, for a ticket to show to
// PolicyAuthorize.
func (t *TPM) verify(key tpm2.NamedHandle, digest [32]byte, signature []byte) (tpm2.TPMTTKVerified, error) {
	rsp, err := execute(t, tpm2.VerifySignature{
		KeyHandle: key,
		Digest:    tpm2.TPM2BDigest{Buffer: digest[:]},
		Signature: tpm2.TPMTSignature{
			SigAlg: tpm2.TPMAlgRSASSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
				Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signature},
			}),
		},
	})
	if err != nil {
		return tpm2.TPMTTKVerified{}, fmt.Errorf("verify a PCR signature: %w", err)
	}
	return rsp.Validation, nil
}

// maxAlternatives bounds the states that one secret is sealed for: two levels of PolicyOR.
const maxAlternatives = policy.MaxPolicyOR * policy.MaxPolicyOR

// anyOf: some PCRs have one of several sets of values.
type anyOf struct {
	bank crypto.Hash
	pcrs []int
	sets []map[int][]byte
}

func (o anyOf) tree(start policy.Digest) (*policy.Tree, error) {
	return policy.AnyState(start, o.bank, o.sets)
}

func (o anyOf) digest(start policy.Digest) (policy.Digest, error) {
	tree, err := o.tree(start)
	if err != nil {
		return policy.Digest{}, err
	}
	return tree.Digest(), nil
}

func (o anyOf) satisfy(t *TPM, a *attempt) error {
	actual, err := t.PCRs(o.bank, o.pcrs...)
	if err != nil {
		return err
	}
	which, closest := -1, o.pcrs
	for i, set := range o.sets {
		d := differing(set, actual)
		if len(d) == 0 {
			which = i
		}
		if len(d) < len(closest) || i == 0 {
			closest = d
		}
	}
	if which < 0 {
		return o.none(actual, closest)
	}
	tree, err := o.tree(a.running)
	if err != nil {
		return err
	}
	path, err := tree.Path(which)
	if err != nil {
		return err
	}
	if err := (literal{bank: o.bank, pcrs: o.pcrs}).satisfy(t, a); err != nil {
		return err
	}
	for _, branches := range path {
		if err := t.or(a, branches); err != nil {
			return err
		}
	}
	return nil
}

var errNoAlternative = errors.New("the current state matches none of the states it was sealed for; compared with the closest")

// none says how the machine differs from the closest of the sets.
func (o anyOf) none(actual map[int][]byte, differ []int) error {
	for _, set := range o.sets {
		if d := differing(set, actual); len(d) == len(differ) {
			return &PolicyError{Bank: o.bank, Got: actual, Want: set, PCRs: d, Err: errNoAlternative}
		}
	}
	return &PolicyError{Bank: o.bank, Got: actual, Err: errNoAlternative}
}

// or tells the session that its digest is one of several.
func (t *TPM) or(a *attempt, branches []policy.Digest) error {
	var list tpm2.TPMLDigest
	for _, b := range branches {
		list.Digests = append(list.Digests, tpm2.TPM2BDigest{Buffer: b[:]})
	}
	if _, err := execute(t, tpm2.PolicyOr{PolicySession: a.session.Handle(), PHashList: list}); err != nil {
		return fmt.Errorf("PolicyOR: %w", err)
	}
	return nil
}

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
		return policy.Digest{}, errors.New("PolicyAuthorizeNV: the NV index is unknown")
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
		return &PolicyError{Bank: l.lock.Bank, Err: prefix.Bare(err)}
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
		return &PolicyError{Bank: l.lock.Bank, Err: fmt.Errorf("NV index 0x%08x holds a different policy from pcrlock.json", handle)}
	}
	if err != nil {
		return fmt.Errorf("PolicyAuthorizeNV: %w", err)
	}
	return nil
}

// satisfyLock goes through the policy as systemd does: one PolicyPCR for all PCRs with one value,
// then for each of the others a PolicyPCR and a PolicyOR of the digests that its values lead to.
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
		if err := (literal{bank: l.Bank, pcrs: pcrbank.PCRs(s.values[0])}).satisfy(t, a); err != nil {
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
	pcrs := pcrbank.PCRs(l.Values)
	if err := pcrbank.CheckPCRs(pcrs); err != nil || len(pcrs) == 0 {
		return nil, fmt.Errorf("pcrlock policy: PCRs %v: want some of 0 to %d", pcrs, pcrbank.Count-1)
	}
	actual, err := t.PCRs(l.Bank, pcrs...)
	if err != nil {
		return nil, err
	}
	single := map[int][]byte{}
	var several []either
	wrong := &PolicyError{Bank: l.Bank, Got: actual, Want: map[int][]byte{}}
	for _, n := range pcrs {
		values := l.Values[n]
		if len(values) == 0 || len(values) > policy.MaxPolicyOR {
			return nil, fmt.Errorf("pcrlock policy: PCR %d has %d values: want 1 to %d", n, len(values), policy.MaxPolicyOR)
		}
		found := false
		e := either{bank: l.Bank}
		for _, v := range values {
			found = found || bytes.Equal(v, actual[n])
			e.values = append(e.values, map[int][]byte{n: v})
		}
		if !found {
			wrong.PCRs, wrong.Want[n] = append(wrong.PCRs, n), values[0]
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
