package sealing

import (
	"crypto"
	"crypto/rsa"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// simulator is a software TPM with a connection to it.
type simulator struct {
	*TPM
	machine *swtpm.TPM
	device  *Device
}

// newTPM is a TPM with firmware's part done: PCRs 0 and 7 of all banks are extended.
func newTPM(t testing.TB) *simulator {
	t.Helper()
	return measuredTPM(t, swtpm.Start(t))
}

// tcpTPM is one for other programs to talk to.
func tcpTPM(t testing.TB) *simulator {
	t.Helper()
	return measuredTPM(t, swtpm.StartTCP(t))
}

func measuredTPM(t testing.TB, machine *swtpm.TPM) *simulator {
	t.Helper()
	s := connected(t, machine)
	s.extend(t, 0, []byte("firmware"))
	s.extend(t, 7, []byte("secure boot"))
	return s
}

func connected(t testing.TB, machine *swtpm.TPM) *simulator {
	t.Helper()
	s := &simulator{machine: machine}
	s.connect(t)
	t.Cleanup(func() { s.device.Close() })
	return s
}

// reboot shuts down and has firmware measure again, besides PCR 0 what is given.
func (s *simulator) reboot(t testing.TB, more ...measured) {
	t.Helper()
	_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(s.transport)
	require.NoError(t, err)
	s.powerCut(t, more...)
}

// powerCut is a reboot without shutting down.
func (s *simulator) powerCut(t testing.TB, more ...measured) {
	t.Helper()
	s.disconnect(t)
	s.machine.Reboot(t)
	s.connect(t)
	for _, m := range append([]measured{{0, "firmware"}}, more...) {
		s.extend(t, m.pcr, []byte(m.data))
	}
}

// disconnect leaves the TPM to another program, until connect.
func (s *simulator) disconnect(t testing.TB) {
	t.Helper()
	require.NoError(t, s.device.Close())
}

func (s *simulator) connect(t testing.TB) {
	t.Helper()
	var err error
	s.device, err = Open(s.machine.Name())
	require.NoError(t, err)
	s.TPM = New(s.device)
}

// signState signs the present state of PCR 11 in all banks.
func (s *simulator) signState(t testing.TB, key *rsa.PrivateKey, ref string) policy.Signatures {
	t.Helper()
	fingerprint, err := policy.Fingerprint(&key.PublicKey)
	require.NoError(t, err)
	var policies policy.PCRPolicies
	for _, h := range tpm.Banks() {
		pcrs, err := s.PCRs(h, tpm.PCRKernel)
		require.NoError(t, err)
		digest, err := policy.PolicyPCR(policy.Digest{}, h, pcrs)
		require.NoError(t, err)
		policies = append(policies, policy.PCRPolicy{Bank: h, PCRs: []int{tpm.PCRKernel}, Fingerprint: fingerprint, Ref: ref, Digest: digest})
	}
	signatures, err := policies.Sign(key)
	require.NoError(t, err)
	return signatures
}

// extend measures data into all banks of a PCR.
func (s *simulator) extend(t testing.TB, pcr int, data []byte) {
	t.Helper()
	var digests tpm2.TPMLDigestValues
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		w := h.New()
		w.Write(data)
		digests.Digests = append(digests.Digests, tpm2.TPMTHA{HashAlg: algorithm(h), Digest: w.Sum(nil)})
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)}, Digests: digests,
	}.Execute(s.transport)
	require.NoError(t, err)
}
