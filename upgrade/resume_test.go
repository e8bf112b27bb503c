package upgrade_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// readDisk tells what is read and written, in its order.
type readDisk struct {
	*faultio.Disk
	mu   sync.Mutex
	note func(write bool, off int64)
}

func (d *readDisk) ReadAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	d.note(false, off)
	d.mu.Unlock()
	return d.Disk.ReadAt(b, off)
}

func (d *readDisk) WriteAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	d.note(true, off)
	d.mu.Unlock()
	return d.Disk.WriteAt(b, off)
}

// An upgrade that was not interrupted reads nothing of the slot before it has written it.
func TestFreshSlotIsNotRead(t *testing.T) {
	s := newSystem(t, "")
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	i := slices.IndexFunc(table.Partitions, func(p partition.Partition) bool {
		return p.Type == partition.RootX8664 && p.Name == partition.EmptyName
	})
	from, size := table.Extent(i)
	var order []bool
	disk := &readDisk{Disk: s.disk, note: func(write bool, off int64) {
		if off >= from && off < from+size {
			order = append(order, write)
		}
	}}
	p, err := upgrade.NewPlan(t.Context(), disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	order = nil
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Contains(t, order, false, "it is verified afterwards")
	require.True(t, order[0], "the first is a write")
}

// An upgrade that was interrupted goes on where it was: what of the root file system is in the slot
// is not written again, and what is damaged there is.
func TestResume(t *testing.T) {
	s := newSystemOn(t, "", acmeos.DiskOptions{Slots: 2, RootSize: 8 << 20})
	root := make([]byte, 3<<20)
	for i := range root {
		root[i] = byte(i>>9) ^ byte(i)
	}
	set := s.buildWith("2", root)
	require.NoError(t, s.plan(set, upgrade.PlanOptions{}).Refused())
	whole := s.on(s.disk.Clone())
	whole.disk.Record()
	require.NoError(t, whole.plan(set, upgrade.PlanOptions{}).Apply(t.Context(), nil))
	slot := func(d *system, writes []faultio.Write) (bytes int64) {
		table, err := partition.Read(d.disk, partition.ReadOptions{})
		require.NoError(t, err)
		state, err := upgrade.Inspect(d.disk, d.machine)
		require.NoError(t, err)
		for _, slot := range state.Slots {
			if slot.Name() != "B" {
				continue
			}
			off, size := table.Extent(slot.Data)
			for _, w := range writes {
				if w.Offset >= off && w.Offset < off+size {
					bytes += int64(len(w.Data))
				}
			}
		}
		return bytes
	}
	all := slot(whole, whole.disk.Writes())
	require.Greater(t, all, int64(3<<20))
	last := 0 // write into the slot
	for i, w := range whole.disk.Writes() {
		if len(w.Data) == 1<<20 {
			last = i
		}
	}
	left := s.on(whole.disk.Prefix(last))
	left.disk.Record()
	p := left.plan(set, upgrade.PlanOptions{})
	require.NoError(t, p.Apply(t.Context(), nil), "%s", p)
	again := slot(left, left.disk.Writes())
	require.LessOrEqual(t, again, all-2<<20, "of %d bytes: chunks are written side by side, and two of three were there", all)
	require.Equal(t, "2", left.boot().Version)
	left.requireEntriesWhole()
}

// What is whole already is not written again: a slot that has its last types, and a UKI that only
// waits for its name. A UKI under that name which is not the release's is.
func TestResumeBeforeTheEntry(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		s := newSystem(t, "")
		s.bootAndRun()
		s.machine.Loader = &bootloader.Variables{}
		if mounted {
			s.mount()
		}
		set := s.build("2")
		errCut := errors.New("cut")
		err := cutBefore(s, set, upgrade.StepAddEntry, errCut)
		require.ErrorIs(t, err, errCut)
		const staged = "EFI/Linux/acme_2.osmith-staged"
		info, err := s.esp().Stat(staged)
		require.NoError(t, err)
		require.Equal(t, set.UKI.Size(), info.Size())

		left := s.on(s.disk.Clone())
		p := left.plan(set, upgrade.PlanOptions{})
		require.NoError(t, p.Refused(), "%s", p)
		require.False(t, slices.ContainsFunc(p.Steps, func(s upgrade.Step) bool { return s.Kind == upgrade.StepStageUKI || s.Kind == upgrade.StepRemoveStaged }), "%s", p)
		left.disk.Record()
		require.NoError(t, p.Apply(t.Context(), nil))
		written := 0
		for _, w := range left.disk.Writes() {
			written += len(w.Data)
		}
		require.Less(t, written, 300<<10, "tree, table and directory")
		require.Equal(t, "2", left.boot().Version)
		left.requireEntriesWhole()

		// It changes between plan and write: nothing appears.
		left = s.on(s.disk.Clone())
		p = left.plan(set, upgrade.PlanOptions{})
		other := contentOf(t, set.UKI)
		other[len(other)/2] ^= 1
		left.overwrite(staged, other)
		var changed *upgrade.ChangedError
		require.ErrorAs(t, p.Apply(t.Context(), nil), &changed)
		require.Equal(t, "1", left.boot().Version)

		// Another content of the same size is not taken for it.
		if mounted {
			left.mount()
		}
		p = left.plan(set, upgrade.PlanOptions{})
		require.True(t, slices.ContainsFunc(p.Steps, func(s upgrade.Step) bool { return s.Kind == upgrade.StepStageUKI }), "%s", p)
		require.NoError(t, p.Apply(t.Context(), nil))
		require.Equal(t, "2", left.boot().Version)
	}
}

// cutBefore applies an upgrade up to a step.
func cutBefore(s *system, set *acmeos.Set, kind upgrade.StepKind, err error) error {
	p := s.plan(set, upgrade.PlanOptions{})
	ctx, cancel := context.WithCancelCause(s.t.Context())
	defer cancel(nil)
	if got := p.Apply(ctx, func(step int, _, _ int64) {
		if p.Steps[step].Kind == kind {
			cancel(err)
		}
	}); got == nil {
		return nil
	}
	return context.Cause(ctx)
}

// overwrite changes bytes of a file on the ESP where they lie, as another program would.
func (s *system) overwrite(name string, content []byte) {
	s.t.Helper()
	require.NoError(s.t, s.esp().ReplaceFile(name, source(content)))
	if s.mounts {
		s.mount()
	}
}
