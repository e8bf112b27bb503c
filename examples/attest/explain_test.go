package main

import (
	"crypto"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/tpm"
)

// A PCR that a predicted log does not know is no value to trust.
func TestPredictedReference(t *testing.T) {
	log, err := tpm.ParseExpected(read(t, "../../tpm/testdata/compat/v0/prediction.bin"))
	require.NoError(t, err)
	raw, err := log.MarshalPrediction()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "predicted.log"), raw, 0o600))
	reference := func(pcrs string) error {
		_, err := parseReference([]byte(`{"schema": "osmith.attest-reference/1", "logs": ["predicted.log"], "anyEndorsementKey": true, "pcrs": [`+pcrs+`]}`), dir)
		return err
	}
	require.NoError(t, reference("4, 7, 11"))
	require.EqualError(t, reference("4, 9"), "predicted.log: it says nothing about PCR 9")
}

// What differs in a PCR that counts is named, whatever differs in one that does not.
func TestExplainedByCountedPCRs(t *testing.T) {
	log := func(path string) *tpm.Log {
		l, err := tpm.ParseLog(read(t, "../../tpm/testdata/"+path))
		require.NoError(t, err)
		return l
	}
	expected, actual := log("boot/a-sb-sdboot-262/binary_bios_measurements"), log("tampered/addons-and-injected-cmdline.bin")
	want, err := expected.Values(crypto.SHA256)
	require.NoError(t, err)
	got, err := actual.Values(crypto.SHA256)
	require.NoError(t, err)
	r := &reference{bank: crypto.SHA256, pcrs: []int{12}, boots: []boot{{"a.log", expected, map[int][]byte{12: want[12]}}}}
	v := r.explain(verdict{}, got, actual, nil)
	require.Len(t, v.Problems, 1)
	require.Len(t, v.Differences, 2)
	require.Equal(t, "PCR 12: command line 'systemd.debug_shell=1 init=/bin/sh' was not expected (696e44b9e595fc49…)", v.Differences[0].Text)
	require.Equal(t, "PCR 12: command line add-on 'lab.addon=global lab.addon=local' was not expected (19ce2301f4cfdcbd…)", v.Differences[1].Text)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}
