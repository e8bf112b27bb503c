package tpm

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// twoUKIs are two boots of one machine that differ in the UKI.
func twoUKIs(t *testing.T) (a, b Boot) {
	t.Helper()
	a = wholeBoot(t, bootVectors(t)[0], nil)
	b = a
	b.UKI.Digests = map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("other"))}
	b.Phases, b.Userspace = []string{PhaseEnterInitrd}, PhasesAlone()
	return a, b
}

func TestAlternatives(t *testing.T) {
	a, b := twoUKIs(t)
	a.ExitBoot, b.ExitBoot = ExitBootUnknown, ExitBootUnknown
	one, err := Predict(a)
	require.NoError(t, err)
	assert.Equal(t, PredictionOneOf, one.Coverage[5].Prediction)
	assert.Contains(t, one.Coverage[5].String(), "PCR 5: one of several (booted): ")
	values, err := one.Values(crypto.SHA256)
	require.NoError(t, err)
	assert.NotContains(t, values, 5)

	all, err := PredictAll(a, b)
	require.NoError(t, err)
	require.Len(t, all, 4)
	sets, err := all.Values(crypto.SHA256)
	require.NoError(t, err)
	for pcr, n := range map[int]int{4: 2, 5: 2, 7: 1, 9: 1, 11: 2, 12: 1, 13: 1} {
		assert.Len(t, sets[pcr], n, "PCR %d", pcr)
	}
	for _, pcr := range []int{0, 1, 2, 3, 6, 10} {
		assert.NotContains(t, sets, pcr)
	}
	states, err := all.States(crypto.SHA256, 4, 5, 7, 11)
	require.NoError(t, err)
	require.Len(t, states, 4)
	for i, state := range states {
		assert.NoError(t, all[i].Verify(crypto.SHA256, state))
	}
	states, err = all.States(crypto.SHA256, 7)
	require.NoError(t, err)
	assert.Len(t, states, 1, "one value, no choice")
	_, err = all.States(crypto.SHA256, 0)
	assert.ErrorContains(t, err, "PCR 0 is not predicted")
	_, err = all.States(crypto.SHA256)
	assert.ErrorContains(t, err, "no boots or no PCRs")

	actual, err := ParseLog(bootVectors(t)[0].log)
	require.NoError(t, err)
	index, ds := all.Diff(actual)
	assert.Equal(t, 1, index, "the first UKI, ExitBootServices retried")
	assert.Empty(t, ds)

	_, err = PredictAll()
	assert.ErrorContains(t, err, "no boots")
	b.Stub = ""
	_, err = PredictAll(a, b)
	assert.ErrorContains(t, err, "boot 1: ")
	_, err = Alternatives{}.Values(crypto.SHA256)
	assert.ErrorContains(t, err, "no alternatives")
}

// An unusual separator of the firmware is another value of each of its PCRs.
func TestSeparatorAlternative(t *testing.T) {
	a, _ := twoUKIs(t)
	b := a
	b.Separator = [4]byte{0xff, 0xff, 0xff, 0xff}
	all, err := PredictAll(a, b)
	require.NoError(t, err)
	sets, err := all.Values(crypto.SHA256)
	require.NoError(t, err)
	assert.Len(t, sets[4], 2)
	assert.Len(t, sets[7], 2)
	assert.Len(t, sets[11], 1)
	// The values that systemd-pcrlock predicts for its variant 600-0xffffffff.
	assert.Equal(t, "7a480bdc5d35fa130ced40924c9212b7605ccd6c926c584fd644f2af5e444ec2", hexOf(sets[7][1]))
	assert.Equal(t, "0b121e78292494d29e203f2750b88e54077437d4af1c3cfc211051a5845c13a6", hexOf(sets[4][1]))
	b.Separator = [4]byte{1}
	_, err = Predict(b)
	assert.ErrorContains(t, err, "separator 01000000: want zeros or ones")
}
