package upgrade_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/upgrade"
)

// progress is what was told of one thing that is done.
type progress struct {
	t           *testing.T
	done, total int64
	cancel      func() // at the first bytes
}

func (p *progress) tell(done, total int64) {
	if p.total == 0 {
		p.total = total
	}
	require.Equal(p.t, p.total, total)
	require.GreaterOrEqual(p.t, done, p.done)
	p.done = done
	if p.cancel != nil && done > 0 {
		p.cancel()
	}
}

// What a mirror writes is told up to the end, and a context that is cancelled ends it; the next one
// does the rest.
func TestMirrorProgress(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	mirror := s.another()
	require.NoError(t, s.upgradeTo(&diskKind{}, "2"))
	require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 7\n"))))

	ctx, cancel := context.WithCancel(t.Context())
	p := progress{t: t, cancel: cancel}
	_, err := upgrade.Mirror(ctx, s.disk, mirror.disk, s.machine, upgrade.MirrorOptions{Progress: p.tell})
	require.ErrorIs(t, err, context.Canceled)
	require.GreaterOrEqual(t, p.total, s.build("2").UKI.Size())
	require.Less(t, p.done, p.total)
	settings := func(of *system) string { return string(read(t, of.esp(), "loader/loader.conf")) }
	require.NotEqual(t, settings(s), settings(mirror), "the last file is left")

	p = progress{t: t}
	_, err = upgrade.Mirror(t.Context(), s.disk, mirror.disk, s.machine, upgrade.MirrorOptions{Progress: p.tell})
	require.NoError(t, err)
	require.Equal(t, p.total, p.done)
	require.Equal(t, listing(t, s), listing(t, mirror))
	require.Equal(t, settings(s), settings(mirror))

	s.bootAndRun() // counts, which is a change without bytes
	_, err = upgrade.Mirror(ctx, s.disk, mirror.disk, s.machine, upgrade.MirrorOptions{})
	require.ErrorIs(t, err, context.Canceled)
	require.NotEqual(t, listing(t, s), listing(t, mirror))
}

// The same of a plan of the boot loader, whose steps are told one after the other.
func TestLoaderPlanProgress(t *testing.T) {
	s := newSystem(t, "257.13")
	s.install(s.build("2"))
	s.bootAndRun()
	s.machine.Loader = &bootloader.Variables{}
	loader := s.signedLoader("262.1")

	ctx, cancel := context.WithCancel(t.Context())
	p := progress{t: t, cancel: cancel}
	plan := s.loaderPlan(loader, upgrade.LoaderOptions{})
	before := s.loaders()
	err := plan.Apply(ctx, func(_ int, done, total int64) { p.tell(done, total) })
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, p.done, p.total)
	for name, version := range before {
		require.Equal(t, version, s.loaders()[name], name)
	}

	p = progress{t: t}
	plan = s.loaderPlan(loader, upgrade.LoaderOptions{})
	at := 0
	require.NoError(t, plan.Apply(t.Context(), func(step int, done, total int64) {
		require.GreaterOrEqual(t, step, at)
		at = step
		p.tell(done, total)
	}))
	require.Equal(t, len(plan.Changes)-1, at)
	require.GreaterOrEqual(t, p.total, 2*loader.Size())
	require.Equal(t, p.total, p.done)
}
