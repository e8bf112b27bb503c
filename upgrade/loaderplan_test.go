package upgrade_test

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade"
)

// loaderPlan plans an update of the boot loader.
func (s *system) loaderPlan(loader osmith.Source, o upgrade.LoaderOptions) *upgrade.LoaderPlan {
	s.t.Helper()
	p, err := upgrade.NewLoaderPlan(s.t.Context(), s.disk, &bootloader.Installation{Loader: loader}, s.machine, o)
	require.NoError(s.t, err)
	return p
}

func loaderVerdict(t *testing.T, p *upgrade.LoaderPlan, proof upgrade.Proof) upgrade.Verdict {
	t.Helper()
	for _, v := range p.Verdicts {
		if v.Proof == proof {
			return v
		}
	}
	t.Fatalf("no verdict %s: %s", proof, p)
	return upgrade.Verdict{}
}

// loaders are the versions of the loaders on the ESP.
func (s *system) loaders() map[string]string {
	s.t.Helper()
	got := map[string]string{}
	for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", "EFI/systemd/systemd-boot-fallbackx64.efi"} {
		if b, err := s.esp().ReadFile(name); err == nil {
			v, err := bootloader.LoaderVersion(source(b))
			require.NoError(s.t, err)
			got[name] = string(v)
		}
	}
	return got
}

// The boot loader is replaced by a newer one, with its PCR 4 in the plan, on an ESP that is mounted
// and on one that is not. Whatever a power cut leaves starts what was started before, and a new
// plan has the rest.
func TestLoaderPlan(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		s := newSystem(t, "257.13")
		s.install(s.build("2"))
		s.bootAndRun()
		s.machine.Loader = &bootloader.Variables{}
		if mounted {
			s.mount()
		}
		loader := s.signedLoader("262.1")
		p := s.loaderPlan(loader, upgrade.LoaderOptions{})
		require.NoError(t, p.Refused(), "%s", p)
		require.Contains(t, p.String(), "systemd-boot 262 will boot acme_2.efi, as now (first in the menu)")
		want, err := upgrade.PredictBoot(s.machine, loader, s.build("2").UKI)
		require.NoError(t, err)
		require.Equal(t, sha256Bank(t, want).PCR(4), sha256Bank(t, p.Predicted).PCR(4))
		require.Contains(t, p.String(), "PCR 4  sha256 ")

		s.disk.Record()
		require.NoError(t, p.Apply(t.Context(), nil))
		require.ErrorIs(t, p.Apply(t.Context(), nil), upgrade.ErrApplied)
		require.Equal(t, map[string]string{"EFI/BOOT/BOOTX64.EFI": "262.1", "EFI/systemd/systemd-bootx64.efi": "262.1", "EFI/systemd/systemd-boot-fallbackx64.efi": "257.13"}, s.loaders())
		require.Equal(t, "2", s.boot().Version)
		require.Empty(t, s.loaderPlan(loader, upgrade.LoaderOptions{}).Changes)

		faults, err := s.disk.Faults(faultio.FaultOptions{Sector: 512, Limit: 8})
		require.NoError(t, err)
		judge := newProver(s, &diskKind{}, "1", "2")
		i := 0
		for state := range faults.States() {
			up, err := judge.boots(state.Disk)
			require.NoError(t, err, "%v", describe(state))
			require.Equal(t, []string{"2", "2", "2"}, up, "%v", describe(state))
			if i++; i%41 == 0 {
				left := s.on(state.Disk)
				if mounted {
					left.fsck()
				}
				rest := left.loaderPlan(loader, upgrade.LoaderOptions{})
				require.NoError(t, rest.Apply(t.Context(), nil), "%v: %s", describe(state), rest)
				require.Equal(t, s.loaders(), left.loaders())
				if found, err := left.esp().Check(); !mounted {
					require.NoError(t, err)
					require.True(t, found.Clean(), "%s", found)
				}
			}
		}
		require.Greater(t, i, 40)
	}
}

func sha256Bank(t *testing.T, log *tpm.Log) *tpm.Bank {
	t.Helper()
	require.NotNil(t, log)
	banks, err := log.Replay(5) // crypto.SHA256
	require.NoError(t, err)
	return banks[5]
}

// What firmware refuses, what starts another entry, what the TPM does not open for, and what does
// not fit, is not written.
func TestLoaderPlanRefuses(t *testing.T) {
	base := func(release string) *system {
		s := newSystem(t, release)
		s.install(s.build("2"))
		s.bootAndRun()
		s.machine.Loader = &bootloader.Variables{}
		return s
	}
	requireRefused := func(s *system, p *upgrade.LoaderPlan, proof upgrade.Proof, why string) {
		t.Helper()
		before := contentOf(t, s.disk)
		v := loaderVerdict(t, p, proof)
		require.Equal(t, upgrade.OutcomeFail, v.Outcome, "%s", p)
		require.Contains(t, texts(v), why)
		var refused *upgrade.RefusedError
		require.ErrorAs(t, p.Apply(t.Context(), nil), &refused)
		require.Equal(t, before, contentOf(t, s.disk))
	}

	s := base("257.13")
	requireRefused(s, s.loaderPlan(source(petest.Loader("262.1")), upgrade.LoaderOptions{}), upgrade.ProofBoots, "will not start EFI/systemd/systemd-bootx64.efi")
	p := s.loaderPlan(source(petest.Loader("262.1")), upgrade.LoaderOptions{Override: []upgrade.Proof{upgrade.ProofBoots}})
	require.True(t, loaderVerdict(t, p, upgrade.ProofBoots).Overridden)

	// 257 does not know "preferred"; 262 would start the old version.
	s = base("257.13")
	require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 0\npreferred acme_1.efi\n"))))
	requireRefused(s, s.loaderPlan(s.signedLoader("262.1"), upgrade.LoaderOptions{}), upgrade.ProofBoots, "will boot profile 0 of EFI/Linux/acme_1.efi")

	// The edit of loader.conf has the loader wait for a person.
	s = base("262")
	menu := bootloader.ConfigEdit{Set: &bootloader.Config{Timeout: "menu-force"}}
	requireRefused(s, s.loaderPlan(s.signedLoader("262"), upgrade.LoaderOptions{InstallationOptions: bootloader.InstallationOptions{EditConfig: menu}}), upgrade.ProofBoots, "waits at its menu")

	// A step back is no change.
	s = base("262")
	p = s.loaderPlan(s.signedLoader("257.13"), upgrade.LoaderOptions{})
	require.Empty(t, p.Changes)
	require.NotEmpty(t, p.Findings)
	require.NoError(t, p.Apply(t.Context(), nil))

	s = base("257.13")
	require.NoError(t, s.esp().WriteFile("EFI/filler", source(make([]byte, s.esp().Free()-4096))))
	requireRefused(s, s.loaderPlan(s.signedLoader("262.1"), upgrade.LoaderOptions{}), upgrade.ProofFits, "8192 bytes are missing")

	// Another program changes the ESP after the plan.
	s = base("257.13")
	p = s.loaderPlan(s.signedLoader("262.1"), upgrade.LoaderOptions{})
	require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 9\n"))))
	var changed *upgrade.ChangedError
	require.ErrorAs(t, p.Apply(t.Context(), nil), &changed)

	_, err := upgrade.NewLoaderPlan(t.Context(), s.disk, &bootloader.Installation{Loader: s.signedLoader("262.1")}, upgrade.Machine{}, upgrade.LoaderOptions{})
	require.ErrorIs(t, err, upgrade.ErrRunningUnknown)

	// Or while it is made.
	s = base("257.13")
	again := 0
	moving := &noticedSource{Source: s.signedLoader("262.1"), read: func() {
		if again++; again == 1 {
			require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 8\n"))))
		}
	}}
	_, err = upgrade.NewLoaderPlan(t.Context(), s.disk, &bootloader.Installation{Loader: moving}, s.machine, upgrade.LoaderOptions{})
	require.ErrorAs(t, err, &changed)

	// Nothing is known to be good that the machine could return to.
	s = newSystem(t, "257.13")
	require.NoError(t, s.esp().Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1+3.efi"))
	s.bootAndRun()
	s.machine.Loader = &bootloader.Variables{}
	requireRefused(s, s.loaderPlan(s.signedLoader("262.1"), upgrade.LoaderOptions{}), upgrade.ProofReturns, "still has a boot counter")
}

// noticedSource tells when it is read.
type noticedSource struct {
	osmith.Source
	read func()
}

func (n *noticedSource) ReadAt(b []byte, off int64) (int, error) {
	n.read()
	return n.Source.ReadAt(b, off)
}

// A volume that is sealed to PCR 4 does not open behind another loader: the plan says so, before
// anything is written.
func TestLoaderPlanUnlocks(t *testing.T) {
	disk, v, key := state(t)
	s := newSystemOn(t, "257.13", acmeos.DiskOptions{Slots: 2, State: disk})
	s.bootAndRun()
	s.machine.Loader = &bootloader.Variables{}
	s.machine.Userspace = tpm.PhasesAlone()
	s.machine.Unlock.Phases = []string{"enter-initrd"}
	booted, err := upgrade.PredictBoot(s.machine, s.signedLoader("257.13"), s.build("1").UKI, "enter-initrd")
	require.NoError(t, err)
	_, err = v.AddKey(key, []byte("secret"), luks.KeyOptions{Rand: rand.NewChaCha8([32]byte{8}), KDF: cheap, Token: literal(t, map[int][]byte{4: sha256Bank(t, booted).PCR(4)})})
	require.NoError(t, err)
	s = newSystemOn(t, "257.13", acmeos.DiskOptions{Slots: 2, State: disk})
	s.bootAndRun()
	s.machine.Loader = &bootloader.Variables{}
	s.machine.Userspace = tpm.PhasesAlone()
	s.machine.Unlock.Phases = []string{"enter-initrd"}
	p := s.loaderPlan(s.signedLoader("262.1"), upgrade.LoaderOptions{})
	unlocks := loaderVerdict(t, p, upgrade.ProofUnlocks)
	require.Equal(t, upgrade.OutcomeFail, unlocks.Outcome, "%s", p)
	require.True(t, strings.Contains(texts(unlocks), "behind the new boot loader"), "%s", p)
	var volume *upgrade.VolumeError
	require.ErrorAs(t, p.Refused(), &volume)
}

// Keys on the ESP that systemd-boot would enrol by itself must let everything start that is there.
func TestLoaderPlanKeys(t *testing.T) {
	own, err := keys()
	require.NoError(t, err)
	others, err := foreign()
	require.NoError(t, err)
	set := func(k *acmeos.Keys, name string) []osmith.ESPFile {
		e, err := k.SecureBoot.Enroll(secureboot.EnrollOptions{Time: when, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}, NothingMustBoot: true})
		require.NoError(t, err)
		files, err := e.LoaderKeys(name)
		require.NoError(t, err)
		return files
	}
	for _, c := range []struct {
		name  string
		keys  []osmith.ESPFile
		setup []byte
		want  upgrade.Outcome
		text  string
	}{
		{"own, with a driver", append(set(own, "auto"), osmith.ESPFile{Path: "EFI/systemd/drivers/x.efi", Content: source(nil)}), []byte{1}, upgrade.OutcomeWarn, "the keys in loader/keys/auto, once they are enrolled: systemd-boot loads the driver EFI/systemd/drivers/x.efi"},
		{"own, by itself", set(own, "auto"), []byte{1}, upgrade.OutcomePass, "the keys in loader/keys/auto, once they are enrolled, let everything start"},
		{"others', by itself", set(others, "auto"), []byte{1}, upgrade.OutcomeFail, "the keys in loader/keys/auto, once they are enrolled: firmware will not start"},
		{"others', not known", set(others, "auto"), nil, upgrade.OutcomeFail, "the keys in loader/keys/auto"},
		{"others', for a person", set(others, "theirs"), []byte{1}, upgrade.OutcomeWarn, "the keys in loader/keys/theirs"},
		{"others', never enrolled", set(others, "auto"), []byte{0}, upgrade.OutcomePass, ""},
	} {
		s := newSystem(t, "257.13")
		s.bootAndRun()
		s.machine.Loader = &bootloader.Variables{}
		facts := *s.machine.Firmware
		facts.SetupMode = c.setup
		s.machine.Firmware = &facts
		if last := len(c.keys) - 1; strings.HasPrefix(c.keys[last].Path, "EFI/") {
			require.NoError(t, s.esp().MkdirAll(path.Dir(c.keys[last].Path)))
			require.NoError(t, s.esp().WriteFile(c.keys[last].Path, c.keys[last].Content))
			c.keys = c.keys[:last]
		}
		p, err := upgrade.NewLoaderPlan(t.Context(), s.disk, &bootloader.Installation{Loader: s.signedLoader("262.1"), Keys: c.keys}, s.machine, upgrade.LoaderOptions{})
		require.NoError(t, err, c.name)
		v := loaderVerdict(t, p, upgrade.ProofBoots)
		require.Equal(t, c.want, v.Outcome, "%s: %s", c.name, p)
		require.Contains(t, texts(v), c.text, c.name)
	}
}

// Of another profile than the default one it is not known what it measures, and nothing is
// predicted.
func TestLoaderPlanOfAnotherProfile(t *testing.T) {
	s := newSystem(t, "257.13")
	image := s.withUKI(s.build("1"), profiles, 0, 1).UKI
	require.NoError(t, s.esp().ReplaceFile("EFI/Linux/acme_1.efi", image))
	s.bootAndRun()
	for id, predicted := range map[string]bool{"acme_1.efi": true, "acme_1.efi@reset": false} {
		s.machine.Loader = &bootloader.Variables{EntryDefault: id}
		p := s.loaderPlan(s.signedLoader("262.1"), upgrade.LoaderOptions{})
		require.Equal(t, predicted, p.Predicted != nil, "%s: %s", id, p)
		if !predicted {
			v := loaderVerdict(t, p, upgrade.ProofUnlocks)
			require.Equal(t, upgrade.OutcomeWarn, v.Outcome)
			require.Contains(t, texts(v), "PCRs cannot be predicted: EFI/Linux/acme_1.efi starts a profile other than the default one")
		}
	}
}
