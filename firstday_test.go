//go:build linux

package osmith_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/firstday"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// A vendor's first day, by docs/first-day.md: keys, an image of version 1, which is written to a
// disk, and a release of version 2, which that disk is upgraded to. Package e2e boots the image.
func TestFirstDay(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles programs in a module of their own")
	}
	bin, dir := firstday.Programs(t), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for _, version := range []string{"1", "2"} {
		require.NoError(t, os.MkdirAll(in("parts/"+version), 0o755))
		require.NoError(t, os.MkdirAll(in("out/"+version), 0o755))
		for name, content := range map[string][]byte{
			"stub":       petest.Stub("262"),
			"loader":     petest.Loader("262"),
			"kernel":     petest.Kernel("6.18.0-acme"),
			"initrd":     []byte("initrd"),
			"root":       bytes.Repeat([]byte("a root of version "+version), 4096),
			"os-release": []byte("ID=acme\nIMAGE_VERSION=" + version + "\n"),
			"cmdline":    []byte("quiet"),
		} {
			require.NoError(t, os.WriteFile(in("parts/"+version+"/"+name), content, 0o644))
		}
	}
	require.NoError(t, os.Mkdir(in("keys"), 0o755))
	firstday.Run(t, filepath.Join(bin, "keys-generate"), dir, "keys")
	said := regexp.MustCompile(`^acme 1: root hash ([0-9a-f]{64}), release (sha256:[0-9a-f]{64})\n$`)
	require.Regexp(t, said, firstday.Run(t, filepath.Join(bin, "image"), dir, "parts/1", "out/1"))
	firstday.Run(t, filepath.Join(bin, "image"), dir, "parts/2", "out/2")

	// What a machine is once it has taken the keys.
	keys, err := secureboot.ReadHierarchy(os.DirFS(in("keys")))
	require.NoError(t, err)
	enrolled, err := keys.Enroll(secureboot.EnrollOptions{Time: time.Unix(1e9, 0), NothingMustBoot: true,
		OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	require.NoError(t, err)
	m := upgrade.Machine{Offline: true, NoShim: true, NothingSealed: true, Firmware: &enrolled.Variables, Loader: &bootloader.Variables{}}

	f, err := os.OpenFile(in("out/1/disk.img"), os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	disk, err := osmith.NewDevice(f)
	require.NoError(t, err)
	state, err := upgrade.Inspect(disk, m)
	require.NoError(t, err)
	require.Len(t, state.Entries, 1)
	require.Equal(t, "EFI/Linux/acme_1.efi", state.Entries[0].Path)
	require.Len(t, state.Slots, 2)

	public, err := os.ReadFile(in("keys/release.crt"))
	require.NoError(t, err)
	trusted, err := cosign.ParseKeys(public)
	require.NoError(t, err)
	store, err := cosign.OpenDir(in("out/2/oci"))
	require.NoError(t, err)
	artifact, err := store.Resolve("2")
	require.NoError(t, err)
	verified, err := cosign.Verify(t.Context(), store, artifact, cosign.Policy{Keys: trusted})
	require.NoError(t, err)
	r, err := release.Open(t.Context(), os.DirFS(in("out/2/oci")), verified.Subject)
	require.NoError(t, err)
	defer r.Close()
	plan, err := upgrade.NewPlan(t.Context(), disk, r, m, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, plan.Apply(t.Context(), nil))
	require.Equal(t, "EFI/Linux/acme_2+3.efi", plan.Entry)
	require.Equal(t, "B", plan.Target.Name())
}
