package sealing

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Policy says when a secret may be unsealed. All conditions that it names must hold; the zero value
// binds the secret to the TPM alone. PCRs that it does not name are not bound.
//
// For the root volume of a system whose vendor signs the enter-initrd phase of its UKIs, name the
// PublicKey, and PCR 15 with a Value of zeros if the system extends it once a volume is unlocked:
// then programs that run later cannot unseal the secret.
type Policy struct {
	// Bank is the bank of all PCRs in the policy. 0 is the first of SHA-256, SHA-384 and SHA-512
	// that firmware measures into.
	Bank crypto.Hash

	// PCRs are the PCRs whose values must be those in Values, ascending; nil for none. A PCR
	// without an entry in Values is bound to its present value, for which the TPM vouches.
	PCRs   []int
	Values map[int][]byte

	// Alternatives, in place of Values, are several states of the PCRs, at most 64, any one of
	// which is accepted. Only this package unseals such a token. If systemd must unlock the volume,
	// see [TPM.Reseal].
	Alternatives []map[int][]byte

	// Floor is a counter that must not have been raised above the value; nil for none. Only this
	// package unseals such a token.
	Floor *Floor

	// PublicKey is the key of the vendor that signs PCR policies: the PCRs in PublicKeyPCRs (nil:
	// 11) must be in a state that a signature covers, whenever the signature is made. PublicKeyRef
	// names a policy reference (systemd 262), "" for none.
	PublicKey     *rsa.PublicKey
	PublicKeyPCRs []int
	PublicKeyRef  string

	// PCRLock is the policy of systemd-pcrlock, kept in an NV index of this TPM; nil for none. With
	// PublicKey both must hold, and the secret is cut in two. An index that can be written without
	// satisfying its own policy is [ErrNotSupported].
	PCRLock *policy.PCRLock

	// PIN must be given to unseal; "" for none. It is stretched by PBKDF2, which every systemd
	// since 253 reads, or by Argon2id, which systemd reads since 262; with Argon2id, unsealing
	// returns [Token.Secret] of what was sealed.
	PIN      string
	Argon2id *Argon2id
}

// In returns the policy with the states of a union in place of its own PCR values: any one of the
// states is accepted. A union of a single state needs no alternatives, so that systemd unseals the
// token, too.
func (p Policy) In(u *policy.Union) Policy {
	p.Bank, p.PCRs, p.Values, p.Alternatives = u.Bank, u.PCRs, nil, u.Alternatives()
	if len(p.Alternatives) == 1 {
		p.Values, p.Alternatives = p.Alternatives[0], nil
	}
	return p
}

// parts is into how many the secret is cut.
func (p *Policy) parts() int {
	if p.PublicKey != nil && p.PCRLock != nil {
		return 2
	}
	return 1
}

// Sizes of secrets in bytes.
const (
	secretSize = 32
	maxSecret  = 128 // of one object (TPM 2.0 Library, part 2, section 11.1.14: MAX_SYM_DATA)
)

// NewSecret returns random bytes, as many as systemd-cryptenroll seals: 32, or 64 for a secret that
// is cut in two.
func (p *Policy) NewSecret() []byte {
	b := make([]byte, secretSize*p.parts())
	rand.Read(b) // never fails
	return b
}

// cut divides a secret over the objects that hold it.
func (p *Policy) cut(secret []byte) ([][]byte, error) {
	n := p.parts()
	switch {
	case len(secret) == 0 || len(secret) > n*maxSecret:
		return nil, fmt.Errorf("a secret of %d bytes: want 1 to %d", len(secret), n*maxSecret)
	case n > 1 && (len(secret) < n*secretSize || len(secret)%n != 0):
		return nil, fmt.Errorf("a secret of %d bytes for %d policies: each part must hold at least %d random bytes of its own", len(secret), n, secretSize)
	}
	var parts [][]byte
	for size := len(secret) / n; len(secret) > 0; secret = secret[size:] {
		parts = append(parts, secret[:size])
	}
	return parts, nil
}

// checked is the policy with its defaults, as far as it can be checked without the TPM.
func (p Policy) checked() (Policy, error) {
	fail := func(err error) (Policy, error) { return Policy{}, fmt.Errorf("policy: %w", err) }
	if p.PublicKey != nil && p.PublicKeyPCRs == nil {
		p.PublicKeyPCRs = []int{tpm.PCRKernel}
	}
	if err := errors.Join(pcrbank.CheckPCRs(p.PCRs), pcrbank.CheckPCRs(p.PublicKeyPCRs)); err != nil {
		return fail(err)
	}
	switch {
	case p.PublicKey == nil && (p.PublicKeyPCRs != nil || p.PublicKeyRef != ""):
		return fail(errors.New("signed PCRs or a policy reference without a public key"))
	case p.PublicKey != nil && len(p.PublicKeyPCRs) == 0:
		return fail(errors.New("a public key without the PCRs that it signs for"))
	case p.PIN == "" && p.Argon2id != nil:
		return fail(errors.New("Argon2id without a PIN"))
	}
	if p.Argon2id != nil {
		if err := p.Argon2id.check(); err != nil {
			return fail(err)
		}
	}
	if p.PublicKey != nil {
		if _, err := policy.KeyName(p.PublicKey); err != nil {
			return Policy{}, err
		}
	}
	for _, n := range pcrbank.PCRs(p.Values) {
		if !slices.Contains(p.PCRs, n) {
			return fail(fmt.Errorf("values of PCRs %v for PCRs %v", pcrbank.PCRs(p.Values), p.PCRs))
		}
	}
	return p, nil
}

// prepare fills in what the policy leaves to the TPM. What is sealed to PCRs at present, and to a
// bank that is in use, is sealed to what the TPM itself says of them: an attacker on the bus who
// reports other values would otherwise choose the state that opens the secret.
func (t *TPM) prepare(p Policy, srk *storageKey) (Policy, error) {
	bound := len(p.PCRs) > 0 || p.PublicKey != nil
	if !bound {
		p.Bank = 0
	}
	if !bound && p.PCRLock == nil {
		return p, t.prepareValues(&p, nil)
	}
	audit, err := t.startAudit(srk)
	if err != nil {
		return Policy{}, t.explain("start a session", err)
	}
	defer t.flush(audit.handle)
	read := t.vouchedPCRs(audit)
	if bound {
		if err := t.prepareBank(&p, read); err != nil {
			return Policy{}, err
		}
	}
	if p.PCRLock != nil {
		if err := t.checkBank(p.PCRLock.Bank, read); err != nil {
			return Policy{}, err
		}
	}
	return p, t.prepareValues(&p, read)
}

func (t *TPM) prepareBank(p *Policy, read pcrReader) (err error) {
	if p.Bank == 0 {
		p.Bank, err = t.chooseBank(read)
		return err
	}
	if err := pcrbank.Check(p.Bank); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return t.checkBank(p.Bank, read)
}

// prepareValues takes the values given for the literal PCRs, and for the others those at present.
func (t *TPM) prepareValues(p *Policy, read pcrReader) error {
	if p.Alternatives != nil {
		if p.Values != nil || len(p.Alternatives) < 2 || len(p.Alternatives) > maxAlternatives || len(p.PCRs) == 0 {
			return fmt.Errorf("policy: %d alternatives for PCRs %v: want 2 to %d, and no values besides", len(p.Alternatives), p.PCRs, maxAlternatives)
		}
		for _, set := range p.Alternatives {
			if err := p.checkValues(set); err != nil {
				return err
			}
		}
		return nil
	}
	if left := missing(p.Values, p.PCRs); len(left) > 0 {
		values, err := read(p.Bank, left...)
		if err != nil {
			return err
		}
		maps.Copy(values, p.Values)
		p.Values = values
	}
	return p.checkValues(p.Values)
}

func (p *Policy) checkValues(values map[int][]byte) error {
	if len(values) != len(p.PCRs) || len(missing(values, p.PCRs)) > 0 {
		return fmt.Errorf("policy: values of PCRs %v for PCRs %v", pcrbank.PCRs(values), p.PCRs)
	}
	for n, v := range values {
		if len(v) != p.Bank.Size() {
			return fmt.Errorf("policy: PCR %d: a value of %d bytes, want %d for %s", n, len(v), p.Bank.Size(), pcrbank.Name(p.Bank))
		}
	}
	return nil
}

// differing are the PCRs whose values are not those wanted, ascending.
func differing(want, got map[int][]byte) (pcrs []int) {
	for _, n := range pcrbank.PCRs(want) {
		if !bytes.Equal(want[n], got[n]) {
			pcrs = append(pcrs, n)
		}
	}
	return pcrs
}
