package sealing

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Passphrase is the passphrase with which systemd unlocks a volume: the unsealed secret in base64.
func Passphrase(secret []byte) []byte { return base64.StdEncoding.AppendEncode(nil, secret) }

// Seal seals a secret of up to 128 bytes under the storage root key of the TPM, which is made if
// there is none, so that it can be unsealed when the policy holds. [Policy.NewSecret] makes a
// secret.
//
// PCRs must be in a bank that firmware measures into, otherwise the error is a [*BankError]. The
// TPM vouches for present values: if an answer was changed on the way, the error is [ErrTampered].
// Seal then loads the sealed object, and unseals it if that is possible at present: if the PCRs
// have the values that were sealed for, and with has the signatures that the policy needs. PIN and
// pcrlock policy are those of p. Signatures in with must cover the present state: an installer,
// which runs in a different state, gives none. If the secret cannot be unsealed, the error is
// [ErrSelfTest].
func (t *TPM) Seal(secret []byte, p Policy, with Unlock) (_ *Token, err error) {
	defer prefix.Add(pkg, &err)
	if with.PCRLock == nil {
		with.PCRLock = p.PCRLock
	}
	planned := p.Values != nil || p.Alternatives != nil
	if p, err = p.checked(); err != nil {
		return nil, err
	}
	parts, err := p.cut(secret)
	if err != nil {
		return nil, err
	}
	srk, err := t.srk()
	if err != nil {
		return nil, err
	}
	if p, err = t.prepare(p, srk); err != nil {
		return nil, err
	}
	token, plans, err := t.newToken(p, srk)
	if err != nil {
		return nil, err
	}
	var pin stretched
	if p.PIN != "" {
		if pin, err = token.stretch(p.PIN, with.PINMemory); err != nil {
			return nil, err
		}
	}
	for i, part := range parts {
		digest, err := digestOf(plans[i])
		if err != nil {
			return nil, err
		}
		b, err := t.create(srk, part, pin.auth, digest)
		if err != nil {
			return nil, err
		}
		token.Blobs, token.PolicyHashes = append(token.Blobs, b.bytes()), append(token.PolicyHashes, digest)
	}
	if err := token.check(); err != nil {
		return nil, err
	}
	want, err := pin.secret(secret)
	if err != nil {
		return nil, err
	}
	with.PIN = p.PIN
	if err := t.selfTest(token, want, planned, with); err != nil {
		return nil, err
	}
	return token, nil
}

// Reseal unseals a token and seals its secret anew for each policy, in order. All new tokens open
// the same key slot as the old one, so a volume with one key slot can have tokens for the running,
// the staged and the previous system; systemd tries each. The old token remains valid while its
// policy holds: remove it from the volume once the new tokens are written.
//
// Each policy must satisfy the conditions of [TPM.Seal]; if one fails, no token is returned. A PIN
// stretched by Argon2id, in the token or a policy, is [ErrNotSupported], because it is part of the
// secret.
func (t *TPM) Reseal(token *Token, with Unlock, policies ...Policy) (_ []*Token, err error) {
	defer prefix.Add(pkg, &err)
	if token.Argon2id != nil {
		return nil, fmt.Errorf("reseal: a secret protected by an Argon2id PIN: %w: seal a new secret", ErrNotSupported)
	}
	secret, err := t.Unseal(token, with)
	if err != nil {
		return nil, err
	}
	out := make([]*Token, 0, len(policies))
	for i, p := range policies {
		if p.Argon2id != nil {
			return nil, fmt.Errorf("reseal: policy %d: %w: the secret would change", i, ErrNotSupported)
		}
		sealed, err := t.Seal(secret, p, with)
		if err != nil {
			return nil, fmt.Errorf("reseal: policy %d: %w", i, prefix.Bare(err))
		}
		sealed.Keyslots = append([]int(nil), token.Keyslots...)
		out = append(out, sealed)
	}
	return out, nil
}

// newToken is the token without its blobs, and the steps of the policy of each.
func (t *TPM) newToken(p Policy, srk *storageKey) (*Token, [][]step, error) {
	token := &Token{
		Bank: p.Bank, PCRs: p.PCRs, Values: p.Values, Alternatives: p.Alternatives, PrimaryAlgorithm: srk.algorithm(),
		PublicKey: p.PublicKey, PublicKeyPCRs: p.PublicKeyPCRs, PublicKeyRef: p.PublicKeyRef,
		PIN: p.PIN != "", Argon2id: p.Argon2id, SRK: srk.serialize(),
	}
	if token.PIN {
		token.Salt = make([]byte, saltSize)
		rand.Read(token.Salt) // never fails
	}
	if p.PCRLock != nil {
		nv, err := t.readNV(p.PCRLock.NVIndex)
		if err != nil {
			return nil, nil, err
		}
		if a := nv.public.Attributes; a.OwnerWrite || a.AuthWrite || a.PPWrite || !a.PolicyWrite || !a.Written {
			return nil, nil, fmt.Errorf("NV index 0x%08x: not an index that is written under its own policy: %w", p.PCRLock.NVIndex, ErrNotSupported)
		}
		token.PCRLock, token.PCRLockNV = true, nv.serialize()
	}
	if p.Floor != nil {
		n, err := t.counter(p.Floor.Index)
		if err != nil {
			return nil, nil, err
		}
		token.Floor = &TokenFloor{NV: n.serialize(), Most: p.Floor.Most}
	}
	plans, err := token.plans(p.PCRLock)
	return token, plans, err
}

// create seals one object. Objects without a PIN are not subject to the protection against
// guessing, which power cuts would trip.
func (t *TPM) create(srk *storageKey, secret, auth []byte, policy policy.Digest) (blob, error) {
	rsp, err := execute(t, tpm2.Create{
		ParentHandle: srk.authorized(encryptIn(srk)),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: auth},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type:             tpm2.TPMAlgKeyedHash,
			NameAlg:          tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: auth == nil},
			AuthPolicy:       tpm2.TPM2BDigest{Buffer: policy[:]},
			Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{}),
			Unique:           tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
		}),
	})
	if err != nil {
		return blob{}, t.explain("seal", err)
	}
	return blob{private: rsp.OutPrivate.Buffer, public: rsp.OutPublic.Bytes()}, nil
}

// selfTest unseals, if the policy can hold at present; in any case the objects are loaded and their
// policies compared. planned says that the values of PCRs were given, for another state of the
// machine perhaps.
func (t *TPM) selfTest(token *Token, secret []byte, planned bool, with Unlock) error {
	got, err := t.Unseal(token, with)
	var policy *PolicyError
	switch {
	case errors.As(err, &policy) && (!with.tests(token) || planned && len(policy.PCRs) > 0):
		return nil
	case err != nil:
		return fmt.Errorf("self test: %w", prefix.Bare(err))
	case !bytes.Equal(got, secret):
		return fmt.Errorf("self test: %w", ErrSelfTest)
	}
	return nil
}
