package upgrade_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// unsignedRelease is a release without any signature.
func unsignedRelease(s *system, version string) *release.Release {
	set := s.build(version)
	r := s.withUKI(set, func(im *uki.Image) { im.PCRPublicKey = nil })
	r.UKI = unsigned(s.t, r.UKI)
	return r
}

// Nothing is proven of a machine of which nothing is known.
func TestNothingIsKnown(t *testing.T) {
	s := newSystem(t, "")
	r := unsignedRelease(s, "2")
	p, err := upgrade.NewPlan(t.Context(), s.disk, r, upgrade.Machine{Offline: true}, upgrade.PlanOptions{})
	require.NoError(t, err)
	for proof, want := range map[upgrade.Proof][]string{
		upgrade.ProofBoots: {
			"whether firmware starts EFI/Linux/acme_2+3.efi is unknown: its Secure Boot configuration is not known", "whether firmware starts EFI/BOOT/BOOTX64.EFI is unknown",
			"the loader's variables, which may make it choose a different entry, are unknown (Machine.Loader",
		},
		upgrade.ProofUnlocks: {"the UKI carries no signed PCR policies (.pcrsig and .pcrpkey), and whether this machine has secrets sealed to such a policy is unknown"},
		upgrade.ProofReturns: {"whether firmware starts EFI/Linux/acme_1.efi is unknown", "the loader's variables"},
	} {
		j := verdict(t, p, proof)
		require.Equal(t, upgrade.OutcomeWarn, j.Outcome, texts(j))
		for _, text := range want {
			require.Contains(t, texts(j), "warn "+text)
		}
		require.NotContains(t, texts(j), "Secure Boot is off")
	}
	require.Equal(t, tpm.PredictionNone, p.Predicted.Coverage[7].Prediction, "PCR 7 is not known")
	require.Equal(t, tpm.PredictionExact, p.Predicted.Coverage[11].Prediction)
	require.NotContains(t, p.String(), "PCR 7 ")
	require.Contains(t, p.String(), "PCR 11 sha256 ")
	b, err := json.Marshal(p)
	require.NoError(t, err)
	require.NotContains(t, string(b), `"7":`)
	require.Contains(t, string(b), `"11":`)

	// Each fact alone takes its own warnings away, and no other.
	without := func(change func(m *upgrade.Machine)) map[upgrade.Proof]upgrade.Outcome {
		m := s.machine
		change(&m)
		p, err := upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), m, upgrade.PlanOptions{})
		require.NoError(t, err)
		out := map[upgrade.Proof]upgrade.Outcome{}
		for _, j := range p.Verdicts {
			out[j.Proof] = j.Outcome
		}
		return out
	}
	const pass, warn = upgrade.OutcomePass, upgrade.OutcomeWarn
	all := func(boots, unlocks, returns upgrade.Outcome) map[upgrade.Proof]upgrade.Outcome {
		return map[upgrade.Proof]upgrade.Outcome{upgrade.ProofFits: pass, upgrade.ProofBoots: boots, upgrade.ProofUnlocks: unlocks, upgrade.ProofReturns: returns, upgrade.ProofFollows: pass}
	}
	require.Equal(t, all(pass, pass, pass), without(func(*upgrade.Machine) {}))
	require.Equal(t, all(warn, pass, warn), without(func(m *upgrade.Machine) { m.Firmware = nil }))
	require.Equal(t, all(warn, pass, warn), without(func(m *upgrade.Machine) { m.Loader = nil }))
	require.Equal(t, all(pass, warn, pass), without(func(m *upgrade.Machine) { m.PCRKeys = nil }))
	// What does not exist is said.
	require.Equal(t, all(pass, pass, pass), without(func(m *upgrade.Machine) { m.PCRKeys, m.NothingSealed = nil, true }))
	require.Equal(t, all(pass, pass, pass), without(func(m *upgrade.Machine) { m.Firmware, m.NoSecureBoot = nil, true }))
}

// Said to have no Secure Boot and nothing sealed, a machine takes what is not signed; with one of
// the two unknown it is a restriction.
func TestNoSecureBoot(t *testing.T) {
	s := newSystem(t, "")
	r := unsignedRelease(s, "2")
	m := upgrade.Machine{Offline: true, NoSecureBoot: true, NothingSealed: true, Loader: &bootloader.Variables{}}
	p, err := upgrade.NewPlan(t.Context(), s.disk, r, m, upgrade.PlanOptions{})
	require.NoError(t, err)
	for _, j := range p.Verdicts {
		require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
	}
	require.Contains(t, texts(verdict(t, p, upgrade.ProofBoots)), "firmware: Secure Boot is off")
	require.Contains(t, texts(verdict(t, p, upgrade.ProofUnlocks)), "nothing is sealed on this machine")

	m.PCRKeys, m.NothingSealed = []*rsa.PublicKey{&s.builder.Keys.PCR.PublicKey}, false
	p, err = upgrade.NewPlan(t.Context(), s.disk, r, m, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.ErrorIs(t, p.Refused(), upgrade.ErrNoPolicy)
}

// A variable that is not there leaves open whether firmware verifies: what its keys accept starts
// in any case.
func TestSecureBootVariableIsMissing(t *testing.T) {
	s := newSystem(t, "")
	f := *s.machine.Firmware
	f.SecureBoot = nil
	s.machine.Firmware = &f
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	j := verdict(t, p, upgrade.ProofBoots)
	require.Contains(t, texts(j), "pass firmware: db has the certificate")
	require.Equal(t, tpm.PredictionNone, p.Predicted.Coverage[7].Prediction)
	p, err := upgrade.NewPlan(t.Context(), s.disk, unsignedRelease(s, "2"), s.machine, upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofUnlocks}})
	require.NoError(t, err)
	j = verdict(t, p, upgrade.ProofBoots)
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome, texts(j))
	require.Contains(t, texts(j), "whether Secure Boot is on is not known (there is no SecureBoot in Machine.Firmware), and if it is, firmware will not start EFI/Linux/acme_2+3.efi")
	require.Equal(t, tpm.PredictionNone, p.Predicted.Coverage[7].Prediction)
}

// Every program that firmware may start is judged, in every place.
func TestLoadersAreJudged(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	stranger := func(s *system) []byte {
		b := *s.builder
		b.Foreign = nil
		loader, err := b.SignedLoader()
		require.NoError(s.t, err)
		return contentOf(s.t, sign(s.t, stripCertificates(s.t, contentOf(s.t, loader)), other.SecureBoot.DB))
	}
	junk := []byte("no program")
	for _, c := range []struct {
		name, path string
		content    func(s *system) []byte
		known      []string // LoaderPaths
		outcome    upgrade.Outcome
		want       string
	}{
		{"fallback, a stranger's", "EFI/BOOT/BOOTX64.EFI", stranger, nil, upgrade.OutcomeFail, "firmware will not start EFI/BOOT/BOOTX64.EFI"},
		{"own, a stranger's", "EFI/systemd/systemd-bootx64.efi", stranger, nil, upgrade.OutcomeFail, "firmware will not start EFI/systemd/systemd-bootx64.efi"},
		{"own, junk", "EFI/systemd/systemd-bootx64.efi", func(*system) []byte { return junk }, nil, upgrade.OutcomeFail, "EFI/systemd/systemd-bootx64.efi, which firmware may start: "},
		{"own, unsigned", "EFI/systemd/systemd-bootx64.efi", func(*system) []byte { return petest.Loader("262") }, nil, upgrade.OutcomeFail, "firmware will not start EFI/systemd/systemd-bootx64.efi"},
		{"named by a boot option", "EFI/acme/boot.efi", stranger, []string{`\EFI\acme\boot.efi`}, upgrade.OutcomeFail, "firmware will not start EFI/acme/boot.efi"},
		{"perhaps named by one", "EFI/acme/boot.efi", stranger, nil, upgrade.OutcomeWarn, "whether a Boot#### starts it is unknown: set Machine.LoaderPaths"},
		{"not named by one", "EFI/acme/boot.efi", stranger, []string{}, upgrade.OutcomePass, ""},
		{"named and not there", "EFI/acme/boot.efi", stranger, []string{"EFI/acme/other.efi"}, upgrade.OutcomePass, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSystem(t, "")
			esp := s.esp()
			require.NoError(t, esp.MkdirAll("EFI/acme"))
			if esp.Remove(c.path) == nil {
				require.NoError(t, esp.WriteFile(c.path, source(c.content(s))))
			} else {
				file(s, esp, c.path, c.content(s))
			}
			s.machine.LoaderPaths = c.known
			p := s.plan(s.build("2"), upgrade.PlanOptions{})
			j := verdict(t, p, upgrade.ProofBoots)
			require.Equal(t, c.outcome, j.Outcome, texts(j))
			require.Contains(t, texts(j), c.want)
		})
	}
}

// Loaders of two releases in two places: what they would do differently is not known.
func TestLoadersOfTwoReleases(t *testing.T) {
	s := newSystem(t, "262")
	require.NoError(t, s.esp().ReplaceFile("EFI/systemd/systemd-bootx64.efi", s.signedLoader("257.13")))
	p, err := upgrade.NewPlan(t.Context(), s.disk, s.withUKI(s.build("2"), profiles, 0, 1), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.ErrorAs(t, p.Refused(), new(*upgrade.LoaderUnknownError))
	j := verdict(t, s.plan(s.build("2"), upgrade.PlanOptions{}), upgrade.ProofReturns)
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome)
	require.Contains(t, texts(j), "systemd-boot 257.13 stays in the firmware's menu", "the weakest counts")

	// They come back to different sets, each of which is good.
	s = newSystemOf(t, "262", 3)
	s.install(s.build("2"))
	require.NoError(t, s.esp().ReplaceFile("EFI/systemd/systemd-bootx64.efi", s.signedLoader("257.13")))
	require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("preferred acme_1*\n"))))
	s.bootAndRun()
	j = verdict(t, s.plan(s.build("3"), upgrade.PlanOptions{}), upgrade.ProofReturns)
	require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
	require.Contains(t, texts(j), "262 would start EFI/Linux/acme_1.efi returns, 257.13 would start EFI/Linux/acme_3+3.efi 3 times, then EFI/Linux/acme_2.efi returns")
}

// All digests that firmware compares are compared, of all that it starts, and so is SBAT. edk2
// looks up the digest that the signature is about.
func TestRevoked(t *testing.T) {
	for _, target := range []struct {
		name, path string // on the ESP; "" is the release
		proof      upgrade.Proof
	}{
		{"new UKI", "", upgrade.ProofBoots},
		{"loader", "EFI/BOOT/BOOTX64.EFI", upgrade.ProofBoots},
		{"the other loader", "EFI/systemd/systemd-bootx64.efi", upgrade.ProofBoots},
		{"old UKI", "EFI/Linux/acme_1.efi", upgrade.ProofReturns},
	} {
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			t.Run(target.name+" "+h.String(), func(t *testing.T) {
				s := newSystem(t, "")
				s.machine.FirmwareKind = secureboot.FirmwareEDK2Stable202608
				db := s.builder.Keys.SecureBoot.DB
				r := s.build("2").Release()
				var src osmith.Source = r.UKI
				if target.path != "" {
					src = source(read(t, s.esp(), target.path))
				}
				var signed bytes.Buffer
				require.NoError(t, authenticode.Sign(&signed, unsigned(t, src), db.Key, db.Cert, authenticode.SignOptions{Hash: h}))
				if target.path == "" {
					r.UKI = source(signed.Bytes())
				} else {
					require.NoError(t, s.esp().ReplaceFile(target.path, source(signed.Bytes())))
				}
				judge := func() (*upgrade.Plan, upgrade.Verdict) {
					p, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
					require.NoError(t, err)
					return p, verdict(t, p, target.proof)
				}
				_, j := judge()
				require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))

				im, err := secureboot.ReadImage(source(signed.Bytes()))
				require.NoError(t, err)
				f := *s.machine.Firmware
				list, err := secureboot.DigestList(osmith.GUID{1}, h, im.Digests[h])
				require.NoError(t, err)
				f.DBX, err = secureboot.AppendSignatureLists(nil, list)
				require.NoError(t, err)
				s.machine.Firmware = &f
				p, j := judge()
				require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
				require.ErrorAs(t, p.Refused(), new(*upgrade.SecureBootError))
			})
		}
	}
	// The SBAT level of the machine is that of shim, whether it is known or not.
	for component, want := range map[string]string{
		"systemd-boot": "firmware will not start EFI/BOOT/BOOTX64.EFI: revoked by SBAT", "uki": "firmware will not start EFI/Linux/acme_2+3.efi: revoked by SBAT", "grub": "",
	} {
		s := newSystem(t, "")
		s.machine.FirmwareKind = secureboot.FirmwareEDK2Stable202608
		f := *s.machine.Firmware
		f.SbatLevel, f.MokListX = []byte("sbat,1,2030010100\n"+component+",2\n"), []byte{}
		s.machine.Firmware = &f
		j := verdict(t, s.plan(s.build("2"), upgrade.PlanOptions{}), upgrade.ProofBoots)
		require.Equal(t, want != "", j.Outcome == upgrade.OutcomeFail, texts(j))
		require.Contains(t, texts(j), want)
	}
}

// Behind a shim on the ESP comes another program, which is judged as well and makes the rules.
func TestLoaderBehindShim(t *testing.T) {
	k, err := keys()
	require.NoError(t, err)
	other, err := foreign()
	require.NoError(t, err)
	none := []byte{}
	for _, c := range []struct {
		name    string
		change  func(s *system, loader []byte)
		outcome upgrade.Outcome
		want    string
	}{
		{"good", func(*system, []byte) {}, upgrade.OutcomePass, "shim starts EFI/BOOT/grubx64.efi: "},
		{"shim is not said", func(s *system, _ []byte) { s.machine.Shim = nil }, upgrade.OutcomeWarn, "EFI/BOOT/BOOTX64.EFI is a shim, but Machine.Shim is not set"},
		{"a stranger's", func(s *system, loader []byte) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/BOOT/grubx64.efi", sign(s.t, stripCertificates(s.t, bytes.Clone(loader)), other.SecureBoot.DB)))
		}, upgrade.OutcomeFail, "shim will not start EFI/BOOT/grubx64.efi"},
		{"junk", func(s *system, _ []byte) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/BOOT/grubx64.efi", source([]byte("junk"))))
		}, upgrade.OutcomeFail, "EFI/BOOT/grubx64.efi, which firmware may start"},
		{"shim, a stranger's", func(s *system, _ []byte) {
			require.NoError(s.t, s.esp().ReplaceFile("EFI/BOOT/BOOTX64.EFI", shimFor(t, other.SecureBoot.DB, k.SecureBoot.PK.Cert)))
		}, upgrade.OutcomeFail, "firmware will not start EFI/BOOT/BOOTX64.EFI"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSystem(t, "")
			s.machine.FirmwareKind = secureboot.FirmwareEDK2Stable202608
			s.machine.Shim = shimFor(t, k.SecureBoot.DB, k.SecureBoot.PK.Cert)
			f := *s.machine.Firmware
			f.SbatLevel, f.SbatPolicy, f.MokList, f.MokListX, f.MokSBState, f.MokDBState, f.MokPolicy = none, none, none, none, none, none, none
			s.machine.Firmware = &f
			esp := s.esp()
			loader := read(t, esp, "EFI/BOOT/BOOTX64.EFI")
			require.NoError(t, esp.Remove("EFI/systemd/systemd-bootx64.efi"))
			require.NoError(t, esp.ReplaceFile("EFI/BOOT/BOOTX64.EFI", s.machine.Shim))
			file(s, esp, "EFI/BOOT/grubx64.efi", loader)
			c.change(s, loader)
			p := s.plan(s.build("2"), upgrade.PlanOptions{})
			j := verdict(t, p, upgrade.ProofBoots)
			require.Equal(t, c.outcome, j.Outcome, texts(j))
			require.Contains(t, texts(j), c.want)
			if c.name == "good" {
				require.Contains(t, texts(j), "firmware starts EFI/BOOT/BOOTX64.EFI: db has the certificate")
				require.Equal(t, upgrade.OutcomePass, verdict(t, p, upgrade.ProofReturns).Outcome, "its rules are known")
				require.NoError(t, esp.Remove("EFI/BOOT/grubx64.efi"))
				state, err := upgrade.Inspect(s.disk, s.machine)
				require.NoError(t, err)
				require.ErrorContains(t, errors.Join(state.Problems...), "boot loader after shim on the ESP")
				_, err = upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
				require.ErrorContains(t, err, "boot loader after shim on the ESP")
			}
		})
	}
}

// What the loader loads or may start besides is said.
func TestDriversAndOtherEntries(t *testing.T) {
	s := newSystem(t, "")
	file(s, s.esp(), "EFI/systemd/drivers/ext4x64.efi", petest.Loader("262"))
	j := verdict(t, s.plan(s.build("2"), upgrade.PlanOptions{}), upgrade.ProofBoots)
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome, texts(j))
	require.Contains(t, texts(j), "systemd-boot loads the driver EFI/systemd/drivers/ext4x64.efi")

	for _, v := range []bootloader.Variables{{EntryDefault: "auto-windows"}, {EntryPreferred: "AUTO-efi-default"}, {EntryOneShot: "auto-reboot-to-firmware-setup"}} {
		s := newSystem(t, "")
		s.machine.Loader = &v
		p := s.plan(s.build("2"), upgrade.PlanOptions{})
		require.ErrorIs(t, p.Refused(), upgrade.ErrPinned)
		require.ErrorContains(t, p.Refused(), "an entry that the loader makes itself")
	}
	for _, config := range []string{"default auto-windows\n", "preferred auto-windows\n"} {
		s := newSystem(t, "")
		require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte(config))))
		require.ErrorIs(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Refused(), upgrade.ErrPinned)
	}
}

// Entries on an extended boot loader partition are in the loader's menu, too, and are not looked
// at.
func TestExtendedBootLoaderPartition(t *testing.T) {
	for name, c := range map[string]struct {
		files   func(s *system) []osmith.ESPFile // nil: no file system, so it is not known
		refused bool
	}{
		"empty":      {nil, true},
		"no entries": {func(*system) []osmith.ESPFile { return []osmith.ESPFile{{Path: "x", Content: source([]byte("x"))}} }, false},
		"an entry": {func(s *system) []osmith.ESPFile {
			return []osmith.ESPFile{{Path: "EFI/Linux/acme_9.efi", Content: s.build("9").UKI}}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystemOf(t, "", 3)
			table, err := partition.Read(s.disk, partition.ReadOptions{})
			require.NoError(t, err)
			// The third slot's root partition becomes one.
			last := len(table.Partitions) - 2
			table.Partitions[last].Type = partition.XBOOTLDR
			table.Partitions = append(table.Partitions[:last+1], table.Partitions[last+2:]...)
			require.NoError(t, table.Write(s.disk))
			if c.files != nil {
				require.NoError(t, fat.Build(table.Window(s.disk, last), c.files(s), fat.BuildOptions{Size: 1 << 20}))
			}
			p := s.plan(s.build("2"), upgrade.PlanOptions{})
			require.Equal(t, c.refused, p.Refused() != nil, "%v", p.Refused())
			require.Equal(t, name == "empty", errors.Is(p.Refused(), upgrade.ErrXBOOTLDR))
			if c.refused {
				for _, proof := range []upgrade.Proof{upgrade.ProofBoots, upgrade.ProofReturns} {
					require.Equal(t, upgrade.OutcomeFail, verdict(t, p, proof).Outcome)
				}
			}
		})
	}
}

// A UKI that is cut off is no way back, also where firmware verifies nothing.
func TestDamagedFallback(t *testing.T) {
	s := newSystem(t, "")
	s.machine.Firmware, s.machine.NoSecureBoot = nil, true
	esp := s.esp()
	b := read(t, esp, "EFI/Linux/acme_1.efi")
	require.NoError(t, esp.ReplaceFile("EFI/Linux/acme_1.efi", source(b[:len(b)/2])))
	p, j := s.returns("2", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
	require.Contains(t, texts(j), "EFI/Linux/acme_1.efi is damaged: ")
	require.Error(t, p.Refused())
}
