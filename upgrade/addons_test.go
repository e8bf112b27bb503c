package upgrade_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// addon is an add-on with that command line.
func (s *system) addon(cmdline string, by secureboot.KeyPair) []byte {
	s.t.Helper()
	assembled, err := (&uki.Addon{Stub: source(petest.AddonStub("262")), Cmdline: cmdline}).Assemble()
	require.NoError(s.t, err)
	var b bytes.Buffer
	_, err = assembled.WriteTo(&b)
	require.NoError(s.t, err)
	return contentOf(s.t, sign(s.t, b.Bytes(), by))
}

// bound is a release whose root hash comes from an add-on, as Azure Container Linux binds slots:
// the UKI is one for all of them.
func (s *system) bound(set *acmeos.Set, cmdline string) *release.Release {
	s.t.Helper()
	r := s.withUKI(set, func(im *uki.Image) { im.Cmdline = cmdline }, 0)
	r.Addons = []release.Addon{{Name: "slot.addon.efi", Content: source(s.addon("roothash="+hex.EncodeToString(set.RootHash), s.builder.Keys.SecureBoot.DB))}}
	return r
}

func (s *system) planOf(r *release.Release, o upgrade.PlanOptions) *upgrade.Plan {
	s.t.Helper()
	p, err := upgrade.NewPlan(context.Background(), s.disk, r, s.machine, o)
	require.NoError(s.t, err)
	return p
}

// Add-ons are a part of the set: written before it can boot, judged, measured, and gone with it.
func TestRootHashFromAddon(t *testing.T) {
	for _, cmdline := range []string{"quiet", ""} {
		s := newSystem(t, "")
		s.bootAndRun()
		r := s.bound(s.build("2"), cmdline)
		p := s.planOf(r, upgrade.PlanOptions{})
		require.NoError(t, p.Refused())
		boots := texts(verdict(t, p, upgrade.ProofBoots))
		require.Contains(t, boots, "firmware starts add-on slot.addon.efi")
		require.Contains(t, boots, "the command line of UKI, add-ons and SMBIOS have the root hash")
		var kinds []upgrade.StepKind
		for _, step := range p.Steps {
			kinds = append(kinds, step.Kind)
		}
		require.Equal(t, []upgrade.StepKind{upgrade.StepAddAddon, upgrade.StepStageUKI, upgrade.StepAddEntry}, kinds[len(kinds)-3:])
		if cmdline == "" {
			return
		}
		set := s.build("2")

		// Whatever is cut, what boots is whole.
		s.disk.Record()
		require.NoError(t, p.Apply(context.Background(), nil))
		for k := 0; k < len(s.disk.Writes()); k++ {
			left := s.on(s.disk.Prefix(k))
			require.Equal(t, "1", left.boot().Version, "cut behind write %d", k)
			left.requireEntriesWhole()
		}
		b := s.boot()
		require.Equal(t, "2", b.Version)
		require.Equal(t, set.RootHash, b.RootHash)
		want, err := p.Predicted.Replay(crypto.SHA256)
		require.NoError(t, err)
		got, err := b.Log.Replay(crypto.SHA256)
		require.NoError(t, err)
		for _, pcr := range []int{4, 7, 11, 12} {
			require.Equal(t, want[crypto.SHA256].PCR(pcr), got[crypto.SHA256].PCR(pcr), "PCR %d", pcr)
		}
		require.NotEqual(t, make([]byte, 32), got[crypto.SHA256].PCR(12))

		// It is the running set now: its slot is known by the add-on alone, and is kept.
		require.NoError(t, s.commit(b))
		s.bootAndRun()
		require.True(t, s.planOf(r, upgrade.PlanOptions{}).Installed)
		next := s.planOf(s.bound(s.build("3"), "quiet"), upgrade.PlanOptions{})
		require.NoError(t, next.Refused())
		require.Equal(t, "A", next.Target.Name())
		require.NoError(t, next.Apply(context.Background(), nil))
		three := s.boot()
		require.Equal(t, "3", three.Version)
		require.NoError(t, s.commit(three))
		s.bootAndRun()
		// When it makes room, its add-ons go with it, after it.
		last := s.planOf(s.bound(s.build("4"), "quiet"), upgrade.PlanOptions{})
		require.Equal(t, "remove-entry EFI/Linux/acme_2.efi", last.Steps[0].String())
		require.Equal(t, "remove-addon EFI/Linux/acme_2.efi.extra.d/slot.addon.efi", last.Steps[1].String())
		require.NoError(t, last.Apply(context.Background(), nil))
		require.Equal(t, "4", s.boot().Version)
		s.requireEntriesWhole()

	}
}

// A release is installed if the add-ons are the same ones, too. What else lies beside a UKI is the
// machine's.
func TestInstalledWithAddons(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	r := s.bound(s.build("2"), "quiet")
	file(s, s.esp(), "EFI/Linux/acme_2.efi.extra.d/host.cred", []byte("secret"))
	require.NoError(t, s.planOf(r, upgrade.PlanOptions{}).Apply(context.Background(), nil))
	require.Equal(t, "secret", string(read(t, s.esp(), "EFI/Linux/acme_2.efi.extra.d/host.cred")))
	require.True(t, s.planOf(r, upgrade.PlanOptions{}).Installed)

	more := *r
	more.Addons = append(more.Addons[:1:1], release.Addon{Name: "b.addon.efi", Content: source(s.addon("debug", s.builder.Keys.SecureBoot.DB))})
	other := *r
	other.Addons = []release.Addon{{Name: "slot.addon.efi", Content: source(s.addon("debug roothash="+hex.EncodeToString(r.RootHash), s.builder.Keys.SecureBoot.DB))}}
	renamed := *r
	renamed.Addons = []release.Addon{{Name: "z.addon.efi", Content: r.Addons[0].Content}}
	for _, r := range []release.Release{more, other, renamed} {
		left := s.on(s.disk.Clone())
		p := left.planOf(&r, upgrade.PlanOptions{})
		require.False(t, p.Installed)
		require.NoError(t, p.Apply(context.Background(), nil))
		require.True(t, left.planOf(&r, upgrade.PlanOptions{}).Installed)
		require.Equal(t, "2", left.boot().Version)
	}
	file(s, s.esp(), "EFI/Linux/acme_2.efi.extra.d/c.addon.efi", s.addon("debug", s.builder.Keys.SecureBoot.DB))
	require.False(t, s.planOf(r, upgrade.PlanOptions{}).Installed)
}

func TestAddonsAreJudged(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		change func(s *system, r *release.Release)
		want   string
	}{
		{"a stranger's", func(s *system, r *release.Release) {
			r.Addons[0].Content = source(s.addon("roothash="+hex.EncodeToString(r.RootHash), other.SecureBoot.DB))
		}, "the stub leaves an add-on out: firmware will not start add-on slot.addon.efi"},
		{"another slot's", func(s *system, r *release.Release) {
			r.Addons[0].Content = source(s.addon("roothash="+hex.EncodeToString(bytes.Repeat([]byte{7}, 32)), s.builder.Keys.SecureBoot.DB))
		}, "root hash of the command line of UKI, add-ons and SMBIOS is 0707"},
		{"verity off", func(s *system, r *release.Release) {
			r.Addons = append(r.Addons, release.Addon{Name: "z.addon.efi", Content: source(s.addon("systemd.verity=0", s.builder.Keys.SecureBoot.DB))})
		}, "systemd.verity=0 switches verity off"},
		{"none", func(_ *system, r *release.Release) { r.Addons = nil }, "neither roothash= nor usrhash="},
		{"one that is on the ESP for all", func(s *system, _ *release.Release) {
			file(s, s.esp(), "loader/addons/x.addon.efi", s.addon("systemd.verity=0", s.builder.Keys.SecureBoot.DB))
		}, "systemd.verity=0 switches verity off"},
		{"SMBIOS", func(s *system, _ *release.Release) {
			s.machine.Hardware = &uki.Hardware{SMBIOS: smbios(t, "io.systemd.stub.kernel-cmdline-extra=roothash="+hex.EncodeToString(bytes.Repeat([]byte{8}, 32)))}
		}, "root hash of the command line of UKI, add-ons and SMBIOS is 0808"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSystem(t, "")
			r := s.bound(s.build("2"), "quiet")
			c.change(s, r)
			j := verdict(t, s.planOf(r, upgrade.PlanOptions{}), upgrade.ProofBoots)
			require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
			require.Contains(t, texts(j), c.want)
		})
	}
}

// The slot of a set that is bound by an add-on is in use, also if firmware is not known to start
// the add-on.
func TestSlotOfAddonIsKept(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	require.NoError(t, s.planOf(s.bound(s.build("2"), "quiet"), upgrade.PlanOptions{}).Apply(context.Background(), nil))
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Equal(t, "B", state.Next.Slot.Name())

	other, err := foreign()
	require.NoError(t, err)
	b := *s.builder
	b.Keys = other
	stranger, err := b.Machine()
	require.NoError(t, err)
	state, err = upgrade.Inspect(s.disk, stranger)
	require.NoError(t, err)
	require.Nil(t, state.Next.Slot, "where firmware refuses the add-on, it boots nothing")
	// Still, a plan takes the entry away before it writes to that slot.
	p, err := upgrade.NewPlan(t.Context(), s.disk, s.build("3").Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.Equal(t, "remove-entry EFI/Linux/acme_2+3.efi", p.Steps[0].String())
}

// An add-on that does not fit is a matter of the fits verdict; one that is left from earlier under
// the name of the new entry goes.
func TestAddonSpaceAndLeftovers(t *testing.T) {
	s := newSystem(t, "")
	r := s.bound(s.build("2"), "quiet")
	r.Addons = append(r.Addons, release.Addon{Name: "big.addon.efi", Content: source(make([]byte, 60<<20))})
	_, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
	if err == nil {
		require.ErrorAs(t, s.planOf(r, upgrade.PlanOptions{}).Refused(), new(*upgrade.ESPSpaceError))
	}
	file(s, s.esp(), "EFI/Linux/acme_2.efi.extra.d/old.addon.efi", s.addon("systemd.verity=0", s.builder.Keys.SecureBoot.DB))
	p := s.planOf(s.bound(s.build("2"), "quiet"), upgrade.PlanOptions{})
	require.NoError(t, p.Refused())
	require.Equal(t, "remove-addon EFI/Linux/acme_2.efi.extra.d/old.addon.efi", p.Steps[0].String())
	require.NoError(t, p.Apply(context.Background(), nil))
	require.Equal(t, "2", s.boot().Version)
}

// smbios are tables with one OEM string.
func smbios(t *testing.T, text string) *hwid.SMBIOS {
	t.Helper()
	b := append([]byte{11, 5, 0, 0, 1}, text...)
	b = append(b, 0, 0)
	b = append(b, 127, 4, 1, 0, 0, 0)
	parsed, err := hwid.ParseSMBIOS(b)
	require.NoError(t, err)
	return parsed
}

// Where it is not known how a stub joins command lines, every slot that an add-on names is in use.
func TestSlotOfAddonOfUnknownStub(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	require.NoError(t, s.planOf(s.bound(s.build("2"), "quiet"), upgrade.PlanOptions{}).Apply(context.Background(), nil))
	esp := s.esp()
	old := read(t, esp, "EFI/Linux/acme_2+3.efi")
	unknown := bytes.ReplaceAll(stripCertificates(t, old), []byte("systemd-stub 262"), []byte("systemd-stub 300"))
	require.NotContains(t, string(unknown), "systemd-stub 262")
	require.NoError(t, esp.ReplaceFile("EFI/Linux/acme_2+3.efi", sign(t, unknown, s.builder.Keys.SecureBoot.DB)))
	p := s.plan(s.build("3"), upgrade.PlanOptions{})
	require.Equal(t, "remove-entry EFI/Linux/acme_2+3.efi", p.Steps[0].String())
}
