package upgradetest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// acme is a machine that runs version 1 of Acme OS, and its version 2.
func acme(t *testing.T) (*upgradetest.Machine, *release.Release) {
	t.Helper()
	keys, err := acmeos.GenerateKeys(time.Unix(1_767_225_600, 0))
	require.NoError(t, err)
	b := &acmeos.Builder{Keys: keys, Parts: acmeos.StandIns(), Seed: osmith.GUID{1}, Time: time.Unix(1_767_225_600, 0)}
	facts, err := b.Machine()
	require.NoError(t, err)
	dir := t.TempDir()
	build := func(version string) *acmeos.Set {
		root := dir + "/" + version + ".raw"
		require.NoError(t, acmeos.WriteRoot(root, version, nil))
		set, err := b.Build(t.Context(), dir, version, root)
		require.NoError(t, err)
		t.Cleanup(func() { set.Close() })
		return set
	}
	image, err := b.Disk(build("1"), acmeos.DiskOptions{RootSize: 1 << 20})
	require.NoError(t, err)
	disk := faultio.NewDisk(image.Size)
	require.NoError(t, partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}))
	return &upgradetest.Machine{Disk: disk, Machine: facts}, build("2").Release()
}

// An upgrade by this module survives every fault; the kit says so, and finds code that does not.
func TestCuts(t *testing.T) {
	m, r := acme(t)
	good := func(disk osmith.Disk) error {
		p, err := upgrade.NewPlan(t.Context(), disk, r, m.Machine, upgrade.PlanOptions{})
		if err != nil {
			return err
		}
		return p.Apply(context.Background(), nil)
	}
	count := func(do func(osmith.Disk) error, f upgradetest.Faults) (versions map[string]int, failed int) {
		t.Helper()
		versions = map[string]int{}
		for cut, err := range m.Cuts(t.Context(), do, f) {
			require.NoError(t, err)
			require.NotEmpty(t, cut.Fault)
			versions[string(cut.Last().Outcome)+" "+cut.Last().Version]++
			if cut.Err != nil {
				failed++
			}
		}
		return versions, failed
	}
	versions, failed := count(good, upgradetest.Faults{Reordered: 10, Errors: true, LyingSyncs: true})
	require.Len(t, versions, 2, "%v", versions)
	require.Greater(t, versions["up 1"], 50)
	require.Greater(t, versions["up 2"], 1)
	require.Greater(t, failed, 50)
	versions, _ = count(good, upgradetest.Faults{MaxCuts: 5})
	require.Equal(t, map[string]int{"up 1": 4, "up 2": 1}, versions, "the last one is behind all writes")

	// What puts the new UKI in the place of the old one loses the machine.
	bad := func(disk osmith.Disk) error {
		table, err := partition.Read(disk, partition.ReadOptions{})
		if err != nil {
			return err
		}
		esp, err := fat.Open(table.Window(disk, 0))
		if err != nil {
			return err
		}
		return errors.Join(esp.Remove("EFI/Linux/acme_1.efi"), esp.WriteFile("EFI/Linux/acme_2.efi", r.UKI))
	}
	versions, _ = count(bad, upgradetest.Faults{})
	require.Positive(t, versions["stuck "], "%v", versions)

	broken := errors.New("not today")
	for _, err := range m.Cuts(t.Context(), func(osmith.Disk) error { return broken }, upgradetest.Faults{}) {
		require.ErrorIs(t, err, broken)
	}
}
