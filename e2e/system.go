//go:build linux

package e2e

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity/dm"
)

// BootParts are the files of a distribution that a system is built around.
type BootParts struct {
	Stub, Loader, Kernel string
	Modules              string // directory lib/modules/VERSION of the kernel
	Architecture         string // EFI name; empty means x64
}

// kernelArguments belong on every command line: with panic=-1 even a damaged init ends in a reboot.
const kernelArguments = "console=ttyS0 panic=-1 loglevel=3 no_timer_check"

// arguments are those of a machine's architecture, whose first serial port has a name of its own.
func (p BootParts) arguments() string {
	if p.Architecture == "aa64" {
		return strings.Replace(kernelArguments, "ttyS0", "ttyAMA0", 1)
	}
	return kernelArguments
}

// System is Acme OS on one virtual machine: everything on its disk and in its firmware comes from
// the packages under test.
type System struct {
	Builder *acmeos.Builder
	Machine *Machine        // the virtual machine
	Facts   upgrade.Machine // what plans and predictions are told about it

	dir, guest string
	loaderConf []byte // on the ESP that WriteESP made
	sets       []*acmeos.Set
}

// NewSystem makes keys, guest and initrd in dir, which must exist, and a machine without a disk.
func NewSystem(ctx context.Context, dir string, parts BootParts) (*System, error) {
	s := &System{dir: dir, guest: filepath.Join(dir, "guest")}
	efi, ok := arch.ByEFI(or(parts.Architecture, "x64"))
	if !ok {
		return nil, fmt.Errorf("e2e: architecture %q is not known", parts.Architecture)
	}
	if err := BuildGuest(ctx, s.guest, efi.Go); err != nil {
		return nil, err
	}
	found, err := s.parts(parts)
	if err != nil {
		return nil, err
	}
	when := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys, err := acmeos.GenerateKeys(when)
	if err != nil {
		return nil, err
	}
	s.Builder = &acmeos.Builder{Keys: keys, Parts: found, Seed: [16]byte{0xac, 0x3e}, Time: when, Cmdline: parts.arguments()}
	if s.Facts, err = s.Builder.Machine(); err != nil {
		return nil, err
	}
	s.Machine = &Machine{Dir: filepath.Join(dir, "machine"), Disk: filepath.Join(dir, "disk.img"), Architecture: efi.EFI}
	return s, os.MkdirAll(s.Machine.Dir, 0o755)
}

// Close closes the files of all versions.
func (s *System) Close() error {
	err := s.Builder.Parts.Close()
	for _, set := range s.sets {
		err = errors.Join(err, set.Close())
	}
	return err
}

// parts puts the boot files and our initrd where the builder looks for them.
func (s *System) parts(p BootParts) (*acmeos.Parts, error) {
	dir := filepath.Join(s.dir, "parts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	initrd, err := Initrd(s.guest, p.Modules)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "initrd.img"), initrd, 0o644); err != nil {
		return nil, err
	}
	efi, ok := arch.ByEFI(or(p.Architecture, "x64"))
	if !ok {
		return nil, fmt.Errorf("e2e: architecture %q is not known", p.Architecture)
	}
	for name, target := range map[string]string{efi.Stub(): p.Stub, efi.SystemdBoot(): p.Loader, "vmlinuz": p.Kernel} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return acmeos.FindParts(dir)
}

// Build makes a version. Its payload differs from that of every other.
func (s *System) Build(ctx context.Context, version string) (*acmeos.Set, error) {
	root := filepath.Join(s.dir, acmeos.ID+"_"+version+".root.raw")
	f, err := os.Create(root)
	if err != nil {
		return nil, err
	}
	err = WriteRoot(f, Root{Guest: s.guest, OSRelease: acmeos.OSRelease(version), Seed: version})
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	set, err := s.Builder.Build(ctx, s.dir, version, root)
	if err != nil {
		return nil, err
	}
	s.sets = append(s.sets, set)
	return set, nil
}

// Install writes the first disk, with the Secure Boot keys for systemd-boot to enrol.
func (s *System) Install(set *acmeos.Set) (*partition.Image, error) {
	image, err := s.Builder.Disk(set, acmeos.DiskOptions{Enroll: true})
	if err != nil {
		return nil, err
	}
	disk, err := acmeos.CreateImage(s.Machine.Disk, image.Size)
	if err != nil {
		return nil, err
	}
	err = partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true})
	return image, errors.Join(err, disk.Close())
}

// OpenDisk opens the machine's disk, which must be off.
func (s *System) OpenDisk() (*acmeos.ImageFile, error) { return acmeos.OpenImage(s.Machine.Disk) }

// Upgrade plans and applies an upgrade to set.
func (s *System) Upgrade(ctx context.Context, set *acmeos.Set, o upgrade.PlanOptions, progress upgrade.Progress) (plan *upgrade.Plan, err error) {
	disk, err := s.OpenDisk()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	if plan, err = upgrade.NewPlan(ctx, disk, set.Release(), s.Facts, o); err != nil {
		return nil, err
	}
	return plan, plan.Apply(ctx, progress)
}

// Damage changes one byte of an installed version's payload, which the guest reads.
func (s *System) Damage(set *acmeos.Set) (err error) {
	disk, err := s.OpenDisk()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	off, size, err := acmeos.PartitionOf(disk, set.RootHash)
	if err != nil {
		return err
	}
	want := string(PayloadBlock(set.Version, 100))
	block := make([]byte, 4096)
	for at := off; at < off+size; at += int64(len(block)) {
		if _, err := disk.ReadAt(block, at); err != nil {
			return err
		}
		if string(block) == want {
			_, err = disk.WriteAt([]byte{block[17] ^ 1}, at+17)
			return err
		}
	}
	return fmt.Errorf("e2e: block 100 of the payload of version %s is not on the disk", set.Version)
}

// Prediction is what a boot of set is expected to measure, up to the phases given.
func (s *System) Prediction(set *acmeos.Set, phases ...string) (*tpm.Bank, error) {
	loader, err := s.Builder.SignedLoader()
	if err != nil {
		return nil, err
	}
	log, err := upgrade.PredictBoot(s.Facts, loader, set.Release().UKI, phases...)
	if err != nil {
		return nil, err
	}
	banks, err := log.Replay(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return banks[crypto.SHA256], nil
}

// predictedPCRs are compared with the machine's.
var predictedPCRs = []int{4, 7, 11}

// Check checks a boot's report against what was built and predicted, and returns everything that
// differs.
func (s *System) Check(b *Boot, set *acmeos.Set) error {
	r := b.Report
	if r == nil {
		return fmt.Errorf("e2e: %s: %s: no report", b.Name, b.Ended)
	}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("e2e: "+b.Name+": "+format, args...)) }
	root := hex.EncodeToString(set.RootHash)
	if r.Version != set.Version {
		fail("version %s runs, want %s", r.Version, set.Version)
	}
	if !r.SecureBoot() || r.SetupMode() {
		fail("Secure Boot is off, or the firmware in setup mode")
	}
	if v := r.Verity; v == nil || v.Target != "verity" || v.Status != "V" || v.RootHash != root {
		fail("dm-verity is %+v, want root hash %s in state V", v, root)
	}
	if c, err := dm.ParseCmdline(r.Cmdline); err != nil || hex.EncodeToString(c.Root.RootHash) != root {
		fail("command line %q, want roothash=%s: %v", r.Cmdline, root, err)
	}
	for _, moment := range []struct {
		name   string
		got    report.PCRs
		phases []string
	}{{"as the kernel started", r.InitrdPCRs, nil}, {"after enter-initrd", r.PCRs, []string{tpm.PhaseEnterInitrd}}} {
		want, err := s.Prediction(set, moment.phases...)
		if err != nil {
			return err
		}
		for _, n := range predictedPCRs {
			if got := moment.got["sha256"]; len(got) <= n || string(got[n]) != string(want.PCR(n)) {
				fail("PCR %d %s: predicted %x, the TPM has %x", n, moment.name, want.PCR(n), at(got, n))
			}
		}
	}
	if err := replays(r); err != nil {
		fail("the firmware's log: %w", err)
	}
	return errors.Join(errs...)
}

func at(values [][]byte, n int) []byte {
	if n < len(values) {
		return values[n]
	}
	return nil
}

// replays checks that the firmware's log explains the TPM's values in every bank, before userspace
// extended anything. PCR 10 is the kernel's IMA, which has a log of its own.
func replays(r *report.Report) error {
	log, err := tpm.ParseLog(r.EventLog)
	if err != nil {
		return err
	}
	if len(log.Banks()) == 0 {
		return errors.New("it has no banks")
	}
	for _, h := range log.Banks() {
		values := r.InitrdPCRs[tpm.BankName(h)]
		if len(values) != tpm.PCRCount {
			return fmt.Errorf("bank %s: the TPM reports %d PCRs", tpm.BankName(h), len(values))
		}
		pcrs := map[int][]byte{}
		for n, v := range values[:16] {
			if n != 10 {
				pcrs[n] = v
			}
		}
		if err := log.Verify(h, pcrs); err != nil {
			return err
		}
	}
	return nil
}
