package upgrade_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// another is a copy of the system's disk whose ESP has another ID, as on a second disk of the
// machine.
func (s *system) another() *system {
	s.t.Helper()
	other := s.on(s.disk.Clone())
	table, err := partition.Read(other.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	table.Partitions[0].ID = osmith.GUID{0xab}
	require.NoError(s.t, table.Write(other.disk))
	if s.mounts {
		other.mount()
	}
	return other
}

// A second ESP follows the first through an upgrade, its count of boots, a commit, the next upgrade
// and a rollback. Whatever a power cut leaves of it starts a version that was on one of the two,
// and mirrored again they are in step.
func TestMirror(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		s := newSystem(t, "")
		s.bootAndRun()
		k := &diskKind{}
		p := newProver(s, k, "1", "2", "3")
		p.Roots = map[string][]oracle.Content{} // root file systems are not the mirror's
		mirror := s.another()
		if mounted {
			mirror.mount()
		}
		var changed []string
		follow := func(what string, versions ...string) {
			t.Helper()
			m := s.machine
			m.Mounted = mirror.machine.Mounted
			before := mirror.disk.Clone()
			mirror.disk.Record()
			changes, err := upgrade.Mirror(t.Context(), s.disk, mirror.disk, m, upgrade.MirrorOptions{})
			require.NoError(t, err, what)
			require.NotEmpty(t, changes, what)
			again, err := upgrade.Mirror(t.Context(), s.disk, mirror.disk, m, upgrade.MirrorOptions{})
			require.NoError(t, err)
			require.Empty(t, again, what)
			require.Equal(t, listing(t, s), listing(t, mirror), what)
			up, err := p.boots(mirror.disk)
			require.NoError(t, err)
			require.Equal(t, versions[len(versions)-1], up[0], what)
			require.NotEqual(t, contentOf(t, before), contentOf(t, mirror.disk))

			faults, err := mirror.disk.Faults(faultio.FaultOptions{Sector: 512, Limit: 4})
			require.NoError(t, err)
			i := 0
			for state := range faults.States() {
				up, err := p.boots(state.Disk)
				require.NoError(t, err, "%s: %v", what, describe(state))
				for _, v := range up {
					require.Contains(t, versions, v, "%s: %v", what, describe(state))
				}
				if i++; i%23 == 0 {
					left := mirror.on(state.Disk)
					if mounted {
						left.fsck()
					}
					m.Mounted = left.machine.Mounted
					_, err := upgrade.Mirror(t.Context(), s.disk, left.disk, m, upgrade.MirrorOptions{})
					require.NoError(t, err, "%s: %v", what, describe(state))
					require.Equal(t, listing(t, s), listing(t, left), what)
					if found, err := left.esp().Check(); !mounted {
						require.NoError(t, err)
						require.True(t, found.Clean(), "%s: %s", what, found)
					}
				}
			}
			changed = changes
		}
		late := mirror.on(mirror.disk.Clone())
		require.NoError(t, s.upgradeTo(k, "2"))
		follow("upgrade", "1", "2")
		s.bootAndRun()
		follow("count", "2")
		require.Equal(t, []string{"rename EFI/Linux/acme_2+3.efi to acme_2+2-1.efi"}, changed)
		require.NoError(t, commit(s.disk, s.machine, ""))
		follow("commit", "2")
		require.NoError(t, s.upgradeTo(k, "3"))
		follow("upgrade over 1", "2", "3")
		s.bootAndRun()
		require.NoError(t, commit(s.disk, s.machine, ""))
		require.NoError(t, rollback(s.disk, s.machine, ""))
		follow("rollback", "3", "2")
		// One that has missed all of that.
		mirror = late
		if mounted {
			mirror.mount()
		}
		follow("all at once", "1", "2")
		require.NoError(t, s.esp().WriteFile("loader/random-seed", source(make([]byte, 32))))
		m := s.machine
		m.Mounted = mirror.machine.Mounted
		changes, err := upgrade.Mirror(t.Context(), s.disk, mirror.disk, m, upgrade.MirrorOptions{})
		require.NoError(t, err)
		require.Empty(t, changes, "a random seed is of one ESP")
	}
}

// What cannot be a mirror is none.
func TestMirrorRefuses(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	var clone *upgrade.CloneError
	_, err := upgrade.Mirror(t.Context(), s.disk, s.disk.Clone(), s.machine, upgrade.MirrorOptions{})
	require.ErrorAs(t, err, &clone)
	_, err = upgrade.Mirror(t.Context(), s.disk, s.disk, s.machine, upgrade.MirrorOptions{})
	require.ErrorAs(t, err, &clone)
	_, err = upgrade.Mirror(t.Context(), s.disk, faultio.NewDisk(1<<20), s.machine, upgrade.MirrorOptions{})
	require.ErrorIs(t, err, partition.ErrNoTable)
	var other *upgrade.NotRunningError
	_, err = upgrade.Mirror(t.Context(), s.disk, s.another().disk, s.machine, upgrade.MirrorOptions{ESP: osmith.GUID{7}})
	require.ErrorAs(t, err, &other)

	// The entries of an extended boot loader partition are nowhere on an ESP.
	apart := (&diskKind{esp: fat.BuildOptions{Kind: 16, Size: 4 << 20, ClusterSize: 512}, apart: true}).on(t)
	_, err = upgrade.Mirror(t.Context(), apart.disk, s.another().disk, apart.machine, upgrade.MirrorOptions{})
	require.ErrorContains(t, err, "extended boot loader partition")

	// This disk changes meanwhile.
	require.NoError(t, s.upgradeTo(&diskKind{}, "2"))
	moving := s.another()
	require.NoError(t, moving.esp().Remove("EFI/Linux/acme_2+3.efi"))
	once := false
	noticed := &spiedDisk{Disk: moving.disk, pages: map[int64][]byte{}, written: func(int64, int64) {
		if !once {
			once = true
			require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 7\n"))))
		}
	}}
	_, err = upgrade.Mirror(t.Context(), s.disk, noticed, s.machine, upgrade.MirrorOptions{})
	require.ErrorContains(t, err, "one of them changed meanwhile, or its medium is failing")

	// A medium that does not keep what is written.
	lying := s.another()
	require.NoError(t, lying.esp().Remove("EFI/Linux/acme_2+3.efi"))
	lying.disk.Cached()
	lying.disk.Faulty(faultio.Failure{Op: faultio.OpSync, Lie: true, Always: true})
	_, err = upgrade.Mirror(t.Context(), s.disk, lying.disk, s.machine, upgrade.MirrorOptions{})
	require.Error(t, err)
}
