package upgrade_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
)

// shimSystem is a system whose firmware is known to verify, and has no variable of shim.
func shimSystem(t *testing.T, loader string) *system {
	s := newSystem(t, loader)
	s.install(s.build("2"))
	s.bootAndRun()
	s.machine.Loader, s.machine.FirmwareKind = &bootloader.Variables{}, secureboot.FirmwareEDK2Stable202608
	f, none := *s.machine.Firmware, []byte{}
	f.SbatLevel, f.SbatPolicy, f.MokList, f.MokListX, f.MokSBState, f.MokDBState, f.MokPolicy = none, none, none, none, none, none, none
	s.machine.Firmware = &f
	return s
}

// loaderBy is a loader that another vendor has signed.
func loaderBy(t *testing.T, version string, by secureboot.KeyPair) osmith.Source {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, authenticode.Sign(&out, bytes.NewReader(petest.Loader(version)), by.Key, by.Cert, authenticode.SignOptions{Time: when}))
	return source(out.Bytes())
}

func (s *system) shimPlan(loader osmith.Source, o upgrade.LoaderOptions, shims ...osmith.Source) (*upgrade.LoaderPlan, error) {
	o.Shims = shims
	return upgrade.NewLoaderPlan(s.t.Context(), s.disk, &bootloader.Installation{Loader: loader}, s.machine, o)
}

// Of a shim for each of two keys, the one is taken whose key is in db, and which starts the loader.
func TestShimIsChosen(t *testing.T) {
	k, err := keys()
	require.NoError(t, err)
	other, err := foreign()
	require.NoError(t, err)
	ours, theirs := k.SecureBoot.DB, other.SecureBoot.DB
	vendor := k.SecureBoot.PK.Cert
	right, wrong := shimFor(t, ours, vendor), shimFor(t, theirs, vendor)

	s := shimSystem(t, "262")
	loader := s.signedLoader("262")
	p, err := s.shimPlan(loader, upgrade.LoaderOptions{}, wrong, right)
	require.NoError(t, err)
	require.Equal(t, 1, p.Shim.Index)
	require.Len(t, p.Shim.Refused, 1)
	var refused *upgrade.SecureBootError
	require.ErrorAs(t, p.Shim.Refused[0], &refused)
	require.NoError(t, p.Refused(), "%s", p)
	require.Contains(t, p.String(), "shim 1 is not for this machine: firmware will not start shim")

	p, err = s.shimPlan(loader, upgrade.LoaderOptions{}, right, wrong)
	require.NoError(t, err)
	require.Zero(t, p.Shim.Index)
	require.Empty(t, p.Shim.Refused)

	_, err = s.shimPlan(loader, upgrade.LoaderOptions{}, wrong, wrong)
	var none *upgrade.NoShimError
	require.ErrorAs(t, err, &none)
	require.Len(t, none.Refused, 2)
	require.ErrorContains(t, err, "none of 2 shims starts the boot loader on this machine; shim 1: ")

	// The one that firmware starts does not start the loader.
	stranger := loaderBy(t, "262", theirs)
	p, err = s.shimPlan(stranger, upgrade.LoaderOptions{}, right, shimFor(t, ours, theirs.Cert))
	require.NoError(t, err)
	require.Equal(t, 1, p.Shim.Index)
	require.ErrorContains(t, p.Shim.Refused[0], "shim will not start the boot loader")

	// One alone is planned, and its verdict says what is wrong.
	p, err = s.shimPlan(loader, upgrade.LoaderOptions{}, wrong)
	require.NoError(t, err)
	require.Equal(t, upgrade.OutcomeFail, loaderVerdict(t, p, upgrade.ProofBoots).Outcome)
	require.ErrorAs(t, p.Refused(), new(*upgrade.RefusedError))

	// While firmware does not verify, the shim is the one that would do if it did.
	off := *s.machine.Firmware
	off.SecureBoot = []byte{0}
	s.machine.Firmware = &off
	p, err = s.shimPlan(loader, upgrade.LoaderOptions{}, wrong, right)
	require.NoError(t, err)
	require.Equal(t, 1, p.Shim.Index)
	p, err = s.shimPlan(loader, upgrade.LoaderOptions{}, wrong, wrong)
	require.NoError(t, err)
	require.Zero(t, p.Shim.Index)

	s.machine.Firmware, s.machine.NoSecureBoot = nil, false
	_, err = s.shimPlan(loader, upgrade.LoaderOptions{}, wrong, right)
	require.ErrorIs(t, err, upgrade.ErrShimUnknown)
	p, err = s.shimPlan(loader, upgrade.LoaderOptions{}, right)
	require.NoError(t, err)
	require.Equal(t, upgrade.OutcomeWarn, loaderVerdict(t, p, upgrade.ProofBoots).Outcome)
}

// A loader behind shim is put in place, and then updated as one with it: PCRs are as they are
// predicted with that shim, the set boots, and whatever a power cut leaves, firmware finds a shim
// with a loader that it starts.
func TestLoaderPlanShim(t *testing.T) {
	k, err := keys()
	require.NoError(t, err)
	vendor := k.SecureBoot.PK.Cert
	s := shimSystem(t, "257.13")
	for i, c := range []struct {
		loader, shim osmith.Source
	}{
		{s.signedLoader("257.13"), shimOf(t, k.SecureBoot.DB, vendor, 3, "sbat,1,2023010900\n")},
		{s.signedLoader("262.1"), shimOf(t, k.SecureBoot.DB, vendor, 4, "sbat,1,2024010900\n")},
	} {
		p, err := s.shimPlan(c.loader, upgrade.LoaderOptions{}, c.shim)
		require.NoError(t, err)
		require.NoError(t, p.Refused(), "%s", p)
		with := s.machine
		with.Shim = c.shim
		want, err := upgrade.PredictBoot(with, c.loader, s.build("2").UKI)
		require.NoError(t, err)
		for _, pcr := range []int{4, 7} {
			require.Equal(t, sha256Bank(t, want).PCR(pcr), sha256Bank(t, p.Predicted).PCR(pcr))
		}
		before := s.on(s.disk.Clone())
		s.disk.Record()
		require.NoError(t, p.Apply(t.Context(), nil))
		require.Equal(t, "2", s.boot().Version)
		again, err := s.shimPlan(c.loader, upgrade.LoaderOptions{}, c.shim)
		require.NoError(t, err)
		require.Empty(t, again.Changes)

		faults, err := s.disk.Faults(faultio.FaultOptions{Sector: 512, Limit: 4})
		require.NoError(t, err)
		now := [2]string{string(contentOf(t, c.shim)), string(contentOf(t, c.loader))}
		old := before.chains()
		n := 0
		for state := range faults.States() {
			left := s.on(state.Disk)
			chains := left.chains()
			whole := 0
			for j, at := range chains {
				if at == now || at == old[j] {
					whole++
				}
				require.False(t, at[0] == now[0] && at[1] != now[1], "%v: the new shim is in front of another loader", describe(state))
			}
			require.NotZero(t, whole, "%v", describe(state))
			if n++; n%29 == 0 {
				rest, err := left.shimPlan(c.loader, upgrade.LoaderOptions{}, c.shim)
				require.NoError(t, err)
				require.NoError(t, rest.Apply(t.Context(), nil), "%v: %s", describe(state), rest)
				require.Equal(t, [][2]string{now, now}, left.chains())
			}
		}
		require.Greater(t, n, 40, i)
		s.machine.Shim = c.shim
	}
}

// chains are what firmware finds in EFI/systemd and in EFI/BOOT: a shim, or what is in its place,
// and what lies beside it.
func (s *system) chains() (list [][2]string) {
	s.t.Helper()
	found, err := oracle.ReadGPT(oracle.ReaderEDK2Stable202608, s.disk, s.disk.Size(), 512)
	require.NoError(s.t, err)
	esp, ok := found.Find(oracle.ESP)
	require.True(s.t, ok)
	off, size := int64(esp.FirstLBA)*512, int64(esp.LastLBA-esp.FirstLBA+1)*512
	v, err := oracle.ReadFAT(io.NewSectionReader(s.disk, off, size), size, oracle.FATOptions{Reader: oracle.FATReaderEDK2, SectorSize: 512, NoCheck: true, NoContent: true})
	require.NoError(s.t, err)
	content := func(name string) string {
		for _, f := range v.BootFiles() {
			if strings.EqualFold(f.Path, name) {
				b, err := v.ReadFile(f.Path)
				require.NoError(s.t, err)
				return string(b)
			}
		}
		return ""
	}
	for _, dir := range [][2]string{{"EFI/systemd/shimx64.efi", "EFI/systemd/grubx64.efi"}, {"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi"}} {
		list = append(list, [2]string{content(dir[0]), content(dir[1])})
	}
	return list
}

// What lies behind another vendor's shim is judged by that: neither firmware nor our shim starts
// it, and it is no matter of ours.
func TestLoaderBehindAnotherShim(t *testing.T) {
	k, err := keys()
	require.NoError(t, err)
	other, err := foreign()
	require.NoError(t, err)
	s := shimSystem(t, "262")
	theirs := other.SecureBoot.DB
	require.NoError(t, s.esp().ReplaceFile("EFI/BOOT/BOOTX64.EFI", shimFor(t, k.SecureBoot.DB, theirs.Cert)))
	require.NoError(t, s.esp().WriteFile("EFI/BOOT/grubx64.efi", loaderBy(t, "262", theirs)))
	require.NoError(t, s.esp().WriteFile("EFI/systemd/keep", source([]byte("x"))))
	ours := shimFor(t, k.SecureBoot.DB, k.SecureBoot.PK.Cert)
	p, err := upgrade.NewLoaderPlan(t.Context(), s.disk, &bootloader.Installation{Loader: s.signedLoader("262.1"), Shim: ours, OmitFallback: true}, s.machine, upgrade.LoaderOptions{})
	require.NoError(t, err)
	require.NoError(t, p.Refused(), "%s", p)
	require.Contains(t, texts(loaderVerdict(t, p, upgrade.ProofBoots)), "shim starts EFI/BOOT/grubx64.efi")
	require.Contains(t, texts(loaderVerdict(t, p, upgrade.ProofBoots)), "a shim on the ESP differs from that of the installation")
}

// What a new shim would revoke, or what the old one does not start where there is nothing else, is
// refused.
func TestLoaderPlanShimRefuses(t *testing.T) {
	k, err := keys()
	require.NoError(t, err)
	other, err := foreign()
	require.NoError(t, err)
	vendor := k.SecureBoot.PK.Cert

	// Its level revokes the UKIs.
	s := shimSystem(t, "262")
	p, err := s.shimPlan(s.signedLoader("262"), upgrade.LoaderOptions{}, shimOf(t, k.SecureBoot.DB, vendor, 4, "sbat,1,2030010900\nuki,2\n"))
	require.NoError(t, err)
	require.Equal(t, upgrade.OutcomeFail, loaderVerdict(t, p, upgrade.ProofReturns).Outcome, "%s", p)
	require.Contains(t, texts(loaderVerdict(t, p, upgrade.ProofBoots)), "revoked by SBAT")

	// The new loader has a signature that only the new shim trusts; where EFI/BOOT is left as it
	// is, a cut between the two would leave nothing.
	s = shimSystem(t, "262")
	install := func(loader, shim osmith.Source, omit bool) *upgrade.LoaderPlan {
		p, err := upgrade.NewLoaderPlan(t.Context(), s.disk, &bootloader.Installation{Loader: loader, Shim: shim, OmitFallback: omit}, s.machine, upgrade.LoaderOptions{})
		require.NoError(t, err)
		return p
	}
	first := shimFor(t, k.SecureBoot.DB, vendor)
	require.NoError(t, install(s.signedLoader("262"), first, false).Apply(t.Context(), nil))
	s.machine.Shim = first
	require.NoError(t, s.esp().Remove("EFI/systemd/systemd-bootx64.efi"))
	stranger := loaderBy(t, "262.1", other.SecureBoot.DB)
	second := shimFor(t, k.SecureBoot.DB, other.SecureBoot.DB.Cert)
	p = install(stranger, second, false)
	require.NotContains(t, p.String(), "a power cut behind", "EFI/BOOT is as it was then")

	require.NoError(t, s.esp().Remove("EFI/BOOT/BOOTX64.EFI"))
	require.NoError(t, s.esp().Remove("EFI/BOOT/grubx64.efi"))
	p = install(stranger, second, true)
	require.Equal(t, upgrade.OutcomeFail, loaderVerdict(t, p, upgrade.ProofBoots).Outcome)
	require.Contains(t, p.String(), "a power cut after the change of EFI/systemd/grubx64.efi would leave no program that firmware starts: shim will not start EFI/systemd/grubx64.efi")
}
