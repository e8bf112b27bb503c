//go:build linux

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/upgrade"
)

// newSystem is a system on the boot parts of a Debian release.
func newSystem(t *testing.T, r testtools.Root) *System {
	t.Helper()
	s, err := NewSystem(t.Context(), t.TempDir(), BootParts{
		Stub: r.Part(t, "stub"), Loader: r.Part(t, "loader"), Kernel: r.Part(t, "kernel"), Modules: r.Part(t, "modules"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	s.Machine.Logs = logs(t)
	return s
}

func buildVersion(t *testing.T, s *System, version string) *acmeos.Set {
	t.Helper()
	set, err := s.Build(t.Context(), version)
	require.NoError(t, err)
	return set
}

// bootGood boots, expects a report, and checks it against the prediction that was made before.
func bootGood(t *testing.T, s *System, name string, set *acmeos.Set) *report.Report {
	t.Helper()
	b := boot(t, s.Machine, name, Reported)
	require.NoError(t, s.Check(b, set))
	return b.Report
}

// installAndEnrol makes the disk and lets systemd-boot take our keys into the firmware.
func installAndEnrol(t *testing.T, s *System, v1 *acmeos.Set) {
	t.Helper()
	_, err := s.Install(v1)
	require.NoError(t, err)
	boot(t, s.Machine, "0-enrol", Reset)
}

// TestLifecycle is the whole flow on the newest parts: install, measured boot, upgrade, bless, and
// two ways to fail.
func TestLifecycle(t *testing.T) {
	requireVM(t)
	t.Parallel()
	s := newSystem(t, testtools.Forky(t))
	v1, v2, v3 := buildVersion(t, s, "1"), buildVersion(t, s, "2"), buildVersion(t, s, "3")
	installAndEnrol(t, s, v1)

	r := bootGood(t, s, "1-first", v1)
	require.Equal(t, report.Uncounted, r.Bless.Result)

	s.cutUpgrade(t, v2)
	bootGood(t, s, "2-after-power-cut", v1)

	plan, err := s.Upgrade(t.Context(), v2, upgrade.PlanOptions{}, nil)
	require.NoError(t, err)
	require.Equal(t, "EFI/Linux/acme_2+3.efi", plan.Entry)
	require.Equal(t, "B", plan.Target.Name())
	r = bootGood(t, s, "3-upgraded", v2)
	require.Equal(t, report.Bless{Result: report.Blessed, From: "EFI/Linux/acme_2+2-1.efi", To: "EFI/Linux/acme_2.efi"}, r.Bless)

	t.Run("damaged slot", func(t *testing.T) {
		plan := damagedSlot(t, s, v3, v2)
		require.Equal(t, "A", plan.Target.Name(), "the slot of version 1")
	})

	t.Run("foreign signature", func(t *testing.T) {
		v4 := buildForeign(t, s, "4")
		_, err := s.Upgrade(t.Context(), v4, upgrade.PlanOptions{}, nil)
		requireRefused(t, err, upgrade.ProofBoots)
		_, err = s.Upgrade(t.Context(), v4, upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofReturns}}, nil)
		requireRefused(t, err, upgrade.ProofBoots)

		_, err = s.Upgrade(t.Context(), v4, upgrade.PlanOptions{Tries: 2, Override: []upgrade.Proof{upgrade.ProofBoots}}, nil)
		require.NoError(t, err)
		for _, name := range []string{"foreign-first", "foreign-second"} {
			b := boot(t, s.Machine, name, Reset)
			require.Contains(t, b.Serial, "denied", "the firmware's word for it")
		}
		bootGood(t, s, "foreign-back", v2)
	})
}

// damagedSlot upgrades to a version whose slot is then damaged where the guest reads, and sees the
// tries used up.
func damagedSlot(t *testing.T, s *System, bad, good *acmeos.Set) *upgrade.Plan {
	t.Helper()
	plan, err := s.Upgrade(t.Context(), bad, upgrade.PlanOptions{Tries: 2}, nil)
	require.NoError(t, err)
	require.NoError(t, s.Damage(bad))
	for _, name := range []string{"damaged-first", "damaged-second"} {
		b := boot(t, s.Machine, name, Failed)
		require.Contains(t, b.Reason, "input/output error")
	}
	r := bootGood(t, s, "damaged-back", good)
	require.Equal(t, report.Uncounted, r.Bless.Result, "version %s is permanent", good.Version)

	// What a person sees who asks why the machine runs the old version.
	disk, err := s.OpenDisk()
	require.NoError(t, err)
	facts := s.Facts
	facts.Offline, facts.Running = false, &upgrade.Running{Image: r.Variable("StubImageIdentifier"), RootHash: good.RootHash}
	state, err := upgrade.Inspect(disk, facts)
	require.NoError(t, err)
	require.NoError(t, disk.Close())
	require.NotNil(t, state.FellBack)
	require.Equal(t, bad.Version, state.FellBack.Version)
	require.Contains(t, state.String(), "fell back to version "+good.Version+" from "+bad.Version+": EFI/Linux/acme_"+bad.Version+"+0-2.efi has failed in all of its 2 tries")
	return plan
}

// cutUpgrade pulls the plug in the middle of the root file system.
func (s *System) cutUpgrade(t *testing.T, set *acmeos.Set) {
	t.Helper()
	disk, err := s.OpenDisk()
	require.NoError(t, err)
	defer disk.Close()
	plan, err := upgrade.NewPlan(t.Context(), disk, set.Release(), s.Facts, upgrade.PlanOptions{})
	require.NoError(t, err)
	disk.CutAfter(set.Release().Root.Size() / 2)
	require.ErrorIs(t, plan.Apply(t.Context(), nil), acmeos.ErrPowerCut)
}

// TestLifecycleStable runs what differs with the older loader of Debian stable: the same prediction
// by another row of the table, and a machine that does not come back by itself from an image that
// the firmware refuses.
func TestLifecycleStable(t *testing.T) {
	requireVM(t)
	t.Parallel()
	r := testtools.Trixie(t)
	s := newSystem(t, r)
	v1, v2 := buildVersion(t, s, "1"), buildVersion(t, s, "2")
	installAndEnrol(t, s, v1)
	rep := bootGood(t, s, "1-first", v1)
	t.Run("companions", func(t *testing.T) {
		other := s.onItsOwn(t)
		got := profileWithCompanions(t, other, r, forThisHardware(t, other, twoProfiles(), rep), rep)
		requireMeasured(t, got, ".linux", ".osrel", ".cmdline", ".initrd", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile", ".dtbauto", ".hwids")
	})

	_, err := s.Upgrade(t.Context(), v2, upgrade.PlanOptions{}, nil)
	require.NoError(t, err)
	rep = bootGood(t, s, "2-upgraded", v2)
	require.Equal(t, report.Blessed, rep.Bless.Result)

	damagedSlot(t, s, buildVersion(t, s, "3"), v2)

	v4 := buildForeign(t, s, "4")
	plan, err := s.Upgrade(t.Context(), v4, upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofBoots}}, nil)
	require.NoError(t, err)
	for _, j := range plan.Verdicts {
		if j.Proof == upgrade.ProofReturns {
			require.Equal(t, upgrade.OutcomeWarn, j.Outcome, "%v", j.Reasons)
		}
	}
	// The firmware tries the ESP once more when the loader gives up, which costs a second try, and
	// then asks a person.
	s.Machine.StopAt = []string{"No bootable option or device was found"}
	boot(t, s.Machine, "foreign", Stopped)
	require.Equal(t, "EFI/Linux/acme_4+1-2.efi", s.entry(t, v4), "tries are counted before the image is refused")
}

// onItsOwn is a system on a copy of the machine, with its keys and its TPM, but without its disk.
func (s *System) onItsOwn(t *testing.T) *System {
	t.Helper()
	machine := *s.Machine
	machine.Disk = ""
	clone, err := machine.Clone(t.TempDir())
	require.NoError(t, err)
	clone.Disk = filepath.Join(clone.Dir, "esp.img")
	other := *s
	other.Machine = clone
	return &other
}

func buildForeign(t *testing.T, s *System, version string) *acmeos.Set {
	t.Helper()
	stranger, err := acmeos.GenerateKeys(s.Builder.Time)
	require.NoError(t, err)
	s.Builder.Foreign = stranger
	defer func() { s.Builder.Foreign = nil }()
	return buildVersion(t, s, version)
}

func requireRefused(t *testing.T, err error, verdict upgrade.Proof) {
	t.Helper()
	var refused *upgrade.RefusedError
	require.True(t, errors.As(err, &refused), "%v", err)
	require.Len(t, refused.Verdicts, 1)
	require.Equal(t, verdict, refused.Verdicts[0].Proof)
}

// inspect opens the disk of the machine, which is off, and finds out what is on it.
func (s *System) inspect(t *testing.T) (*acmeos.ImageFile, *upgrade.State) {
	t.Helper()
	disk, err := s.OpenDisk()
	require.NoError(t, err)
	state, err := upgrade.Inspect(disk, s.Facts)
	require.NoError(t, err)
	return disk, state
}

// entry is the path of a version's entry on the ESP.
func (s *System) entry(t *testing.T, set *acmeos.Set) string {
	t.Helper()
	disk, state := s.inspect(t)
	defer disk.Close()
	for _, e := range state.Entries {
		if string(e.RootHash) == string(set.RootHash) {
			return e.Path
		}
	}
	return ""
}

// TestImage checks the disk of version 1 against the tools that people will use on it, and against
// itself.
func TestImage(t *testing.T) {
	s := newSystem(t, testtools.Trixie(t))
	v1 := buildVersion(t, s, "1")
	image, err := s.Install(v1)
	require.NoError(t, err)
	disk := s.Machine.Disk

	require.Contains(t, testtools.Run(t, "sgdisk", "-v", disk), "No problems found")
	testtools.Run(t, "sfdisk", "--verify", disk)

	part := func(i int, name string) string {
		b := make([]byte, 0)
		f, err := os.Open(disk)
		require.NoError(t, err)
		defer f.Close()
		off, size := image.Table.Extent(i)
		b = append(b, make([]byte, size)...)
		_, err = f.ReadAt(b, off)
		require.NoError(t, err)
		file := filepath.Join(s.dir, name)
		require.NoError(t, os.WriteFile(file, b, 0o600))
		return file
	}
	esp := part(0, "esp.img")
	testtools.Run(t, "fsck.fat", "-n", esp)
	uki := filepath.Join(s.dir, "extracted.efi")
	testtools.Run(t, "mcopy", "-i", esp, "::/EFI/Linux/acme_1.efi", uki)
	testtools.Run(t, "veritysetup", "verify", part(1, "root.img"), part(2, "tree.img"), hexOf(v1.RootHash))

	cert := filepath.Join(s.dir, "db.crt")
	require.NoError(t, os.WriteFile(cert, pemCertificate(s.Builder.Keys.SecureBoot.DB.Cert), 0o600))
	require.Contains(t, testtools.Run(t, "sbverify", "--cert", cert, uki), "Signature verification OK")
	for _, root := range []testtools.Root{testtools.Trixie(t)} {
		out := root.Run(t, s.dir, "ukify", "inspect", uki)
		for _, section := range []string{".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrsig", ".pcrpkey"} {
			require.Contains(t, out, section)
		}
	}

	first, err := os.ReadFile(disk)
	require.NoError(t, err)
	again, err := s.Build(t.Context(), "1")
	require.NoError(t, err)
	_, err = s.Install(again)
	require.NoError(t, err)
	second, err := os.ReadFile(disk)
	require.NoError(t, err)
	require.True(t, string(first) == string(second), "the same keys and inputs give another image")
}
