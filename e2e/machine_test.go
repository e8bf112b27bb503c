//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// TestGuest boots the kernels without firmware, loader or disk: whether the
// guest, its modules, the TPM and the way back to us work is known in seconds.
func TestGuest(t *testing.T) {
	requireVM(t)
	guest := buildGuest(t)
	roots := map[string]func(testing.TB) testtools.Root{"trixie": testtools.Trixie, "forky": testtools.Forky}
	for name, root := range roots {
		t.Run(name, func(t *testing.T) {
			r := root(t)
			m := directMachine(t, r, guest)
			m.Cmdline += " osmith.report=initrd"
			b := boot(t, m, "guest-"+name, Reported)

			rep := b.Report
			require.Equal(t, m.Cmdline, rep.Cmdline)
			require.Equal(t, filepath.Base(r.Part(t, "modules")), rep.Kernel)
			require.Equal(t, report.Bless{Result: report.Uncounted}, rep.Bless)
			require.Nil(t, rep.Verity)
			require.NotEmpty(t, rep.EventLog)

			phase := sha256.Sum256([]byte("enter-initrd"))
			want := sha256.Sum256(append(make([]byte, 32), phase[:]...))
			require.Equal(t, make([]byte, 32), rep.InitrdPCRs["sha256"][11])
			require.Equal(t, want[:], rep.PCRs["sha256"][11])
			for _, bank := range []string{"sha1", "sha256", "sha384", "sha512"} {
				require.Len(t, rep.PCRs[bank], 24, bank)
				require.NotEqual(t, rep.InitrdPCRs[bank][11], rep.PCRs[bank][11], bank)
			}
		})
	}
}

// TestBootEndings: a boot that goes wrong is told apart, and none of them waits
// for the deadline of another.
func TestBootEndings(t *testing.T) {
	requireVM(t)
	guest := buildGuest(t)
	r := testtools.Trixie(t)

	t.Run("failed", func(t *testing.T) {
		m := directMachine(t, r, guest)
		b := boot(t, m, "no-roothash", Failed)
		require.Contains(t, b.Reason, "neither roothash= nor usrhash=")
		require.Nil(t, b.Report)
	})
	t.Run("stopped", func(t *testing.T) {
		m := directMachine(t, r, guest)
		m.StopAt = []string{"Linux version"}
		m.Cmdline += " loglevel=7"
		require.Equal(t, "Linux version", boot(t, m, "stopped", Stopped).Reason)
	})
	t.Run("deadline", func(t *testing.T) {
		m := directMachine(t, r, guest)
		m.Deadline = 500 * time.Millisecond
		boot(t, m, "deadline", Deadline)
	})
	t.Run("no disk", func(t *testing.T) {
		m := directMachine(t, r, guest)
		m.Disk = filepath.Join(m.Dir, "absent.img")
		_, err := m.Boot(t.Context(), "no-disk")
		require.ErrorContains(t, err, "absent.img")
	})
}

// directMachine is a machine that QEMU gives its kernel to.
func directMachine(t *testing.T, r testtools.Root, guest string) *Machine {
	t.Helper()
	initrd, err := Initrd(guest, r.Part(t, "modules"))
	require.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "initrd.img")
	require.NoError(t, os.WriteFile(file, initrd, 0o600))
	return &Machine{Dir: dir, Logs: logs(t), Kernel: r.Part(t, "kernel"), Initrd: file,
		NoFirmware: true, Cmdline: kernelArguments}
}

func TestCloneIsSeparate(t *testing.T) {
	m := &Machine{Dir: t.TempDir(), Disk: filepath.Join(t.TempDir(), "disk.img"), Vars: filepath.Join(t.TempDir(), "vars")}
	require.NoError(t, os.WriteFile(m.Disk, []byte("disk"), 0o600))
	require.NoError(t, os.WriteFile(m.Vars, []byte("vars"), 0o600))
	require.NoError(t, m.prepare())
	require.NoError(t, os.WriteFile(filepath.Join(m.tpmDir(), "state"), []byte("tpm"), 0o600))

	c, err := m.Clone(filepath.Join(t.TempDir(), "clone"))
	require.NoError(t, err)
	for file, want := range map[string]string{c.Disk: "disk", c.varsFile(): "vars", filepath.Join(c.tpmDir(), "state"): "tpm"} {
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, bytes.Equal([]byte(want), got), file)
		require.NoError(t, os.WriteFile(file, []byte("changed"), 0o600))
	}
	got, err := os.ReadFile(m.Disk)
	require.NoError(t, err)
	require.Equal(t, "disk", string(got))
}
