package upgrade_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity"
)

// countedSource counts what is read of it.
type countedSource struct {
	osmith.Source
	bytes atomic.Int64
}

func (c *countedSource) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Source.ReadAt(b, off)
	c.bytes.Add(int64(n))
	return n, err
}

// deltaSystem runs a version, and has another one with the same blocks but some.
func deltaSystem(t *testing.T) (s *system, set *acmeos.Set) {
	t.Helper()
	s = newSystemOn(t, "", acmeos.DiskOptions{Slots: 2, RootSize: 8 << 20})
	data := make([]byte, 4<<20)
	_, err := rand.NewChaCha8([32]byte{19}).Read(data)
	require.NoError(t, err)
	s.install(s.buildWith("2", data))
	s.bootAndRun()
	changed := bytes.Clone(data)
	for i := 1 << 20; i < 1<<20+200<<10; i++ {
		changed[i] ^= 0x5a
	}
	return s, s.buildWith("3", changed)
}

// Of a release that is read over a network only those blocks are read that the running set does not
// have; the slot is as if all had been.
func TestDelta(t *testing.T) {
	s, set := deltaSystem(t)
	whole := s.on(s.disk.Clone())
	require.NoError(t, whole.plan(set, upgrade.PlanOptions{}).Apply(t.Context(), nil))

	r := set.Release()
	root := &countedSource{Source: r.Root}
	r.Root = root
	p, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{Delta: true})
	require.NoError(t, err)
	require.NoError(t, p.Refused(), "%s", p)
	require.Zero(t, root.bytes.Load())
	i := slices.IndexFunc(p.Steps, func(s upgrade.Step) bool { return s.Kind == upgrade.StepWriteRoot })
	require.GreaterOrEqual(t, p.Steps[i].Fetched, int64(200<<10))
	require.Less(t, p.Steps[i].Fetched, int64(400<<10))
	require.Contains(t, p.String(), "bytes are read from the release, the others from slot")
	var last, total int64
	require.NoError(t, p.Apply(t.Context(), func(_ int, done, all int64) { last, total = done, all }))
	require.Equal(t, total, last)
	require.GreaterOrEqual(t, root.bytes.Load(), p.Steps[i].Fetched)
	require.Less(t, root.bytes.Load(), p.Steps[i].Fetched+128<<10, "gaps")
	require.Equal(t, contentOf(t, whole.disk), contentOf(t, s.disk))
	require.Equal(t, "3", s.boot().Version)
}

// A block of the running set that is damaged is read from the release; one of the release that is
// another one never gets to the slot; an interrupted one goes on.
func TestDeltaOfDamage(t *testing.T) {
	s, set := deltaSystem(t)
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	off, _ := table.Extent(state.Running.Slot.Data)
	plan := func(s *system, root osmith.Source) *upgrade.Plan {
		r := set.Release()
		r.Root = root
		p, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{Delta: true, TrustFallbackWithoutReadingIt: true})
		require.NoError(t, err)
		return p
	}

	damaged := s.on(s.disk.Clone())
	_, err = damaged.disk.WriteAt(make([]byte, 4096), off+3<<20)
	require.NoError(t, err)
	require.NoError(t, plan(damaged, set.Root).Apply(t.Context(), nil))
	require.Equal(t, "3", damaged.boot().Version)

	other := contentOf(t, set.Root)
	for i := range other {
		other[i] ^= 1
	}
	tampered := s.on(s.disk.Clone())
	var block *verity.BlockError
	require.ErrorAs(t, plan(tampered, source(other)).Apply(t.Context(), nil), &block)
	require.Equal(t, "2", tampered.boot().Version)

	cut := s.on(s.disk.Clone())
	ctx, cancel := context.WithCancel(t.Context())
	p := plan(cut, set.Root)
	i := slices.IndexFunc(p.Steps, func(s upgrade.Step) bool { return s.Kind == upgrade.StepWriteRoot })
	require.ErrorIs(t, p.Apply(ctx, func(step int, done, _ int64) {
		if step == i && done > 1<<20 {
			cancel()
		}
	}), context.Canceled)
	require.NoError(t, plan(cut, set.Root).Apply(t.Context(), nil))
	require.Equal(t, "3", cut.boot().Version)
}

// Versions that cannot be compared are read in full, and the plan says why.
func TestDeltaOfOtherSalt(t *testing.T) {
	s, _ := deltaSystem(t)
	s.builder.Seed = osmith.GUID{2}
	p := s.plan(s.build("3"), upgrade.PlanOptions{Delta: true})
	require.NoError(t, p.Refused(), "%s", p)
	require.Contains(t, p.String(), "all of the root file system is read from the release, because it cannot be compared with the running one: ")
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, "3", s.boot().Version)
}
