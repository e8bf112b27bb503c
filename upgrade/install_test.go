package upgrade_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

const mib = 1 << 20

// installLayout is that of a machine with two slots and a state partition of what is left.
func installLayout() partition.Layout {
	return partition.Layout{Partitions: []partition.Spec{
		{Type: partition.ESP, Name: "esp", Size: 6 * mib},
		{Type: partition.RootX8664, Name: partition.EmptyName, Size: 2 * mib},
		{Type: partition.RootX8664Verity, Name: partition.EmptyName, Size: mib},
		{Type: partition.RootX8664, Name: partition.EmptyName, Size: 2 * mib},
		{Type: partition.RootX8664Verity, Name: partition.EmptyName, Size: mib},
		{Type: partition.Var, Name: "state", MinSize: mib, Weight: 1000},
	}}
}

// installation is a system with an empty disk beside it.
type installation struct {
	*system
	options upgrade.InstallOptions
}

func newInstallation(t *testing.T, size int64) *installation {
	t.Helper()
	s := newSystem(t, "262")
	loader, err := s.builder.SignedLoader()
	require.NoError(t, err)
	s.disk = faultio.NewDisk(size)
	return &installation{s, upgrade.InstallOptions{
		Layout: installLayout(), Seed: osmith.GUID{7, 7}, SectorSize: 512, Time: when,
		Loader: &bootloader.Installation{Loader: loader, Config: &bootloader.Config{Timeout: "0"}},
	}}
}

// recovery is a UKI of another product that runs from its initrd.
func (i *installation) recovery() osmith.Source {
	i.t.Helper()
	return i.withUKI(i.build("0"), func(im *uki.Image) {
		im.Cmdline, im.OSRelease = "rescue", []byte("ID=acme-recovery\nIMAGE_ID=acme-recovery\nIMAGE_VERSION=1\n")
	}, 0).UKI
}

func (i *installation) planInstall(version string) (*upgrade.InstallPlan, error) {
	return upgrade.PlanInstall(i.t.Context(), i.disk, i.build(version).Release(), i.machine, i.options)
}

func (i *installation) mustPlan(version string) *upgrade.InstallPlan {
	i.t.Helper()
	p, err := i.planInstall(version)
	require.NoError(i.t, err)
	require.NoError(i.t, p.Refused())
	return p
}

func (i *installation) mustInstall(version string) *upgrade.InstallPlan {
	i.t.Helper()
	p := i.mustPlan(version)
	_, err := p.Apply(context.Background(), nil)
	require.NoError(i.t, err)
	return p
}

// An empty disk becomes one that boots, and is upgraded like any other.
func TestInstall(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			i := newInstallation(t, 48*mib)
			i.options.SectorSize = sector
			p := i.mustInstall("1")
			t.Log(p)
			require.False(t, p.Resumes)
			require.Nil(t, p.Erases)
			require.Equal(t, "EFI/Linux/acme_1.efi", p.Entry)
			table, err := partition.Read(i.disk, partition.ReadOptions{})
			require.NoError(t, err)
			require.Empty(t, table.Findings())
			require.Equal(t, sector, table.SectorSize)
			require.Equal(t, partition.SeedDiskID(i.options.Seed), table.DiskID)
			_, size := table.Extent(len(table.Partitions) - 1)
			require.Greater(t, size, int64(30*mib), "the state has what is left")

			b := i.boot()
			require.Equal(t, "1", b.Version)
			i.machine = i.running(b)
			again, err := i.planInstall("1")
			require.ErrorIs(t, err, nil)
			require.True(t, again.Installed)
			require.Empty(t, again.Steps)
			next := i.plan(i.build("2"), upgrade.PlanOptions{})
			require.NoError(t, next.Apply(context.Background(), nil))
			require.Equal(t, "2", i.boot().Version)
		})
	}
}

// What is planned for is what is measured.
func TestInstallPredicts(t *testing.T) {
	i := newInstallation(t, 48*mib)
	p := i.mustInstall("1")
	require.NotNil(t, p.Predicted)
	want, err := p.Predicted.Replay()
	require.NoError(t, err)
	got, err := i.boot().Log.Replay()
	require.NoError(t, err)
	for h, bank := range want {
		for _, pcr := range []int{4, 7, 11} {
			require.Equal(t, bank.PCR(pcr), got[h].PCR(pcr), "%v PCR %d", h, pcr)
		}
	}
}

var _ = []any{bytes.Equal, fs.ErrNotExist, slices.Contains[[]int], acmeos.ID, fat.Open, upgradetest.Up}
