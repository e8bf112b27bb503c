package upgrade

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// maxPolicy bounds what is read of a UKI's .pcrsig and .pcrpkey.
const maxPolicy = 1 << 20

// ErrNoPolicy is the reason of an unlocks verdict for a UKI without signed PCR policies on a machine that needs them.
var ErrNoPolicy = errors.New("the UKI carries no signed PCR policies (.pcrsig and .pcrpkey)")

// PolicyError says that a UKI's signed policies do not cover what the machine will measure.
type PolicyError struct {
	Bank  string   // "sha256"
	Phase []string // state of PCR 11 that no signature covers
}

func (e *PolicyError) Error() string {
	return fmt.Sprintf("upgrade: no valid signature in .pcrsig covers PCR 11 of bank %s in the phase %q", e.Bank, strings.Join(e.Phase, ":"))
}

// judgeUnlocks compares the policies that the UKI carries with the PCR 11 values that its own sections will give, and
// their key with the machine's.
func (m *Machine) judgeUnlocks(f *uki.File) Judgement {
	j := Judgement{Verdict: Unlocks}
	pemKey, hasKey, err := text(f, ".pcrpkey")
	if err != nil {
		j.fail(err)
		return j
	}
	signed, hasSignatures, err := text(f, ".pcrsig")
	if err != nil {
		j.fail(err)
		return j
	}
	if !hasKey || !hasSignatures {
		if len(m.PCRKeys) == 0 {
			j.pass("nothing is sealed on this machine and the UKI carries no PCR policy")
		} else {
			j.fail(fmt.Errorf("upgrade: %w, and this machine has secrets sealed to such a policy", ErrNoPolicy))
		}
		return j
	}
	key, err := publicKey(pemKey)
	if err != nil {
		j.fail(fmt.Errorf("upgrade: .pcrpkey: %w", err))
		return j
	}
	if err := coversPhases(f, key, signed); err != nil {
		j.fail(err)
		return j
	}
	print, err := tpm.Fingerprint(key)
	if err != nil {
		j.fail(fmt.Errorf("upgrade: .pcrpkey: %w", err))
		return j
	}
	switch {
	case len(m.PCRKeys) == 0:
		j.pass("the signed PCR policies are valid in all default phases; no key is named that this machine's secrets are sealed to")
	case slices.ContainsFunc(m.PCRKeys, func(k *rsa.PublicKey) bool { return k.Equal(key) }):
		j.pass("key %x… that this machine's secrets are sealed to has signed PCR 11 in all default phases", print[:4])
	default:
		j.fail(fmt.Errorf("upgrade: .pcrsig is signed by key %x…, none of the %d keys this machine's secrets are sealed to", print[:4], len(m.PCRKeys)))
	}
	return j
}

// coversPhases checks that for the SHA-256 bank, which systemd prefers to unlock with, every default phase of PCR 11 has a
// valid signature.
func coversPhases(f *uki.File, key *rsa.PublicKey, pcrsig []byte) error {
	const bank = crypto.SHA256
	signatures, err := tpm.ParseSignatures(pcrsig)
	if err != nil {
		return fmt.Errorf("upgrade: .pcrsig: %w", err)
	}
	ms, err := f.Measurements(bank)
	if err != nil {
		return err
	}
	converted := make([]tpm.Measurement, len(ms))
	for i, x := range ms {
		converted[i] = tpm.Measurement(x)
	}
	print, err := tpm.Fingerprint(key)
	if err != nil {
		return err
	}
	for _, phases := range tpm.DefaultPhasePaths() {
		value, err := tpm.PCR11(bank, converted, phases...)
		if err != nil {
			return err
		}
		want, err := tpm.PolicyPCR(tpm.PolicyDigest{}, bank, map[int][]byte{tpm.PCRKernel: value})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(signatures, func(s tpm.Signature) bool {
			return s.Bank == bank && s.Digest == want && s.Ref == "" && s.Fingerprint == print && s.Verify(key) == nil
		}) {
			return &PolicyError{tpm.BankName(bank), phases}
		}
	}
	return nil
}

// text reads a small section, without the padding NULs of a reserve.
func text(f *uki.File, name string) ([]byte, bool, error) {
	s, ok := f.Section(name)
	if !ok {
		return nil, false, nil
	}
	if s.Size() > maxPolicy {
		return nil, false, fmt.Errorf("upgrade: section %s has %d bytes, more than %d", name, s.Size(), maxPolicy)
	}
	b, err := io.ReadAll(s)
	if err != nil {
		return nil, false, fmt.Errorf("upgrade: section %s: %w", name, err)
	}
	return []byte(strings.TrimRight(string(b), "\x00")), true, nil
}

// publicKey reads the PEM form that .pcrpkey holds.
func publicKey(b []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("want a PEM block PUBLIC KEY")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a %T: systemd unlocks with RSA keys only", k)
	}
	return key, nil
}
