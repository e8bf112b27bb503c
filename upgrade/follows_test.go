package upgrade_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// named is a release of the vendor's that says something else about itself.
func (s *system) named(version, osrel string, change func(r *release.Release)) *release.Release {
	s.t.Helper()
	r := s.withUKI(s.build(version), func(im *uki.Image) { im.OSRelease = []byte(osrel) }, 0)
	r.ID = ""
	if change != nil {
		change(r)
	}
	return r
}

// What the vendor signs is not only this product.
func TestAnotherProduct(t *testing.T) {
	s := newSystem(t, "")
	for name, c := range map[string]struct {
		osrel, want string
	}{
		"same":            {"ID=acme\nIMAGE_ID=acme\nIMAGE_VERSION=2\n", ""},
		"IMAGE_ID":        {"ID=acme\nIMAGE_ID=aacme\nIMAGE_VERSION=2\n", `the release has product "aacme", want "acme" as the running version`},
		"no IMAGE_ID":     {"ID=aacme\nIMAGE_VERSION=2\n", `the release has product "aacme"`},
		"VARIANT_ID":      {"ID=acme\nIMAGE_ID=acme\nVARIANT_ID=debug\nIMAGE_VERSION=2\n", `the release has variant "debug", want "" as the running version`},
		"another and old": {"ID=acme\nIMAGE_ID=aacme\nIMAGE_VERSION=0\n", `version 0 is older than 1, the version that runs`},
	} {
		r := s.named("2", c.osrel, func(r *release.Release) { r.Version = "" })
		plan := func(override ...upgrade.Proof) *upgrade.Plan {
			p, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{Override: override})
			require.NoError(t, err)
			return p
		}
		j := verdict(t, plan(), upgrade.ProofFollows)
		if c.want == "" {
			require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
			continue
		}
		require.Equal(t, upgrade.OutcomeFail, j.Outcome, name)
		require.Contains(t, texts(j), c.want)
		if !strings.Contains(name, "old") {
			require.ErrorAs(t, plan().Refused(), new(*upgrade.ProductError), name)
			for _, proof := range upgrade.Proofs() {
				require.Equal(t, proof == upgrade.ProofFollows, plan(proof).Refused() == nil, "%s: override %s", name, proof)
			}
		}
	}

	// Another machine type is another product, whatever its name.
	r := s.build("2").Release()
	b := stripCertificates(t, contentOf(t, r.UKI))
	binary.LittleEndian.PutUint16(b[binary.LittleEndian.Uint32(b[0x3c:])+4:], 0xaa64)
	r.UKI = sign(t, b, s.builder.Keys.SecureBoot.DB)
	p, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.Contains(t, texts(verdict(t, p, upgrade.ProofFollows)), `the release has machine type "0xaa64", want "0x8664" as the running version`)

	// What runs and tells nothing is no reason to say yes.
	require.NoError(t, s.esp().Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1.uki"))
	conf(s, s.esp(), "acme.conf", fmt.Sprintf("title a\nlinux /EFI/Linux/acme_1.uki\noptions roothash=%x\nsort-key acme\nversion 1\n", s.build("1").RootHash))
	j := verdict(t, s.plan(s.build("2"), upgrade.PlanOptions{}), upgrade.ProofFollows)
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome, texts(j))
	require.Contains(t, texts(j), "whether the release is for the running product is unknown")
}

// A release that is called something else than its UKI is no release.
func TestReleaseContradictsItself(t *testing.T) {
	s := newSystem(t, "")
	for want, change := range map[string]func(r *release.Release){
		`the release has product "other", but its UKI has "acme"`:       func(r *release.Release) { r.ID = "other" },
		`the release has version "7", but its UKI has "2"`:              func(r *release.Release) { r.Version = "7" },
		`the release has architecture "arm64", but its UKI has "amd64"`: func(r *release.Release) { r.Architecture = "arm64" },
		`add-on "slot.efi": want a name that ends with`:                 func(r *release.Release) { r.Addons = []release.Addon{{Name: "slot.efi"}} },
	} {
		r := s.build("2").Release()
		change(r)
		_, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
		require.ErrorContains(t, err, want)
	}
	r := s.build("2").Release()
	r.Architecture = "amd64"
	_, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
}

// A floor is the caller's or the machine's; what runs is one, too.
func TestFloor(t *testing.T) {
	s := newSystem(t, "")
	for _, c := range []struct {
		version, option, machine, whose string
	}{
		{"2", "", "", ""}, {"2", "2", "2", ""}, {"2", "1", "1.5", ""},
		{"2", "2.1", "", "PlanOptions.Floor"}, {"2", "", "3", "Machine.Floor"}, {"0.9", "", "", "the version that runs"},
	} {
		s.machine.Floor = c.machine
		p := s.plan(s.build(c.version), upgrade.PlanOptions{Floor: c.option})
		var older *upgrade.OlderError
		if c.whose == "" {
			require.NoError(t, p.Refused())
			continue
		}
		require.ErrorAs(t, p.Refused(), &older)
		require.Equal(t, c.whose, older.Whose)
		require.Equal(t, upgrade.OutcomeFail, verdict(t, p, upgrade.ProofFollows).Outcome)
	}
}

// A downgrade that is wanted is what boots, returns if it fails, and does not stand in the way of
// the next upgrade.
func TestDowngrade(t *testing.T) {
	override := upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofFollows}}
	for _, c := range []struct{ name, version string }{{"never installed", "1"}, {"in the other slot", "2"}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSystem(t, "")
			// without a line end
			require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 0"))))
			s.install(s.build("2"))
			s.install(s.build("3"))
			s.bootAndRun()
			p := s.plan(s.build(c.version), upgrade.PlanOptions{})
			require.False(t, p.Installed)
			require.ErrorAs(t, p.Refused(), new(*upgrade.OlderError))
			require.NotEqual(t, upgrade.StepPreferEntry, p.Steps[len(p.Steps)-1].Kind, "without the override")

			p = s.plan(s.build(c.version), override)
			require.NoError(t, p.Refused())
			require.Equal(t, upgrade.OutcomePass, verdict(t, p, upgrade.ProofBoots).Outcome)
			require.Equal(t, upgrade.OutcomePass, verdict(t, p, upgrade.ProofReturns).Outcome)
			require.Equal(t, upgrade.StepPreferEntry, p.Steps[len(p.Steps)-1].Kind)

			// It fails: the machine comes back.
			bad := s.on(s.disk.Clone())
			require.NoError(t, bad.plan(bad.build(c.version), override).Apply(context.Background(), nil))
			bad.damage(bad.build(c.version))
			require.Equal(t, "3", bad.boot().Version)

			// Up to the one write that switches loader.conf the version that runs boots, and from
			// there on the other; behind it its old clusters are freed.
			s.disk.Record()
			require.NoError(t, p.Apply(context.Background(), nil))
			total, switched := len(s.disk.Writes()), -1
			for k := range total {
				if v := s.on(s.disk.Prefix(k)).boot().Version; switched < 0 && v == c.version {
					switched = k
				} else {
					require.Equal(t, switched >= 0, v == c.version, "cut behind write %d", k)
				}
			}
			require.Greater(t, switched, total-6)

			// It is good, and stays.
			b := s.bootAndRun()
			require.Equal(t, c.version, b.Version)
			require.NoError(t, s.commit(b))
			require.Equal(t, c.version, s.bootAndRun().Version)

			// Then a newer one comes.
			s.apply("4")
			require.Equal(t, "4", s.boot().Version)
			require.Equal(t, "timeout 0\n", string(read(t, s.esp(), "loader/loader.conf")))
		})
	}
	// A loader that knows no `preferred` cannot do it, and that is said.
	s := newSystem(t, "257.13")
	s.install(s.build("2"))
	s.bootAndRun()
	p := s.plan(s.build("1"), override)
	require.ErrorContains(t, p.Refused(), "sorts after it")
	// What another program prefers is left alone.
	s = newSystem(t, "")
	require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("preferred acme_1*\n"))))
	p = s.plan(s.build("2"), upgrade.PlanOptions{})
	require.ErrorContains(t, p.Refused(), "the loader prefers EFI/Linux/acme_1.efi (preferred in loader.conf)")
}

// failures is what the ESP remembers.
func (s *system) failures() (list []upgrade.FailedRelease) {
	s.t.Helper()
	b, err := s.esp().ReadFile("EFI/osmith/failed.json")
	if err != nil {
		return nil
	}
	var f struct {
		Schema   string
		Releases []upgrade.FailedRelease
	}
	require.NoError(s.t, json.Unmarshal(b, &f))
	require.Equal(s.t, upgrade.FailedSchema, f.Schema)
	return f.Releases
}

// A release that has used up its tries is not offered again, whether its entry is still there or
// another set has its slot.
func TestFailedIsRemembered(t *testing.T) {
	s := newSystem(t, "")
	require.Equal(t, "1", s.bootAndRun().Version)
	s.apply("2")
	s.damage(s.build("2"))
	require.Equal(t, "1", s.boot().Version)

	var failed *upgrade.FailedError
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	require.ErrorAs(t, p.Refused(), &failed)
	require.Equal(t, "EFI/Linux/acme_2+0-3.efi", failed.Where)
	require.Equal(t, "2", failed.Release.Version)

	p = s.plan(s.build("3"), upgrade.PlanOptions{})
	require.Equal(t, upgrade.StepRememberFailed, p.Steps[0].Kind)
	s.disk.Record()
	require.NoError(t, p.Apply(context.Background(), nil))
	writes := len(s.disk.Writes())
	require.Equal(t, []upgrade.FailedRelease{failed.Release}, s.failures())
	p = s.plan(s.build("2"), upgrade.PlanOptions{})
	require.ErrorAs(t, p.Refused(), &failed)
	require.Equal(t, "EFI/osmith/failed.json", failed.Where)
	require.Equal(t, "acme", failed.Release.Product)

	// Whatever a power cut leaves: one of the two knows.
	for k := range writes {
		left := s.on(s.disk.Prefix(k))
		require.ErrorAs(t, left.plan(s.build("2"), upgrade.PlanOptions{}).Refused(), &failed, "cut behind write %d", k)
	}

	// By its name it may come again; once it is found good, it is forgotten.
	p = s.plan(s.build("2"), upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofFollows}})
	require.NoError(t, p.Apply(context.Background(), nil))
	b := s.boot()
	require.Equal(t, "2", b.Version)
	require.Len(t, s.failures(), 1)
	require.NoError(t, s.commit(b))
	require.Empty(t, s.failures())
	s.bootAndRun()
	require.NoError(t, s.plan(s.build("3"), upgrade.PlanOptions{}).Refused())
}

// What is remembered is bounded, and what cannot be read is said and written anew.
func TestFailedFile(t *testing.T) {
	s := newSystem(t, "")
	var many []upgrade.FailedRelease
	for i := range 40 {
		many = append(many, upgrade.FailedRelease{Product: "acme", Version: fmt.Sprint(100 + i), UKI: strings.Repeat(fmt.Sprintf("%02x", i), 32)})
	}
	content, err := json.Marshal(map[string]any{"schema": upgrade.FailedSchema, "releases": many})
	require.NoError(t, err)
	s.bootAndRun()
	s.apply("2")
	require.NoError(t, rollback(s.disk, s.machine, "acme_2.efi"))
	esp := s.esp()
	file(s, esp, "EFI/osmith/failed.json", content)
	s.apply("3")
	got := s.failures()
	require.Len(t, got, 32)
	require.Equal(t, many[9], got[0], "the oldest go")
	require.Equal(t, "2", got[31].Version)

	for _, junk := range []string{"", "{", `{"schema":"osmith.failed/2","releases":[]}`, `{"schema":"osmith.failed/1","schema":"osmith.failed/1","releases":[]}`, `{"schema":"osmith.failed/1","releases":[]}` + strings.Repeat(" ", 1<<16)} {
		s := newSystem(t, "")
		s.bootAndRun()
		s.apply("2")
		require.NoError(t, rollback(s.disk, s.machine, "acme_2.efi"))
		file(s, s.esp(), "EFI/osmith/failed.json", []byte(junk))
		p := s.plan(s.build("3"), upgrade.PlanOptions{})
		j := verdict(t, p, upgrade.ProofFollows)
		require.Equal(t, upgrade.OutcomeWarn, j.Outcome, "%q: %s", junk, texts(j))
		require.Contains(t, texts(j), "which releases have failed on this machine is unknown")
		require.NoError(t, p.Apply(context.Background(), nil))
		require.Len(t, s.failures(), 1)
	}
}
