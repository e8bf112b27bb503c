//go:build linux

package e2e

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// A UKIBoot is a boot of an image that [System.UKI] made, from the disk that [System.WriteESP]
// made.
type UKIBoot struct {
	Image      []byte
	Path       string // of the image on the ESP
	Profile    int
	Companions *uki.Companions // files beside the image; nil: none
	Skipped    int             // how many of its add-ons firmware loads and the stub passes over

	// Before is what an earlier boot of this machine reported: its firmware and its boot secret,
	// and by its SMBIOS tables what the stub picks for it. Nil: nothing is known of those.
	Before *report.Report
}

// Describe puts a boot into values, with digests for all banks.
func (s *System) Describe(b UKIBoot) (*tpm.Boot, error) {
	f, err := uki.Open(bytes.NewReader(b.Image))
	if err != nil {
		return nil, err
	}
	out := &tpm.Boot{Variables: s.Facts.Firmware}
	if out.Stub, err = f.StubVersion(); err != nil {
		return nil, err
	}
	if out.GPT, err = s.partitionTable(); err != nil {
		return nil, err
	}
	if b.Before != nil {
		out.SMBIOS = b.Before.SMBIOS
		if out.Firmware, err = tpm.ParseLog(b.Before.EventLog); err != nil {
			return nil, err
		}
	}
	if err := s.programs(out, b); err != nil {
		return nil, err
	}
	return out, handOver(out, f, b)
}

// programs are what the firmware is asked to start: the loader, the image and its add-ons.
func (s *System) programs(out *tpm.Boot, b UKIBoot) error {
	program := func(path string, src osmith.Source) (tpm.Application, error) {
		verdict, digests, err := s.Evaluate(src)
		if err != nil {
			return tpm.Application{}, err
		}
		if !verdict.Allowed {
			return tpm.Application{}, errors.New(verdict.Reason)
		}
		authority, err := verdict.AuthorityEvent()
		return tpm.Application{Path: path, Size: src.Size(), Digests: digests, Authority: authority}, err
	}
	loader, err := s.Builder.SignedLoader()
	if err != nil {
		return err
	}
	efi, ok := arch.ByEFI(s.Builder.Parts.Architecture)
	if !ok {
		return fmt.Errorf("e2e: architecture %q is not known", s.Builder.Parts.Architecture)
	}
	started, err := program(efi.Loader(), loader)
	if err != nil {
		return err
	}
	systemdBoot := &tpm.SystemdBoot{Application: started, Conf: s.loaderConf}
	if systemdBoot.Version, err = bootloader.LoaderVersion(loader); err != nil {
		return err
	}
	out.Chain = []tpm.Program{systemdBoot}
	if out.UKI, err = program(b.Path, bytes.NewReader(b.Image)); err != nil || b.Companions == nil {
		return err
	}
	for _, beside := range []struct {
		dir   string
		files []uki.CompanionFile
	}{{"loader/addons/", b.Companions.GlobalAddons}, {b.Path + ".extra.d/", b.Companions.Addons}} {
		for _, file := range beside.files {
			loaded, err := program(beside.dir+file.Name, file.Content)
			if err != nil {
				return err
			}
			out.Addons = append(out.Addons, loaded)
		}
	}
	return nil
}

// handOver is what the stub measures, and passes to the kernel. Since systemd 261 that holds a
// secret.
func handOver(out *tpm.Boot, f *uki.File, b UKIBoot) error {
	boot := uki.Boot{Profile: b.Profile, SecureBoot: true, Companions: b.Companions}
	if b.Before != nil {
		var err error
		if boot.Hardware.SMBIOS, err = hwid.ParseSMBIOS(b.Before.SMBIOS); err != nil {
			return err
		}
		boot.BootSecret = b.Before.BootSecret
	}
	variant, err := f.Choose(b.Profile, boot.Hardware)
	if err != nil {
		return err
	}
	sections, err := f.MeasureVariant(variant, tpm.Banks()...)
	if err != nil {
		return err
	}
	out.Sections = sections
	handover, err := f.Handover(boot)
	if err != nil {
		return err
	}
	if len(handover.Addons)+b.Skipped != len(out.Addons) {
		return fmt.Errorf("e2e: the stub would apply %d of %d add-ons, want %d skipped", len(handover.Addons), len(out.Addons), b.Skipped)
	}
	out.Handover, err = handover.Measure(tpm.Banks()...)
	return err
}

// stubRelease is the systemd release of an image's stub.
func stubRelease(f *uki.File) (int, error) {
	version, err := f.StubVersion()
	if err != nil {
		return 0, err
	}
	return version.Release()
}

// The moments of a boot at which the guest reads the PCRs.
const (
	AsKernelStarted  = "as the kernel started"
	AfterEnterInitrd = "after enter-initrd"
)

// PCRValues are the values that PCRs may have, by moment, bank and number: one, or one for each of
// the ways that the boot may go. They are hexadecimal, for people to read.
type PCRValues map[string]map[string]map[int][]string

// PredictValues says what a boot will leave in the PCRs, in all of its banks, as far as that is
// known.
func PredictValues(b tpm.Boot) (PCRValues, error) {
	out := PCRValues{}
	for moment, phases := range map[string][]string{AsKernelStarted: nil, AfterEnterInitrd: {tpm.PhaseEnterInitrd}} {
		if b.Phases = phases; len(phases) > 0 {
			b.Userspace = tpm.PhasesAlone() // the guest's initrd has no other of systemd's services
		}
		ways, err := tpm.PredictAll(b)
		if err != nil {
			return nil, err
		}
		out[moment] = map[string]map[int][]string{}
		for _, bank := range ways[0].Banks() {
			values, err := ways.Values(bank)
			if err != nil {
				return nil, err
			}
			pcrs := map[int][]string{}
			for n, each := range values {
				for _, v := range each {
					pcrs[n] = append(pcrs[n], hex.EncodeToString(v))
				}
			}
			out[moment][tpm.BankName(bank)] = pcrs
		}
	}
	return out, nil
}

// Check says in which of these PCRs a boot went otherwise, at either moment and in any bank that is
// active.
func (p PCRValues) Check(r *report.Report, pcrs []int) error {
	var errs []error
	for moment, got := range map[string]report.PCRs{AsKernelStarted: r.InitrdPCRs, AfterEnterInitrd: r.PCRs} {
		if len(got) == 0 {
			errs = append(errs, fmt.Errorf("e2e: %s: no banks", moment))
		}
		for bank, values := range got {
			for _, n := range pcrs {
				want := p[moment][bank][n]
				if value := hex.EncodeToString(at(values, n)); !slices.Contains(want, value) {
					errs = append(errs, fmt.Errorf("e2e: PCR %d of %s %s: predicted %v, the TPM has %s", n, bank, moment, want, value))
				}
			}
		}
	}
	return errors.Join(errs...)
}
