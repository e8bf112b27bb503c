package upgrade_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/upgrade"
)

// planWith plans an upgrade with the boot loader of the release.
func (s *system) planWith(version string, loader osmith.Source, o upgrade.PlanOptions) (*upgrade.Plan, error) {
	s.t.Helper()
	r := s.build(version).Release()
	r.Loader = loader
	if o.Loader == nil {
		o.Loader = new(bootloader.Installation)
	}
	return upgrade.NewPlan(s.t.Context(), s.disk, r, s.machine, o)
}

// The boot loader of a release is installed before its set, by one plan: its verdicts are about the
// disk behind both, PCR 4 is that of the new loader, and whatever a power cut leaves boots the old
// version or the new one.
func TestLoaderWithSet(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		s := newSystem(t, "257.13")
		s.install(s.build("2"))
		s.bootAndRun()
		s.machine.Loader = &bootloader.Variables{}
		if mounted {
			s.mount()
		}
		loader := s.signedLoader("262.1")
		p, err := s.planWith("3", loader, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.NoError(t, p.Refused(), "%s", p)
		require.Len(t, p.Loader.Changes, 3)
		require.Contains(t, p.String(), "boot loader, before the rest:\n")
		b, err := json.Marshal(p)
		require.NoError(t, err)
		requireSchema(t, "plan", b)
		b, err = json.Marshal(p.Loader)
		require.NoError(t, err)
		requireSchema(t, "loaderplan", b)
		want, err := upgrade.PredictBoot(s.machine, loader, s.build("3").UKI)
		require.NoError(t, err)
		require.Equal(t, sha256Bank(t, want).PCR(4), sha256Bank(t, p.Predicted).PCR(4))
		require.Equal(t, map[string]string{"EFI/BOOT/BOOTX64.EFI": "257.13", "EFI/systemd/systemd-bootx64.efi": "257.13"}, s.loaders(), "nothing is written yet")

		s.disk.Record()
		require.NoError(t, p.Apply(t.Context(), nil))
		require.ErrorIs(t, p.Apply(t.Context(), nil), upgrade.ErrApplied)
		require.Equal(t, "262.1", s.loaders()["EFI/BOOT/BOOTX64.EFI"])
		require.Equal(t, "3", s.boot().Version)
		again, err := s.planWith("3", loader, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.True(t, again.Installed)
		require.Empty(t, again.Loader.Changes)

		faults, err := s.disk.Faults(faultio.FaultOptions{Sector: 512, Limit: 4})
		require.NoError(t, err)
		judge := newProver(s, &diskKind{}, "2", "3")
		n := 0
		for state := range faults.States() {
			up, err := judge.boots(state.Disk)
			require.NoError(t, err, "%v", describe(state))
			require.Subset(t, []string{"2", "3"}, up, "%v", describe(state))
			if n++; n%97 == 0 && !mounted {
				left := s.on(state.Disk)
				rest, err := left.planWith("3", loader, upgrade.PlanOptions{})
				require.NoError(t, err)
				require.NoError(t, rest.Apply(t.Context(), nil), "%v: %s", describe(state), rest)
				require.Equal(t, s.loaders(), left.loaders())
				require.Equal(t, "3", left.boot().Version)
			}
		}
		require.Greater(t, n, 60)
	}
}

// A shim that comes with the loader is in front of the set, too: PCRs 4 and 7 are those of both.
func TestLoaderWithSetBehindShim(t *testing.T) {
	k, err := keys()
	require.NoError(t, err)
	s := shimSystem(t, "262")
	shim := shimFor(t, k.SecureBoot.DB, k.SecureBoot.PK.Cert)
	loader := s.signedLoader("262.1")
	p, err := s.planWith("3", loader, upgrade.PlanOptions{LoaderOptions: upgrade.LoaderOptions{Shims: []osmith.Source{shim}}})
	require.NoError(t, err)
	require.NoError(t, p.Refused(), "%s", p)
	with := s.machine
	with.Shim = shim
	want, err := upgrade.PredictBoot(with, loader, s.build("3").UKI)
	require.NoError(t, err)
	for _, pcr := range []int{4, 7} {
		require.Equal(t, sha256Bank(t, want).PCR(pcr), sha256Bank(t, p.Predicted).PCR(pcr))
	}
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, "3", s.boot().Version)

	// Its level revokes the set that comes with it.
	s = shimSystem(t, "262")
	p, err = s.planWith("3", s.signedLoader("262"), upgrade.PlanOptions{LoaderOptions: upgrade.LoaderOptions{Shims: []osmith.Source{shimOf(t, k.SecureBoot.DB, k.SecureBoot.PK.Cert, 4, "sbat,1,2030010900\nuki,2\n")}}})
	require.NoError(t, err)
	require.Contains(t, texts(verdict(t, p, upgrade.ProofBoots)), "revoked by SBAT")
	require.Error(t, p.Refused())
}

// What is wrong with the loader refuses the whole, and nothing of either is written; a set that
// fits only without it is refused, too.
func TestLoaderWithSetRefused(t *testing.T) {
	s := newSystem(t, "257.13")
	s.bootAndRun()
	s.machine.Loader = &bootloader.Variables{}
	before := contentOf(t, s.disk)
	p, err := s.planWith("2", source(petest.Loader("262.1")), upgrade.PlanOptions{})
	require.NoError(t, err)
	var refused *upgrade.RefusedError
	require.ErrorAs(t, p.Apply(t.Context(), nil), &refused)
	require.Contains(t, refused.Error(), "will not start EFI/systemd/systemd-bootx64.efi")
	require.Equal(t, before, contentOf(t, s.disk))

	_, err = s.planWith("2", nil, upgrade.PlanOptions{})
	require.ErrorIs(t, err, upgrade.ErrNoLoader)

	// The room is enough for the set, and not for the set and the old loader's copy.
	loader := s.signedLoader("262.1")
	uki := s.build("2").UKI.Size()
	require.NoError(t, s.esp().WriteFile("EFI/filler", source(make([]byte, s.esp().Free()-uki-8<<10))))
	require.NoError(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Refused())
	p, err = s.planWith("2", loader, upgrade.PlanOptions{})
	require.NoError(t, err)
	i := slices.IndexFunc(p.Verdicts, func(v upgrade.Verdict) bool { return v.Proof == upgrade.ProofFits })
	require.Equal(t, upgrade.OutcomeFail, p.Verdicts[i].Outcome, "%s", p)
	before = contentOf(t, s.disk)
	require.ErrorAs(t, p.Apply(t.Context(), nil), &refused)
	require.Equal(t, before, contentOf(t, s.disk))

	// An override is one for both.
	s = newSystem(t, "257.13")
	s.bootAndRun()
	s.machine.Loader = &bootloader.Variables{}
	p, err = s.planWith("2", source(petest.Loader("262.1")), upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofBoots}})
	require.NoError(t, err)
	require.NoError(t, p.Refused(), "%s", p)
}
