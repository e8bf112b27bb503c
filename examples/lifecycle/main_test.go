package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
)

func call(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = program.Run(t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

func TestStory(t *testing.T) {
	t.Chdir(t.TempDir())
	dir := standInParts(t)
	status, stdout, stderr := call(t, "-parts", dir, "-out", "out")
	require.Equal(t, 0, status, stderr)
	require.True(t, strings.HasPrefix(stdout, "Boot stub, boot loader, kernel and initrd: "+dir), stdout)
	for _, want := range []string{"acme_1", "PCR 11", "returns", " cuts boot: the power was cut behind writes", "loader and kernel are simulated", "power cut:", "is the next entry", "A real boot beside its prediction: recorded, not simulated", "\nsimulated boot: up: version 1", "unsigned:", "tampered:", "fall back", "again:     version 3 has used up its tries on this machine, as EFI/Linux/acme_3+0-3.efi says",
		"locked:    upgrade: refused, nothing was written: unlocks: the TPM does not open volume", "the old token is gone"} {
		require.Contains(t, stdout, want)
	}
	require.FileExists(t, filepath.Join("out", "disk.img"))
}

func TestJSON(t *testing.T) {
	status, stdout, stderr := call(t, "--json")
	require.Equal(t, 0, status, stderr)
	require.Contains(t, stderr, "Build version 1")
	dec := json.NewDecoder(strings.NewReader(stdout))
	var r struct {
		Schema   string
		PCRs     map[string]string
		Recorded struct {
			Origin string
			PCRs   []struct {
				PCR                 int
				Predicted, Recorded string
			}
		}
		Disk, Refused string
		ReleaseDigest string
		Plan          struct{ Schema string }
		Cuts          struct {
			Tried, Booted int
			Simulated     bool
		}
		Boots  []struct{ At, Outcome, Version, Entry string }
		Locked string
		Volume []struct {
			Version string
			Tokens  []int
		}
	}
	require.NoError(t, dec.Decode(&r))
	require.False(t, dec.More(), "one object")
	require.Equal(t, "osmith.lifecycle/1", r.Schema)
	require.Equal(t, "osmith.plan/1", r.Plan.Schema)
	require.Len(t, r.PCRs, 3)
	require.Contains(t, r.Recorded.Origin, "another system")
	var recorded []int
	for _, p := range r.Recorded.PCRs {
		recorded = append(recorded, p.PCR)
		require.Regexp(t, `^[0-9a-f]{64}$`, p.Recorded)
		require.Equal(t, p.Recorded, p.Predicted)
	}
	require.Equal(t, []int{4, 5, 7, 11}, recorded)
	require.Empty(t, r.Disk, "a temporary disk is gone by now")
	require.Contains(t, r.ReleaseDigest, "sha256:")
	require.NotEmpty(t, r.Refused)
	require.Greater(t, r.Cuts.Tried, 10)
	require.Equal(t, r.Cuts.Tried, r.Cuts.Booted)
	require.True(t, r.Cuts.Simulated)
	var story []string
	for _, b := range r.Boots {
		story = append(story, b.Outcome+" "+b.Version)
	}
	require.Equal(t, []string{"up 1", "up 1", "up 2", "failed 3", "failed 3", "failed 3", "up 2", "up 4"}, story)
	require.Contains(t, r.Locked, `the TPM does not open volume "state" in partition 6 after the upgrade, and the recovery key of key slot 0 would be left: token 1 (systemd-tpm2) does not: `)
	var opened []string
	for _, v := range r.Volume {
		opened = append(opened, fmt.Sprint(v.Version, v.Tokens))
	}
	require.Equal(t, []string{"1[1]", "1[1]", "2[1]", "2[1]", "4[2]"}, opened)
}

func TestBadCalls(t *testing.T) {
	t.Chdir(t.TempDir())
	missing := standInParts(t)
	require.NoError(t, os.Remove(filepath.Join(missing, "vmlinuz")))
	noPE := standInParts(t)
	require.NoError(t, os.WriteFile(filepath.Join(noPE, "vmlinuz"), bytes.Repeat([]byte("ELF "), 100), 0o644))
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"unknown-flag", []string{"-disk", "x"}, "no flag -disk"},
		{"operand", []string{"x"}, `unexpected argument "x"`},
		{"missing-part", []string{"-parts", missing}, "no kernel: looked for"},
		{"no-directory", []string{"-parts", "absent"}, "no boot stub"},
		{"kernel-is-no-pe", []string{"-parts", noPE}, "UKI: Linux: not a PE image"},
		{"out-is-a-file", []string{"-out", file}, "file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := call(t, append(tt.args, "-json")...)
			require.Equal(t, 2, status)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.want)
		})
	}
	status, _, stderr := call(t, "-h")
	require.Equal(t, 0, status)
	require.Contains(t, stderr, "example: lifecycle -out")
}

// standInParts is a directory of parts that a user might point at.
func standInParts(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{
		"linuxx64.efi.stub": petest.Stub("262"), "systemd-bootx64.efi": petest.Loader("262"),
		"vmlinuz": petest.Kernel("6.18.0"), "initrd.img": []byte("initrd"),
		"linuxaa64.efi.stub": petest.Stub("262"), "systemd-bootaa64.efi": petest.Loader("262"),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	return dir
}
