package upgrade_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
	"github.com/osmith-dev/osmith/verity"
)

// returns is the verdict about the way back from version.
func (s *system) returns(version string, o upgrade.PlanOptions) (*upgrade.Plan, upgrade.Verdict) {
	s.t.Helper()
	p := s.plan(s.build(version), o)
	return p, verdict(s.t, p, upgrade.ProofReturns)
}

// apply installs a version without booting it.
func (s *system) apply(version string) *upgrade.Plan {
	s.t.Helper()
	p := s.plan(s.build(version), upgrade.PlanOptions{})
	require.NoError(s.t, p.Apply(context.Background(), nil))
	return p
}

// starts switches the machine on so often, whatever becomes of it.
func (s *system) starts(n int) (last *upgradetest.Boot) {
	s.t.Helper()
	m := upgradetest.Machine{Disk: s.disk, Machine: s.machine}
	for range n {
		b, err := m.Boot(context.Background())
		require.NoError(s.t, err)
		last = b
	}
	return last
}

// damage changes a byte of a version's file system.
func (s *system) damage(set *acmeos.Set) {
	s.t.Helper()
	off, _, err := acmeos.PartitionOf(s.disk, set.RootHash)
	require.NoError(s.t, err)
	_, err = s.disk.WriteAt([]byte{0xff}, off+8192+5)
	require.NoError(s.t, err)
}

// What runs on its last try is no way back: with a bad new set the machine would never come up
// again.
func TestUncommittedIsNoWayBack(t *testing.T) {
	for tries := 1; tries <= 3; tries++ {
		t.Run(fmt.Sprint(tries), func(t *testing.T) {
			s := newSystem(t, "")
			s.apply("2")
			for range tries {
				s.bootAndRun()
			}
			p, j := s.returns("3", upgrade.PlanOptions{})
			require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
			var uncommitted *upgrade.UncommittedError
			require.ErrorAs(t, p.Refused(), &uncommitted)
			require.Contains(t, uncommitted.Entry, "EFI/Linux/acme_2+")
			require.Equal(t, "A", p.Target.Name(), "the slot of the last good one")
			require.Equal(t, upgrade.LinkStuck, p.Chain[len(p.Chain)-1].End)
			require.Contains(t, texts(j), "again and again: EFI/Linux/acme_3+0-3.efi is the new entry itself")

			// Overridden, that is what happens.
			set := s.build("3")
			p = s.plan(set, upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofReturns}})
			require.NoError(t, p.Apply(context.Background(), nil))
			s.damage(set)
			two := s.build("2")
			s.damage(two)
			require.NotEqual(t, upgradetest.Up, s.starts(12).Outcome)
		})
	}
}

// Once it is committed, it is one; and with a third slot the last good one stays.
func TestCommittedIsAWayBack(t *testing.T) {
	s := newSystem(t, "")
	s.apply("2")
	b := s.bootAndRun()
	_, j := s.returns("3", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
	require.NoError(t, s.commit(b))
	_, j = s.returns("3", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))

	s = newSystemOf(t, "", 3)
	s.apply("2")
	s.starts(2)
	s.bootAndRun()
	p, j := s.returns("3", upgrade.PlanOptions{})
	require.Equal(t, "C", p.Target.Name())
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome, texts(j))
	require.Contains(t, texts(j), "returns to EFI/Linux/acme_1.efi")
	require.Contains(t, texts(j), "not to the running EFI/Linux/acme_2+0-3.efi")
	require.NoError(t, p.Apply(context.Background(), nil))
	s.damage(s.build("3"))
	require.Equal(t, "1", s.boot().Version)

	// With all three in use, the one that failed makes room, and not the one that was good.
	p, _ = s.returns("4", upgrade.PlanOptions{})
	require.Equal(t, "C", p.Target.Name())
}

// Whatever else the loader goes to is no way back, whyever it does.
func TestChainEndsElsewhere(t *testing.T) {
	memtest := petest.Loader("262") // any program
	for _, c := range []struct {
		name   string
		change func(s *system, esp *fat.FS)
		as     any
		want   string
	}{
		{"program", func(s *system, esp *fat.FS) {
			conf(s, esp, "memtest.conf", "title memtest\nefi /EFI/tools/memtest.efi\nsort-key acme\nversion 9\n")
			file(s, esp, "EFI/tools/memtest.efi", memtest)
		}, new(*upgrade.UnboundError), "loader/entries/memtest.conf names no root hash"},
		{"program before the old set only", func(s *system, esp *fat.FS) {
			conf(s, esp, "memtest.conf", "title memtest\nefi /EFI/tools/memtest.efi\nsort-key acme\nversion 1.5\n")
			file(s, esp, "EFI/tools/memtest.efi", memtest)
		}, new(*upgrade.UnboundError), "EFI/Linux/acme_2+3.efi 3 times, then loader/entries/memtest.conf again and again"},
		{"set without a slot", func(s *system, esp *fat.FS) {
			conf(s, esp, "other.conf", "title other\nlinux /EFI/tools/linux.efi\nsort-key acme\nversion 1.5\noptions roothash="+strings.Repeat("ab", 32)+"\n")
			file(s, esp, "EFI/tools/linux.efi", petest.Kernel("6.18.0"))
		}, new(*upgrade.UnboundError), "which no slot holds"},
		{"pinned to the new one", func(s *system, _ *fat.FS) {
			s.machine.Loader = &bootloader.Variables{EntryDefault: "acme_2.efi"}
		}, nil, "even when it has failed"},
		{"pinned to the new one in loader.conf", func(s *system, esp *fat.FS) {
			require.NoError(s.t, esp.ReplaceFile("loader/loader.conf", source([]byte("default acme_2*\n"))))
		}, nil, "default in loader.conf boots EFI/Linux/acme_2"},
		{"what was started last", func(s *system, _ *fat.FS) {
			s.machine.Loader = &bootloader.Variables{EntryDefault: "@saved"}
		}, nil, "LoaderEntryDefault boots EFI/Linux/acme_2"},
		{"a menu that waits", func(s *system, esp *fat.FS) {
			require.NoError(s.t, esp.ReplaceFile("loader/loader.conf", source([]byte("timeout menu-force\n"))))
		}, nil, upgrade.ErrWaits.Error()},
		{"hundreds of tries", func(s *system, esp *fat.FS) {
			conf(s, esp, "m+500.conf", "title m\nlinux /EFI/tools/linux.efi\nsort-key acme\nversion 1.5\n")
			file(s, esp, "EFI/tools/linux.efi", petest.Kernel("6.18.0"))
		}, nil, "no good set after 300 starts"},
		{"a program whose next name is taken", func(s *system, esp *fat.FS) {
			conf(s, esp, "m+2.conf", "title m\nlinux /EFI/tools/linux.efi\nsort-key acme\nversion 1.5\n")
			conf(s, esp, "m+1-1.conf", "title m\nlinux /EFI/tools/linux.efi\nsort-key b\n")
			file(s, esp, "EFI/tools/linux.efi", petest.Kernel("6.18.0"))
		}, nil, "loader/entries/m+2.conf again and again"},
		{"a program that is counted", func(s *system, esp *fat.FS) {
			conf(s, esp, "m+2.conf", "title m\nlinux /EFI/tools/linux.efi\nsort-key acme\nversion 1.5\n")
			file(s, esp, "EFI/tools/linux.efi", petest.Kernel("6.18.0"))
		}, nil, ""},
		{"firmware refuses the old one", func(s *system, esp *fat.FS) {
			old := read(s.t, esp, "EFI/Linux/acme_1.efi")
			other, err := foreign()
			require.NoError(s.t, err)
			db := other.SecureBoot.DB
			require.NoError(s.t, esp.ReplaceFile("EFI/Linux/acme_1.efi", sign(s.t, stripCertificates(s.t, old), db)))
		}, new(*upgrade.SecureBootError), "firmware will not start EFI/Linux/acme_1.efi"},
		{"the old slot is gone", func(s *system, esp *fat.FS) {
			// Another version has this name and no slot of its own.
			s.builder.Parts.Initrd = source([]byte("other"))
			set := s.build("1.1")
			require.NoError(s.t, esp.Remove("EFI/Linux/acme_1.efi"))
			file(s, esp, "EFI/Linux/acme_1.1.efi", contentOf(s.t, set.UKI))
		}, new(*upgrade.UnboundError), "which no slot holds"},
		{"bit rot", func(s *system, _ *fat.FS) { s.damage(s.build("1")) }, new(*verity.MismatchError), "the file system of EFI/Linux/acme_1.efi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSystem(t, "")
			c.change(s, s.esp())
			p, j := s.returns("2", upgrade.PlanOptions{})
			if c.want == "" {
				require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
				require.Equal(t, "[EFI/Linux/acme_2+3.efi 3 times loader/entries/m+2.conf 2 times EFI/Linux/acme_1.efi returns]", fmt.Sprint(p.Chain))
				return
			}
			require.Equal(t, upgrade.OutcomeFail, j.Outcome, texts(j))
			require.Contains(t, texts(j), c.want)
			if c.as != nil {
				require.ErrorAs(t, p.Refused(), c.as)
			}
			if c.want == upgrade.ErrWaits.Error() {
				require.Contains(t, texts(verdict(t, p, upgrade.ProofBoots)), c.want)
			}
			if strings.Contains(c.want, "even when") || strings.Contains(c.want, " boots EFI") {
				require.ErrorIs(t, p.Refused(), upgrade.ErrPinned)
			}
		})
	}
}

func conf(s *system, esp *fat.FS, name, text string) {
	file(s, esp, "loader/entries/"+name, []byte(text))
}

func file(s *system, esp *fat.FS, name string, content []byte) {
	s.t.Helper()
	require.NoError(s.t, esp.MkdirAll(name[:strings.LastIndexByte(name, '/')]))
	require.NoError(s.t, esp.WriteFile(name, source(content)))
}

// That the file system of the way back was not read is said.
func TestFallbackIsNotRead(t *testing.T) {
	s := newSystem(t, "")
	s.damage(s.build("1"))
	_, j := s.returns("2", upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome)
	require.Contains(t, texts(j), "it was not read (TrustFallbackWithoutReadingIt)")

	// It is read once, and so is the hash tree of the release, and progress is told up to the end.
	s = newSystem(t, "")
	var calls, last, all int64
	p, err := upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{Progress: func(done, total int64) {
		require.Greater(t, done, last)
		calls, last, all = calls+1, done, total
	}})
	require.NoError(t, err)
	require.NoError(t, p.Refused())
	require.Greater(t, calls, int64(2))
	require.Equal(t, all, last)
	release := s.build("2").Release()
	require.Equal(t, release.Root.Size()+2*release.Tree.Size(), all, "the two versions are of one size")
}

// A one-shot choice is gone after one start.
func TestOneShotOnNewEntry(t *testing.T) {
	s := newSystem(t, "")
	s.machine.Loader = &bootloader.Variables{EntryOneShot: "acme_2.efi"}
	p, j := s.returns("2", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
	require.NoError(t, p.Refused())
	require.Equal(t, "[EFI/Linux/acme_2+3.efi once EFI/Linux/acme_2+2-1.efi 2 times EFI/Linux/acme_1.efi returns]", fmt.Sprint(p.Chain))

	// One on the old set delays the new one.
	s.machine.Loader.EntryOneShot = "acme_1.efi"
	p = s.plan(s.build("2"), upgrade.PlanOptions{})
	require.ErrorIs(t, p.Refused(), upgrade.ErrPinned)

	// So does one on another program, and the way back is not its business.
	conf(s, s.esp(), "memtest.conf", "title memtest\nefi /EFI/tools/memtest.efi\n")
	file(s, s.esp(), "EFI/tools/memtest.efi", contentOf(t, s.signedLoader("262")))
	s.machine.Loader.EntryOneShot = "memtest.conf"
	p, j = s.returns("2", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
	require.Equal(t, "[loader/entries/memtest.conf once EFI/Linux/acme_2+3.efi 3 times EFI/Linux/acme_1.efi returns]", fmt.Sprint(p.Chain))
}

// A variable that names nothing now will name something later.
func TestStaleVariables(t *testing.T) {
	s := newSystem(t, "")
	for want, v := range map[string]bootloader.Variables{
		`LoaderEntryDefault is "acme_0.efi", which matches no entry now`:   {EntryDefault: "acme_0.efi"},
		`LoaderEntryPreferred is "acme_7.efi", which matches no entry now`: {EntryPreferred: "acme_7.efi"},
		`LoaderEntryOneShot is "acme_7.efi", which matches no entry now`:   {EntryOneShot: "acme_7.efi"},
		"": {EntryPreferred: "acme_2*"},
	} {
		s.machine.Loader = &v
		p := s.plan(s.build("2"), upgrade.PlanOptions{})
		j := verdict(t, p, upgrade.ProofBoots)
		require.NoError(t, p.Refused())
		if want == "" {
			require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
			continue
		}
		require.Equal(t, upgrade.OutcomeWarn, j.Outcome)
		require.Contains(t, texts(j), want)
	}
}

// Where firmware renames nothing, tries are never used up.
func TestFirmwareThatDoesNotRename(t *testing.T) {
	for kind, want := range map[secureboot.Firmware]string{
		secureboot.FirmwareUBoot202501: "renames no files", secureboot.FirmwareUBootLegacy: "is unknown", secureboot.FirmwareUBoot202610: "", secureboot.FirmwareEDK2Stable202608: "",
	} {
		s := newSystem(t, "")
		s.machine.FirmwareKind = kind
		_, j := s.returns("2", upgrade.PlanOptions{})
		require.Equal(t, want == "", j.Outcome == upgrade.OutcomePass, "%s: %s", kind, texts(j))
		require.Contains(t, texts(j), want)
	}
	// It shows: the boot was not counted.
	s := newSystem(t, "")
	s.machine.FirmwareKind = secureboot.FirmwareUBoot202501
	s.apply("2")
	b := s.bootAndRun()
	require.Empty(t, b.Running.BootCountPath)
	require.Equal(t, "EFI/Linux/acme_2+3.efi", b.Entry)
	s.machine.FirmwareKind = ""
	_, j := s.returns("3", upgrade.PlanOptions{})
	require.Contains(t, texts(j), "EFI/Linux/acme_2+3.efi, which runs, has a boot counter, and LoaderBootCountPath is not set")

	// What Linux makes of Mode=0444 in a definition of systemd-sysupdate: edk2 does not rename the
	// file (https://github.com/systemd/systemd/issues/36170, and a machine of TestMkosiTakeover).
	info, err := s.esp().Stat("EFI/Linux/acme_2+3.efi")
	require.NoError(t, err)
	alias, suffix, _ := strings.Cut(info.Sys().(fat.Attributes).ShortName, ".")
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	volume := make([]byte, table.Window(s.disk, 0).Size())
	_, err = table.Window(s.disk, 0).ReadAt(volume, 0)
	require.NoError(t, err)
	at := bytes.Index(volume, fmt.Appendf(nil, "%-8s%-3s", alias, suffix))
	require.Positive(t, at)
	_, err = table.Window(s.disk, 0).WriteAt([]byte{volume[at+11] | 1}, int64(at)+11)
	require.NoError(t, err)
	_, j = s.returns("3", upgrade.PlanOptions{})
	require.Contains(t, texts(j), "EFI/Linux/acme_2+3.efi, which runs, has a boot counter and is read-only on the ESP")
}

// The chain is in the plan's text and JSON.
func TestChainIsShown(t *testing.T) {
	s := newSystem(t, "")
	p, _ := s.returns("2", upgrade.PlanOptions{Tries: 2})
	require.Contains(t, p.String(), "  chain    EFI/Linux/acme_2+2.efi 2 times, then EFI/Linux/acme_1.efi returns\n")
	b, err := json.Marshal(p)
	require.NoError(t, err)
	var got struct{ Chain json.RawMessage }
	require.NoError(t, json.Unmarshal(b, &got))
	require.JSONEq(t, `[{"entry":"EFI/Linux/acme_2+2.efi","why":"first in the menu","starts":2,"end":"tries-used-up"},
		{"entry":"EFI/Linux/acme_1.efi","why":"first in the menu","starts":1,"end":"returns"}]`, string(got.Chain))
}

func read(t *testing.T, esp *fat.FS, name string) []byte {
	t.Helper()
	b, err := esp.ReadFile(name)
	require.NoError(t, err)
	return b
}

func sign(t *testing.T, b []byte, by secureboot.KeyPair) *strings.Reader {
	t.Helper()
	var out strings.Builder
	require.NoError(t, authenticode.Sign(&out, source(b), by.Key, by.Cert, authenticode.SignOptions{Time: when}))
	return strings.NewReader(out.String())
}

// Since 262 a file that is marked read-only is started without being counted: its tries are never
// used up.
func TestReadOnlyEntry(t *testing.T) {
	for release, want := range map[string]string{"262": "loader/entries/m+2.conf again and again", "257.13": ""} {
		s := newSystem(t, release)
		esp := s.esp()
		conf(s, esp, "m+2.conf", "title m\nlinux /EFI/tools/linux.efi\nsort-key acme\nversion 1.5\n")
		file(s, esp, "EFI/tools/linux.efi", contentOf(t, sign(t, petest.Kernel("6.18.0"), s.builder.Keys.SecureBoot.DB)))
		s.markReadOnly("loader/entries/m+2.conf")
		_, j := s.returns("2", upgrade.PlanOptions{})
		require.Equal(t, want != "", j.Outcome == upgrade.OutcomeFail, texts(j))
		require.Contains(t, texts(j), want)
	}
}

// markReadOnly sets the attribute in the directory of the ESP.
func (s *system) markReadOnly(name string) {
	s.t.Helper()
	info, err := s.esp().Stat(name)
	require.NoError(s.t, err)
	stem, ext, _ := strings.Cut(info.Sys().(fat.Attributes).ShortName, ".")
	short := fmt.Appendf(nil, "%-8s%-3s", stem, ext)
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	esp := table.Window(s.disk, 0)
	b := contentOf(s.t, esp)
	found := 0
	for at := 0; at+32 <= len(b); at += 32 {
		if string(b[at:at+11]) == string(short) && b[at+11]&0x18 == 0 {
			_, err := esp.WriteAt([]byte{b[at+11] | 1}, int64(at+11))
			require.NoError(s.t, err)
			found++
		}
	}
	require.Equal(s.t, 1, found)
}

// A set on the way back that firmware refuses holds the machine up where the loader does not start
// it again.
func TestRefusedOnTheWay(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	for _, c := range []struct {
		release, config string
		want            string
	}{
		{"262", "", ""},
		{"262", "reboot-on-error no\n", "systemd-boot 262 stays in its menu: firmware will not start EFI/Linux/acme_2+2-1.efi"},
		{"257.13", "", "systemd-boot 257.13 stays in its menu: firmware will not start EFI/Linux/acme_2+2-1.efi"},
	} {
		s := newSystemOf(t, c.release, 3)
		s.apply("2")
		require.Equal(t, "2", s.boot().Version)
		one := s.on(s.disk.Clone())
		require.NoError(t, rollback(one.disk, one.machine, "acme_2.efi"))
		s.machine = s.running(one.boot())
		s.machine.Loader = &bootloader.Variables{}
		esp := s.esp()
		require.NoError(t, esp.ReplaceFile("loader/loader.conf", source([]byte("timeout 0\n"+c.config))))
		require.NoError(t, esp.ReplaceFile("EFI/Linux/acme_2+2-1.efi", sign(t, stripCertificates(t, read(t, esp, "EFI/Linux/acme_2+2-1.efi")), other.SecureBoot.DB)))
		p, j := s.returns("3", upgrade.PlanOptions{})
		require.Equal(t, c.want != "", j.Outcome == upgrade.OutcomeFail, texts(j))
		require.Contains(t, texts(j), c.want)
		if c.want != "" {
			require.ErrorAs(t, p.Refused(), new(*upgrade.StaysError))
			require.ErrorAs(t, p.Refused(), new(*upgrade.SecureBootError))
			require.Equal(t, upgrade.LinkStuck, p.Chain[len(p.Chain)-1].End)
		}
		// So it happens.
		set := s.build("3")
		require.NoError(t, s.plan(set, upgrade.PlanOptions{Override: upgrade.Proofs()}).Apply(context.Background(), nil))
		s.damage(set)
		boots, err := (&upgradetest.Machine{Disk: s.disk, Machine: s.machine}).BootUntilUp(context.Background(), 10)
		require.NoError(t, err)
		require.Equal(t, c.want == "", boots[len(boots)-1].Outcome == upgradetest.Up, boots[len(boots)-1])
	}
}

// The way back is of use only if it unlocks as well.
func TestFallbackUnlocks(t *testing.T) {
	s := newSystem(t, "")
	_, j := s.returns("2", upgrade.PlanOptions{})
	require.Contains(t, texts(j), "pass EFI/Linux/acme_1.efi: key ")

	old := s.withUKI(s.build("1"), func(*uki.Image) {}) // without signed policies
	require.NoError(t, s.esp().ReplaceFile("EFI/Linux/acme_1.efi", old.UKI))
	_, j = s.returns("2", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome, texts(j))
	require.Contains(t, texts(j), "warn whether EFI/Linux/acme_1.efi unlocks is unknown: the UKI carries no signed PCR policies")
	// Where nothing is sealed, that is no question.
	s.machine.PCRKeys, s.machine.NothingSealed = nil, true
	_, j = s.returns("2", upgrade.PlanOptions{})
	require.Equal(t, upgrade.OutcomePass, j.Outcome, texts(j))
}
