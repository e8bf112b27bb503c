package upgrade_test

import (
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// half is how far systemd-sysupdate came with one partition or file of a version.
type half string

const (
	halfNone      half = "none"
	halfPartial   half = "partial"
	halfPending   half = "pending"
	halfInstalled half = "installed"
)

// leave makes of the second slot what an interrupted systemd-sysupdate leaves there of version 2,
// and of its UKI on the ESP.
func (s *system) leave(tree, root, uki half) {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	slots, err := partition.FindSlots(table, partition.SlotOptions{})
	require.NoError(s.t, err)
	slot := slots.Slots[slices.IndexFunc(slots.Slots, func(slot *partition.Slot) bool { return slot.State == partition.SlotEmpty })]
	for i, h := range map[int]half{slot.Tree: tree, slot.Data: root} {
		p := &table.Partitions[i]
		label := map[bool]string{true: "acme_2_verity", false: "acme_2"}[i == slot.Tree]
		types := map[half]func(osmith.GUID) osmith.GUID{halfPartial: partition.PartialType, halfPending: partition.PendingType}
		if h != halfNone {
			p.Name = label
		}
		if as := types[h]; as != nil {
			p.Type = as(p.Type)
		}
	}
	require.NoError(s.t, table.Write(s.disk))
	prefix := map[half]string{halfPartial: sysupdate.PartialPrefix, halfPending: sysupdate.PendingPrefix}[uki]
	if uki != halfNone {
		require.NoError(s.t, s.esp().WriteFile("EFI/Linux/"+prefix+"acme_2+3-0.efi", source([]byte("half"))))
	}
}

// Whatever systemd-sysupdate has left in the second slot is no set that is installed: the slot is
// free for the next version, the running one is left alone, and the new version is then whole for
// systemd-sysupdate as well.
func TestHalvesOfSysupdate(t *testing.T) {
	s := newSystem(t, "262")
	running := s.bootAndRun()
	blank := s.disk.Clone()
	versions := []string{"2", "3"}
	sets := map[string]*upgrade.Plan{}
	n := 0
	for _, tree := range []half{halfNone, halfPartial, halfPending, halfInstalled} {
		for _, root := range []half{halfNone, halfPartial, halfPending} {
			for _, uki := range []half{halfNone, halfPartial, halfPending} {
				n++
				if testing.Short() && n%5 != 0 {
					continue
				}
				version := versions[n%2]
				name := fmt.Sprintf("tree %s, root %s, UKI %s, then %s", tree, root, uki, version)
				s := s.on(blank.Clone())
				s.leave(tree, root, uki)
				state, err := upgrade.Inspect(s.disk, s.machine)
				require.NoError(t, err, name)
				require.Empty(t, state.Problems, name)
				require.Len(t, state.Entries, 1, "what is pending or partial is no entry: %s", name)
				for _, slot := range state.Slots {
					require.Equal(t, slot.Version == "1", slot.State == partition.SlotInstalled, name)
				}
				set := s.build(version)
				p := s.plan(set, upgrade.PlanOptions{})
				require.NotEqual(t, state.Running.Slot.Index, p.Target.Index, name)
				require.NoError(t, p.Apply(t.Context(), nil), name)
				sets[version] = p
				b := s.boot()
				require.Equal(t, version, b.Version, name)

				d, err := sysupdate.ReadDefinitions(definitionsFS(), sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': "1"}})
				require.NoError(t, err)
				found, err := sysupdate.ReadState(d, sysupdate.Places{Disk: s.disk, DiskPaths: []string{"/disk.img"}})
				require.NoError(t, err)
				v := found.Version(version)
				if uki == halfNone || version == "3" {
					require.True(t, v.Usable() && !v.Ambiguous, name)
				} else {
					require.True(t, v.Ambiguous, "the UKI that it has staged is its own to remove: %s", name)
				}
				require.True(t, found.Version("1").Usable(), name)
			}
		}
	}
	require.Len(t, sets, 2)
	require.Equal(t, "1", running.Version)
}

// The program agrees about a sample of them, and installs the next version into the slot that is
// free.
func TestHalvesOfSysupdateByTheProgram(t *testing.T) {
	r, long := testtools.Seed(t)
	n := 4
	if long {
		n = 30
	}
	for range n {
		pick := func(of ...half) half { return of[r.IntN(len(of))] }
		tree, root, uki := pick(halfPartial, halfPending, halfInstalled), pick(halfNone, halfPartial, halfPending), pick(halfNone, halfPartial, halfPending)
		name := fmt.Sprint(tree, " ", root, " ", uki)
		u := newSysupdate(newSystem(t, "262"))
		u.leave(tree, root, uki)
		p := u.plan(u.build("3"), upgrade.PlanOptions{})
		require.NoError(t, p.Apply(t.Context(), nil), name)
		if uki != halfNone {
			u.run("1", "vacuum")
		}
		u.requireInstalled("1", "3", "1")
		require.NoError(t, u.commit(u.boot()), name)
		u.publish(u.build("4"))
		u.run("3", "update")
		u.requireInstalled("3", "4", "3")
		require.Equal(t, "4", u.boot().Version, name)
	}
}

// definitionsFS is a root file system with the definitions.
func definitionsFS() fs.FS {
	out := fstest.MapFS{}
	for name, text := range sysupdateDefinitions {
		out["usr/lib/sysupdate.d/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}
