package upgrade_test

import (
	"crypto"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// What has happened to fleets of others does not happen here. Each of these has the public report
// that tells of it; what it has to do with is tested from all sides elsewhere.
func TestIncidents(t *testing.T) {
	// bootc#1808, Flatcar#1850: the ESP was full in the middle of an update, half a kernel stayed
	// there, and every later command failed on it.
	t.Run("the ESP is full in the middle", func(t *testing.T) {
		for _, mounted := range []bool{false, true} {
			s := newSystem(t, "")
			s.bootAndRun()
			s.machine.Loader = &bootloader.Variables{}
			if mounted {
				s.mount()
			}
			set := s.build("2")
			p := s.plan(set, upgrade.PlanOptions{})
			require.NoError(t, p.Refused())
			// Another program takes the room while the slot is being written.
			err := p.Apply(t.Context(), func(step int, _, _ int64) {
				if p.Steps[step].Kind == upgrade.StepVerifySlot {
					require.NoError(t, s.esp().WriteFile("EFI/firmware.cap", source(make([]byte, s.esp().Free()-set.UKI.Size()/2))))
					s.remount()
				}
			})
			require.Error(t, err)
			require.Equal(t, "1", s.boot().Version)
			s.bootAndRun()
			s.remount()
			require.ErrorAs(t, s.plan(set, upgrade.PlanOptions{}).Refused(), new(*upgrade.ESPSpaceError))
			require.NoError(t, s.esp().Remove("EFI/firmware.cap"))
			s.remount()
			s.install(set)
		}
	})

	// talos#11844 and boards that forget their variables: without any Boot#### the machine comes up
	// by EFI/BOOT, and an upgrade is planned and carried out.
	t.Run("firmware drops Boot####", func(t *testing.T) {
		s := newSystem(t, "")
		s.bootAndRun()
		s.machine.Loader, s.machine.LoaderPaths = &bootloader.Variables{}, []string{}
		require.NoError(t, s.esp().Remove("EFI/systemd/systemd-bootx64.efi"))
		p := s.plan(s.build("2"), upgrade.PlanOptions{})
		require.NoError(t, p.Refused(), "%s", p)
		s.install(s.build("2"))

		// And the option is made again.
		again, err := bootloader.PlanBootOption(new(bootloader.MachineVariables), bootloader.BootProgram{File: "EFI/systemd/systemd-bootx64.efi", Partition: osmith.GUID{1}, PartitionNumber: 1, FirstLBA: 2048, LastLBA: 4095}, bootloader.BootPlanOptions{})
		require.NoError(t, err)
		require.Len(t, again.Changes, 2)
	})

	// kairos#4303: what was remembered of the version before made a new, good one fall back at
	// once.
	t.Run("a stale assessment after a rollback", func(t *testing.T) {
		s := newSystem(t, "")
		s.install(s.build("2"))
		s.bootAndRun()
		s.machine.Loader = &bootloader.Variables{}
		require.NoError(t, rollback(s.disk, s.machine, ""))
		require.Equal(t, "1", s.bootAndRun().Version)
		for _, version := range []string{"3", "4"} {
			require.NoError(t, s.plan(s.build(version), upgrade.PlanOptions{}).Apply(t.Context(), nil))
			boots, err := s.machineUnderTest().BootUntilUp(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, upgradetest.Up, boots[0].Outcome)
			require.Equal(t, version, boots[0].Version, "at the first start")
			s.machine = s.running(boots[0])
			require.NoError(t, s.commit(boots[0]))
			require.Equal(t, version, s.bootAndRun().Version)
		}
	})

	// elemental-cli#348, talos#11909: of two disks with the same labels the other one was upgraded.
	t.Run("the wrong of two disks", func(t *testing.T) {
		s := newSystem(t, "")
		s.bootAndRun()
		table, err := partition.Read(s.disk, partition.ReadOptions{})
		require.NoError(t, err)
		esp := table.Partitions[0].ID
		disks := map[string]osmith.Source{"/dev/sda": s.disk, "/dev/sdb": s.another().disk}
		name, err := upgrade.FindDisk(disks, esp)
		require.NoError(t, err)
		require.Equal(t, "/dev/sda", name)
		disks["/dev/sdc"] = s.disk.Clone()
		_, err = upgrade.FindDisk(disks, esp)
		require.ErrorAs(t, err, new(*upgrade.CloneError))
		m := s.machine
		running := *m.Running
		running.ESP = osmith.GUID{9}
		m.Running = &running
		_, err = upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), m, upgrade.PlanOptions{})
		require.ErrorAs(t, err, new(*upgrade.NotRunningError))
	})

	// bottlerocket-update-operator#123: a version that failed was installed again and again.
	t.Run("an update loop on a failed version", func(t *testing.T) {
		s := newSystem(t, "")
		s.bootAndRun()
		s.machine.Loader = &bootloader.Variables{}
		bad := s.build("2")
		require.NoError(t, s.plan(bad, upgrade.PlanOptions{}).Apply(t.Context(), nil))
		s.damage(bad)
		require.Equal(t, "1", s.bootAndRun().Version)
		require.ErrorAs(t, s.plan(bad, upgrade.PlanOptions{}).Refused(), new(*upgrade.FailedError))
		s.install(s.build("3"))
		require.ErrorAs(t, s.plan(bad, upgrade.PlanOptions{}).Refused(), new(*upgrade.FailedError))
	})

	// bootc#1808, systemd#28640: files that nothing starts kept a good version from being made
	// permanent.
	t.Run("garbage on the ESP blocks a commit", func(t *testing.T) {
		for _, mounted := range []bool{false, true} {
			s := newSystem(t, "")
			s.bootAndRun()
			s.machine.Loader = &bootloader.Variables{}
			set := s.build("2")
			require.NoError(t, s.plan(set, upgrade.PlanOptions{}).Apply(t.Context(), nil))
			b := s.bootAndRun()
			require.NoError(t, s.esp().WriteFile("EFI/Linux/acme_2.efi.osmith-staged", source([]byte("half"))))
			require.NoError(t, s.esp().WriteFile("EFI/Linux/acme_9.osmith-staged", source(make([]byte, s.esp().Free()-set.UKI.Size()/2))))
			if mounted {
				s.mount()
			}
			if err := s.commit(b); mounted {
				// A commit copies there, for which there is no room; what is in the way is taken
				// away.
				require.Error(t, err)
				_, err = upgrade.Collect(s.disk, s.machine)
				require.NoError(t, err)
				require.NoError(t, s.commit(b))
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, "2", s.boot().Version)
		}
	})

	// kairos#3831, talos#12300: a default that a tool had set booted the failed version for ever.
	t.Run("a default pinned by a tool", func(t *testing.T) {
		s := newSystem(t, "257.13")
		s.bootAndRun()
		s.machine.Loader = &bootloader.Variables{EntryDefault: "acme_2*"}
		require.ErrorIs(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Refused(), upgrade.ErrPinned)
		s.machine.Loader = &bootloader.Variables{}
		require.NoError(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Refused())
	})

	// talos#10205, bootupd#1146: revocations were written that the running system did not survive.
	t.Run("a dbx that would stop the running image", func(t *testing.T) {
		s := newSystem(t, "")
		k, err := keys()
		require.NoError(t, err)
		running, err := secureboot.ReadImage(s.build("1").UKI)
		require.NoError(t, err)
		running.Name = "acme_1.efi"
		next, err := secureboot.ReadImage(s.build("2").UKI)
		require.NoError(t, err)
		next.Name = "acme_2.efi"
		lists, err := secureboot.AppendSignatureLists(nil, secureboot.SHA256List(osmith.GUID{1}, [32]byte(running.Digests[crypto.SHA256])))
		require.NoError(t, err)
		dbx, err := secureboot.Update{Variable: "dbx", Payload: lists, Time: when.Add(time.Hour), Append: true}.Sign(k.SecureBoot.KEK.Key, k.SecureBoot.KEK.Cert)
		require.NoError(t, err)
		e := secureboot.EvaluateSet(*s.machine.Firmware, []secureboot.Image{running, next}, secureboot.EvaluateSetOptions{NoShim: true, Pending: []secureboot.Pending{{Variable: "dbx", Auth: dbx, Append: true, Name: "dbx.auth"}}})
		require.NoError(t, e.Refused)
		require.False(t, e.Allowed())
		require.Equal(t, []string{"acme_1.efi"}, e.Changed())

		// Once it is in, neither an upgrade nor a way back pretends that the old version still
		// starts.
		s.machine.Firmware = e.After
		v := verdict(t, s.plan(s.build("2"), upgrade.PlanOptions{}), upgrade.ProofReturns)
		require.Equal(t, upgrade.OutcomeFail, v.Outcome, texts(v))
	})
}

// remount has what another program has written be seen where the ESP is mounted.
func (s *system) remount() {
	if s.mounts {
		s.mount()
	}
}
