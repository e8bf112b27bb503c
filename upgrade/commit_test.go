package upgrade_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// breakChain gives a file on the ESP, by its 8.3 name, a first cluster that does not exist.
func (s *system) breakChain(short string) {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	esp := table.Window(s.disk, 0)
	b := contentOf(s.t, esp)
	at := bytes.Index(b, []byte(short))
	require.Positive(s.t, at)
	var cluster [2]byte
	binary.LittleEndian.PutUint16(cluster[:], 0x0fff)
	for _, field := range []int{20, 26} { // first cluster, high and low half
		_, err := esp.WriteAt(cluster[:], int64(at+field))
		require.NoError(s.t, err)
	}
}

// withTable changes the partition table.
func (s *system) withTable(change func(t *partition.Table)) {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	change(table)
	require.NoError(s.t, table.Write(s.disk))
}

// whatElseIsWrong is damage that says nothing about the version that runs.
var whatElseIsWrong = map[string]func(s *system){
	"nothing": func(*system) {},
	"a file of others": func(s *system) {
		file(s, s.esp(), "EFI/acme/DAMAGED.BIN", []byte("x"))
		s.breakChain("DAMAGED BIN")
	},
	"an entry that cannot be read": func(s *system) {
		file(s, s.esp(), "EFI/Linux/DAMAGED.EFI", []byte("x"))
		s.breakChain("DAMAGED EFI")
	},
	"a text that cannot be read": func(s *system) {
		file(s, s.esp(), "loader/entries/DAMAGED.CON", []byte("x"))
		require.NoError(s.t, s.esp().Rename("loader/entries/DAMAGED.CON", "loader/entries/damaged.conf"))
		s.breakChain("DAMAGE~1CON")
	},
	"the other UKI is junk": func(s *system) {
		require.NoError(s.t, s.esp().ReplaceFile("EFI/Linux/acme_1.efi", source([]byte("junk"))))
	},
	"no removable loader": func(s *system) { require.NoError(s.t, s.esp().Remove("EFI/BOOT/BOOTX64.EFI")) },
	"loaders are junk": func(s *system) {
		require.NoError(s.t, s.esp().ReplaceFile("EFI/BOOT/BOOTX64.EFI", source([]byte("junk"))))
	},
	"failed.json is junk": func(s *system) { file(s, s.esp(), "EFI/osmith/failed.json", []byte("junk")) },
	"the other slot is gone": func(s *system) {
		s.withTable(func(t *partition.Table) { t.Partitions = t.Partitions[:3] })
	},
	"no slots": func(s *system) {
		s.withTable(func(t *partition.Table) { t.Partitions = t.Partitions[:1] })
	},
	"two kinds of slots": func(s *system) {
		s.withTable(func(t *partition.Table) { t.Partitions[3].Type = partition.UsrX8664 })
	},
	"an extended boot loader partition without a file system": func(s *system) {
		s.withTable(func(t *partition.Table) { t.Partitions[3].Type = partition.XBOOTLDR })
	},
	"the primary table is gone": func(s *system) {
		_, err := s.disk.WriteAt(make([]byte, 512), 512)
		require.NoError(s.t, err)
	},
	"another ESP": func(s *system) {
		s.withTable(func(t *partition.Table) { t.Partitions[3].Type = partition.ESP })
		table, err := partition.Read(s.disk, partition.ReadOptions{})
		require.NoError(s.t, err)
		s.machine.Running.ESP = table.Partitions[0].ID
	},
}

// A good version is committed by the ESP alone, and is in the menu without a counter then.
func TestCommitByESPAlone(t *testing.T) {
	base := newSystem(t, "")
	base.apply("2")
	base.bootAndRun()
	for name, damage := range whatElseIsWrong {
		t.Run(name, func(t *testing.T) {
			s := base.on(base.disk.Clone())
			s.t = t
			running := *base.machine.Running
			s.machine.Running = &running
			damage(s)
			path, err := upgrade.Commit(s.disk, s.machine, "")
			require.NoError(t, err)
			require.Equal(t, "EFI/Linux/acme_2.efi", path)
			state, err := upgrade.Inspect(s.disk, s.machine)
			require.NoError(t, err)
			require.Equal(t, path, state.Running.Path)
			require.False(t, state.Running.Counted)
			again, err := upgrade.Commit(s.disk, s.machine, "acme_2.efi")
			require.NoError(t, err, "twice is once")
			require.Equal(t, path, again)
		})
	}
}

// Rolling back needs the menu, the loaders and the slots' IDs, and not the rest of the disk.
func TestRollbackByESPAlone(t *testing.T) {
	base := newSystem(t, "")
	base.install(base.build("2"))
	base.bootAndRun()
	refused := map[string]string{
		"an entry that cannot be read": "the menu is unknown: EFI/Linux/DAMAGED.EFI: unreadable",
		"a text that cannot be read":   "the menu is unknown: loader/entries/damaged.conf: unreadable",
		"the other UKI is junk":        "the loader would start EFI/Linux/acme_2+0-1.efi again and again",
		"another ESP":                  "which no slot holds", // in the place of a slot
		"no slots":                     "which no slot holds",
		"two kinds of slots":           "which no slot holds",
		"an extended boot loader partition without a file system": "the extended boot loader partition cannot be read as firmware does",
	}
	for name, damage := range whatElseIsWrong {
		t.Run(name, func(t *testing.T) {
			s := base.on(base.disk.Clone())
			s.t = t
			running := *base.machine.Running
			s.machine.Running = &running
			damage(s)
			s.disk.Record()
			path, err := upgrade.Rollback(s.disk, s.machine, "")
			if want := refused[name]; want != "" {
				require.ErrorIs(t, err, upgrade.ErrNothingToReturnTo)
				require.ErrorContains(t, err, want)
				require.Empty(t, path)
				require.Empty(t, s.disk.Writes())
				return
			}
			require.NoError(t, err)
			require.Equal(t, "EFI/Linux/acme_2+0-1.efi", path)
		})
	}
}

// What has used up its tries, was counted since, or is another file than the one that was counted,
// is not made permanent.
func TestCommitRefuses(t *testing.T) {
	base := newSystem(t, "")
	base.apply("2")
	base.bootAndRun()
	two := read(t, base.esp(), "EFI/Linux/acme_2+2-1.efi")
	other := bytes.Clone(two)
	other[len(other)-1] ^= 1
	rename := func(s *system, to string) { require.NoError(s.t, s.esp().Rename("EFI/Linux/acme_2+2-1.efi", to)) }
	for name, c := range map[string]struct {
		change func(s *system)
		want   string // "": it is committed
	}{
		"as it booted": {func(*system) {}, ""},
		"its last try": {func(s *system) {
			rename(s, "EFI/Linux/acme_2+0-3.efi")
			s.machine.Running.BootCountPath, s.machine.Running.Image = `\EFI\Linux\acme_2+0-3.efi`, `\EFI\Linux\acme_2+0-3.efi`
		}, ""},
		"spent in earlier boots": {func(s *system) { rename(s, "EFI/Linux/acme_2+0-3.efi") }, "LoaderBootCountPath is EFI/Linux/acme_2+2-1.efi: the entry was counted or rewritten since"},
		"spent, and this boot was not counted": {func(s *system) {
			rename(s, "EFI/Linux/acme_2+0-3.efi")
			s.machine.Running.BootCountPath = ""
		}, "the entry has used up its tries"},
		"installed anew since": {func(s *system) { rename(s, "EFI/Linux/acme_2+3.efi") }, "the entry was counted or rewritten since"},
		"never booted": {func(s *system) {
			rename(s, "EFI/Linux/acme_2+3.efi")
			s.machine.Running.BootCountPath, s.machine.Running.Log = "", nil
		}, "neither LoaderBootCountPath nor the firmware's log"},
		"the same file uncounted": {func(s *system) { file(s, s.esp(), "EFI/Linux/acme_2.efi", two) }, ""},
		"another file uncounted":  {func(s *system) { file(s, s.esp(), "EFI/Linux/acme_2.efi", other) }, "EFI/Linux/acme_2.efi exists beside EFI/Linux/acme_2+2-1.efi with different content"},
		"another file, counted":   {func(s *system) { file(s, s.esp(), "EFI/Linux/acme_2+3.efi", other) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := base.on(base.disk.Clone())
			s.t = t
			running := *base.machine.Running
			s.machine.Running = &running
			c.change(s)
			s.disk.Record()
			path, err := upgrade.Commit(s.disk, s.machine, "")
			if c.want != "" {
				require.Empty(t, path)
				require.ErrorContains(t, err, c.want)
				require.Empty(t, s.disk.Writes())
				return
			}
			require.NoError(t, err)
			require.Equal(t, "EFI/Linux/acme_2.efi", path)
			require.Equal(t, two, read(t, s.esp(), path))
			if name != "another file, counted" { // which is one that was installed since
				require.Equal(t, "EFI/Linux/acme_2.efi", s.boot().Entry)
			}
		})
	}
}

// A counted and an uncounted file of one name are rolled back together.
func TestRollbackOfTwins(t *testing.T) {
	s := newSystem(t, "")
	s.install(s.build("2"))
	s.bootAndRun()
	for _, name := range []string{"acme_2+2-1.efi", "acme_2+0-1.efi"} {
		file(s, s.esp(), "EFI/Linux/"+name, read(t, s.esp(), "EFI/Linux/acme_2.efi"))
	}
	path, err := upgrade.Rollback(s.disk, s.machine, "acme_2.efi")
	require.NoError(t, err)
	require.Equal(t, "EFI/Linux/acme_2+0-2.efi", path)
	require.Equal(t, "1", s.boot().Version)
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	for _, e := range state.Entries[1:] {
		require.True(t, e.Bad(), e.Path)
	}
}

// What the loader's variables choose must be known, and a rollback names something.
func TestRollbackNeedsToKnow(t *testing.T) {
	s := newSystem(t, "")
	s.install(s.build("2"))
	m := s.machine
	m.Loader = nil
	_, err := upgrade.Rollback(s.disk, m, "acme_2.efi")
	require.ErrorContains(t, err, "the loader's variables, which may make it choose a different entry, are unknown (Machine.Loader")
	_, err = upgrade.Rollback(s.disk, s.machine, "")
	require.ErrorIs(t, err, upgrade.ErrRunningUnknown)
	_, err = upgrade.Rollback(s.disk, s.machine, "acme_9+1.efi")
	require.ErrorIs(t, err, upgrade.ErrNoEntry)
	require.ErrorContains(t, err, "roll back: acme_9.efi: no such entry on the ESP")
	m = s.machine
	m.Loader = &bootloader.Variables{EntryDefault: "acme_2*"}
	_, err = upgrade.Rollback(s.disk, m, "acme_2.efi")
	require.ErrorIs(t, err, upgrade.ErrPinned)
	m.Loader = &bootloader.Variables{EntryDefault: "acme_1*"}
	_, err = upgrade.Rollback(s.disk, m, "acme_2.efi")
	require.NoError(t, err, "it pins what is returned to")
}

// Commit and Rollback are one write that counts: cut anywhere, the machine comes up with the old or
// the new choice.
func TestCommitAndRollbackCut(t *testing.T) {
	base := newSystem(t, "")
	base.apply("2")
	base.bootAndRun()
	for name, do := range map[string]func(s *system) error{
		"commit":   func(s *system) error { return commit(s.disk, s.machine, "") },
		"rollback": func(s *system) error { return rollback(s.disk, s.machine, "") },
	} {
		s := base.on(base.disk.Clone())
		s.disk.Record()
		require.NoError(t, do(s))
		faults, err := s.disk.Faults(faultio.FaultOptions{})
		require.NoError(t, err)
		states := 0
		for state := range faults.States() {
			states++
			left := s.on(state.Disk.Clone())
			left.requireEntriesWhole()
			b := left.boot()
			if name == "commit" {
				require.Equal(t, "2", b.Version, "%+v", state)
			} else {
				require.Contains(t, []string{"1", "2"}, b.Version)
			}
			require.NoError(t, do(s.on(state.Disk)), "it goes through afterwards")
		}
		require.Greater(t, states, 1)
		step := 5 // most operations are reads
		if testing.Short() {
			step = 23
		}
		for after := 0; ; after += step {
			s := base.on(base.disk.Clone())
			s.disk.Cached()
			s.disk.Faulty(faultio.Failure{After: after})
			err := do(s)
			if s.disk.Failed() == 0 {
				require.NoError(t, err)
				break
			}
			s.disk.Faulty()
			left := s.on(s.disk.Medium())
			left.boot()
			if err != nil {
				require.NoError(t, do(s), "%s: operation %d", name, after)
			}
		}
	}
}

// What an upgrade has staged is taken away, and the machine is as it was: cut anywhere, the old set
// boots.
func TestCancel(t *testing.T) {
	base := newSystem(t, "")
	base.bootAndRun()
	file(base, base.esp(), "EFI/Linux/theirs.staged", []byte("of others"))
	before := free(t, base)
	release := base.bound(base.build("2"), "quiet")
	p := base.planOf(release, upgrade.PlanOptions{})
	base.disk.Record()
	require.NoError(t, p.Apply(t.Context(), nil))
	writes := len(base.disk.Writes())

	cancel := func(s *system) []string {
		t.Helper()
		gone, err := upgrade.Cancel(s.disk, s.machine)
		require.NoError(t, err)
		return gone
	}
	for k := 0; k <= writes; k += 1 + k%2 { // whatever an interrupted upgrade leaves
		s := base.on(base.disk.Prefix(k))
		gone := cancel(s)
		if k == writes {
			require.Equal(t, []string{"EFI/Linux/acme_2+3.efi", "EFI/Linux/acme_2.efi.extra.d/slot.addon.efi"}, gone)
		}
		state, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		require.Empty(t, state.Staged)
		require.Empty(t, state.Problems)
		require.Len(t, state.Entries, 1)
		require.NotEqual(t, partition.SlotPartial, state.Slots[1].State, "cut behind write %d", k)
		if k == writes {
			require.Equal(t, partition.SlotEmpty, state.Slots[1].State)
		}
		require.Equal(t, "1", s.boot().Version)
		require.GreaterOrEqual(t, free(t, s), before-2*512*64, "but for directories and add-ons without an entry")
		require.Equal(t, "of others", string(read(t, s.esp(), "EFI/Linux/theirs.staged")))
		require.Empty(t, cancel(s), "twice is once")
		require.NoError(t, s.planOf(release, upgrade.PlanOptions{}).Apply(t.Context(), nil))
		require.Equal(t, "2", s.boot().Version)
	}

	s := base.on(base.disk.Clone())
	s.disk.Record()
	cancel(s)
	faults, err := s.disk.Faults(faultio.FaultOptions{Limit: 256})
	require.NoError(t, err)
	for state := range faults.States() {
		left := s.on(state.Disk)
		left.requireEntriesWhole()
		require.Contains(t, []string{"1", "2"}, left.boot().Version)
		require.NoError(t, err)
	}
}

// What is tried, committed or the only set is not staged.
func TestCancelKeeps(t *testing.T) {
	s := newSystem(t, "")
	require.NoError(t, s.esp().Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1+3.efi"))
	_, err := upgrade.Cancel(s.disk, s.machine)
	require.ErrorIs(t, err, upgrade.ErrNothingToReturnTo)
	require.NoError(t, s.esp().Rename("EFI/Linux/acme_1+3.efi", "EFI/Linux/acme_1.efi"))
	s.apply("2")
	one := s.on(s.disk.Clone())
	s.bootAndRun()
	gone, err := upgrade.Cancel(s.disk, s.machine)
	require.NoError(t, err)
	require.Empty(t, gone, "it runs")
	m := s.machine
	m.Loader = nil
	_, err = upgrade.Cancel(s.disk, m)
	require.ErrorContains(t, err, "the loader's variables, which may make it choose a different entry, are unknown (Machine.Loader")
	_, err = upgrade.Cancel(s.disk, upgrade.Machine{Loader: &bootloader.Variables{}})
	require.ErrorIs(t, err, upgrade.ErrRunningUnknown)

	one.machine.Loader = &bootloader.Variables{EntryDefault: "acme_2*"}
	gone, err = upgrade.Cancel(one.disk, one.machine)
	require.NoError(t, err)
	require.Equal(t, []string{"EFI/Linux/acme_2+3.efi"}, gone, "a variable that names it names nothing then")
	require.Equal(t, "1", one.boot().Version)
}

// A downgrade that no boot has tried is cancelled with its preference.
func TestCancelDowngrade(t *testing.T) {
	s := newSystem(t, "262")
	s.install(s.build("2"))
	s.install(s.build("3"))
	s.bootAndRun()
	conf := string(read(t, s.esp(), "loader/loader.conf"))
	p := s.plan(s.build("1"), upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofFollows}})
	s.disk.Record()
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Contains(t, string(read(t, s.esp(), "loader/loader.conf")), "preferred acme_1.efi")
	require.Equal(t, "1", s.on(s.disk.Clone()).boot().Version)
	s.disk.Record()
	_, err := upgrade.Cancel(s.disk, s.machine)
	require.NoError(t, err)
	for k := range s.disk.Writes() {
		require.Contains(t, []string{"1", "3"}, s.on(s.disk.Prefix(k)).boot().Version)
	}
	require.Equal(t, conf, string(read(t, s.esp(), "loader/loader.conf")))
	require.Equal(t, "3", s.boot().Version)
}

// A disk that cannot be upgraded can be looked at, and says why.
func TestInspectAnyDisk(t *testing.T) {
	base := newSystem(t, "")
	base.apply("2")
	base.bootAndRun()
	for name, damage := range whatElseIsWrong {
		s := base.on(base.disk.Clone())
		running := *base.machine.Running
		s.machine.Running = &running
		damage(s)
		state, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err, name)
		require.Equal(t, "EFI/Linux/acme_2+2-1.efi", state.Running.Path, name)
		_, err = upgrade.NewPlan(t.Context(), s.disk, s.build("3").Release(), s.machine, upgrade.PlanOptions{})
		if len(state.Problems) > 0 {
			require.ErrorContains(t, err, errors.Join(state.Problems...).Error(), name)
			require.Contains(t, state.String(), fmt.Sprint("!       ", state.Problems[0]), name)
		}
	}
	_, err := upgrade.Inspect(faultio.NewDisk(1<<20), upgrade.Machine{Offline: true})
	require.ErrorIs(t, err, partition.ErrNoTable)
	two := base.on(base.disk.Clone())
	whatElseIsWrong["another ESP"](two)
	two.machine.Running = nil
	two.machine.Offline = true
	_, err = upgrade.Inspect(two.disk, two.machine)
	require.ErrorContains(t, err, "2 EFI system partitions")
	table, err := partition.Read(two.disk, partition.ReadOptions{})
	require.NoError(t, err)
	two.machine.ESP = table.Partitions[0].ID
	_, err = upgrade.Inspect(two.disk, two.machine)
	require.NoError(t, err)
	two.machine.ESP = osmith.GUID{1}
	_, err = upgrade.Inspect(two.disk, two.machine)
	require.ErrorAs(t, err, new(*upgrade.NotRunningError))
}
