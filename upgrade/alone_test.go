package upgrade_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/layouts"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// aloneDisk is a disk without slots, whose sets are UKIs alone. Its ESP has room for three.
func aloneDisk(t *testing.T) (*system, *diskKind) {
	k := &diskKind{esp: fat.BuildOptions{Kind: 16, Size: 5 << 19, ClusterSize: 512}, alone: true, fill: leaveRoomForThree}
	return k.on(t), k
}

// Sets stay while there is room; then those go that have failed, then the oldest. What runs and
// what the machine returns to stays.
func TestUKIsAlone(t *testing.T) {
	s, k := aloneDisk(t)
	entries := func() (list []string) {
		state, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		for _, e := range state.Entries {
			list = append(list, e.Path)
		}
		return list
	}
	next := func(version string, good bool) *upgrade.Plan {
		t.Helper()
		p := s.planOf(k.release(s, version), upgrade.PlanOptions{Tries: 1})
		require.NoError(t, p.Refused(), "%s", p)
		require.Nil(t, p.Target)
		require.NoError(t, p.Apply(t.Context(), nil))
		b := s.bootAndRun()
		require.Equal(t, version, b.Version)
		require.Nil(t, b.RootHash)
		if good {
			require.NoError(t, s.commit(b))
		}
		return p
	}
	next("2", true)
	next("3", false)
	require.Equal(t, []string{"EFI/Linux/acme_2.efi", "EFI/Linux/acme_1.efi", "EFI/Linux/acme_3+0-1.efi"}, entries(), "there was room")
	require.Equal(t, "2", s.bootAndRun().Version, "it used up its try")
	p := next("4", true)
	require.Contains(t, p.String(), "upgrade to version 4, from EFI/Linux/acme_2.efi")
	require.Equal(t, []string{"EFI/Linux/acme_4.efi", "EFI/Linux/acme_2.efi", "EFI/Linux/acme_1.efi"}, entries(), "what has failed went first")
	require.Contains(t, string(read(t, s.esp(), "EFI/osmith/failed.json")), `"version": "3"`)
	next("5", true)
	require.Equal(t, []string{"EFI/Linux/acme_5.efi", "EFI/Linux/acme_4.efi", "EFI/Linux/acme_2.efi"}, entries(), "then the oldest")
	require.True(t, s.planOf(k.release(s, "5"), upgrade.PlanOptions{}).Installed)
	require.Contains(t, s.planOf(k.release(s, "5"), upgrade.PlanOptions{}).String(), "version 5 is installed as EFI/Linux/acme_5.efi")

	// A set that was never found good makes room before an older one that was.
	p = s.planOf(k.release(s, "5.1"), upgrade.PlanOptions{})
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, []string{"EFI/Linux/acme_5.1+3.efi", "EFI/Linux/acme_5.efi", "EFI/Linux/acme_4.efi"}, entries())
	p = s.planOf(k.release(s, "5.2"), upgrade.PlanOptions{})
	require.Equal(t, upgrade.StepRemoveEntry, p.Steps[0].Kind)
	require.Equal(t, "EFI/Linux/acme_5.1+3.efi", p.Steps[0].Target)
	require.NotEqual(t, upgrade.StepRemoveEntry, p.Steps[1].Kind)
	_, err := upgrade.Cancel(s.disk, s.machine)
	require.NoError(t, err)

	// With an uncommitted set that runs, the last good one is what the chain ends with.
	p = s.planOf(k.release(s, "6"), upgrade.PlanOptions{})
	require.NoError(t, p.Apply(t.Context(), nil))
	s.bootAndRun()
	p = s.planOf(k.release(s, "7"), upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomeWarn, verdict(t, p, upgrade.ProofReturns).Outcome)
	require.Equal(t, "EFI/Linux/acme_5.efi", p.Chain[len(p.Chain)-1].Entry)
}

// A UKI alone follows a UKI alone, and a set with a file system needs a slot.
func TestUKIAloneIsRefused(t *testing.T) {
	s, k := aloneDisk(t)
	_, err := upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
	require.ErrorIs(t, err, partition.ErrNoSlots)

	r := *k.release(s, "2")
	r.UKI = s.build("2").UKI
	p := s.planOf(&r, upgrade.PlanOptions{})
	require.ErrorAs(t, p.Refused(), new(*upgrade.RootHashError))

	slots := newSystem(t, "")
	slots.bootAndRun()
	_, err = upgrade.NewPlan(t.Context(), slots.disk, k.release(s, "2"), slots.machine, upgrade.PlanOptions{})
	require.ErrorContains(t, err, "the release is a UKI alone, but EFI/Linux/acme_1.efi, which runs, is not")

	// A rescue system without a root hash is no set to return to.
	rescue := slots.withUKI(slots.build("0"), func(im *uki.Image) { im.Cmdline = "rescue" }, 0).UKI
	require.NoError(t, slots.esp().WriteFile("EFI/Linux/acme_0.efi", rescue))
	require.NoError(t, slots.esp().Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1+1.efi"))
	slots.machine.Running.Image = "EFI/Linux/acme_1+1.efi"
	p = slots.plan(slots.build("2"), upgrade.PlanOptions{})
	require.ErrorAs(t, p.Refused(), new(*upgrade.UnboundError))

	for _, r := range []release.Release{{UKI: r.UKI, Tree: r.UKI}, {UKI: r.UKI, RootHash: make([]byte, 32)}, {}} {
		_, err = upgrade.NewPlan(t.Context(), s.disk, &r, s.machine, upgrade.PlanOptions{})
		require.ErrorContains(t, err, "a release needs a UKI, and a root file system with its hash tree unless the UKI is all of it")
	}
}

// What a UKI alone runs as is told by its version; after kexec it is not the one that firmware has
// started.
func TestUKIAloneThatRuns(t *testing.T) {
	s, k := aloneDisk(t)
	p := s.planOf(k.release(s, "2"), upgrade.PlanOptions{})
	require.NoError(t, p.Apply(t.Context(), nil))
	running := *s.machine.Running
	running.Version = "2" // by kexec
	s.machine.Running = &running
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Equal(t, []string{"EFI/Linux/acme_2+3.efi", "EFI/Linux/acme_1.efi"}, []string{state.Running.Path, state.Started.Path})
	_, err = upgrade.Commit(s.disk, s.machine, "")
	require.ErrorAs(t, err, new(*upgrade.NotStartedError))
	p = s.planOf(k.release(s, "3"), upgrade.PlanOptions{})
	require.NoError(t, p.Refused(), "there is room")
	esp := s.esp()
	require.NoError(t, esp.WriteFile("EFI/acme/more", source(make([]byte, 8<<10))))
	p = s.planOf(k.release(s, "3"), upgrade.PlanOptions{})
	require.ErrorAs(t, p.Refused(), new(*upgrade.ESPSpaceError))
	for _, step := range p.Steps {
		require.NotEqual(t, upgrade.StepRemoveEntry, step.Kind, "both are in use")
	}
	running.Version = "9"
	_, err = upgrade.Inspect(s.disk, s.machine)
	require.ErrorContains(t, err, "a UKI alone of the version 9 of Machine.Running is not on the disk")
	running.Version = ""
	_, err = upgrade.Inspect(s.disk, s.machine)
	require.ErrorIs(t, err, upgrade.ErrRunningUnknown)
}

// A layout whose versions something else chooses is named.
func TestOtherLayouts(t *testing.T) {
	for want, layout := range map[string]partition.Layout{
		"laid out as by Flatcar, where GRUB chooses the version":     layouts.Flatcar(),
		"laid out as by ChromeOS, where firmware chooses the kernel": layouts.ChromeOS(),
		"laid out as by Bottlerocket, where GRUB chooses the set":    layouts.Bottlerocket(),
		"no A/B slots: no root or usr partitions":                    layouts.Talos(),
	} {
		layout.LayoutOnly, layout.Size = true, 128<<30
		for i := range layout.Partitions {
			if layout.Partitions[i].Type == partition.ESP {
				volume, err := fat.Plan(nil, fat.BuildOptions{Kind: 12, Size: 2 << 20})
				require.NoError(t, err)
				layout.Partitions[i].Content, layout.Partitions[i].Fill = volume, nil
			}
		}
		if layout.Seed.IsZero() {
			layout.Seed[0] = 1
		}
		image, err := partition.Plan(layout)
		require.NoError(t, err, want)
		disk := faultio.NewDisk(image.Size)
		require.NoError(t, partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}), want)
		state, err := upgrade.Inspect(disk, upgrade.Machine{Offline: true})
		require.NoError(t, err, want)
		require.ErrorContains(t, state.Problems[0], want)
		require.ErrorIs(t, state.Problems[0], partition.ErrNoSlots)
	}
}

// What makes room is of the same product: another system's UKIs stay, and then there is no room.
func TestUKIsAloneOfOthersStay(t *testing.T) {
	s, k := aloneDisk(t)
	for _, version := range []string{"0", "1"} {
		other := s.withUKI(s.build("1"), func(im *uki.Image) {
			im.Cmdline, im.OSRelease = "other", []byte("ID=other\nIMAGE_ID=other\nIMAGE_VERSION="+version+"\n")
		}, 0).UKI
		require.NoError(t, s.esp().WriteFile("EFI/Linux/other_"+version+"+0-1.efi", other))
	}
	p := s.planOf(k.release(s, "2"), upgrade.PlanOptions{})
	require.ErrorAs(t, p.Refused(), new(*upgrade.ESPSpaceError))
	for _, step := range p.Steps {
		require.NotEqual(t, upgrade.StepRemoveEntry, step.Kind, step.Target)
	}
}
