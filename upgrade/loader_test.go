package upgrade_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// esp is the file system with the loader.
func (s *system) esp() *fat.FS {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	esp, err := fat.Open(table.Window(s.disk, 0))
	require.NoError(s.t, err)
	return esp
}

// signedLoader is a loader of another version.
func (s *system) signedLoader(version string) osmith.Source {
	s.t.Helper()
	b := *s.builder
	b.Parts.Loader = source(petest.Loader(version))
	loader, err := b.SignedLoader()
	require.NoError(s.t, err)
	return loader
}

// The verdicts are those of the loader on the ESP, and what is not known about it does not pass.
func TestLoaderVerdicts(t *testing.T) {
	for _, c := range []struct {
		version         string
		assume          int
		boots, returns  upgrade.Outcome
		ofBoots, ofBack string
	}{
		{"262-1", 0, upgrade.OutcomePass, upgrade.OutcomePass, "will boot acme_2.efi (first in the menu)", "systemd-boot 262-1 reboots by itself"},
		{"252.39", 0, upgrade.OutcomePass, upgrade.OutcomeWarn, "will boot acme_2+3.efi (first in the menu)", "needs 258 or later"},
		{"258.3", 0, upgrade.OutcomePass, upgrade.OutcomePass, "(first in the menu), by the rules of systemd-boot 257.13 and 260", "acme_1.efi, by the rules of systemd-boot 257.13 and 260"},
		{"263", 0, upgrade.OutcomeWarn, upgrade.OutcomeWarn, "systemd-boot 263 is newer than 262", "whether it counts tries is unknown"},
		{"main", 0, upgrade.OutcomeWarn, upgrade.OutcomeWarn, `systemd-boot "main": want release`, "whether it counts tries is unknown"},
		{"263", 262, upgrade.OutcomePass, upgrade.OutcomeWarn, "(first in the menu), by the rules of systemd-boot 262", `systemd-boot "263" is taken for 262`},
		{"262", 257, upgrade.OutcomePass, upgrade.OutcomePass, "(first in the menu)", "reboots by itself"},
	} {
		t.Run(c.version, func(t *testing.T) {
			s := newSystem(t, c.version)
			s.machine.AssumeLoader = c.assume
			p := s.plan(s.build("2"), upgrade.PlanOptions{})
			boots, returns := verdict(t, p, upgrade.ProofBoots), verdict(t, p, upgrade.ProofReturns)
			require.Equal(t, c.boots, boots.Outcome, texts(boots))
			require.Equal(t, c.returns, returns.Outcome, texts(returns))
			require.Contains(t, texts(boots), c.ofBoots)
			require.Contains(t, texts(returns), c.ofBack)
		})
	}
}

// 257 starts the second profile of a new UKI with several, which is not the one that was looked at;
// what 257.9 starts is not known.
func TestLoaderStartsAnotherProfile(t *testing.T) {
	for version, want := range map[string]string{
		"252":    "",
		"257.13": "the loader will boot profile 1 of EFI/Linux/acme_2+3.efi (first in the menu), not its default one",
		"257.9":  "what systemd-boot 257.9 boots is unknown: 256 would boot profile 0 of EFI/Linux/acme_2+3.efi (first in the menu), 257.13 would boot profile 1 of EFI/Linux/acme_2+3.efi (first in the menu)",
		"262":    "",
	} {
		t.Run(version, func(t *testing.T) {
			s := newSystem(t, version)
			set := s.build("2")
			p, err := upgrade.NewPlan(t.Context(), s.disk, s.withUKI(set, profiles, 0, 1), s.machine, upgrade.PlanOptions{})
			require.NoError(t, err)
			j := verdict(t, p, upgrade.ProofBoots)
			require.Equal(t, want != "", j.Outcome == upgrade.OutcomeFail, texts(j))
			require.Contains(t, texts(j), want)
			var unknown *upgrade.LoaderUnknownError
			if strings.HasPrefix(want, "what") {
				require.ErrorAs(t, p.Refused(), &unknown)
			}
			if version != "262" {
				return
			}
			// As the running one it is what the loader returns to, but not in another profile.
			require.NoError(t, p.Apply(t.Context(), nil))
			require.NoError(t, s.commit(s.bootAndRun()))
			next := s.build("3")
			require.Equal(t, upgrade.OutcomePass, verdict(t, s.plan(next, upgrade.PlanOptions{}), upgrade.ProofReturns).Outcome)
			require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("preferred acme_2.efi@reset\n"))))
			j = verdict(t, s.plan(next, upgrade.PlanOptions{}), upgrade.ProofReturns)
			require.Equal(t, upgrade.OutcomeFail, j.Outcome)
			require.Contains(t, texts(j), "EFI/Linux/acme_2.efi in profile 1 again and again: profile 1 of EFI/Linux/acme_2.efi is not its default one")
			b, err := (&upgradetest.Machine{Disk: s.disk, Machine: s.machine}).Boot(t.Context())
			require.NoError(t, err)
			require.Equal(t, upgradetest.Stuck, b.Outcome)
			require.Contains(t, b.Reason, "starts profile 1")
		})
	}
}

// reboot-on-error in loader.conf can keep a refused image from being left by itself.
func TestRebootOnErrorOfLoaderConf(t *testing.T) {
	s := newSystem(t, "262")
	set := s.build("2")
	for value, want := range map[string]upgrade.Outcome{"no": upgrade.OutcomeWarn, "yes": upgrade.OutcomePass, "auto": upgrade.OutcomePass, "perhaps": upgrade.OutcomePass} {
		require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 0\nreboot-on-error "+value+"\n"))))
		j := verdict(t, s.plan(set, upgrade.PlanOptions{}), upgrade.ProofReturns)
		require.Equal(t, want, j.Outcome, value)
		if want == upgrade.OutcomeWarn {
			require.Contains(t, texts(j), `reboot-on-error in loader.conf is "no"`)
		}
	}
}

// A machine whose loader is not known does not boot in a simulation, unless its release is named.
func TestSimulatedLoader(t *testing.T) {
	s := newSystem(t, "263")
	m := upgradetest.Machine{Disk: s.disk, Machine: s.machine}
	b, err := m.Boot(t.Context())
	require.NoError(t, err)
	require.Equal(t, upgradetest.Stuck, b.Outcome)
	require.Contains(t, b.Reason, "newer than 262")
	m.AssumeLoader = bootloader.Releases()[len(bootloader.Releases())-1].Number
	b, err = m.Boot(t.Context())
	require.NoError(t, err)
	require.Equal(t, upgradetest.Up, b.Outcome, b.Reason)
}

// A loader that does not tell its version is what the caller says, or not known.
func TestLoaderWithoutVersion(t *testing.T) {
	s := newSystem(t, "262")
	b := *s.builder
	b.Parts.Loader = source(petest.Stub("262")) // no systemd-boot
	loader, err := b.SignedLoader()
	require.NoError(t, err)
	require.NoError(t, s.esp().ReplaceFile("EFI/BOOT/BOOTX64.EFI", loader))
	set := s.build("2")
	m := upgradetest.Machine{Disk: s.disk, Machine: s.machine}
	for assume, want := range map[int]upgrade.Outcome{0: upgrade.OutcomeWarn, 262: upgrade.OutcomePass} {
		s.machine.AssumeLoader, m.AssumeLoader = assume, assume
		p := s.plan(set, upgrade.PlanOptions{})
		j := verdict(t, p, upgrade.ProofBoots)
		require.Equal(t, want, j.Outcome, texts(j))
		require.Contains(t, texts(j), "by the rules of systemd-boot 262")
		require.Equal(t, upgrade.OutcomeWarn, verdict(t, p, upgrade.ProofReturns).Outcome)
		got, err := m.Boot(t.Context())
		require.NoError(t, err)
		require.Equal(t, assume != 0, got.Outcome == upgradetest.Up, got.Reason)
	}
}

// The state of a disk has the entries as its loader calls them.
func TestInspectByLoader(t *testing.T) {
	for version, want := range map[string]string{"252": "acme_2+3.efi", "262": "acme_2.efi"} {
		s := newSystem(t, version)
		require.NoError(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Apply(t.Context(), nil))
		state, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		require.Equal(t, want, state.Entries[0].ID)
	}
}

// A refused image is tried again until its tries are used up, unless the loader does not reboot by
// itself.
func TestSimulatedRefusal(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	for conf, want := range map[string]upgradetest.Outcome{"": upgradetest.Refused, "reboot-on-error no\n": upgradetest.Stuck} {
		s := newSystem(t, "262")
		require.NoError(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Apply(t.Context(), nil))
		require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 0\n"+conf))))
		b := *s.builder
		b.Keys = other
		m := upgradetest.Machine{Disk: s.disk}
		m.Machine, err = b.Machine()
		require.NoError(t, err)
		got, err := m.Boot(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got.Outcome, got.Reason)
	}
}
