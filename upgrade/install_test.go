package upgrade_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
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

			again := i.mustPlan("1")
			require.True(t, again.Installed)
			require.Empty(t, again.Steps)
			require.Contains(t, again.String(), "nothing to do")
			b := i.boot()
			require.Equal(t, "1", b.Version)
			i.machine = i.running(b)
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

// What cannot be installed is refused before anything is written, and says what to do.
func TestInstallRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(i *installation)
		want   string
	}{
		{"no seed", func(i *installation) { i.options.Seed = osmith.GUID{} }, "has no Seed: give 16 random bytes"},
		{"IDs of a layout", func(i *installation) { i.options.Layout.Partitions[5].ID = osmith.GUID{4} }, "the layout gives fixed IDs, which every disk made from it would have: leave them out to derive them from the Seed"},
		{"another seed", func(i *installation) { i.options.Layout.Seed = osmith.GUID{4} }, "the layout has the seed"},
		{"tries", func(i *installation) { i.options.Tries = 100 }, "100 tries: want 1 to 99"},
		{"sectors", func(i *installation) { i.options.SectorSize = 520 }, "sector size 520: want 512 or 4096"},
		{"no ESP", func(i *installation) { i.options.Layout.Partitions = i.options.Layout.Partitions[1:] }, "0 EFI system partitions: want one"},
		{"XBOOTLDR", func(i *installation) { i.options.Layout.Partitions[5].Type = partition.XBOOTLDR }, "an extended boot loader partition"},
		{"no size", func(i *installation) { i.options.Layout.Partitions[1].Size = 0 }, "gives no size for"},
		{"content of a slot", func(i *installation) { i.options.Layout.Partitions[1].Content = source([]byte("x")) }, "has a content for"},
		{"no fallback", func(i *installation) { i.options.Loader.OmitFallback = true }, "needs it there"},
		{"no volume", func(i *installation) { i.options.Volumes = []upgrade.NewVolume{{Partition: "none"}} }, "the layout has no such partition"},
		{"volume without keys", func(i *installation) {
			i.options.Volumes = []upgrade.NewVolume{{Partition: "state", Format: luks.FormatOptions{Rand: newSeeded()}}}
		}, "nothing could unlock the volume"},
		{"running unknown", func(i *installation) { i.machine.Offline = false }, "what the machine runs is unknown: give Machine.Running with StubImageIdentifier and the mounted root hash, or set Machine.Offline"},
		{"no slots", func(i *installation) {
			i.options.Layout.Partitions = slices.Concat(i.options.Layout.Partitions[:1], i.options.Layout.Partitions[5:])
		}, "no A/B slots"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := newInstallation(t, 48*mib)
			tt.change(i)
			i.disk.Record()
			_, err := i.planInstall("1")
			require.ErrorContains(t, err, tt.want)
			require.Empty(t, i.disk.Writes())
		})
	}
}

// A disk that the machine was started from is not installed, by its ESP or by its root file system.
func TestInstallNotOverItself(t *testing.T) {
	i := newInstallation(t, 48*mib)
	i.mustInstall("1")
	b := i.boot()
	running := i.running(b)
	table, err := partition.Read(i.disk, partition.ReadOptions{})
	require.NoError(t, err)
	i.agree()
	for _, change := range []func(r *upgrade.Running){
		func(r *upgrade.Running) { r.ESP = table.Partitions[0].ID },
		func(r *upgrade.Running) { r.ESP = osmith.GUID{} },
	} {
		r := *running.Running
		change(&r)
		i.machine.Offline, i.machine.Running = false, &r
		_, err = i.planInstall("2")
		require.ErrorIs(t, err, upgrade.ErrRunsFromDisk)
	}
}

// A disk that is too small, an ESP that is, and a slot that is: the plan says how much is missing,
// and nothing is written.
func TestInstallFits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		size   int64
		change func(i *installation)
		want   any
	}{
		{"disk", 12 * mib, func(*installation) {}, new(*partition.SpaceError)},
		{"slot", 48 * mib, func(i *installation) { i.options.Layout.Partitions[1].Size = 64 << 10 }, new(*upgrade.SlotSpaceError)},
		{"ESP", 48 * mib, func(i *installation) { i.options.Layout.Partitions[0].Size = 48 << 10 }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := newInstallation(t, tt.size)
			tt.change(i)
			i.disk.Record()
			p, err := i.planInstall("1")
			require.NoError(t, err)
			_, err = p.Apply(t.Context(), nil)
			require.ErrorAs(t, err, new(*upgrade.RefusedError))
			require.ErrorContains(t, err, "fits: ")
			require.ErrorContains(t, err, "bytes are missing")
			if tt.want != nil {
				require.ErrorAs(t, err, tt.want)
			}
			require.Empty(t, i.disk.Writes())
			require.NotEmpty(t, p.String())
			b, err := json.Marshal(p)
			require.NoError(t, err)
			requireSchema(t, "install", b)
		})
	}
}

// Everything that is recognised keeps a disk from being passed for an empty one, and so does what
// is not.
func TestReadContents(t *testing.T) {
	empty, err := upgrade.ReadContents(faultio.NewDisk(8 * mib))
	require.NoError(t, err)
	require.True(t, empty.Empty())
	digests := map[string]string{}
	on := newInstallation(t, 40*mib)
	for name, put := range map[string]struct {
		off  int64
		text string
		what string
	}{
		"ext4":       {1024 + 56, "\x53\xef", "an ext2, ext3 or ext4 file system"},
		"xfs":        {0, "XFSB", "an XFS file system"},
		"btrfs":      {64<<10 + 64, "_BHRfS_M", "a btrfs file system"},
		"luks":       {0, "LUKS\xba\xbe", "a LUKS volume"},
		"luks2":      {4 << 20, "SKUL\xba\xbe", "the second header of a LUKS volume"},
		"lvm":        {512, "LABELONE", "an LVM2 physical volume"},
		"raid":       {4096, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
		"raid 1.0":   {8*mib - 8192, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
		"raid 0.9":   {8*mib - 65536, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
		"intel raid": {8*mib - 1024, "Intel Raid ISM Cfg Sig. ", "a member of an Intel RAID"},
		"zfs":        {130 << 10, "\x0c\xb1\xba\x00\x00\x00\x00\x00", "a member of a ZFS pool"},
		"zfs end":    {8*mib - 120<<10, "\x0c\xb1\xba\x00\x00\x00\x00\x00", "a member of a ZFS pool"},
		"swap":       {4096 - 10, "SWAPSPACE2", "swap space"},
		"iso":        {32<<10 + 1, "CD001", "an ISO 9660 file system"},
		"fat":        {82, "FAT32   ", "a FAT file system"},
		"ntfs":       {3, "NTFS    ", "an NTFS file system"},
		"front":      {3 * mib, "x", "data that is not recognised"},
		"back":       {8*mib - 1, "x", "data that is not recognised"},
		"first byte": {0, "\xeb", "data that is not recognised"},
	} {
		d := faultio.NewDisk(8 * mib)
		write(t, d, put.off, []byte(put.text))
		c, err := upgrade.ReadContents(d)
		require.NoError(t, err, name)
		require.False(t, c.Empty(), name)
		require.NotEmpty(t, c.Found, name)
		require.Equal(t, put.what, c.Found[0].What, name)
		digests[c.Digest] = name
		if i := on.onDisk(on.disk.Clone()); put.off < 4*mib {
			write(t, i.disk, put.off, []byte(put.text))
			_, err = i.planInstall("1")
			require.ErrorAs(t, err, new(*upgrade.OccupiedError), name)
			require.ErrorContains(t, err, put.what, name)
		}
	}
	require.Len(t, digests, 19, "each has its own digest")
	bad := unreadableDisk{faultio.NewDisk(8 * mib)}
	_, err = upgrade.ReadContents(bad)
	require.ErrorIs(t, err, fs.ErrPermission, "what cannot be read is not empty")
}

type unreadableDisk struct{ *faultio.Disk }

func (d unreadableDisk) ReadAt(b []byte, off int64) (int, error) {
	if off <= 2*mib && off+int64(len(b)) > 2*mib {
		return 0, fs.ErrPermission
	}
	return d.Disk.ReadAt(b, off)
}

// What was agreed is what is lost: another disk, or one that has changed since, is refused, before
// the plan and before the first write.
func TestInstallWhatWasAgreed(t *testing.T) {
	i := newInstallation(t, 40*mib)
	i.putOld(512)
	i.agree()
	agreed := i.options.EraseForEverTheDiskWithThisDigest
	p := i.mustPlan("2")
	require.Equal(t, agreed, p.Erases.Digest)
	require.Contains(t, p.String(), `partition 2 ("acme_1", 2 MiB): an EROFS file system`)
	require.Contains(t, p.String(), "[one way: the point of no return]")
	b, err := json.Marshal(p)
	require.NoError(t, err)
	requireSchema(t, "install", b)

	table, err := partition.Read(i.disk, partition.ReadOptions{})
	require.NoError(t, err)
	table.Partitions[5].Name = "precious"
	require.NoError(t, table.Write(i.disk))
	i.disk.Record()
	_, err = p.Apply(t.Context(), nil)
	require.ErrorAs(t, err, new(*upgrade.ChangedError))
	_, err = i.planInstall("2")
	var occupied *upgrade.OccupiedError
	require.ErrorAs(t, err, &occupied)
	require.Equal(t, agreed, occupied.Agreed)
	require.Empty(t, i.disk.Writes())
	_, err = upgrade.PlanInstall(t.Context(), heldDisk{i.disk, 20 * mib}, i.build("2").Release(), i.machine, i.options)
	require.ErrorAs(t, err, &occupied)
	i.agree()
	held, err := upgrade.PlanInstall(t.Context(), heldDisk{i.disk, 20 * mib}, i.build("2").Release(), i.machine, i.options)
	require.NoError(t, err)
	_, err = held.Apply(t.Context(), nil)
	require.ErrorAs(t, err, new(*upgrade.InUseError))
	require.Empty(t, i.disk.Writes())
}

// Two disks share no identifier but those that the release fixes, and one seed gives the same disk,
// byte by byte.
func TestInstallIdentifiers(t *testing.T) {
	ids := func(seed osmith.GUID) (map[osmith.GUID]bool, []byte) {
		i := withVolume(t, 40*mib)
		i.options.Seed = seed
		i.mustInstall("1")
		table, n := statePartition(t, i.disk)
		list := map[osmith.GUID]bool{table.DiskID: true}
		for _, p := range table.Partitions {
			list[p.ID] = true
		}
		h, err := luks.Read(table.Section(i.disk, n))
		require.NoError(t, err)
		list[osmith.MustParseGUID(h.UUID)] = true
		esp := contentOf(t, table.Section(i.disk, 0))
		var id osmith.GUID
		copy(id[:], esp[67:71]) // volume ID of FAT32; of FAT16 it is at 39
		copy(id[4:], esp[39:43])
		list[id] = true
		return list, contentOf(t, i.disk)
	}
	a, disk := ids(osmith.GUID{1})
	b, _ := ids(osmith.GUID{2})
	same, _ := ids(osmith.GUID{1})
	require.Equal(t, a, same)
	_, again := ids(osmith.GUID{1})
	require.Equal(t, sha256.Sum256(disk), sha256.Sum256(again))
	require.Len(t, a, 9)
	shared := 0
	for id := range maps.Keys(a) {
		if b[id] {
			shared++
		}
	}
	require.Equal(t, 2, shared, "file system and hash tree of the release, whose IDs are its root hash")
}

// What firmware refuses is not installed, and neither is what is another thing by the time that it
// is written.
func TestInstallVerdicts(t *testing.T) {
	i := newInstallation(t, 48*mib)
	other, err := foreign()
	require.NoError(t, err)
	i.builder.Foreign = other
	i.disk.Record()
	p, err := i.planInstall("1")
	require.NoError(t, err)
	_, err = p.Apply(t.Context(), nil)
	require.ErrorAs(t, err, new(*upgrade.SecureBootError))
	require.Empty(t, i.disk.Writes())
	i.builder.Foreign = nil

	// A recovery system that firmware refuses is none.
	i.options.Recovery = &upgrade.RecoverySystem{UKI: source(stripCertificates(t, contentOf(t, i.recovery())))}
	p, err = i.planInstall("1")
	require.NoError(t, err)
	require.ErrorContains(t, p.Refused(), "EFI/Linux/recovery.efi")
	i.options.Recovery = nil

	// Floor.
	i.machine.Floor = "2"
	p, err = i.planInstall("1")
	require.NoError(t, err)
	require.ErrorAs(t, p.Refused(), new(*upgrade.OlderError))
	i.machine.Floor = ""

	// A file system whose blocks are not those of the tree.
	set := i.build("1").Release()
	bad := contentOf(t, set.Root)
	bad[5000] ^= 1
	set.Root = source(bad)
	p, err = upgrade.PlanInstall(t.Context(), i.disk, set, i.machine, i.options)
	require.NoError(t, err)
	_, err = p.Apply(t.Context(), nil)
	require.Error(t, err)
	up, err := i.versionsOf(512, "1").UpOrNothing(i.disk, i.disk.Size())
	require.NoError(t, err)
	require.Equal(t, []string{"", "", ""}, up)

	// A UKI that changes between plan and installation.
	set = i.build("1").Release()
	image := contentOf(t, set.UKI)
	set.UKI = source(image)
	p, err = upgrade.PlanInstall(t.Context(), i.disk, set, i.machine, i.options)
	require.NoError(t, err)
	require.True(t, p.Resumes)
	image[len(image)/2] ^= 1
	_, err = p.Apply(t.Context(), nil)
	require.ErrorAs(t, err, new(*upgrade.ChangedError))
	_, err = p.Apply(t.Context(), nil)
	require.ErrorIs(t, err, upgrade.ErrApplied)
	up, err = i.versionsOf(512, "1").UpOrNothing(i.disk, i.disk.Size())
	require.NoError(t, err)
	require.Equal(t, []string{"", "", ""}, up)
	i.mustInstall("1")
	require.Equal(t, "1", i.boot().Version)
}

// A release that is a UKI alone needs no slots.
func TestInstallUKIAlone(t *testing.T) {
	i := newInstallation(t, 48*mib)
	i.options.Layout.Partitions = slices.Concat(i.options.Layout.Partitions[:1], i.options.Layout.Partitions[5:])
	r := &release.Release{ID: "acme", Version: "1", UKI: i.withUKI(i.build("1"), func(im *uki.Image) { im.Cmdline = "quiet" }, 0).UKI}
	p, err := upgrade.PlanInstall(t.Context(), i.disk, r, i.machine, i.options)
	require.NoError(t, err)
	_, err = p.Apply(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, p.Slot)
	i.alone = true
	require.Equal(t, "1", i.boot().Version)
}

// Keys that a machine in setup mode enrols are on the ESP, and the plan has asked whether
// everything starts with them.
func TestInstallKeys(t *testing.T) {
	i := newInstallation(t, 48*mib)
	e, err := i.builder.Enroll(i.build("1").UKI)
	require.NoError(t, err)
	i.options.Loader.Keys, err = e.LoaderKeys("auto")
	require.NoError(t, err)
	i.options.RandomSeed = noise(32)
	i.machine.Firmware = &osmith.FirmwareVariables{SetupMode: []byte{1}, SecureBoot: []byte{0}}
	p := i.mustInstall("1")
	require.Contains(t, p.String(), "the keys in loader/keys/auto, once they are enrolled, let everything start")
	require.Equal(t, noise(32), read(t, i.esp(), "loader/random-seed"))
	require.NotEmpty(t, read(t, i.esp(), "loader/keys/auto/PK.auth"))

	// Keys with which the recovery system would not start are refused.
	i = newInstallation(t, 48*mib)
	i.options.Loader.Keys, err = e.LoaderKeys("auto")
	require.NoError(t, err)
	i.machine.Firmware = &osmith.FirmwareVariables{SetupMode: []byte{1}, SecureBoot: []byte{0}}
	i.options.Recovery = &upgrade.RecoverySystem{UKI: source(stripCertificates(t, contentOf(t, i.recovery())))}
	p, err = i.planInstall("1")
	require.NoError(t, err)
	require.ErrorAs(t, p.Refused(), new(*upgrade.KeysError))
}

// Firmware gets a boot option, in place of those of the ESP that is lost; that it takes none is no
// failure.
func TestInstallBootOption(t *testing.T) {
	i := newInstallation(t, 48*mib)
	store := &bootloader.MemoryVariables{}
	i.options.Variables = store
	p := i.mustInstall("1")
	require.Equal(t, upgrade.StepBootOption, p.Steps[len(p.Steps)-1].Kind)
	have, err := bootloader.ReadVariables(store)
	require.NoError(t, err)
	require.Len(t, have.Options, 1)
	again, err := i.planInstall("1")
	require.NoError(t, err)
	require.True(t, again.Installed)
	require.Empty(t, again.Steps)

	i.options.Seed = osmith.GUID{8}
	i.agree()
	i.mustInstall("2")
	have, err = bootloader.ReadVariables(store)
	require.NoError(t, err)
	require.Len(t, have.Options, 1, "that of the old ESP is gone")
	require.Equal(t, []uint16{have.Options[0].Number}, have.Order)

	full := newInstallation(t, 48*mib)
	full.options.Variables = &bootloader.MemoryVariables{Quota: 10}
	p = full.mustPlan("1")
	result, err := p.Apply(context.Background(), nil)
	require.NoError(t, err)
	require.ErrorIs(t, result.BootOptionErr, bootloader.ErrVariableRefused)
	require.Equal(t, "1", full.boot().Version)
	again, err = full.planInstall("1")
	require.NoError(t, err)
	require.True(t, again.Installed)
	require.Len(t, again.Steps, 1, "the boot option is tried again")
}

// An encrypted volume opens with its passphrases.
func TestInstallVolume(t *testing.T) {
	i := withVolume(t, 48*mib)
	i.mustInstall("1")
	table, n := statePartition(t, i.disk)
	v, err := luks.Open(table.Window(i.disk, n))
	require.NoError(t, err)
	for _, text := range []string{"first", "second"} {
		_, err := v.Unlock([]byte(text), luks.UnlockOptions{})
		require.NoError(t, err)
	}
	require.Equal(t, "1", i.boot().Version)
}

// A table of which one copy is damaged is put right, and nothing else; what a machine has put there
// since stays.
func TestInstalledTableIsPutRight(t *testing.T) {
	i := newInstallation(t, 48*mib)
	i.mustInstall("1")
	whole := contentOf(t, i.disk)
	table, n := statePartition(t, i.disk)
	at, _ := table.Extent(n)
	copy(whole[at+mib:], "precious")
	for _, sector := range []int64{1, i.disk.Size()/512 - 1} {
		left := i.onDisk(faultio.DiskOf(whole))
		write(t, left.disk, sector*512, make([]byte, 512))
		p, err := left.planInstall("1")
		require.NoError(t, err)
		require.True(t, p.Installed)
		require.Len(t, p.Steps, 1)
		_, err = p.Apply(context.Background(), nil)
		require.NoError(t, err)
		require.Equal(t, "precious", string(contentOf(t, left.disk)[at+mib:][:8]))
		now, err := partition.Read(left.disk, partition.ReadOptions{})
		require.NoError(t, err)
		require.Empty(t, now.Findings())
		require.Equal(t, "1", left.boot().Version)
	}
	// One that has other contents than those of the installation is a disk like any other.
	left := i.onDisk(faultio.DiskOf(whole))
	write(t, left.disk, off(table, 1)+8192, noise(512))
	_, err := left.planInstall("1")
	require.ErrorAs(t, err, new(*upgrade.OccupiedError))
}

// The recovery system is whole after everything that updates do, and is started when the tries of
// the first version are used up.
func TestRecoverySystemStays(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("UKI alone %v", alone), func(t *testing.T) {
			i := newInstallation(t, 48*mib)
			i.options.Recovery = &upgrade.RecoverySystem{UKI: i.recovery()}
			i.options.Tries = 2
			releaseOf := func(version string) *release.Release {
				set := i.build(version)
				if !alone {
					return set.Release()
				}
				return &release.Release{ID: "acme", Version: version, UKI: i.withUKI(set, func(im *uki.Image) { im.Cmdline = "quiet" }, 0).UKI}
			}
			if i.alone = alone; alone {
				i.options.Layout.Partitions = slices.Concat(i.options.Layout.Partitions[:1], i.options.Layout.Partitions[5:])
				// Room for three UKIs, so that upgrades have to make some.
				i.options.Layout.Partitions[0].Size = 3*releaseOf("1").UKI.Size() + i.recovery().Size() + 600<<10
				i.options.Layout.Partitions[0].Size += 4096 - i.options.Layout.Partitions[0].Size%4096
			}
			p, err := upgrade.PlanInstall(t.Context(), i.disk, releaseOf("1"), i.machine, i.options)
			require.NoError(t, err)
			require.NoError(t, p.Refused())
			require.Len(t, p.Chain, 2, "%v", p.Chain)
			require.Equal(t, "EFI/Linux/recovery.efi", p.Chain[1].Entry)
			_, err = p.Apply(t.Context(), nil)
			require.NoError(t, err)

			var started []string
			for _, c := range i.machineOf(bootloader.Variables{}).Chain(4) {
				require.Equal(t, oracle.OutcomeStarted, c.Outcome)
				started = append(started, plain(c.Entry.Path))
			}
			require.Equal(t, []string{"EFI/Linux/acme_1.efi", "EFI/Linux/acme_1.efi", "EFI/Linux/recovery.efi"}, started[:3])

			want := contentOf(t, i.options.Recovery.UKI)
			stays := func(what string) {
				t.Helper()
				require.Equal(t, want, read(t, i.esp(), "EFI/Linux/recovery.efi"), what)
			}
			b := i.bootAndRun()
			require.Equal(t, "1", b.Version)
			require.NoError(t, i.commit(b))
			i.bootAndRun()
			for n := 2; n < 7; n++ {
				version := fmt.Sprint(n)
				p, err := upgrade.NewPlan(t.Context(), i.disk, releaseOf(version), i.machine, upgrade.PlanOptions{})
				require.NoError(t, err)
				require.NoError(t, p.Apply(t.Context(), nil))
				stays("upgrade to " + version)
				if n == 3 {
					_, err := upgrade.Cancel(i.disk, i.machine)
					require.NoError(t, err)
					stays("cancel")
					continue
				}
				b := i.bootAndRun()
				require.Equal(t, version, b.Version)
				require.NoError(t, i.commit(b))
				i.bootAndRun()
				_, err = upgrade.Collect(i.disk, i.machine)
				require.NoError(t, err)
				stays("collect")
			}
			state, err := upgrade.Inspect(i.disk, i.machine)
			require.NoError(t, err)
			require.Empty(t, state.Garbage)
			mirror := i.another()
			require.NoError(t, mirror.esp().Remove("EFI/Linux/recovery.efi"))
			_, err = upgrade.Mirror(t.Context(), i.disk, mirror.disk, i.machine, upgrade.MirrorOptions{})
			require.NoError(t, err)
			require.Equal(t, want, read(t, mirror.esp(), "EFI/Linux/recovery.efi"), "a mirror gets it")
			require.NoError(t, rollback(i.disk, i.machine, ""))
			stays("rollback")
		})
	}
}

// What an update might take for a version of the system is no recovery system.
func TestRecoverySystemRefused(t *testing.T) {
	own := func(i *installation, cmdline, osRelease string) osmith.Source {
		return i.withUKI(i.build("0"), func(im *uki.Image) { im.Cmdline, im.OSRelease = cmdline, []byte(osRelease) }, 0).UKI
	}
	for _, tt := range []struct{ name, file, cmdline, osRelease, want string }{
		{"name of a version", "acme_rescue", "rescue", "ID=rescue\n", "the name is that of a version of acme"},
		{"name in capitals", "ACME_9", "rescue", "ID=rescue\n", "the name is that of a version of acme"},
		{"counter", "rescue+3", "rescue", "ID=rescue\n", "a slash or a boot counter"},
		{"directory", "x/rescue", "rescue", "ID=rescue\n", "a slash or a boot counter"},
		{"product", "rescue", "rescue", "ID=acme\nIMAGE_ID=acme\nIMAGE_VERSION=0\n", "give it an IMAGE_ID or a VARIANT_ID of its own"},
		{"root hash", "rescue", "", "ID=rescue\n", "want one that runs from its initrd"},
	} {
		i := newInstallation(t, 48*mib)
		cmdline := tt.cmdline
		if cmdline == "" {
			cmdline = fmt.Sprintf("roothash=%x", i.build("0").RootHash)
		}
		i.options.Recovery = &upgrade.RecoverySystem{Name: tt.file, UKI: own(i, cmdline, tt.osRelease)}
		_, err := i.planInstall("1")
		require.ErrorAs(t, err, new(*upgrade.RecoveryError), tt.name)
		require.ErrorContains(t, err, tt.want, tt.name)
	}
	i := newInstallation(t, 48*mib)
	i.options.Recovery = &upgrade.RecoverySystem{UKI: own(i, "rescue", "ID=acme\nIMAGE_ID=acme\nVARIANT_ID=rescue\nIMAGE_VERSION=0\n")}
	_, err := i.planInstall("1")
	require.NoError(t, err)

	// One that the loader would start first is refused.
	i.options.Recovery = &upgrade.RecoverySystem{UKI: own(i, "rescue", "ID=aaa\nIMAGE_ID=aaa\nIMAGE_VERSION=0\n")}
	p, err := i.planInstall("1")
	require.NoError(t, err)
	require.ErrorContains(t, p.Refused(), "the loader prefers EFI/Linux/recovery.efi")
}

// A disk with shim starts through it: by the boot option, by EFI/BOOT and in the verdicts, whatever
// the machine has been started through.
func TestInstallShim(t *testing.T) {
	k, err := keys()
	require.NoError(t, err)
	other, err := foreign()
	require.NoError(t, err)
	vendor, firmware := k.SecureBoot.PK.Cert, k.SecureBoot.DB
	through := func(shim osmith.Source) *installation {
		i := newInstallation(t, 48*mib)
		i.machine.FirmwareKind, i.options.Variables = secureboot.FirmwareEDK2Stable202608, &bootloader.MemoryVariables{}
		f, none := *i.machine.Firmware, []byte{}
		f.SbatLevel, f.SbatPolicy, f.MokList, f.MokListX, f.MokSBState, f.MokDBState, f.MokPolicy = none, none, none, none, none, none, none
		i.machine.Firmware, i.options.Loader.Shim = &f, shim
		return i
	}
	i := through(shimFor(t, firmware, vendor))
	i.machine.NoShim = true // as the installer was started
	p := i.mustPlan("1")
	_, err = p.Apply(t.Context(), nil)
	require.NoError(t, err)
	have, err := bootloader.ReadVariables(i.options.Variables)
	require.NoError(t, err)
	require.Contains(t, have.Options[0].Path, `shimx64.efi`)
	for _, dir := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/systemd/shimx64.efi"} {
		require.Equal(t, contentOf(t, i.options.Loader.Shim), read(t, i.esp(), dir))
	}

	// Shim that firmware refuses, and images that neither shim nor firmware trusts, although
	// another shim would do.
	i = through(shimFor(t, other.SecureBoot.DB, vendor))
	i.machine.Shim = shimFor(t, firmware, vendor)
	p, err = i.planInstall("1")
	require.NoError(t, err)
	var refused *upgrade.SecureBootError
	require.ErrorAs(t, p.Refused(), &refused)
	require.Equal(t, "shim", refused.Path)

	i = through(nil)
	i.builder.Foreign = other
	i.machine.Shim = shimFor(t, firmware, other.SecureBoot.DB.Cert)
	p, err = i.planInstall("1")
	require.NoError(t, err)
	require.ErrorAs(t, p.Refused(), new(*upgrade.SecureBootError))
}

// A loader that changes after it was judged is installed as it was.
func TestInstallLoaderChanges(t *testing.T) {
	i := newInstallation(t, 48*mib)
	loader := contentOf(t, i.options.Loader.Loader)
	i.options.Loader.Loader = source(loader)
	p := i.mustPlan("1")
	judged := bytes.Clone(loader)
	loader[len(loader)/2] ^= 1
	_, err := p.Apply(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, judged, read(t, i.esp(), "EFI/BOOT/BOOTX64.EFI"))
	require.Equal(t, judged, read(t, i.esp(), "EFI/systemd/systemd-bootx64.efi"))
}
