package upgrade

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

// maxPolicy bounds what is read of a UKI's .pcrsig and .pcrpkey.
const maxPolicy = 1 << 20

// ErrNoPolicy is the reason of an unlocks verdict for a UKI without signed PCR policies on a machine that needs them.
var ErrNoPolicy = errors.New("the UKI carries no signed PCR policies (.pcrsig and .pcrpkey)")

// PolicyError says that a UKI's signed policies do not cover what the machine will measure.
type PolicyError struct {
	Bank    string      // "sha256"
	Phase   []string    // state of PCR 11 that no signature covers
	Variant uki.Variant // of the UKI
}

func (e *PolicyError) Error() string {
	of := ""
	if e.Variant != (uki.Variant{}) {
		of = fmt.Sprintf(" for %s", variantName(e.Variant))
	}
	return fmt.Sprintf("upgrade: no valid signature in .pcrsig covers PCR 11 of bank %s in the phase %q%s", e.Bank, strings.Join(e.Phase, ":"), of)
}

// variantName is "profile 1, device tree 2".
func variantName(v uki.Variant) string {
	parts := []string{fmt.Sprintf("profile %d", v.Profile)}
	if v.DeviceTree != 0 {
		parts = append(parts, fmt.Sprintf("device tree %d", v.DeviceTree))
	}
	if v.Firmware != 0 {
		parts = append(parts, fmt.Sprintf("firmware %d", v.Firmware))
	}
	return strings.Join(parts, ", ")
}

// judgeUnlocks compares the policies that the UKI carries with the PCR 11 values that its own sections will give, and
// their key with the machine's. What boots by default must unlock; that another profile does not is a restriction, as rescue and
// reset profiles may well be meant to be without secrets.
func (m *Machine) judgeUnlocks(u *unified) Judgement {
	j := Judgement{Verdict: Unlocks}
	if u.measErr != nil {
		j.fail(u.measErr)
		return j
	}
	for n := range max(len(u.file.Profiles()), 1) {
		ok, why := m.profileUnlocks(u, n)
		switch {
		case n == 0 && why != nil:
			j.fail(why)
		case n == 0:
			j.pass("%s", ok)
		case why != nil:
			j.warn("profile %d does not unlock: %s", n, strings.TrimPrefix(why.Error(), "upgrade: "))
		}
	}
	return j
}

// profileUnlocks judges one profile in all its variants.
func (m *Machine) profileUnlocks(u *unified, profile int) (ok string, why error) {
	pemKey, hasKey, err := text(u.file, profile, ".pcrpkey")
	if err != nil {
		return "", err
	}
	signed, hasSignatures, err := text(u.file, profile, ".pcrsig")
	if err != nil {
		return "", err
	}
	if !hasKey || !hasSignatures {
		if len(m.PCRKeys) == 0 {
			return "nothing is sealed on this machine and the UKI carries no PCR policy", nil
		}
		return "", fmt.Errorf("upgrade: %w, and this machine has secrets sealed to such a policy", ErrNoPolicy)
	}
	key, err := policy.ParsePublicKey(pemKey)
	if err != nil {
		return "", fmt.Errorf("upgrade: .pcrpkey: %w", err)
	}
	print, err := policy.Fingerprint(key)
	if err != nil {
		return "", fmt.Errorf("upgrade: .pcrpkey: %w", err)
	}
	signatures, err := policy.ParseSignatures(signed)
	if err != nil {
		return "", fmt.Errorf("upgrade: .pcrsig: %w", err)
	}
	for _, v := range u.ofProfile(profile) {
		if err := coversPhases(v, key, print, signatures); err != nil {
			return "", err
		}
	}
	switch {
	case len(m.PCRKeys) == 0:
		return "the signed PCR policies are valid in all default phases; no key is named that this machine's secrets are sealed to", nil
	case slices.ContainsFunc(m.PCRKeys, func(k *rsa.PublicKey) bool { return k.Equal(key) }):
		return fmt.Sprintf("key %x… that this machine's secrets are sealed to has signed PCR 11 in all default phases", print[:4]), nil
	}
	return "", fmt.Errorf("upgrade: .pcrsig is signed by key %x…, none of the %d keys this machine's secrets are sealed to", print[:4], len(m.PCRKeys))
}

// coversPhases checks that for the SHA-256 bank, which systemd prefers to unlock with, every default phase of PCR 11 has a
// valid signature.
func coversPhases(v uki.VariantMeasurements, key *rsa.PublicKey, print [32]byte, signatures []policy.Signature) error {
	const bank = crypto.SHA256
	for _, phases := range tpm.DefaultPhasePaths() {
		value, err := tpm.PCR11(bank, v.Sections, phases...)
		if err != nil {
			return err
		}
		want, err := policy.PolicyPCR(policy.Digest{}, bank, map[int][]byte{tpm.PCRKernel: value})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(signatures, func(s policy.Signature) bool {
			return s.Bank == bank && s.Digest == want && s.Ref == "" && s.Fingerprint == print && s.Verify(key) == nil
		}) {
			return &PolicyError{tpm.BankName(bank), phases, v.Variant}
		}
	}
	return nil
}

// text reads a small section, without the padding NULs of a reserve.
func text(f *uki.File, profile int, name string) ([]byte, bool, error) {
	s, ok := f.ProfileSection(profile, name)
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
