package tpm

import (
	"crypto"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every event that the real boots have in a predicted PCR must be in the prediction with the same digest, and the
// values must be those that the TPM had. The prediction is made before the log is looked at.
func TestPredictRealBoots(t *testing.T) {
	for _, v := range bootVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			log, err := Predict(v.boot)
			require.NoError(t, err)
			banks, err := log.Replay()
			require.NoError(t, err)
			require.Len(t, banks, 1)
			exact := make(map[int][]byte)
			for _, c := range log.Coverage {
				if c.Prediction == PredictionExact {
					exact[c.PCR] = v.pcrs[c.PCR]
				}
			}
			for _, n := range []int{4, 7, 8, 11, 12, 13, 14, 15} {
				require.Contains(t, exact, n)
			}
			assert.NoError(t, log.Verify(crypto.SHA256, exact))

			actual, err := ParseLog(v.log)
			require.NoError(t, err)
			for _, n := range []int{4, 7, 11, 12} {
				want, got := actual.of(n), log.of(n)
				require.Len(t, got, len(want), "PCR %d", n)
				for i := range want {
					assert.Equal(t, want[i].Type, got[i].Type, "PCR %d", n)
					assert.Equal(t, want[i].Digests, got[i].Digests, "PCR %d: %s", n, want[i].Describe())
					if !isImage(want[i].Type) {
						assert.Equal(t, want[i].Data, got[i].Data, "PCR %d", n)
					}
				}
			}
			assert.Empty(t, Diff(log, actual))
			evidence := EvidenceBooted
			assert.Equal(t, evidence, log.Coverage[11].Evidence)

			// A predicted log is a log: written and read back it stays the same.
			raw, err := log.MarshalBinary()
			require.NoError(t, err)
			again, err := ParseLog(raw)
			require.NoError(t, err)
			assert.Equal(t, log.Events, again.Events)
			assert.Empty(t, again.Findings)
		})
	}
}

// What ukify printed when it built the UKIs, for each phase. Of the UKI with profiles the vector holds profile 0.
func TestPredictPhases(t *testing.T) {
	compared := 0
	for _, v := range bootVectors(t) {
		for path, want := range v.phases {
			b := v.boot
			b.Phases, b.Handover, b.Sections = strings.Split(path, ":"), nil, v.first
			log, err := Predict(b)
			require.NoError(t, err)
			values, err := log.Values(crypto.SHA256)
			require.NoError(t, err)
			assert.Equal(t, want, hexOf(values[11]), "%s %s", v.name, path)
			compared++
		}
	}
	require.Greater(t, compared, 10)
}

func TestPredictErrors(t *testing.T) {
	good := bootVectors(t)[0].boot
	for _, c := range []struct {
		name   string
		change func(*Boot)
		want   string
	}{
		{"no version", func(b *Boot) { b.Stub = "" }, `tpm: predict: systemd stub "": want release 252 to 262`},
		{"newer", func(b *Boot) { b.Stub = "263~rc1" }, "tpm: predict: systemd stub 263~rc1 is newer than 262"},
		{"older", func(b *Boot) { b.Stub = "251" }, "want release 252 to 262"},
		{"older cannot be renamed", func(b *Boot) { b.Stub, b.AssumeStub = "251", 257 }, `systemd stub "251"`},
		{"newer as unknown", func(b *Boot) { b.Stub, b.AssumeStub = "263", 251 }, `systemd stub "251"`},
		{"no variables", func(b *Boot) { b.Variables = nil }, "variables are not given"},
		{"no SecureBoot", func(b *Boot) { b.Variables.SecureBoot = nil }, "want one byte, 0 or 1"},
		{"SecureBoot 2", func(b *Boot) { b.Variables.SecureBoot = []byte{2} }, "want one byte, 0 or 1"},
		{"no authority", func(b *Boot) { b.Authorities = nil }, "would start nothing"},
		{"foreign authority", func(b *Boot) { b.Authorities = [][]byte{make([]byte, 40)} }, "is no entry of db"},
		{"empty authority", func(b *Boot) { b.Authorities = [][]byte{{}} }, "is no entry of db"},
		{"no sections", func(b *Boot) { b.Sections = nil }, "no .linux section"},
		{"no profile section", func(b *Boot) { b.handOver(profileEvent("1")) }, "no .profile section"},
		{".efifw before 258", func(b *Boot) {
			b.Stub, b.Sections = "257", append(b.Sections[:len(b.Sections):len(b.Sections)], measure(".efifw", "x")...)
		}, "stub 257 does not measure .efifw"},
		{"phase path as word", func(b *Boot) { b.Phases = []string{"a:b"} }, "want one word"},
		{"bank without digests", func(b *Boot) { b.Banks = []crypto.Hash{crypto.SHA384} }, "an Authenticode digest of 0 bytes, want 48 for sha384"},
		{"no bank", func(b *Boot) { b.Banks = []crypto.Hash{} }, "no bank"},
		{"bank twice", func(b *Boot) { b.Banks = []crypto.Hash{crypto.SHA256, crypto.SHA256} }, "named twice"},
		{"not a bank", func(b *Boot) { b.Banks = []crypto.Hash{crypto.MD5} }, "not a PCR bank"},
		{"UKI without digest", func(b *Boot) { b.UKI.Digests = nil }, "no bank"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := good
			variables := *b.Variables
			b.Variables = &variables
			c.change(&b)
			log, err := Predict(b)
			require.ErrorContains(t, err, c.want)
			assert.True(t, strings.HasPrefix(err.Error(), "tpm: "))
			assert.Nil(t, log)
		})
	}
	b := good
	b.Stub = "300"
	_, err := Predict(b)
	var version *StubVersionError
	require.True(t, errors.As(err, &version))
	assert.Equal(t, StubVersionError{Version: "300", Oldest: 252, Newest: 262}, *version)
}

func TestPredictAssumeStub(t *testing.T) {
	b := bootVectors(t)[0].boot
	want, err := Predict(b)
	require.NoError(t, err)
	b.Stub, b.AssumeStub = "263.1", 262
	got, err := Predict(b)
	require.NoError(t, err)
	assert.Equal(t, want.Events, got.Events)
	assert.Equal(t, EvidenceNone, got.Coverage[4].Evidence)
	assert.Contains(t, got.Coverage[4].Note, "not verified by such a boot with stub 263.1")

	b.Stub, b.AssumeStub = "260.2-1", 0
	got, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, EvidenceSource, got.Coverage[11].Evidence)
	assert.Equal(t, EvidenceNone, got.Coverage[0].Evidence)
	assert.Equal(t, PredictionNone, got.Coverage[0].Prediction)
}
