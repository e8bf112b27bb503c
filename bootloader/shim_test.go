package bootloader

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// What firmware may start on an ESP is one of two chains, a shim with the loader beside it.
type chainModel struct{ shim, loader string }

func chainsOf(esp fstest.MapFS) (first, last chainModel) {
	at := func(name string) string {
		if f, ok := esp[name]; ok {
			return string(f.Data)
		}
		return ""
	}
	return chainModel{at(firstShim), at(firstBehind)}, chainModel{at(lastLoader), at(lastBehind)}
}

// Whatever change is the last one, one chain is as it was as a whole, or as it will be; a new
// loader is there before the shim that comes in front of it; and the shim in EFI/BOOT, which has
// nothing behind it, is the last of all.
func TestShimIsWrittenLast(t *testing.T) {
	old, now := chainModel{shim(3), stub("257")}, chainModel{shim(4), stub("262")}
	for name, esp := range map[string]fstest.MapFS{"fresh": {}, "update": withShim("257", shim(3)), "in front": installed("257")} {
		plan, err := PlanInstallation(esp, behindShim(now.loader, now.shim), InstallationOptions{})
		require.NoError(t, err)
		require.Equal(t, lastLoader, plan.Changes[len(plan.Changes)-1].Path)
		for n := range len(plan.Changes) + 1 {
			m := carryOut(t, esp, plan.Changes[:n])
			first, last := chainsOf(m)
			for _, c := range []chainModel{first, last} {
				assert.False(t, c.shim == now.shim && c.loader != now.loader, "%s: the shim is there before its loader, after %d changes", name, n)
			}
			switch name {
			case "update":
				assert.True(t, first == old || first == now || last == old || last == now, "no chain is whole after %d changes", n)
			case "in front":
				assert.True(t, last.shim == stub("257") || first == now, "after %d changes", n)
			}
			rest, err := PlanInstallation(m, behindShim(now.loader, now.shim), InstallationOptions{})
			require.NoError(t, err)
			require.Equal(t, summary(&InstallationPlan{Changes: plan.Changes[n:]}), summary(rest), "%s after %d changes", name, n)
		}
		first, last := chainsOf(carryOut(t, esp, plan.Changes))
		require.Equal(t, [2]chainModel{now, now}, [2]chainModel{first, last})
	}
}

func TestFilesWithShim(t *testing.T) {
	in := behindShim(stub("262"), shim(4))
	files, err := in.Files()
	require.NoError(t, err)
	got := map[string]string{}
	for _, f := range files {
		got[f.Path] = read(t, f.Content)
	}
	require.Equal(t, map[string]string{firstBehind: stub("262"), firstShim: shim(4), lastBehind: stub("262"), lastLoader: shim(4), "loader/loader.conf": got["loader/loader.conf"], "loader/entries.srel": "type1\n"}, got)

	boot, err := in.BootFile()
	require.NoError(t, err)
	require.Equal(t, firstShim, boot)
	boot, err = (&Installation{Loader: in.Loader}).BootFile()
	require.NoError(t, err)
	require.Equal(t, firstLoader, boot)

	in.OmitFallback = true
	files, err = in.Files()
	require.NoError(t, err)
	require.Len(t, files, 4)

	for _, c := range []struct{ name, shim, want string }{
		{"no PE", "MZ", "shim: this shim does not start the loader"},
		{"systemd-boot", stub("262"), "shim: this shim does not start the loader: section .vendor_cert is missing"},
		{"of another name for the loader", strings.ReplaceAll(shim(4), "g\x00r\x00u\x00b\x00x", "g\x00r\x00u\x00b\x00y"), "does not contain the loader's file name \\grubx64.efi"},
		{"SBAT that is no SBAT", string(petest.Shim([]byte(shimVendor), nil, []byte("sbat\n"), 0, ".vendor_cert\x00.sbatlevel\x00")), "shim: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := behindShim(stub("262"), c.shim)
			_, err := in.Files()
			require.ErrorContains(t, err, c.want)
			_, err = in.BootFile()
			require.ErrorContains(t, err, c.want)
			_, err = PlanInstallation(fstest.MapFS{}, in, InstallationOptions{})
			require.ErrorContains(t, err, c.want)
		})
	}
	t.Run("what is in its place", func(t *testing.T) {
		_, err := PlanInstallation(withShim("262", "neither"), behindShim(stub("262"), shim(4)), InstallationOptions{})
		require.ErrorContains(t, err, firstShim+" is not replaced, because it is neither shim nor systemd-boot")
		_, err = PlanInstallation(withShim("262", shim(4), firstBehind, "GRUB"), behindShim(stub("262"), shim(4)), InstallationOptions{})
		require.ErrorContains(t, err, firstBehind+" is not replaced")
	})
	t.Run("another architecture", func(t *testing.T) {
		b := []byte(shim(4))
		b[0x80+4], b[0x80+5] = 0x64, 0xaa // the machine type
		other := strings.ReplaceAll(string(b), "x\x006\x004\x00.", "a\x00a\x006\x004\x00.")
		_, err := behindShim(stub("262"), other).Files()
		require.Error(t, err)
	})
}

const shimVendor = "\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00"

func TestPlanRemovalOfShim(t *testing.T) {
	esp := withShim("262", shim(4), "EFI/acme/shimx64.efi", shim(4), "EFI/acme/grubx64.efi", stub("262"))
	plan, err := PlanRemoval(esp, RemovalOptions{})
	require.NoError(t, err)
	for n := range len(plan.Changes) + 1 {
		first, last := chainsOf(carryOut(t, esp, plan.Changes[:n]))
		for _, c := range []chainModel{first, last} {
			require.False(t, c.shim != "" && c.loader == "", "a shim without a loader after %d changes", n)
		}
	}
	require.ElementsMatch(t, []string{"EFI/acme/shimx64.efi", "EFI/acme/grubx64.efi"}, slices.Collect(maps.Keys(carryOut(t, esp, plan.Changes))))

	// What is not ours stays: a shim that starts something else, and what no shim is in front of.
	esp = fstest.MapFS{firstShim: file(shim(4)), firstBehind: file("GRUB"), lastLoader: file("MZ other"), lastBehind: file(stub("262"))}
	plan, err = PlanRemoval(esp, RemovalOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"remove " + lastBehind + " 262>"}, summary(plan))
}

// Shims as Debian has them are found to start what is put beside them.
func TestRealShims(t *testing.T) {
	root := testtools.Trixie(t)
	for _, dir := range []string{"signed", "signed-bookworm-amd64", "signed-bullseye-amd64"} {
		content, err := os.ReadFile(root.Path("opt/" + dir + "/usr/lib/shim/shimx64.efi.signed"))
		require.NoError(t, err)
		p, err := readShim(content)
		require.NoError(t, err, dir)
		require.Equal(t, "x64", p.arch.EFI)
		require.NotEmpty(t, p.sbat)
	}
}
