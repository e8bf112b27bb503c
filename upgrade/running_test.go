package upgrade_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// What runs has to be said: a plan that guesses writes over it.
func TestRunningIsRequired(t *testing.T) {
	s := newSystem(t, "")
	b := s.boot()
	two := s.build("2").Release()
	for name, m := range map[string]func(m *upgrade.Machine){
		"nothing":   func(m *upgrade.Machine) { m.Offline = false },
		"no hash":   func(m *upgrade.Machine) { *m = s.running(b); m.Running = &upgrade.Running{Image: b.Running.Image} },
		"no image":  func(m *upgrade.Machine) { *m = s.running(b); m.Running = &upgrade.Running{RootHash: b.RootHash} },
		"zero":      func(m *upgrade.Machine) { *m = upgrade.Machine{} },
		"both zero": func(m *upgrade.Machine) { *m = upgrade.Machine{Running: &upgrade.Running{}} },
	} {
		machine := s.machine
		m(&machine)
		_, err := upgrade.NewPlan(t.Context(), s.disk, two, machine, upgrade.PlanOptions{})
		require.ErrorIs(t, err, upgrade.ErrRunningUnknown, name)
		require.ErrorContains(t, err, "set Machine.Offline")
	}
	// To look at a disk it is not needed.
	state, err := upgrade.Inspect(s.disk, upgrade.Machine{})
	require.NoError(t, err)
	require.Nil(t, state.Running)
	require.Equal(t, "EFI/Linux/acme_1.efi", state.Next.Path)
}

// Version 1 runs, 2 is there and was never started, 3 arrives: the slot of 1 stays.
func TestRunningIsKept(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	s.apply("2")
	p := s.apply("3")
	require.Equal(t, "B", p.Target.Name())
	require.Equal(t, "EFI/Linux/acme_1.efi", p.From)
	require.Equal(t, "3", s.boot().Version)
	s.requireEntriesWhole()

	// Of a machine that is off, each of the two may be what it runs when it is switched on.
	s = newSystem(t, "")
	s.apply("2")
	_, err := upgrade.NewPlan(t.Context(), s.disk, s.build("3").Release(), s.machine, upgrade.PlanOptions{})
	var none *upgrade.NoTargetError
	require.ErrorAs(t, err, &none)
	require.ErrorContains(t, err, "A and B must be kept, because the loader may start each of them")
	// Once 2 is good, or has failed, it is clear.
	b := s.boot()
	left := s.on(s.disk.Clone())
	require.NoError(t, s.commit(b))
	require.Equal(t, "A", s.plan(s.build("3"), upgrade.PlanOptions{}).Target.Name())
	require.NoError(t, rollback(left.disk, s.machine, b.Entry))
	require.Equal(t, "B", left.plan(s.build("3"), upgrade.PlanOptions{}).Target.Name())
}

// Firmware, loaders and people write the name of what runs in many ways.
func TestNamesOfRunning(t *testing.T) {
	s := newSystem(t, "")
	s.apply("2")
	b := s.boot()
	require.NoError(t, s.commit(b))
	s.bootAndRun() // 2 runs
	r := *s.machine.Running
	for _, name := range []string{
		`\EFI\Linux\acme_2.efi`, `/\EFI\Linux\acme_2.efi`, `\EFI\LINUX\ACME_2.EFI`, "EFI/Linux/acme_2.efi", "/EFI/Linux/acme_2.efi",
		`\EFI\Linux\acme_2+2-1.efi`, "acme_2.efi", "acme_2+2-1.efi", "acme_2.efi@reset", "ACME_2.efi",
	} {
		r.Image = name
		s.machine.Running = &r
		state, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err, name)
		require.Equal(t, "EFI/Linux/acme_2.efi", state.Running.Path, name)
		require.Same(t, state.Running, state.Started, name)
	}
	for _, name := range []string{"EFI/Linux/acme_9.efi", "acme_9.efi", `\EFI\BOOT\acme_2.efi`, "acme_2"} {
		r.Image = name
		_, err := upgrade.Inspect(s.disk, s.machine)
		var not *upgrade.NotRunningError
		require.ErrorAs(t, err, &not, name)
		require.ErrorContains(t, err, "the machine may have booted from a different disk")
	}
	// Another disk may have the same content.
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	r.Image, r.ESP = "acme_2.efi", table.Partitions[0].ID
	_, err = upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	r.ESP = table.Partitions[1].ID
	_, err = upgrade.Inspect(s.disk, s.machine)
	require.ErrorContains(t, err, "the ESP "+r.ESP.String()+" of Machine.Running is not on the disk")
	r.ESP = osmith.GUID{}
	r.Image, r.RootHash = "acme_2.efi", bytes.Repeat([]byte{7}, 32)
	_, err = upgrade.Inspect(s.disk, s.machine)
	require.ErrorContains(t, err, "the root hash 0707")
}

// A counted and an uncounted file of one name: the one that is named counts.
func TestTwinsOfRunning(t *testing.T) {
	s := newSystem(t, "")
	esp := s.esp()
	require.NoError(t, esp.WriteFile("EFI/Linux/acme_1+3.efi", bytes.NewReader(read(t, esp, "EFI/Linux/acme_1.efi"))))
	m := s.running(&upgradetest.Boot{Running: &upgrade.Running{Image: "acme_1+3.efi", RootHash: s.build("1").RootHash}})
	for _, name := range []string{"EFI/Linux/acme_1+3.efi", "EFI/Linux/acme_1.efi"} {
		m.Running.Image = name
		state, err := upgrade.Inspect(s.disk, m)
		require.NoError(t, err)
		require.Equal(t, name, state.Started.Path)
	}
}

// kexec is what runs after kexec or a soft reboot from one set into another: firmware's word stays,
// the root is another.
func kexec(from, into *upgradetest.Boot) *upgrade.Running {
	r := *from.Running
	r.RootHash = into.RootHash
	return &r
}

// A set that came up by kexec was never started by firmware. It is neither committed nor a way
// back.
func TestKexec(t *testing.T) {
	s := newSystem(t, "")
	one := s.bootAndRun()
	p := s.apply("2")
	two := s.on(s.disk.Clone()).boot()
	s.machine.Running = kexec(one, two)

	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Equal(t, "EFI/Linux/acme_1.efi", state.Started.Path)
	require.Equal(t, "EFI/Linux/acme_2+3.efi", state.Running.Path)
	for _, entry := range []string{p.Entry, "acme_2.efi", "EFI/Linux/acme_1.efi"} {
		s.disk.Record()
		err = commit(s.disk, s.machine, entry)
		var not *upgrade.NotStartedError
		require.ErrorAs(t, err, &not, entry)
		require.Empty(t, s.disk.Writes())
	}
	require.ErrorContains(t, commit(s.disk, s.machine, p.Entry), "the firmware started EFI/Linux/acme_1.efi, and the running system came up from it by kexec or a soft reboot; reboot into it first")

	// Both slots are in use: one is mounted, the other is what the machine is known to boot.
	_, err = upgrade.NewPlan(t.Context(), s.disk, s.build("3").Release(), s.machine, upgrade.PlanOptions{})
	require.ErrorAs(t, err, new(*upgrade.NoTargetError))

	// Another program takes its counter off all the same: with a third slot, that is where the
	// chain would end.
	s = newSystemOf(t, "", 3)
	one = s.bootAndRun()
	s.apply("2")
	two = s.on(s.disk.Clone()).boot()
	require.NoError(t, s.esp().Rename("EFI/Linux/acme_2+3.efi", "EFI/Linux/acme_2.efi"))
	s.machine.Running = kexec(one, two)
	p, j := s.returns("3", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
	require.ErrorAs(t, p.Refused(), new(*upgrade.NotStartedError))

	// A reboot shows it.
	s.bootAndRun()
	_, j = s.returns("3", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
}

// A program without a slot that brought up a set, such as a rescue system by kexec, keeps none from
// being written; the set itself stays, and is no way back.
func TestStartedWithoutSlot(t *testing.T) {
	s := newSystem(t, "")
	file(s, s.esp(), "EFI/tools/rescue.efi", petest.Kernel("6.18.0"))
	conf(s, s.esp(), "rescue.conf", "title rescue\nlinux /EFI/tools/rescue.efi\nsort-key zzz\n")
	one := s.boot()
	r := *one.Running
	r.Image, r.Log = "rescue.conf", nil
	s.machine = s.running(&upgradetest.Boot{Running: &r})
	p, j := s.returns("2", upgrade.PlanOptions{})
	require.Equal(t, "B", p.Target.Name())
	require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
	require.ErrorAs(t, p.Refused(), new(*upgrade.NotStartedError))

	// What runs from no slot is another matter.
	require.NoError(t, s.esp().WriteFile("loader/entries/x.conf", source([]byte("title x\nlinux /EFI/tools/rescue.efi\noptions roothash="+strings.Repeat("ab", 32)+"\n"))))
	r.Image, r.RootHash = "x.conf", bytes.Repeat([]byte{0xab}, 32)
	_, err := upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
	require.ErrorAs(t, err, new(*upgrade.UnboundError))
}

// The firmware's log and the loader's counting are checked against what runs.
func TestHowItCameUp(t *testing.T) {
	s := newSystem(t, "")
	one := s.bootAndRun()
	p := s.apply("2")
	two := s.boot()
	good := *two.Running
	for name, c := range map[string]struct {
		change func(r *upgrade.Running)
		want   string
	}{
		"all":                     {func(*upgrade.Running) {}, ""},
		"no log":                  {func(r *upgrade.Running) { r.Log = nil }, ""},
		"not counted, but logged": {func(r *upgrade.Running) { r.BootCountPath = "" }, ""},
		"neither":                 {func(r *upgrade.Running) { r.Log, r.BootCountPath = nil, "" }, "neither LoaderBootCountPath nor the firmware's log"},
		"log of another boot":     {func(r *upgrade.Running) { r.Log = one.Log }, "the firmware's log of this boot has no start of this file"},
		"logged elsewhere": {func(r *upgrade.Running) {
			log := *r.Log
			log.Events = slices.Clone(log.Events)
			for i := range log.Events {
				if log.Events[i].PCR == 4 {
					log.Events[i].PCR = 2
				}
			}
			r.Log = &log
		}, "the firmware's log of this boot has no start of this file"},
		"another was counted": {func(r *upgrade.Running) { r.BootCountPath = `\EFI\Linux\acme_1+2-1.efi` }, "the loader has started EFI/Linux/acme_1+2-1.efi"},
		"U-Boot's way":        {func(r *upgrade.Running) { r.Image, r.Log = `/\EFI\Linux\acme_2+2-1.efi`, nil }, ""},
	} {
		r := good
		c.change(&r)
		left := s.on(s.disk.Clone())
		m := s.machine
		m.Running = &r
		err := commit(left.disk, m, p.Entry)
		if c.want == "" {
			require.NoError(t, err, name)
			require.Equal(t, "EFI/Linux/acme_2.efi", left.boot().Entry)
			continue
		}
		require.ErrorAs(t, err, new(*upgrade.NotStartedError), name)
		require.ErrorContains(t, err, c.want, name)
	}

	// Once it is committed, it is the way back only if firmware is not known to have started
	// something else.
	require.NoError(t, s.commit(two))
	for name, want := range map[string]upgrade.Outcome{"": upgrade.OutcomePass, "log": upgrade.OutcomeFail, "count": upgrade.OutcomeFail} {
		r := good
		switch name {
		case "log":
			r.Log = one.Log
		case "count":
			r.BootCountPath = `\EFI\Linux\acme_1+2-1.efi`
		}
		s.machine.Running = &r
		_, j := s.returns("3", upgrade.PlanOptions{})
		require.Equal(t, want, j.Outcome, "%s: %s", name, texts(j))
	}
}

// What is off or not known cannot be found good.
func TestCommitNeedsRunning(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	p := s.apply("2")
	require.ErrorIs(t, commit(s.disk, upgrade.Machine{Offline: true}, p.Entry), upgrade.ErrOffline)
	require.ErrorIs(t, commit(s.disk, upgrade.Machine{}, p.Entry), upgrade.ErrRunningUnknown)
	require.ErrorContains(t, commit(s.disk, s.machine, p.Entry), "EFI/Linux/acme_1.efi runs", "it was not even started")
	require.ErrorContains(t, commit(s.disk, s.machine, "EFI/Linux/other.efi"), "upgrade: commit: EFI/Linux/other.efi: no such entry on the ESP")
}

// Rolling back to what is no way back is refused, whatever the menu has.
func TestRollbackNeedsAWayBack(t *testing.T) {
	s := newSystem(t, "")
	s.apply("2")
	b := s.boot()
	require.NoError(t, s.commit(b))
	left := s.on(s.disk.Clone())
	require.NoError(t, rollback(left.disk, left.machine, "acme_2.efi"))
	require.Equal(t, "1", left.boot().Version)

	for name, change := range map[string]func(s *system){
		"a default that stays": func(s *system) {
			require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("default acme_2*\n"))))
		},
		"the other is bad, too": func(s *system) {
			require.NoError(t, s.esp().Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1+0-1.efi"))
		},
		"firmware refuses the other": func(s *system) {
			other, err := foreign()
			require.NoError(s.t, err)
			b := stripCertificates(s.t, read(s.t, s.esp(), "EFI/Linux/acme_1.efi"))
			require.NoError(s.t, s.esp().ReplaceFile("EFI/Linux/acme_1.efi", sign(s.t, b, other.SecureBoot.DB)))
		},
		"the other is no set": func(s *system) { require.NoError(t, s.esp().Remove("EFI/Linux/acme_1.efi")) },
	} {
		left := s.on(s.disk.Clone())
		change(left)
		require.ErrorIs(t, rollback(left.disk, left.machine, "acme_2.efi"), upgrade.ErrNothingToReturnTo, name)
	}
}

// Facts that contradict each other are no facts.
func TestContradictions(t *testing.T) {
	s := newSystem(t, "")
	b := s.boot()
	for want, change := range map[string]func(m *upgrade.Machine){
		"NoSecureBoot, and SecureBoot is 1":                         func(m *upgrade.Machine) { m.NoSecureBoot = true },
		"both NothingSealed and PCRKeys":                            func(m *upgrade.Machine) { m.NothingSealed = true },
		"the machine is both Offline and Running: want one of them": func(m *upgrade.Machine) { m.Running = b.Running },
		"the machine has both a Shim and NoShim: want one of them":  func(m *upgrade.Machine) { m.Shim, m.NoShim = source(nil), true },
	} {
		m := s.machine
		change(&m)
		_, err := upgrade.NewPlan(context.Background(), s.disk, s.build("2").Release(), m, upgrade.PlanOptions{})
		require.ErrorContains(t, err, want)
		_, err = upgrade.PredictBoot(m, nil, s.build("2").Release().UKI)
		require.ErrorContains(t, err, want)
	}
}

// What makes room is what was never found good, before what was, whatever the menu prefers.
func TestWhatMakesRoom(t *testing.T) {
	s := newSystemOf(t, "", 3)
	one := s.boot()
	s.install(s.build("2"))
	s.machine = s.running(s.boot())
	s.apply("3")
	s.machine.Running = one.Running // a person chose version 1 in the menu
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Equal(t, "EFI/Linux/acme_3+3.efi", state.Next.Path)
	p := s.plan(s.build("4"), upgrade.PlanOptions{})
	require.Equal(t, "C", p.Target.Name())
	require.Equal(t, "remove-entry EFI/Linux/acme_3+3.efi", p.Steps[0].String())
	// Of two that were, the one behind.
	require.NoError(t, s.esp().Rename("EFI/Linux/acme_3+3.efi", "EFI/Linux/acme_3.efi"))
	require.Equal(t, "B", s.plan(s.build("4"), upgrade.PlanOptions{}).Target.Name())
}

// What runs is installed, also on its last try; what has none left and does not run is not.
func TestInstalledOnLastTry(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	s.apply("2")
	for range 3 {
		s.bootAndRun()
		require.True(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Installed, s.machine.Running.Image)
	}
	require.Equal(t, "1", s.bootAndRun().Version)
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	require.False(t, p.Installed)
	require.ErrorAs(t, p.Refused(), new(*upgrade.FailedError))

	s = newSystem(t, "")
	require.NoError(t, s.esp().Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1+0-3.efi"))
	_, err := upgrade.NewPlan(t.Context(), s.disk, s.build("1").Release(), s.machine, upgrade.PlanOptions{})
	require.ErrorAs(t, err, new(*upgrade.SameRootError))
	require.ErrorContains(t, err, "slot A, which must be kept, already has the root file system of the release")
}
