package upgrade_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// The tools of others take a disk after an upgrade, a commit and a rollback for what we do: its
// table, its ESP, its menu and its file systems.
func TestToolsOfOthers(t *testing.T) {
	for _, tool := range []string{"sfdisk", "fsck.fat", "mcopy", "veritysetup"} {
		testtools.Require(t, tool)
	}
	forky := testtools.Forky(t)
	for _, k := range diskKinds() {
		if k.esp.SectorSize > 512 || k.apart {
			// sfdisk takes an image for one of 512 bytes, and bootctl wants a partition for the
			// second file system
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			s := k.on(t)
			require.NoError(t, s.planOf(k.release(s, "2"), upgrade.PlanOptions{}).Apply(t.Context(), nil))
			requireTools(t, forky, s, k, "2")
			require.NoError(t, s.commit(s.bootAndRun()))
			requireTools(t, forky, s, k, "2")
			require.NoError(t, s.planOf(k.release(s, "3"), upgrade.PlanOptions{}).Apply(t.Context(), nil))
			require.NoError(t, s.commit(s.bootAndRun()))
			require.NoError(t, rollback(s.disk, s.machine, ""))
			requireTools(t, forky, s, k, "3")
		})
	}
}

func requireTools(t *testing.T, forky testtools.Root, s *system, k *diskKind, version string) {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, src osmith.Source) {
		require.NoError(t, os.WriteFile(path(name), contentOf(t, src), 0o644))
	}
	write("disk", s.disk)
	require.Contains(t, testtools.Run(t, "sfdisk", "--verify", path("disk")), "No errors detected.")
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	write("esp.img", table.Section(s.disk, 0))
	testtools.Run(t, "fsck.fat", "-n", path("esp.img")) // ends with 1 if anything is wrong

	require.NoError(t, os.MkdirAll(path("esp"), 0o755))
	require.NoError(t, os.MkdirAll(path("vars"), 0o755))
	testtools.Run(t, "mcopy", "-s", "-i", path("esp.img"), "::EFI", "::loader", path("esp"))
	out := forky.Output(t, dir, "/bin/sh", "-c", "cd "+dir+"; mkdir -p /efi; mount --bind esp /efi; SYSTEMD_RELAX_ESP_CHECKS=1 bootctl --esp-path=/efi list --json=short")
	var menu []struct {
		ID        string `json:"id"`
		TriesLeft *int   `json:"triesLeft"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &menu), out)
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	var theirs, ours []string
	for _, e := range menu {
		if e.ID != "broken.conf" { // bootctl does not look for the kernel, and the loader does
			theirs = append(theirs, e.ID)
		}
	}
	for _, e := range state.Entries {
		ours = append(ours, e.ID)
	}
	require.Equal(t, theirs, ours)

	r := k.release(s, version)
	if r.Root == nil {
		return
	}
	data, tree, err := partition.VerityIDs(r.RootHash)
	require.NoError(t, err)
	write("data", table.Section(s.disk, table.Find(data)))
	write("tree", table.Section(s.disk, table.Find(tree)))
	require.Empty(t, strings.TrimSpace(testtools.Run(t, "veritysetup", "verify", path("data"), path("tree"), hex.EncodeToString(r.RootHash))))
}
