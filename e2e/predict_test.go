//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Without an earlier boot, what only the machine knows is not claimed: its firmware, and the secret
// in the initrd of stubs since systemd 261. PCR 5 then has one of two values, since with some
// firmware ExitBootServices fails the first time. With one, nothing is left open.
var (
	everyPCR   = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}
	ownPCRs    = []int{4, 5, 7, 8, 11, 12, 13, 14, 15}
	ownPCRs257 = append([]int{9}, ownPCRs...)
)

// bootUKI writes down what the PCRs will hold, boots, expects a report and checks it against what
// was written. It finds a signed policy for what the TPM has.
func bootUKI(t *testing.T, s *System, name string, what UKIBoot) *report.Report {
	t.Helper()
	described, err := s.Describe(what)
	require.NoError(t, err)
	release, err := described.Stub.Release()
	require.NoError(t, err)
	predicted, err := PredictValues(*described)
	require.NoError(t, err)
	written := s.writeDown(t, name, predicted)

	r := boot(t, s.Machine, name, Reported).Report
	require.True(t, r.SecureBoot())
	pcrs := everyPCR
	if what.Before != nil {
		require.False(t, bytes.Equal(what.Before.EventLog, r.EventLog), "the log of an earlier boot is another")
	} else if pcrs = ownPCRs; release < 261 {
		pcrs = ownPCRs257
	}
	for moment, banks := range predicted {
		require.Len(t, banks, len(tpm.Banks()))
		for bank, values := range banks {
			for _, n := range pcrs {
				ways := 1
				if n == 5 && what.Before == nil {
					ways = 2
				}
				require.Len(t, values[n], ways, "PCR %d of %s %s", n, bank, moment)
			}
		}
	}
	require.NoError(t, readBack(t, written).Check(r, pcrs))
	require.NoError(t, replays(r))
	s.requirePolicies(t, what, r)
	return r
}

// writeDown keeps a prediction beside the serial log of the boot that it is about, which has not
// begun.
func (s *System) writeDown(t *testing.T, name string, v PCRValues) (file string) {
	t.Helper()
	dir := s.Machine.logs()
	if os.Getenv("OSMITH_E2E_LOGS") != "" { // there may be one of an earlier run
		require.NoError(t, os.RemoveAll(filepath.Join(dir, name+".serial.log")))
	}
	require.NoFileExists(t, filepath.Join(dir, name+".serial.log"), "predictions are made before the boot")
	b, err := json.MarshalIndent(v, "", " ")
	require.NoError(t, err)
	file = filepath.Join(dir, name+".predicted.json")
	require.NoError(t, os.WriteFile(file, b, 0o444))
	return file
}

func readBack(t *testing.T, file string) PCRValues {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var v PCRValues
	require.NoError(t, json.Unmarshal(b, &v))
	return v
}

// requirePolicies finds a signed policy in the image for what each bank of the TPM holds.
func (s *System) requirePolicies(t *testing.T, what UKIBoot, r *report.Report) {
	t.Helper()
	section, ok := open(t, what.Image).ProfileSection(what.Profile, ".pcrsig")
	require.True(t, ok)
	content := make([]byte, section.Size())
	_, err := section.ReadAt(content, 0)
	require.NoError(t, err)
	signatures, err := policy.ParseSignatures(content)
	require.NoError(t, err)
	key := &s.Builder.Keys.PCR.PublicKey
	fingerprint, err := policy.Fingerprint(key)
	require.NoError(t, err)
	for _, bank := range tpm.Banks() {
		digest, err := policy.PolicyPCR(policy.Digest{}, bank, map[int][]byte{11: r.PCRs[tpm.BankName(bank)][11]})
		require.NoError(t, err)
		signature, ok := signatures.Find(policy.PCRPolicy{Bank: bank, PCRs: []int{11}, Fingerprint: fingerprint, Digest: digest})
		require.True(t, ok, "bank %s: no policy for what PCR 11 holds", tpm.BankName(bank))
		require.NoError(t, signature.Verify(key))
	}
}
