package upgrade_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

func source(b []byte) osmith.Source { return bytes.NewReader(b) }

func TestUpgrade(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	p := s.plan(set, upgrade.PlanOptions{})
	require.NoError(t, p.Refused())
	for _, j := range p.Verdicts {
		require.Equal(t, upgrade.OutcomePass, j.Outcome, "%s: %s", j.Proof, texts(j))
		require.NotEmpty(t, j.Reasons)
	}
	require.Equal(t, "EFI/Linux/acme_1.efi", p.From)
	require.Equal(t, "EFI/Linux/acme_2+3.efi", p.Entry)

	var steps []int
	var done, total int64
	require.NoError(t, p.Apply(context.Background(), func(step int, d, all int64) {
		steps = append(steps, step)
		require.GreaterOrEqual(t, d, done)
		done, total = d, all
	}))
	require.Equal(t, total, done)
	require.Equal(t, len(p.Steps)-1, steps[len(steps)-1])

	// What boots measures what the plan said.
	b := s.boot()
	require.Equal(t, "2", b.Version)
	require.Equal(t, "EFI/Linux/acme_2+2-1.efi", b.Entry)
	want, err := p.Predicted.Replay(crypto.SHA256)
	require.NoError(t, err)
	got, err := b.Log.Replay(crypto.SHA256)
	require.NoError(t, err)
	for _, pcr := range []int{4, 7, 11} {
		require.Equal(t, want[crypto.SHA256].PCR(pcr), got[crypto.SHA256].PCR(pcr), "PCR %d", pcr)
	}

	require.NoError(t, commit(s.disk, s.running(b), p.Entry))
	require.NoError(t, commit(s.disk, s.running(b), p.Entry), "twice is once")
	require.Equal(t, "EFI/Linux/acme_2.efi", s.boot().Entry)

	// The same set again is nothing to do; the state says where things are.
	again := s.plan(set, upgrade.PlanOptions{})
	require.True(t, again.Installed)
	require.Empty(t, again.Steps)
	require.NoError(t, again.Apply(context.Background(), nil))
	state, err := upgrade.Inspect(s.disk, s.running(b))
	require.NoError(t, err)
	require.Equal(t, []string{"acme_1", "acme_2"}, []string{state.Slots[0].Label, state.Slots[1].Label})
	require.Equal(t, "B", state.Running.Slot.Name())
	require.Same(t, state.Running, state.Started)
	require.Same(t, state.Running, state.Next)
}

func TestFallBack(t *testing.T) {
	s := newSystem(t, "")
	p := s.plan(s.build("2"), upgrade.PlanOptions{Tries: 2})
	require.NoError(t, p.Apply(context.Background(), nil))
	// Good boots that are not committed use up their tries, too.
	require.Equal(t, "2", s.boot().Version)
	require.Equal(t, "2", s.boot().Version)
	require.Equal(t, "1", s.boot().Version)
}

func TestRollback(t *testing.T) {
	s := newSystem(t, "")
	require.ErrorIs(t, rollback(s.disk, s.machine, "EFI/Linux/acme_1.efi"), upgrade.ErrNothingToReturnTo)
	require.Equal(t, "1", s.boot().Version)

	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	require.NoError(t, p.Apply(context.Background(), nil))
	require.NoError(t, rollback(s.disk, s.machine, p.Entry))
	require.NoError(t, rollback(s.disk, s.machine, p.Entry), "twice is once")
	require.Equal(t, "1", s.boot().Version)
	require.ErrorContains(t, rollback(s.disk, s.machine, "EFI/Linux/other.efi"), "upgrade: roll back: EFI/Linux/other.efi: no such entry on the ESP")
	// What was rolled back is installed again only on request.
	require.ErrorAs(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Refused(), new(*upgrade.FailedError))
	require.NoError(t, s.plan(s.build("2"), upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofFollows}}).Apply(context.Background(), nil))
	b := s.boot()
	require.Equal(t, "2", b.Version)

	// What was committed can be rolled back, too.
	require.NoError(t, s.commit(b))
	require.NoError(t, rollback(s.disk, s.machine, "EFI/Linux/acme_2.efi"))
	require.Equal(t, "1", s.boot().Version)
}

func TestApplyOnce(t *testing.T) {
	s := newSystem(t, "")
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	require.NoError(t, p.Apply(context.Background(), nil))
	require.ErrorIs(t, p.Apply(context.Background(), nil), upgrade.ErrApplied)
}

// TestDamagedInstallation: a version whose slot was damaged before it ever ran is not "installed
// already".
func TestDamagedInstallation(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	s.bootAndRun()
	p := s.plan(set, upgrade.PlanOptions{})
	require.NoError(t, p.Apply(context.Background(), nil))
	require.True(t, s.plan(set, upgrade.PlanOptions{}).Installed)

	off, _, err := acmeos.PartitionOf(s.disk, set.RootHash)
	require.NoError(t, err)
	_, err = s.disk.WriteAt([]byte{0xff}, off+8192+5)
	require.NoError(t, err)
	again := s.plan(set, upgrade.PlanOptions{})
	require.False(t, again.Installed)
	require.NoError(t, again.Apply(context.Background(), nil))
	require.Equal(t, "2", s.boot().Version)
}

// TestNoRoomForEntries: what lies in front of the first partition is not ours to write over, and
// then a kernel may find no partitions after a power cut.
func TestNoRoomForEntries(t *testing.T) {
	s := newSystem(t, "")
	returns := func() upgrade.Verdict { return s.plan(s.build("2"), upgrade.PlanOptions{}).Verdicts[3] }
	require.NotContains(t, fmt.Sprint(returns().Reasons), partition.ErrInPlace.Error())
	_, err := s.disk.WriteAt(bytes.Repeat([]byte("boot"), (1<<20-34*512)/4), 34*512)
	require.NoError(t, err)
	require.Equal(t, upgrade.OutcomeWarn, returns().Outcome)
	require.Contains(t, fmt.Sprint(returns().Reasons), partition.ErrInPlace.Error())
}

// TestTypeOneEntry: an entry of Type #1 that needs the target slot goes first, too.
func TestTypeOneEntry(t *testing.T) {
	s := newSystem(t, "")
	old := s.build("2")
	s.install(old)
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	window := table.Window(s.disk, 0)
	esp, err := fat.Open(window)
	require.NoError(t, err)
	require.NoError(t, esp.MkdirAll("loader/entries"))
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	conf := fmt.Sprintf("title old\nlinux /EFI/Linux/acme_1.efi\noptions roothash=%x\n", state.Slots[0].RootHash)
	require.NoError(t, esp.WriteFile("loader/entries/old.conf", strings.NewReader(conf)))

	p := s.plan(s.build("3"), upgrade.PlanOptions{})
	require.Equal(t, "A", p.Target.Name())
	var removed []string
	for _, step := range p.Steps {
		if step.Kind == upgrade.StepRemoveEntry {
			removed = append(removed, step.Target)
		}
	}
	require.ElementsMatch(t, []string{"EFI/Linux/acme_1.efi", "loader/entries/old.conf"}, removed)
	require.NoError(t, p.Apply(context.Background(), nil))
	require.Equal(t, "3", s.boot().Version)
}

// A Type #1 entry takes along the files that it names, unless something else needs them: another
// entry, a text that is no entry here, or firmware.
func TestTypeOneEntryTakesItsFiles(t *testing.T) {
	s := newSystem(t, "")
	s.install(s.build("2"))
	s.bootAndRun()
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	kernel := petest.Kernel("6.18.0")
	for _, name := range []string{"acme/1/linux", "acme/1/initrd", "acme/common/initrd", "acme/common/microcode", "acme/1/board.dtb", "acme/1/OTHERS.IMG"} {
		file(s, s.esp(), name, kernel)
	}
	conf(s, s.esp(), "old.conf", fmt.Sprintf("title old\nlinux /acme/1/linux\ninitrd /acme/1/initrd\ninitrd /acme/common/initrd\ninitrd /acme/common/microcode\ninitrd /acme/1/others.img\n"+
		"devicetree /acme/1/board.dtb\ninitrd /EFI/BOOT/BOOTX64.EFI\nsort-key acme\nversion 1.5\noptions roothash=%x\n", state.Slots[0].RootHash))
	conf(s, s.esp(), "new.conf", fmt.Sprintf("title new\nlinux /acme/1/linux.new\ninitrd /acme/common/initrd\nlinux /acme/common/microcode\noptions roothash=%x\n", state.Slots[1].RootHash))
	conf(s, s.esp(), "arm.conf", "title arm\narchitecture aa64\nlinux \\acme\\1\\Others.img\n")
	p := s.plan(s.build("3"), upgrade.PlanOptions{Override: upgrade.Proofs()})
	var removed []string
	for _, step := range p.Steps {
		switch step.Kind {
		case upgrade.StepRemoveEntry, upgrade.StepRemoveFile:
			removed = append(removed, string(step.Kind)+" "+step.Target)
		}
	}
	require.Len(t, removed, 5, "%v", removed)
	require.ElementsMatch(t, []string{"remove-entry EFI/Linux/acme_1.efi", "remove-entry loader/entries/old.conf"}, removed[:2], "entries come first")
	require.ElementsMatch(t, []string{"remove-file acme/1/linux", "remove-file acme/1/initrd", "remove-file acme/1/board.dtb"}, removed[2:])
	require.NoError(t, p.Apply(t.Context(), nil))
	for _, name := range []string{"acme/common/initrd", "acme/common/microcode", "acme/1/OTHERS.IMG"} {
		require.Equal(t, kernel, read(t, s.esp(), name))
	}
}

// Files that others stage are theirs.
func TestForeignStagedFiles(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	theirs := []string{"EFI/Linux/other.staged", "EFI/Linux/.sysupdate.partial.acme_2+3-0.efi", "EFI/Linux/x.efi.tmp"}
	for _, name := range theirs {
		file(s, s.esp(), name, []byte("theirs"))
	}
	file(s, s.esp(), "EFI/Linux/acme_9.osmith-staged", []byte("ours, of an interrupted upgrade"))
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Equal(t, []string{"EFI/Linux/acme_9.osmith-staged"}, state.Staged)
	s.apply("2")
	for _, name := range theirs {
		require.Equal(t, "theirs", string(read(t, s.esp(), name)))
	}
	_, err = s.esp().Stat("EFI/Linux/acme_9.osmith-staged")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestArchitectures: the partition types say which loader the disk has and which UKIs it shows.
func TestArchitectures(t *testing.T) {
	s := newSystem(t, "")
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	window := table.Window(s.disk, 0)
	loader := "EFI/BOOT/BOOTX64.EFI"
	for _, c := range []struct{ name, loader string }{
		{"arm64", "EFI/BOOT/BOOTAA64.EFI"}, {"riscv64", "EFI/BOOT/BOOTRISCV64.EFI"}, {"loongarch64", "EFI/BOOT/BOOTLOONGARCH64.EFI"},
		{"x86", "EFI/BOOT/BOOTIA32.EFI"}, {"arm", "EFI/BOOT/BOOTARM.EFI"}, {"s390x", ""},
	} {
		for i := range table.Partitions[1:] {
			id, ok := partition.TypeByName([]string{"root-" + c.name, "root-" + c.name + "-verity"}[i%2])
			require.True(t, ok)
			table.Partitions[1+i].Type = id
		}
		require.NoError(t, table.Write(s.disk))
		state, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		problems := errors.Join(state.Problems...)
		if c.loader == "" {
			require.ErrorContains(t, problems, "root-s390x")
			continue
		}
		require.ErrorIs(t, problems, fs.ErrNotExist)
		require.ErrorContains(t, problems, c.loader)
		esp, err := fat.Open(window)
		require.NoError(t, err)
		require.NoError(t, esp.Rename(loader, c.loader))
		loader = c.loader
		state, err = upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		require.Empty(t, state.Entries, "the UKI is for x86-64")
	}
}

// refusedKernel is a kernel that stubs refuse for that reason.
func refusedKernel(t *testing.T, name string) osmith.Source {
	for _, k := range petest.RefusedKernels(petest.Kernel("6.18.0-acme")) {
		if k.Name == name {
			return source(k.Kernel)
		}
	}
	t.Fatalf("no kernel is refused for %s", name)
	return nil
}

// TestKernelOfAnotherProfile: that a rescue profile does not start is a restriction, since another
// one boots.
func TestKernelOfAnotherProfile(t *testing.T) {
	s := newSystem(t, "")
	r := s.withUKI(s.build("2"), func(im *uki.Image) {
		profiles(im)
		im.Profiles[0].Linux, im.AllowKernelThatTheStubRefuses = refusedKernel(t, "linux-relocations"), true
	}, 0, 1)
	p, err := upgrade.NewPlan(context.Background(), s.disk, r, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	j := verdict(t, p, upgrade.ProofBoots)
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome, "%v", j.Reasons)
	require.Contains(t, fmt.Sprint(j.Reasons), "section .linux of profile 1: the stub of systemd 262 does not start the kernel")
}

// outsideOfValidity is a release whose UKI claims to have been signed before the certificate was
// valid.
func outsideOfValidity(s *system) *release.Release {
	r := s.build("2").Release()
	db := s.builder.Keys.SecureBoot.DB
	var signed bytes.Buffer
	require.NoError(s.t, authenticode.Sign(&signed, unsigned(s.t, r.UKI), db.Key, db.Cert,
		authenticode.SignOptions{Time: db.Cert.NotBefore.AddDate(0, -2, 0), AllowTimeOutsideValidityThatUBootRefuses: true}))
	r.UKI = bytes.NewReader(signed.Bytes())
	return r
}

// Firmware that does not look at signing times is not refused anything for them, once it is named.
func TestFirmwareKind(t *testing.T) {
	s := newSystem(t, "")
	r := outsideOfValidity(s)
	for kind, want := range map[secureboot.Firmware]bool{
		"": false, secureboot.FirmwareAny: false, secureboot.FirmwareEDK2Stable202608: true, secureboot.FirmwareEDK2Stable202211: true, secureboot.FirmwareUBootLegacy: false,
	} {
		s.machine.FirmwareKind = kind
		p, err := upgrade.NewPlan(context.Background(), s.disk, r, s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.Equal(t, want, p.Refused() == nil, "%q: %v", kind, p)
	}
	ordinary := s.build("2").Release()
	for _, kind := range append(secureboot.Firmwares(), "", secureboot.FirmwareAny) {
		s.machine.FirmwareKind = kind
		p, err := upgrade.NewPlan(context.Background(), s.disk, ordinary, s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.True(t, p.Refused() == nil, "%q: %v", kind, p)
	}
}

// TestRefused lists what a plan must refuse, by which verdict and with which typed error, and that
// nothing is written.
func TestRefused(t *testing.T) {
	other, err := foreign()
	require.NoError(t, err)
	tests := []struct {
		name    string
		change  func(s *system) *release.Release
		verdict upgrade.Proof
		as      any    // pointer to a typed error
		want    string // in the text
	}{
		{"foreign-signature", func(s *system) *release.Release {
			s.builder.Foreign = other
			defer func() { s.builder.Foreign = nil }()
			return s.build("2").Release()
		}, upgrade.ProofBoots, new(*upgrade.SecureBootError), "firmware will not start EFI/Linux/acme_2+3.efi"},
		{"unsigned", func(s *system) *release.Release {
			r := s.build("2").Release()
			r.UKI = unsigned(s.t, r.UKI)
			return r
		}, upgrade.ProofBoots, new(*upgrade.SecureBootError), "firmware will not start"},
		{"signing-time-unknown-firmware", outsideOfValidity, upgrade.ProofBoots, new(*upgrade.SecureBootError), "u-boot-2026.10: signature 0: the signing time"},
		{"signing-time-u-boot", func(s *system) *release.Release {
			s.machine.FirmwareKind = secureboot.FirmwareUBoot202501
			return outsideOfValidity(s)
		}, upgrade.ProofBoots, new(*upgrade.SecureBootError), "the signing time"},
		{"tampered-tree", func(s *system) *release.Release {
			r := s.build("2").Release()
			r.Tree = flipped(s.t, r.Tree, 4100)
			return r
		}, upgrade.ProofBoots, new(*verity.BlockError), "verity: level 1 hash block 0"},
		{"short-root", func(s *system) *release.Release {
			r := s.build("2").Release()
			r.Root = source(contentOf(s.t, r.Root)[:8192])
			return r
		}, upgrade.ProofBoots, new(*verity.ShortError), "verity: "},
		{"other-root-hash", func(s *system) *release.Release {
			r := s.build("2").Release()
			r.RootHash = bytes.Repeat([]byte{7}, 32)
			return r
		}, upgrade.ProofBoots, new(*upgrade.RootHashError), "root hash of the UKI's command line"},
		{"slot-too-small", func(s *system) *release.Release {
			root := s.dir + "/big.raw"
			require.NoError(s.t, acmeos.WriteRoot(root, "2", map[string][]byte{"/data": make([]byte, 2<<20)}))
			set, err := s.builder.Build(context.Background(), s.dir, "2", root)
			require.NoError(s.t, err)
			s.t.Cleanup(func() { set.Close() })
			return set.Release()
		}, upgrade.ProofFits, new(*upgrade.SlotSpaceError), "bytes are missing"},
		{"esp-too-small", func(s *system) *release.Release {
			s.builder.Parts.Initrd = source(make([]byte, 60<<20))
			return s.build("2").Release()
		}, upgrade.ProofFits, new(*upgrade.ESPSpaceError), "bytes are missing"},
		{"other-pcr-key", func(s *system) *release.Release {
			s.machine.PCRKeys = []*rsa.PublicKey{&other.PCR.PublicKey}
			return s.build("2").Release()
		}, upgrade.ProofUnlocks, nil, "none of the 1 keys this machine's secrets are sealed to"},
		{"pinned-to-old", func(s *system) *release.Release {
			s.machine.Loader = &bootloader.Variables{EntryDefault: "acme_1.efi"}
			return s.build("2").Release()
		}, upgrade.ProofBoots, nil, "LoaderEntryDefault"},
		{"pinned-to-new", func(s *system) *release.Release {
			s.machine.Loader = &bootloader.Variables{EntryDefault: "acme_2*"}
			return s.build("2").Release()
		}, upgrade.ProofReturns, nil, "even when it has failed"},
		{"kernel-that-the-stub-refuses", func(s *system) *release.Release {
			return s.withUKI(s.build("2"), func(im *uki.Image) {
				im.Linux, im.AllowKernelThatTheStubRefuses = refusedKernel(s.t, "linux-raw-size"), true
			}, 0)
		}, upgrade.ProofBoots, new(*upgrade.ImageError), "does not start the kernel (seen in a boot)"},
		{"kernel-that-the-stub-may-refuse", func(s *system) *release.Release {
			return s.withUKI(s.build("2"), func(im *uki.Image) {
				im.Stub, im.Linux, im.AllowKernelThatTheStubRefuses = source(petest.Stub("261")), refusedKernel(s.t, "linux-directories"), true
			}, 0)
		}, upgrade.ProofBoots, new(*upgrade.ImageError), "whether the stub of systemd 261 starts the kernel is not known"},
		{"command-line-too-long", func(s *system) *release.Release {
			return s.withUKI(s.build("2"), func(im *uki.Image) { im.Cmdline = strings.Repeat("x ", 1000) + im.Cmdline }, 0)
		}, upgrade.ProofBoots, new(*upgrade.ImageError), `"roothash=`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystem(t, "")
			r := tt.change(s)
			p, err := upgrade.NewPlan(context.Background(), s.disk, r, s.machine, upgrade.PlanOptions{})
			require.NoError(t, err)
			s.disk.Record()
			err = p.Apply(context.Background(), nil)
			var refused *upgrade.RefusedError
			require.ErrorAs(t, err, &refused)
			require.Len(t, refused.Verdicts, 1, "%v", err)
			require.Equal(t, tt.verdict, refused.Verdicts[0].Proof)
			require.ErrorContains(t, err, tt.want)
			if tt.as != nil {
				require.ErrorAs(t, err, tt.as)
			}
			if _, ok := tt.as.(**upgrade.ImageError); ok {
				require.NotContains(t, fmt.Sprint(refused.Verdicts[0].Reasons), "starts the kernel and knows", "no claim beside its refutation")
			}
			require.Empty(t, s.disk.Writes())

			// Another verdict's name does not help.
			for _, v := range upgrade.Proofs() {
				p, err := upgrade.NewPlan(context.Background(), s.disk, r, s.machine, upgrade.PlanOptions{Override: []upgrade.Proof{v}})
				require.NoError(t, err)
				require.Equal(t, v == tt.verdict, p.Refused() == nil, "override %s", v)
			}
		})
	}
}

// A plan reads nothing of the release's root file system: every block is checked before it is
// written, and one that is wrong ends the upgrade before anything boots it.
func TestTamperedRoot(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	r := s.build("2").Release()
	genuine := r.Root
	r.Root = unread{genuine, t}
	_, err := upgrade.NewPlan(t.Context(), s.disk, r, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	for _, at := range []int{0, 5000, int(genuine.Size()) - 1} {
		r.Root = flipped(t, genuine, at)
		p := s.planOf(r, upgrade.PlanOptions{})
		require.NoError(t, p.Refused())
		s.disk.Record()
		err := p.Apply(t.Context(), nil)
		var block *verity.BlockError
		require.ErrorAs(t, err, &block)
		require.Equal(t, int64(at/4096), block.Block)
		require.Equal(t, "1", s.boot().Version)
		s.requireEntriesWhole()
	}
	// What is behind the file system, as in an image cut out of a partition, is not written.
	long := append(contentOf(t, genuine), bytes.Repeat([]byte("rest"), 4096)...)
	r.Root = source(long)
	p := s.planOf(r, upgrade.PlanOptions{})
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, "2", s.boot().Version)
	off, size, err := acmeos.PartitionOf(s.disk, r.RootHash)
	require.NoError(t, err)
	b := make([]byte, size)
	_, err = s.disk.ReadAt(b, off)
	require.NoError(t, err)
	require.NotContains(t, string(b), "restrest")
}

// unread is a source of which only the size is asked.
type unread struct {
	osmith.Source
	t *testing.T
}

func (u unread) ReadAt(b []byte, off int64) (int, error) {
	u.t.Errorf("%d bytes at %d were read", len(b), off)
	return u.Source.ReadAt(b, off)
}

// TestUnusable lists what cannot be planned at all.
func TestUnusable(t *testing.T) {
	s := newSystem(t, "")
	good := s.build("2").Release()
	tests := []struct {
		name   string
		change func(r *release.Release, o *upgrade.PlanOptions)
		want   string
	}{
		{"no-uki", func(r *release.Release, _ *upgrade.PlanOptions) { r.UKI = nil }, "upgrade: a release needs a UKI"},
		{"no-pe", func(r *release.Release, _ *upgrade.PlanOptions) { r.UKI = strings.NewReader("#!/bin/sh") }, "uki: "},
		{"short-root-hash", func(r *release.Release, _ *upgrade.PlanOptions) { r.RootHash = r.RootHash[:20] }, "20 bytes, want 32"},
		{"other-version", func(r *release.Release, _ *upgrade.PlanOptions) { r.Version = "7" }, `version "7", but its UKI has "2"`},
		{"tries", func(_ *release.Release, o *upgrade.PlanOptions) { o.Tries = 100 }, "100 tries: want 1 to 99"},
		{"verdict", func(_ *release.Release, o *upgrade.PlanOptions) { o.Override = []upgrade.Proof{"all"} }, `verdict "all": want fits, boots, unlocks, returns or follows`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, o := *good, upgrade.PlanOptions{}
			tt.change(&r, &o)
			p, err := upgrade.NewPlan(context.Background(), s.disk, &r, s.machine, o)
			require.Nil(t, p)
			require.ErrorContains(t, err, tt.want)
		})
	}
	var format *osmith.FormatError
	r := *good
	r.UKI = strings.NewReader("#!/bin/sh")
	_, err := upgrade.NewPlan(context.Background(), s.disk, &r, s.machine, upgrade.PlanOptions{})
	require.ErrorAs(t, err, &format)
	require.ErrorIs(t, err, uki.ErrNotPE)

	t.Run("no-table", func(t *testing.T) {
		_, err := upgrade.Inspect(emptyDisk{s.disk.Size()}, s.machine)
		require.ErrorIs(t, err, partition.ErrNoTable)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		p := s.plan(s.build("2"), upgrade.PlanOptions{})
		cancel()
		s.disk.Record()
		require.ErrorIs(t, p.Apply(ctx, nil), context.Canceled)
		require.Empty(t, s.disk.Writes())
		_, err := upgrade.NewPlan(ctx, s.disk, good, s.machine, upgrade.PlanOptions{})
		require.ErrorIs(t, err, context.Canceled)
	})
}

// emptyDisk holds zeros.
type emptyDisk struct{ size int64 }

func (e emptyDisk) Size() int64                            { return e.size }
func (e emptyDisk) WriteAt(b []byte, _ int64) (int, error) { return 0, errors.New("read-only") }
func (e emptyDisk) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off+int64(len(b)) > e.size {
		return 0, io.EOF
	}
	return len(b), nil
}

// TestOldLoaderWarns: before 258 a refused image needs a person.
func TestOldLoaderWarns(t *testing.T) {
	s := newSystem(t, "257.13")
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	j := verdict(t, p, upgrade.ProofReturns)
	require.Equal(t, upgrade.OutcomeWarn, j.Outcome)
	require.Contains(t, texts(j), "needs 258 or later")
	require.NoError(t, p.Refused(), "a warning is no refusal")
}

func TestPlanJSON(t *testing.T) {
	s := newSystem(t, "")
	b, err := json.Marshal(s.plan(s.build("2"), upgrade.PlanOptions{}))
	require.NoError(t, err)
	var got struct {
		Schema, Version, Slot, Entry string
		Refused                      bool
		Judgements                   []struct{ Verdict, Outcome string }
		Steps                        []struct{ Kind string }
		PCRs                         map[string]map[string]string
	}
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, upgrade.PlanSchema, got.Schema)
	require.Equal(t, "B", got.Slot)
	require.Len(t, got.Judgements, 5)
	require.Equal(t, "pass", got.Judgements[0].Outcome)
	require.Equal(t, "add-entry", got.Steps[len(got.Steps)-1].Kind)
	require.Len(t, got.PCRs["sha256"]["11"], 64)
}

func texts(j upgrade.Verdict) string {
	var b strings.Builder
	for _, r := range j.Reasons {
		fmt.Fprintln(&b, r.Outcome, r.Text)
	}
	return b.String()
}

// unsigned returns the image without its certificate table.
func unsigned(t *testing.T, src osmith.Source) osmith.Source {
	t.Helper()
	b := make([]byte, src.Size())
	_, err := src.ReadAt(b, 0)
	require.NoError(t, err)
	return source(stripCertificates(t, b))
}

func flipped(t *testing.T, src osmith.Source, off int) osmith.Source {
	t.Helper()
	b := make([]byte, src.Size())
	_, err := src.ReadAt(b, 0)
	require.NoError(t, err)
	b[off] ^= 1
	return source(b)
}

// A verdict without an outcome proves nothing.
func TestUnknownOutcome(t *testing.T) {
	p := &upgrade.Plan{Verdicts: []upgrade.Verdict{{Proof: upgrade.ProofFits}}}
	var refused *upgrade.RefusedError
	require.ErrorAs(t, p.Refused(), &refused)
	require.Equal(t, upgrade.ProofFits, refused.Verdicts[0].Proof)
	require.Equal(t, "unknown", refused.Verdicts[0].Outcome.String())
	require.Equal(t, "pass warn fail Outcome(4)", fmt.Sprint(upgrade.OutcomePass, upgrade.OutcomeWarn, upgrade.OutcomeFail, upgrade.Outcome(4)))
}

// counted counts the bytes that are read of a source.
type counted struct {
	osmith.Source
	n *atomic.Int64
}

func (c counted) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Source.ReadAt(b, off)
	c.n.Add(int64(n))
	return n, err
}

// The root file system of a release is read once, when it is written, its hash tree with that and
// to be judged, and its UKI in a few passes.
func TestReadsOfARelease(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	s.builder.Parts.Initrd = source(bytes.Repeat([]byte("initrd"), 200_000))
	r := s.build("2").Release()
	var image, root, tree atomic.Int64
	r.UKI, r.Root, r.Tree = counted{r.UKI, &image}, counted{r.Root, &root}, counted{r.Tree, &tree}
	p := s.planOf(r, upgrade.PlanOptions{})
	require.Zero(t, root.Load())
	require.LessOrEqual(t, tree.Load(), r.Tree.Size())
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, r.Root.Size(), root.Load())
	require.LessOrEqual(t, tree.Load(), 3*r.Tree.Size())
	require.Less(t, image.Load(), 6*r.UKI.Size())
}
