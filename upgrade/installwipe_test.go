package upgrade_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/superblock"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
)

// Whatever was recognised on the old disk is not recognised on the new one, wherever it stood.
func TestInstallWipesSignatures(t *testing.T) {
	i := newInstallation(t, 80*mib)
	i.putOld(512)
	table, n := statePartition(t, i.disk)
	at, size := table.Extent(n)
	for k, s := range superblock.Rows() {
		if s.What == "a member of a ZFS pool" && k%5 != 0 {
			continue
		}
		for _, e := range [][2]int64{{at, size}, {off(table, 3), 2 * mib}, {off(table, 4), mib}, {0, i.disk.Size()}} {
			place, ok := s.At(e[1])
			first, last := int64(table.FirstUsableLBA)*512, int64(table.LastUsableLBA+1)*512
			if place += e[0]; ok && place >= first && place < last {
				write(t, i.disk, place, []byte(s.Magic))
			}
		}
	}
	i.agree()
	i.mustInstall("1")
	c, err := upgrade.ReadContents(i.disk)
	require.NoError(t, err)
	for _, f := range c.Found {
		if f.Name == "state" || f.Name == partition.EmptyName {
			require.Equal(t, "nothing", f.What, "%v", f)
		}
		require.NotZero(t, f.Partition, "%v", f)
	}
	require.Len(t, c.Found, 6)
}

// A table that is not whole is made so before anything is lost, and nothing is left of the backup
// of a disk that grew.
func TestInstallRepairsFirst(t *testing.T) {
	for _, k := range disksBeforeInstall() {
		if k.name != "an older version on a disk that grew" && k.name != "an older version, its primary table damaged" {
			continue
		}
		i := newInstallation(t, 40*mib)
		k.put(i)
		i.agree()
		p := i.mustPlan("2")
		require.Equal(t, upgrade.StepRepairTable, p.Steps[0].Kind, k.name)
		require.False(t, p.Steps[0].OneWay)
		require.Equal(t, upgrade.StepClaimDisk, p.Steps[1].Kind)
		require.True(t, p.Steps[1].OneWay)
		_, err := p.Apply(t.Context(), nil)
		require.NoError(t, err)
		whole := contentOf(t, i.disk)
		tables := 0
		for at := 0; at < len(whole); at += 512 {
			if bytes.HasPrefix(whole[at:], []byte("EFI PART")) {
				tables++
			}
		}
		require.Equal(t, 2, tables, "%s: one at each end", k.name)
	}
}

// corrupting is a medium that has another byte than what was written to a place, once that is
// written.
type corrupting struct {
	*faultio.Disk
	at int64
}

func (d corrupting) WriteAt(b []byte, off int64) (int, error) {
	if off <= d.at && d.at < off+int64(len(b)) {
		b = bytes.Clone(b)
		b[d.at-off] ^= 0xff
	}
	return d.Disk.WriteAt(b, off)
}

// A file of the ESP that is written in large pieces is read back as well, and is what was judged.
func TestInstallReadsFilesBack(t *testing.T) {
	i := newInstallation(t, 48*mib)
	long := noise(1 << 20)
	for k := range long {
		long[k] ^= byte(k >> 8)
	}
	recovery := contentOf(t, i.withUKI(i.build("0"), func(im *uki.Image) {
		im.Cmdline, im.OSRelease, im.Initrd = "rescue", []byte("ID=rescue\nIMAGE_VERSION=1\n"), []osmith.Source{source(long)}
	}, 0).UKI)
	i.options.Recovery = &upgrade.RecoverySystem{UKI: source(recovery)}
	on := i.onDisk(i.disk.Clone())
	on.mustInstall("1")
	at := bytes.Index(contentOf(t, on.disk), long[500_000:500_512])
	require.Positive(t, at)

	left := i.disk.Clone()
	p, err := upgrade.PlanInstall(t.Context(), corrupting{left, int64(at)}, i.build("1").Release(), i.machine, i.options)
	require.NoError(t, err)
	_, err = p.Apply(t.Context(), nil)
	require.ErrorAs(t, err, new(*upgrade.ReadBackError))

	p, err = i.planInstall("1")
	require.NoError(t, err)
	recovery[len(recovery)/2] ^= 1
	_, err = p.Apply(t.Context(), nil)
	require.ErrorAs(t, err, new(*upgrade.ChangedError))
	for _, d := range []*faultio.Disk{left, i.disk} {
		up, err := i.versionsOf(512, "1").UpOrNothing(d, d.Size())
		require.NoError(t, err)
		require.Equal(t, []string{"", "", ""}, up)
	}
}

// What the medium does not keep is found before firmware can find it, wherever it is.
func TestInstallReadsBack(t *testing.T) {
	good := withVolume(t, 40*mib)
	good.mustInstall("1")
	table, n := statePartition(t, good.disk)
	for name, at := range map[string]int64{
		"root": off(table, 1) + 5000, "tree": off(table, 2) + 5000, "ESP": off(table, 0) + 5000, "ESP, in a file": off(table, 0) + 100_000, "volume": off(table, n) + 4100, "keys": off(table, n) + 40_000, "table": 512 + 60,
	} {
		i := withVolume(t, 40*mib)
		p, err := upgrade.PlanInstall(t.Context(), corrupting{i.disk, at}, i.build("1").Release(), i.machine, i.options)
		require.NoError(t, err)
		_, err = p.Apply(t.Context(), nil)
		require.Error(t, err, name)
		up, err := i.versionsOf(512, "1").UpOrNothing(i.disk, i.disk.Size())
		require.NoError(t, err, name)
		require.Equal(t, []string{"", "", ""}, up, name)
	}
}
