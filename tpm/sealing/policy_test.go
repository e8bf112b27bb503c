package sealing

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// version is an OS whose PCR 11 the vendor signs for.
func version(t *testing.T, key *rsa.PrivateKey, s *simulator, words ...string) ([]measured, policy.Signatures) {
	t.Helper()
	boot := []measured{{7, "secure boot"}}
	for _, w := range words {
		boot = append(boot, measured{tpm.PCRKernel, w})
	}
	s.reboot(t, boot...)
	return boot, s.signState(t, key, "")
}

// TestVersions seals once: the secret comes out in versions 1 and 2 of an OS, not in one that is
// not signed, and not when the boot has gone on.
func TestVersions(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	boot1, signatures1 := version(t, key, s, "kernel 1", "enter-initrd")
	boot2, signatures2 := version(t, key, s, "kernel 2", "enter-initrd")
	all := append(append(policy.Signatures{}, signatures1...), signatures2...)

	s.reboot(t, measured{7, "installer"})
	secret := (&Policy{}).NewSecret()
	token, err := s.Seal(secret, Policy{PublicKey: &key.PublicKey}, Unlock{})
	require.NoError(t, err)
	for _, boot := range [][]measured{boot1, boot2} {
		s.reboot(t, boot...)
		got, err := s.Unseal(token, Unlock{Signatures: all})
		require.NoError(t, err)
		require.Equal(t, secret, got)
	}
	_, err = s.Unseal(token, Unlock{Signatures: signatures1})
	require.ErrorIs(t, err, ErrNoSignature)

	s.extend(t, tpm.PCRKernel, []byte("leave-initrd"))
	_, err = s.Unseal(token, Unlock{Signatures: all})
	require.ErrorIs(t, err, ErrNoSignature)
	var policy *PolicyError
	require.ErrorAs(t, err, &policy)
	require.Contains(t, policy.Got, tpm.PCRKernel)
	expected, err := tpm.ParseLog(eventLog(boot2))
	require.NoError(t, err)
	_, err = s.Unseal(token, Unlock{Signatures: all, Want: expected, Got: expected.WithUserspace(&tpm.UserspaceLog{})})
	require.ErrorAs(t, err, &policy)
	require.Equal(t, []int{tpm.PCRKernel}, policy.PCRs)

	s.reboot(t, measured{7, "secure boot"}, measured{tpm.PCRKernel, "kernel 3"})
	_, err = s.Unseal(token, Unlock{Signatures: all})
	require.ErrorIs(t, err, ErrNoSignature)

	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, err = s.Unseal(token, Unlock{Signatures: s.signState(t, stranger, "")})
	require.ErrorIs(t, err, ErrNoSignature)
	forged := s.signState(t, key, "")
	forged[1].Value[0] ^= 1
	_, err = s.Unseal(token, Unlock{Signatures: forged})
	require.ErrorAs(t, err, &policy)
}

// TestMismatch says which PCR differs, and by which event.
func TestMismatch(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	token, err := s.Seal([]byte("secret"), Policy{PCRs: []int{0, 7}}, Unlock{})
	require.NoError(t, err)
	boot := []measured{{0, "firmware"}, {7, "other keys"}}
	s.reboot(t, boot[1:]...)
	expected, err := tpm.ParseLog(eventLog([]measured{{0, "firmware"}, {7, "secure boot"}}))
	require.NoError(t, err)
	actual, err := tpm.ParseLog(eventLog(boot))
	require.NoError(t, err)

	_, err = s.Unseal(token, Unlock{Want: expected, Got: actual})
	var policy *PolicyError
	require.ErrorAs(t, err, &policy)
	assert.Equal(t, []int{7}, policy.PCRs)
	assert.Equal(t, crypto.SHA256, policy.Bank)
	assert.Equal(t, token.Values, policy.Want)
	require.Len(t, policy.Differences, 1)
	assert.ErrorContains(t, err, "sha256 PCR 7 is ")
	assert.ErrorContains(t, err, "'other keys'")

	token.Values = nil // as in a token of systemd
	_, err = s.Unseal(token, Unlock{Want: expected})
	require.ErrorAs(t, err, &policy)
	assert.Equal(t, []int{7}, policy.PCRs)
	_, err = s.Unseal(token, Unlock{})
	require.ErrorAs(t, err, &policy)
	assert.Nil(t, policy.PCRs)
	assert.ErrorContains(t, err, "PCRs [0 7] differ from their values at sealing")

	// For a state that is still to come.
	values, err := expected.Values(crypto.SHA256)
	require.NoError(t, err)
	token, err = s.Seal([]byte("secret"), Policy{PCRs: []int{7}, Values: map[int][]byte{7: values[7]}}, Unlock{})
	require.NoError(t, err)
	_, err = s.Unseal(token, Unlock{})
	require.ErrorAs(t, err, &policy)
	s.reboot(t, measured{7, "secure boot"})
	_, err = s.Unseal(token, Unlock{})
	require.NoError(t, err)
}

func TestLockout(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	guarded, err := s.Seal([]byte("secret"), Policy{PIN: "right"}, Unlock{})
	require.NoError(t, err)
	open, err := s.Seal([]byte("secret"), Policy{PCRs: []int{7}}, Unlock{})
	require.NoError(t, err)
	_, err = s.Unseal(guarded, Unlock{})
	require.ErrorIs(t, err, ErrNeedPIN)

	before, err := s.Lockout()
	require.NoError(t, err)
	require.Zero(t, before.Failed)
	require.NotZero(t, before.Left())
	for range before.Left() {
		_, err = s.Unseal(guarded, Unlock{PIN: "wrong"})
		require.ErrorIs(t, err, ErrPIN)
	}
	_, err = s.Unseal(guarded, Unlock{PIN: "right"})
	var locked *LockoutError
	require.ErrorAs(t, err, &locked)
	assert.Equal(t, before.Interval, locked.Wait())
	assert.NotErrorIs(t, err, ErrPIN)
	assert.ErrorContains(t, err, "locked out after 3 of 3 failed attempts: the next attempt is allowed in at most 16m40s")

	_, err = s.Unseal(open, Unlock{})
	require.NoError(t, err, "a secret without PIN is not concerned")
	assert.Zero(t, Lockout{Failed: 1, Most: 3, Interval: time.Second}.Wait())
	assert.Equal(t, 3*time.Second, Lockout{Failed: 5, Most: 3, Interval: time.Second}.Wait())
}

// TestPowerCuts does not lock the TPM out of secrets without PIN, which real machines have died of.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	token, err := s.Seal([]byte("secret"), Policy{PCRs: []int{7}}, Unlock{})
	require.NoError(t, err)
	for range 4 {
		s.powerCut(t, measured{7, "secure boot"})
		_, err = s.Unseal(token, Unlock{})
		require.NoError(t, err)
	}
	l, err := s.Lockout()
	require.NoError(t, err)
	require.Zero(t, l.Failed)
}

func TestMissingKey(t *testing.T) {
	t.Parallel()
	a, b := newTPM(t), newTPM(t)
	token, err := a.Seal([]byte("secret"), Policy{}, Unlock{})
	require.NoError(t, err)
	_, err = b.Unseal(token, Unlock{})
	require.ErrorIs(t, err, ErrMissingKey)
	_, err = b.srk()
	require.NoError(t, err)
	_, err = b.Unseal(token, Unlock{})
	require.ErrorIs(t, err, ErrMissingKey)
	other, err := b.Seal([]byte("secret"), Policy{}, Unlock{})
	require.NoError(t, err)
	token.SRK = other.SRK
	_, err = b.Unseal(token, Unlock{})
	require.ErrorIs(t, err, ErrMissingKey)
}

func TestBanks(t *testing.T) {
	t.Parallel()
	s := connected(t, swtpm.Start(t))
	var unfit *BankError
	for _, p := range []Policy{{PCRs: []int{7}}, {PCRs: []int{7}, Bank: crypto.SHA384}} {
		_, err := s.Seal([]byte("secret"), p, Unlock{})
		require.ErrorAs(t, err, &unfit)
		require.Equal(t, BankStateZero, unfit.State)
	}
	_, err := s.Seal([]byte("secret"), Policy{}, Unlock{})
	require.NoError(t, err, "no PCRs, no bank")

	s = tcpTPM(t)
	s.disconnect(t)
	testtools.Run(t, "tpm2", "pcrallocate", "--tcti", fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", s.machine.Port), "sha256:none+sha384:all+sha1:none+sha512:all")
	s.connect(t)
	s.reboot(t)
	banks, err := s.Banks()
	require.NoError(t, err)
	require.Equal(t, []crypto.Hash{crypto.SHA384, crypto.SHA512}, banks)
	_, err = s.Seal([]byte("secret"), Policy{PCRs: []int{7}, Bank: crypto.SHA256}, Unlock{})
	require.ErrorAs(t, err, &unfit)
	require.Equal(t, BankStateAbsent, unfit.State)
	require.ErrorContains(t, err, "PCR bank sha256")
	_, err = s.PCRs(crypto.SHA256)
	require.ErrorAs(t, err, &unfit)
	token, err := s.Seal([]byte("secret"), Policy{PCRs: []int{7}}, Unlock{})
	require.NoError(t, err)
	require.Equal(t, crypto.SHA384, token.Bank)
}
