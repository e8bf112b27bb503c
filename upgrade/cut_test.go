package upgrade_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity"
)

// record applies the upgrade to set and returns the disk with all its writes.
func (s *system) record(version string) (*faultio.Disk, *upgrade.Plan) {
	s.t.Helper()
	p := s.plan(s.build(version), upgrade.PlanOptions{})
	s.disk.Record()
	require.NoError(s.t, p.Apply(context.Background(), nil))
	return s.disk, p
}

// TestPowerCut cuts an upgrade at every write and boots what is left: the old version, until the
// last write makes it the new one. Then the upgrade is planned again and goes through.
func TestPowerCut(t *testing.T) {
	tests := []struct {
		name, from, to string
		before         func(s *system)
	}{
		{"into-empty-slot", "1", "2", func(s *system) {}},
		{"over-old-version", "2", "3", func(s *system) { s.install(s.build("2")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystem(t, "")
			tt.before(s)
			disk, _ := s.record(tt.to)
			set := s.build(tt.to)
			writes := disk.Writes()
			require.Greater(t, len(writes), 10)

			check := func(cut *faultio.Disk, last bool) {
				t.Helper()
				want := tt.from
				if last {
					want = tt.to
				}
				left := s.on(cut.Clone())
				left.requireEntriesWhole()
				require.Equal(t, want, left.boot().Version)
			}
			for k := range writes {
				check(disk.Prefix(k), false)
				// A write of several sectors may stop after any of them; halves stand for all.
				if half := len(writes[k].Data) / 2 / 512 * 512; half > 0 {
					check(disk.Torn(k, half), false)
				}
			}
			check(disk.Prefix(len(writes)), true)

			for k := 0; k < len(writes); k += 1 + k%3 {
				again := s.on(disk.Prefix(k))
				again.boot()
				p := again.plan(set, upgrade.PlanOptions{})
				require.NoError(t, p.Apply(context.Background(), nil), "after a cut behind write %d", k)
				require.Equal(t, tt.to, again.boot().Version)
			}
		})
	}
}

// requireEntriesWhole asserts that whatever the loader could boot has a slot with its whole root
// file system.
func (s *system) requireEntriesWhole() {
	s.t.Helper()
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(s.t, err)
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	for _, e := range state.Entries {
		require.NotNil(s.t, e.Slot, "%s has no slot", e.Path)
		data, tree, err := partition.VerityIDs(e.RootHash)
		require.NoError(s.t, err)
		require.NoError(s.t, verity.Verify(context.Background(),
			table.Section(s.disk, table.Find(data)), table.Section(s.disk, table.Find(tree)), e.RootHash), e.Path)
	}
}

// TestLeftoversAreRepaired cuts between the FAT and the directory, again and again: the ESP does
// not fill up.
func TestLeftoversAreRepaired(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	whole := s.on(s.disk.Clone())
	whole.record("2")
	repaired := 0
	for k := range whole.disk.Writes() {
		left := s.on(whole.disk.Prefix(k))
		p := left.plan(set, upgrade.PlanOptions{})
		if p.Steps[0].Kind == upgrade.StepRepairESP {
			repaired++
		}
		require.NoError(t, p.Apply(context.Background(), nil))
		require.Equal(t, free(t, whole), free(t, left), "after a cut behind write %d", k)
	}
	require.NotZero(t, repaired)
}

func free(t *testing.T, s *system) int64 {
	t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	esp := table.Section(s.disk, 0)
	f, err := fat.OpenReader(esp)
	require.NoError(t, err)
	return f.Free()
}

// TestPowerCutReordered cuts on a medium that writes in any order between two syncs. Which of the
// two versions boots is then open around the last write, but one of them does.
func TestPowerCutReordered(t *testing.T) {
	s := newSystem(t, "")
	s.install(s.build("2"))
	disk, _ := s.record("3")
	seed := rand.New(rand.NewPCG(2, 262))
	for k := 1; k <= len(disk.Writes()); k++ {
		for range 3 {
			lost := disk.Lossy(k, func(int) bool { return seed.IntN(2) == 0 })
			got := s.on(lost).boot().Version
			require.Contains(t, []string{"2", "3"}, got)
			if k < len(disk.Writes()) {
				require.Equal(t, "2", got, "before the last write")
			}
		}
	}
}

// TestCutWhileRunning lets Apply itself meet the cut: an error, and the disk as it was.
func TestCutWhileRunning(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	for _, k := range []int{0, 1, 5, 9} {
		cut := s.on(s.disk.Clone())
		p := cut.plan(set, upgrade.PlanOptions{})
		cut.disk.CutAfter(k)
		require.ErrorIs(t, p.Apply(context.Background(), nil), faultio.ErrCut)
		require.Equal(t, "1", s.on(cut.disk.Clone()).boot().Version)
	}
}
