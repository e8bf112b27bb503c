package upgrade_test

import (
	"fmt"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
)

// littered runs version 2 beside version 1, with files of which some are garbage.
func littered(t *testing.T) (s *system, garbage []string) {
	t.Helper()
	s = newSystem(t, "")
	s.install(s.build("2"))
	esp := s.esp()
	other := s.build("0")
	image := contentOf(t, other.UKI)
	foreign := contentOf(t, s.withUKI(other, func(im *uki.Image) {
		im.OSRelease = []byte("ID=other\nIMAGE_ID=other\nIMAGE_VERSION=0\nVERSION_ID=0\n")
	}, 0).UKI)
	for _, f := range []struct {
		name    string
		content []byte
		garbage bool
	}{
		{"EFI/Linux/acme_0.efi", image, true}, // its slot has another version by now
		{"EFI/Linux/acme_0.efi.extra.d/a.addon.efi", []byte("an add-on"), true},
		{"EFI/Linux/acme_0.efi.extra.d/secret.cred", []byte("a credential"), false},
		{"EFI/Linux/acme_0b+0-3.efi", image, true},
		{"EFI/Linux/acme_9.osmith-staged", []byte("a piece"), true},
		{"EFI/Linux/acme_9+3.efi", nil, true}, // it was to appear there
		{"EFI/Linux/acme_7+1-2.efi.extra.d/b.addon.efi", []byte("an add-on"), true},
		{"EFI/Linux/acme_7+1-2.efi.extra.d/b.cred", []byte("a credential"), false},
		{"EFI/Linux/rescue.efi", image, false}, // named by Machine.Keep
		{"EFI/Linux/other_0.efi", foreign, false},
		{"EFI/Linux/acme_1.efi.extra.d/c.cred", []byte("of the version that may come back"), false},
		{"EFI/Linux/notes.txt", []byte("x"), false},
		{"EFI/acme/tool.efi", []byte("x"), false},
	} {
		require.NoError(t, esp.MkdirAll(path.Dir(f.name)))
		require.NoError(t, esp.WriteFile(f.name, source(f.content)))
		if f.garbage {
			garbage = append(garbage, f.name)
		}
	}
	s.machine.Keep = []string{"rescue.efi"}
	s.machine.Loader = &bootloader.Variables{}
	s.bootAndRun()
	return s, garbage
}

func paths(list []upgrade.Garbage) (names []string) {
	for _, g := range list {
		names = append(names, g.Path)
	}
	return names
}

// Garbage is what is known to be garbage, is taken away without anything else, and on a mounted ESP
// as well.
func TestGarbage(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		s, want := littered(t)
		if mounted {
			s.mount()
		}
		state, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		require.NoError(t, state.GarbageErr)
		require.ElementsMatch(t, want, paths(state.Garbage))
		require.Contains(t, state.String(), "garbage EFI/Linux/acme_0.efi (")
		before := listing(t, s)
		gone, err := upgrade.Collect(s.disk, s.machine)
		require.NoError(t, err)
		require.ElementsMatch(t, want, paths(gone))
		after := listing(t, s)
		require.Len(t, after, len(before)-len(want))
		for _, name := range want {
			require.NotContains(t, after, name)
		}
		again, err := upgrade.Collect(s.disk, s.machine)
		require.NoError(t, err)
		require.Empty(t, again)
		require.Equal(t, "2", s.boot().Version)
	}
}

// What is not known makes nothing garbage.
func TestGarbageIsKnown(t *testing.T) {
	s, _ := littered(t)
	for name, change := range map[string]func(m *upgrade.Machine){
		"what runs":            func(m *upgrade.Machine) { m.Running = nil },
		"the loader variables": func(m *upgrade.Machine) { m.Loader = nil },
	} {
		m := s.machine
		change(&m)
		_, err := upgrade.Collect(s.disk, m)
		require.Error(t, err, name)
	}
	// A root file system somewhere else on the disk is not gone.
	elsewhere := s.on(s.disk.Clone())
	table, err := partition.Read(elsewhere.disk, partition.ReadOptions{})
	require.NoError(t, err)
	table.Partitions[0].ID, _, err = partition.VerityIDs(s.build("0").RootHash)
	require.NoError(t, err)
	require.NoError(t, table.Write(elsewhere.disk))
	elsewhere.machine.Offline, elsewhere.machine.Running = true, nil
	found, err := upgrade.Inspect(elsewhere.disk, elsewhere.machine)
	require.NoError(t, err)
	require.NotContains(t, paths(found.Garbage), "EFI/Linux/acme_0.efi")
	// Without Keep, the rescue system of the same product has no root file system either.
	m := s.machine
	m.Keep = nil
	state, err := upgrade.Inspect(s.disk, m)
	require.NoError(t, err)
	require.Contains(t, paths(state.Garbage), "EFI/Linux/rescue.efi")
	// What the loader starts next is none, even if it cannot boot.
	m.Loader = &bootloader.Variables{EntryOneShot: "acme_0.efi"}
	state, err = upgrade.Inspect(s.disk, m)
	require.NoError(t, err)
	require.NotContains(t, paths(state.Garbage), "EFI/Linux/acme_0.efi")
	m.Loader = &bootloader.Variables{EntryDefault: "rescue.efi"}
	_, err = upgrade.Collect(s.disk, m)
	require.ErrorIs(t, err, upgrade.ErrNothingToReturnTo)
}

// A plan takes as much garbage away as it needs the room of, and none if it needs none.
func TestPlanCollectsGarbage(t *testing.T) {
	s, want := littered(t)
	release := s.build("3").Release()
	removed := func(p *upgrade.Plan) (names []string) {
		for _, step := range p.Steps {
			if step.Kind == upgrade.StepRemoveEntry || step.Kind == upgrade.StepRemoveAddon || step.Kind == upgrade.StepRemoveStaged {
				names = append(names, step.Target)
			}
		}
		return names
	}
	p, err := upgrade.NewPlan(t.Context(), s.disk, release, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NotContains(t, removed(p), "EFI/Linux/acme_0.efi")

	esp := s.esp()
	old := contentSize(s, "EFI/Linux/acme_1.efi")
	require.NoError(t, esp.WriteFile("EFI/acme/filler", source(make([]byte, esp.Free()-20<<10))))
	require.Less(t, esp.Free()+old, old+release.UKI.Size())
	p, err = upgrade.NewPlan(t.Context(), s.disk, release, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, p.Refused(), "%s", p)
	require.Contains(t, fmt.Sprint(want), removed(p)[0])
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, "3", s.boot().Version)
}

// A recovery system that Machine.Keep names keeps its slot.
func TestKeptEntry(t *testing.T) {
	s := newSystem(t, "")
	s.install(s.build("2"))
	s.bootAndRun()
	s.machine.Keep = []string{"acme_1.efi"}
	_, err := upgrade.NewPlan(t.Context(), s.disk, s.build("3").Release(), s.machine, upgrade.PlanOptions{})
	var none *upgrade.NoTargetError
	require.ErrorAs(t, err, &none)
}
