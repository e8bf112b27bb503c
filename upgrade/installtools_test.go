package upgrade_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// The tools of others take an installed disk for whole: its table, its ESP and its encrypted
// volume; systemd-repart with the same definitions has nothing to do; bootctl shows the entries;
// and an upgrade leaves it so.
func TestInstallAsOthersSeeIt(t *testing.T) {
	for _, tool := range []string{"sfdisk", "sgdisk", "fsck.fat", "mcopy", "cryptsetup", "blkid"} {
		testtools.Require(t, tool)
	}
	forky := testtools.Forky(t)
	i := withVolume(t, 80*mib)
	i.options.Recovery = &upgrade.RecoverySystem{UKI: i.recovery()}
	i.options.Layout.Partitions[0].Size = 34 * mib // a FAT32, as fsck.fat likes it
	i.putOld(512)
	i.agree()
	i.mustInstall("1")
	look := func(what, label string, entries ...string) {
		t.Helper()
		dir := t.TempDir()
		path := func(name string) string { return filepath.Join(dir, name) }
		put := func(name string, src osmith.Source) {
			require.NoError(t, os.WriteFile(path(name), contentOf(t, src), 0o644))
		}
		put("disk", i.disk)
		require.Contains(t, testtools.Run(t, "sfdisk", "--verify", path("disk")), "No errors detected.", what)
		require.Contains(t, testtools.Run(t, "sgdisk", "-v", path("disk")), "No problems found.", what)
		table, n := statePartition(t, i.disk)
		put("esp.img", table.Section(i.disk, 0))
		testtools.Run(t, "fsck.fat", "-n", path("esp.img"))
		put("state", table.Section(i.disk, n))
		require.Contains(t, testtools.Run(t, "cryptsetup", "luksDump", path("state")), partition.LUKSID(table.Partitions[n].ID).String())
		require.NoError(t, os.WriteFile(path("key"), []byte("second"), 0o600))
		testtools.Run(t, "cryptsetup", "open", "--test-passphrase", "--key-file", path("key"), path("state"))
		require.NoError(t, os.Mkdir(path("esp"), 0o755))
		testtools.Run(t, "mcopy", "-s", "-i", path("esp.img"), "::EFI", "::loader", path("esp"))
		list := forky.Output(t, dir, "/bin/sh", "-c", "cd "+dir+"; mkdir -p /efi; mount --bind esp /efi; SYSTEMD_RELAX_ESP_CHECKS=1 bootctl --esp-path=/efi list")
		for _, e := range entries {
			require.Contains(t, list, e, what)
		}
		_, size := table.Extent(n)
		require.NoError(t, os.Mkdir(path("repart.d"), 0o755))
		for name, text := range map[string]string{
			"10-esp.conf":    "Type=esp\nLabel=esp\nSizeMinBytes=34M\nSizeMaxBytes=34M\n",
			"20-root-a.conf": "Type=root-x86-64\nSizeMinBytes=2M\nSizeMaxBytes=2M\nLabel=" + label + "\n",
			"21-tree-a.conf": "Type=root-x86-64-verity\nSizeMinBytes=1M\nSizeMaxBytes=1M\nLabel=" + label + "_verity\n",
			"30-root-b.conf": "Type=root-x86-64\nSizeMinBytes=2M\nSizeMaxBytes=2M\nLabel=_empty\n",
			"31-tree-b.conf": "Type=root-x86-64-verity\nSizeMinBytes=1M\nSizeMaxBytes=1M\nLabel=_empty\n",
			"40-state.conf":  fmt.Sprintf("Type=var\nSizeMinBytes=1M\nSizeMaxBytes=%d\nLabel=state\n", size),
		} {
			require.NoError(t, os.WriteFile(path("repart.d/"+name), []byte("[Partition]\n"+text), 0o644))
		}
		plan := forky.Run(t, dir, "systemd-repart", "--definitions="+path("repart.d"), "--dry-run=yes", "--seed="+i.options.Seed.String(), "--empty=refuse", path("disk"))
		for _, q := range table.Partitions {
			require.Contains(t, plan, q.ID.String(), what)
		}
		require.NotContains(t, plan, "→", "%s: it changes nothing", what)
	}
	look("installed", "acme_1", "acme_1.efi", "recovery.efi")
	i.bootAndRun()
	p := i.plan(i.build("2"), upgrade.PlanOptions{})
	require.NoError(t, p.Apply(context.Background(), nil))
	require.NoError(t, i.commit(i.bootAndRun()))
	look("upgraded", "acme_1", "acme_1.efi", "acme_2.efi", "recovery.efi")

	// What was reset is empty for blkid as well.
	_, err := upgrade.FactoryReset(i.disk, i.machine, declaredState)
	require.NoError(t, err)
	table, n := statePartition(t, i.disk)
	name := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(name, contentOf(t, table.Section(i.disk, n)), 0o644))
	out, err := testtools.Try(t, "blkid", "-p", name)
	require.Error(t, err, "blkid -p ends with 2 where it finds nothing")
	require.NotContains(t, out, "TYPE=")
}
