package sealing

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Unlock holds what a policy may require.
type Unlock struct {
	PIN string
	// most memory that Argon2id may use to stretch the PIN, in bytes; 0 is 2 GiB
	PINMemory  int64
	Signatures policy.Signatures // PCR signatures of the booted UKI, see [policy.ParseSignatures]
	PCRLock    *policy.PCRLock   // contents of pcrlock.json

	// Want is the log of the boot for which the secret was sealed, and Got that of the present
	// boot: if the policy does not hold, the error names the events that differ. Both may be nil.
	Want, Got *tpm.Log
}

// tests reports whether there is something to satisfy each policy of the token with.
func (u *Unlock) tests(t *Token) bool {
	return (t.PublicKey == nil || u.Signatures != nil) && (!t.PCRLock || u.PCRLock != nil)
}

// Unseal returns the secret of a token. For a token that names no bank, Unseal takes the bank that
// systemd 262 would take: the first of SHA-256, SHA-384, SHA-512 and SHA-1 that the TPM has and in
// which one of the PCRs is in use.
//
// If the machine is not in the state that the policy requires, the error is a [*PolicyError]; after
// too many wrong PINs it is a [*LockoutError]; if the TPM lacks the key of the token, it is
// [ErrMissingKey]; for a wrong or missing PIN, [ErrPIN] or [ErrNeedPIN]. Any other error is an
// error of the TPM.
func (t *TPM) Unseal(token *Token, with Unlock) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if err := token.check(); err != nil {
		return nil, err
	}
	srk, release, err := t.sealedUnder(token)
	if err != nil {
		return nil, err
	}
	defer release()
	var pin stretched
	if token.PIN {
		if with.PIN == "" {
			return nil, fmt.Errorf("unseal: %w", ErrNeedPIN)
		}
		if pin, err = token.stretch(with.PIN, with.PINMemory); err != nil {
			return nil, err
		}
	}
	if token, err = t.withBank(token); err != nil {
		return nil, err
	}
	plans, err := token.plans(with.PCRLock)
	if err != nil {
		return nil, err
	}
	var secret []byte
	for i, b := range token.Blobs {
		part, err := t.unsealBlob(token, srk, b, plans[i], pin.auth, with)
		if err != nil {
			return nil, err
		}
		secret = append(secret, part...)
	}
	return pin.secret(secret)
}

// plans are the steps of the policies of the blobs, in systemd's order: PolicyAuthorize or
// PolicyAuthorizeNV, a blob for each if both are wanted; then PolicyPCR; then PolicyAuthValue.
// Floors stand before the last.
func (t *Token) plans(lock *policy.PCRLock) ([][]step, error) {
	var first []step
	if t.signed() {
		first = append(first, signed{t.Bank, t.PublicKeyPCRs, t.PublicKey, t.PublicKeyRef})
	}
	if t.PCRLock {
		s, err := t.locked(lock)
		if err != nil {
			return nil, err
		}
		first = append(first, s)
	}
	var rest []step
	switch {
	case t.Alternatives != nil:
		rest = append(rest, anyOf{t.Bank, t.PCRs, t.Alternatives})
	case len(t.PCRs) > 0:
		rest = append(rest, literal{t.Bank, t.PCRs, t.Values})
	}
	if t.Floor != nil {
		index, err := parseNV("osmith_floor", t.Floor.NV)
		if err != nil {
			return nil, err
		}
		rest = append(rest, notAbove{index, t.Floor.Most})
	}
	if t.PIN {
		rest = append(rest, authValue{})
	}
	if len(first) == 0 {
		return [][]step{rest}, nil
	}
	var plans [][]step
	for _, s := range first {
		plans = append(plans, append([]step{s}, rest...))
	}
	return plans, nil
}

func (t *TPM) unsealBlob(token *Token, srk *storageKey, raw []byte, steps []step, auth []byte, with Unlock) ([]byte, error) {
	b, err := parseBlob(raw)
	if err != nil {
		return nil, err
	}
	object, policy, err := t.load(srk, b)
	if err != nil {
		return nil, err
	}
	defer t.flush(object.Handle)
	session, err := t.startPolicy(srk, auth)
	if err != nil {
		return nil, t.explain("start a session", err)
	}
	defer t.flush(session.handle)
	a := &attempt{session: session, srk: srk, with: with}
	if err = t.satisfy(a, steps); err == nil {
		err = t.reached(a, policy)
	}
	if err != nil {
		return nil, t.mismatch(token, with, err)
	}
	rsp, err := execute(t, tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.Handle, Name: object.Name, Auth: session}})
	if errors.Is(err, tpm2.TPMRCPolicyFail) || errors.Is(err, tpm2.TPMRCPCRChanged) {
		return nil, t.mismatch(token, with, errNotReached)
	}
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return nil, fmt.Errorf("unseal: %w", ErrPIN)
	}
	if err != nil {
		return nil, t.explain("unseal", err)
	}
	return rsp.OutData.Buffer, nil
}

// load loads a sealed object, and returns the policy that it asks for.
func (t *TPM) load(srk *storageKey, b blob) (tpm2.NamedHandle, policy.Digest, error) {
	fail := func(err error) (tpm2.NamedHandle, policy.Digest, error) {
		return tpm2.NamedHandle{}, policy.Digest{}, err
	}
	public, err := sealedPublic(b)
	if err != nil {
		return fail(err)
	}
	private := b.private
	if b.seed != nil {
		rsp, err := execute(t, tpm2.Import{
			ParentHandle: srk.authorized(encryptIn(srk)),
			ObjectPublic: tpm2.New2B(*public),
			Duplicate:    tpm2.TPM2BPrivate{Buffer: b.private},
			InSymSeed:    tpm2.TPM2BEncryptedSecret{Buffer: b.seed},
			Symmetric:    tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
		})
		if err != nil {
			return fail(t.explain("import", err))
		}
		private = rsp.OutPrivate.Buffer
	}
	rsp, err := execute(t, tpm2.Load{
		ParentHandle: srk.authorized(encryptIn(srk)),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: private},
		InPublic:     tpm2.New2B(*public),
	})
	if err != nil {
		return fail(t.explain("load", err))
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, policy.Digest(public.AuthPolicy.Buffer), nil
}

// mismatch says why a policy does not hold, as far as is known.
func (t *TPM) mismatch(token *Token, with Unlock, err error) error {
	var mismatch *PolicyError
	if !errors.As(err, &mismatch) {
		if !errors.Is(err, errNotReached) {
			return t.explain("policy", err)
		}
		mismatch = &PolicyError{Bank: token.Bank}
		if len(token.PCRs) > 0 {
			values, err := t.PCRs(token.Bank, token.PCRs...)
			if err != nil {
				return err
			}
			mismatch.Got = values
		}
		if mismatch.Want = token.Values; mismatch.Want == nil {
			mismatch.Want = replayed(with.Want, token.Bank, token.PCRs)
		}
		if mismatch.PCRs = differing(mismatch.Want, mismatch.Got); len(mismatch.PCRs) == 0 && (len(token.PCRs) == 0 || mismatch.Want != nil) {
			mismatch.Err = errOtherPolicy
		}
	}
	if mismatch.Want == nil { // signed for
		mismatch.Want = replayed(with.Want, mismatch.Bank, pcrbank.PCRs(mismatch.Got))
		mismatch.PCRs = differing(mismatch.Want, mismatch.Got)
	}
	if with.Want != nil && with.Got != nil {
		mismatch.Differences = tpm.Causes(tpm.Diff(with.Want, with.Got))
	}
	return mismatch
}

var errOtherPolicy = errors.New("sealed to a different policy from the one in the token")

// replayed are the values that a log gives PCRs; nil if there is no log, or it gives none.
func replayed(l *tpm.Log, bank crypto.Hash, pcrs []int) map[int][]byte {
	if l == nil || len(pcrs) == 0 {
		return nil
	}
	values, err := l.Values(bank)
	if err != nil {
		return nil
	}
	out := map[int][]byte{}
	for _, n := range pcrs {
		if v, ok := values[n]; ok {
			out[n] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// explain turns a TPM's response code into what it means to the caller.
func (t *TPM) explain(what string, err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCLockout):
		l, err := t.Lockout()
		if err != nil {
			return err
		}
		return &LockoutError{l}
	case errors.Is(err, tpm2.TPMRCIntegrity):
		return fmt.Errorf("%s: %w", what, ErrMissingKey)
	}
	return fmt.Errorf("%s: %w", what, prefix.Bare(err))
}

// sealedUnder is the key that the token names, which must be the one that the TPM has.
func (t *TPM) sealedUnder(token *Token) (*storageKey, func(), error) {
	if token.SRK == nil {
		return t.legacyKey(token)
	}
	pinned, err := parseSRK(token.SRK)
	if err != nil {
		return nil, nil, err
	}
	k, err := t.readKey(pinned.handle)
	if err != nil {
		return nil, nil, err
	}
	if k == nil {
		return nil, nil, fmt.Errorf("unseal: key 0x%08x: %w: missing", pinned.handle, ErrMissingKey)
	}
	if string(k.name) != string(pinned.name) {
		return nil, nil, fmt.Errorf("unseal: key 0x%08x: %w: got %x, want %x", pinned.handle, ErrMissingKey, k.name, pinned.name)
	}
	return k, func() {}, nil
}
