//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/firstday"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// TestFirstDay boots the image that the program of docs/first-day.md makes: firmware in setup mode
// takes its keys, and starts it under Secure Boot with dm-verity.
func TestFirstDay(t *testing.T) {
	requireVM(t)
	t.Parallel()
	s := newSystem(t, testtools.Forky(t))
	bin := firstday.Programs(t)
	parts, out := filepath.Join(s.dir, "parts"), filepath.Join(s.dir, "out")
	for name, file := range map[string]string{
		"stub": "linuxx64.efi.stub", "loader": "systemd-bootx64.efi", "kernel": "vmlinuz", "initrd": "initrd.img",
	} {
		require.NoError(t, os.Symlink(file, filepath.Join(parts, name)))
	}
	release := acmeos.OSRelease("1")
	require.NoError(t, os.WriteFile(filepath.Join(parts, "os-release"), release, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(parts, "cmdline"), []byte(kernelArguments), 0o644))
	root, err := os.Create(filepath.Join(parts, "root"))
	require.NoError(t, err)
	require.NoError(t, WriteRoot(root, Root{Guest: s.guest, OSRelease: release, Seed: "1"}))
	require.NoError(t, root.Close())
	for _, dir := range []string{out, filepath.Join(s.dir, "keys")} {
		require.NoError(t, os.Mkdir(dir, 0o755))
	}
	firstday.Run(t, filepath.Join(bin, "keys-generate"), s.dir, "keys")
	said := firstday.Run(t, filepath.Join(bin, "image"), s.dir, parts, out)
	m := regexp.MustCompile(`^acme 1: root hash ([0-9a-f]{64}), `).FindStringSubmatch(said)
	require.NotNil(t, m, said)

	s.Machine.Disk = filepath.Join(out, "disk.img")
	boot(t, s.Machine, "0-enrol", Reset)
	r := boot(t, s.Machine, "1-first", Reported).Report
	require.Equal(t, "1", r.Version)
	require.True(t, r.SecureBoot())
	require.False(t, r.SetupMode())
	require.NotNil(t, r.Verity)
	require.Equal(t, m[1], r.Verity.RootHash)
	require.Equal(t, "V", r.Verity.Status)
}
