package upgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// A version before another, as "2~rc1" is, is followed by it and not the other way round.
func TestTildeVersions(t *testing.T) {
	s := newSystem(t, "")
	for _, version := range []string{"2~rc1", "2~rc2", "2", "2.1~beta"} {
		s.bootAndRun()
		p := s.plan(s.build(version), upgrade.PlanOptions{})
		require.NoError(t, p.Refused(), "%s", p)
		require.NoError(t, p.Apply(t.Context(), nil))
		b := s.bootAndRun()
		require.Equal(t, version, b.Version)
		require.NoError(t, s.commit(b))
		require.Equal(t, version, s.boot().Version)
	}
	s.bootAndRun()
	require.ErrorAs(t, s.plan(s.build("2.1~alpha"), upgrade.PlanOptions{}).Refused(), new(*upgrade.OlderError))
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"2", "2.1~beta"}, []string{state.Slots[0].Version, state.Slots[1].Version})
}

// What runs may be a Type #1 entry with a kernel and initrds of its own; the first UKI comes beside
// it, and it is what the machine returns to.
func TestType1Runs(t *testing.T) {
	s := newSystem(t, "262")
	esp := s.esp()
	hash := s.build("1").RootHash
	// a program that firmware starts
	file(s, esp, "acme/1/linux", contentOf(t, s.signedLoader("262")))
	file(s, esp, "acme/1/initrd", []byte("initrd"))
	conf(s, esp, "acme-1.conf", fmt.Sprintf("title Acme OS\nsort-key acme\nversion 1\nlinux /acme/1/linux\ninitrd /acme/1/initrd\noptions roothash=%x quiet\n", hash))
	require.NoError(t, esp.Remove("EFI/Linux/acme_1.efi"))
	s.machine.Offline, s.machine.Running = false, &upgrade.Running{Image: "acme-1.conf", RootHash: hash}

	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Equal(t, "loader/entries/acme-1.conf", state.Running.Path)
	require.Equal(t, "A", state.Running.Slot.Name())
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	require.NoError(t, p.Refused(), "%s", p)
	require.Contains(t, texts(verdict(t, p, upgrade.ProofFollows)), "whether the release is for the running product is unknown")
	require.Equal(t, "[EFI/Linux/acme_2+3.efi 3 times loader/entries/acme-1.conf returns]", fmt.Sprint(p.Chain))
	require.NoError(t, p.Apply(t.Context(), nil))
	b := s.bootAndRun()
	require.Equal(t, "2", b.Version)
	require.NoError(t, s.commit(b))

	// The next upgrade takes its slot, and the files that only it needed go with it.
	p = s.plan(s.build("3"), upgrade.PlanOptions{})
	var removed []string
	for _, step := range p.Steps {
		if step.Kind == upgrade.StepRemoveEntry || step.Kind == upgrade.StepRemoveFile {
			removed = append(removed, step.Target)
		}
	}
	require.Equal(t, []string{"loader/entries/acme-1.conf", "acme/1/linux", "acme/1/initrd"}, removed)
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, "3", s.boot().Version)
}

// The worst moment has a cluster more for the directory, which may have no room for the new name:
// with one less than that the plan is refused, and with it the upgrade goes through.
func TestDirectoryOfTheESPGrows(t *testing.T) {
	k := &diskKind{esp: fat.BuildOptions{Kind: 16, Size: 5 << 19, ClusterSize: 512}}
	for _, more := range []int64{0, 512} {
		s := k.on(t)
		esp := s.esp()
		cluster := esp.ClusterSize()
		r := k.release(s, "2")
		need := (r.UKI.Size() + cluster - 1) / cluster * cluster
		require.NoError(t, esp.MkdirAll("EFI/acme"))
		require.NoError(t, esp.WriteFile("EFI/acme/filler", source(make([]byte, esp.Free()-need-more))))
		require.Equal(t, need+more, esp.Free())
		p := s.planOf(r, upgrade.PlanOptions{})
		if more == 0 {
			require.ErrorAs(t, p.Refused(), new(*upgrade.ESPSpaceError))
			continue
		}
		require.NoError(t, p.Refused())
		require.NoError(t, p.Apply(t.Context(), nil))
		require.Equal(t, "2", s.boot().Version)
	}
}

// A file of one name on the ESP and on the extended boot loader partition is told apart by the
// partition that firmware has started it from, and what goes from one gives no room on the other.
func TestExtendedBootLoaderPartitionIsApart(t *testing.T) {
	k := &diskKind{esp: fat.BuildOptions{Kind: 16, Size: 4 << 20, ClusterSize: 512}, apart: true}
	s := k.on(t)
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	ids := map[osmith.GUID]osmith.GUID{}
	for _, p := range table.Partitions {
		ids[p.Type] = p.ID
	}
	b := contentOf(t, k.release(s, "1").UKI)
	file(s, s.esp(), "EFI/Linux/acme_1.efi", b)
	running := *s.machine.Running
	s.machine.Running = &running
	for _, c := range []struct {
		from osmith.GUID
		want string
	}{{partition.ESP, "EFI/Linux/acme_1.efi"}, {partition.XBOOTLDR, "xbootldr:EFI/Linux/acme_1.efi"}} {
		running.ESP = ids[c.from]
		state, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		require.Equal(t, c.want, state.Running.Path)

		// A new UKI comes where the running one is.
		p := s.planOf(k.release(s, "2"), upgrade.PlanOptions{})
		require.NoError(t, p.Refused())
		require.Equal(t, strings.Replace(c.want, "acme_1.efi", "acme_2.osmith-staged", 1), p.Steps[len(p.Steps)-1].Target)
	}

	// Version 2 is on the extended one, the old UKI alone on the ESP, and no room for a third on
	// the extended one.
	require.NoError(t, s.planOf(k.release(s, "2"), upgrade.PlanOptions{}).Apply(t.Context(), nil))
	running.ESP = osmith.GUID{}
	require.NoError(t, s.commit(s.bootAndRun()))
	i := slices.IndexFunc(table.Partitions, func(p partition.Partition) bool { return p.Type == partition.XBOOTLDR })
	extended, err := fat.Open(table.Window(s.disk, i))
	require.NoError(t, err)
	require.NoError(t, extended.Remove("EFI/Linux/acme_1.efi"))
	require.NoError(t, extended.WriteFile("filler", source(make([]byte, extended.Free()-int64(len(b))/2))))
	p := s.planOf(k.release(s, "3"), upgrade.PlanOptions{})
	require.Equal(t, upgrade.Step{Kind: upgrade.StepRemoveEntry, Target: "EFI/Linux/acme_1.efi", Cut: p.Steps[0].Cut, OneWay: true}, p.Steps[0])
	require.ErrorAs(t, p.Refused(), new(*upgrade.ESPSpaceError))
}
