package tpm

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// PCRKernel is the PCR into which systemd's stub measures the sections of a UKI and systemd the phases of the boot.
const PCRKernel = sdstub.PCRSections

// The words that systemd extends PCR 11 with while it boots (systemd-pcrphase.service(8)).
const (
	PhaseEnterInitrd = "enter-initrd"
	PhaseLeaveInitrd = "leave-initrd"
	PhaseSysinit     = "sysinit"
	PhaseReady       = "ready"
	PhaseShutdown    = "shutdown"
	PhaseFinal       = "final"
)

// DefaultPhasePaths are the points of a boot for which systemd-measure and ukify sign by default: in the initrd, after
// it, after sysinit.target, and when the system is up.
func DefaultPhasePaths() [][]string {
	all := []string{PhaseEnterInitrd, PhaseLeaveInitrd, PhaseSysinit, PhaseReady}
	paths := make([][]string, 0, len(all))
	for i := range all {
		paths = append(paths, all[:i+1:i+1])
	}
	return paths
}

// sectionEvent is one of the two extends that a section causes.
type sectionEvent struct {
	section string
	isName  bool
}

// sectionEvents calls f with each digest that the stub extends PCR 11 with, in order.
func sectionEvents(h crypto.Hash, ms []osmith.Measurement, f func(e sectionEvent, digest []byte) error) error {
	seen := make(map[string]bool, len(ms))
	last, lastName := -1, ""
	for _, m := range ms {
		if err := checkMeasurement(m); err != nil {
			return err
		}
		// Names that a later stub may add are let through anywhere.
		if i := sdstub.Order(m.Section); i >= 0 {
			if i < last {
				return fmt.Errorf("tpm: section %s: comes after %s; the stub measures it before", m.Section, lastName)
			}
			last, lastName = i, m.Section
		}
		// The signatures are made over the PCR, so their section cannot be in it.
		if m.Section == ".pcrsig" || m.Size == 0 {
			continue
		}
		if seen[m.Section] {
			return fmt.Errorf("tpm: section %s: given twice; the stub measures one of each name", m.Section)
		}
		seen[m.Section] = true
		digest, ok := m.Digests[h]
		if !ok {
			return fmt.Errorf("tpm: section %s: no %s digest: %w", m.Section, BankName(h), ErrBank)
		}
		if len(digest) != h.Size() {
			return fmt.Errorf("tpm: section %s: a digest of %d bytes, want %d for %s", m.Section, len(digest), h.Size(), BankName(h))
		}
		if err := f(sectionEvent{m.Section, true}, sum(h, []byte(m.Section), []byte{0})); err != nil {
			return err
		}
		if err := f(sectionEvent{m.Section, false}, digest); err != nil {
			return err
		}
	}
	return nil
}

func checkMeasurement(m osmith.Measurement) error {
	switch {
	case len(m.Section) < 2 || len(m.Section) > 8 || m.Section[0] != '.' || strings.ContainsRune(m.Section, 0):
		return fmt.Errorf("tpm: section %q: want a dot and 1 to 7 characters", m.Section)
	case m.Size < 0:
		return fmt.Errorf("tpm: section %s: size %d", m.Section, m.Size)
	}
	return nil
}

// PCR11 is the value of PCR 11 of one bank: what the stub measures of a UKI, then the phases. The sections are extended
// in the order given, which must be the stub's own: .linux, .osrel, .cmdline, .initrd, .ucode, .splash, .dtb, .uname,
// .sbat, .pcrpkey, .profile, .dtbauto, .hwids, .efifw. It is not the order of the file, and known names out of it are an
// error. .pcrsig and empty sections are skipped. Each phase is one word; a path such as "enter-initrd:leave-initrd" is two.
func PCR11(h crypto.Hash, ms []osmith.Measurement, phases ...string) ([]byte, error) {
	if err := checkBank(h); err != nil {
		return nil, err
	}
	b, err := kernelBank(h, ms)
	if err != nil {
		return nil, err
	}
	if err := extendPhases(b, phases); err != nil {
		return nil, err
	}
	return b.PCR(PCRKernel), nil
}

// PCR11States are the values that PCR 11 has at the given points of a boot, for package policy to sign: each state is values
// by bank and PCR. banks are nil for all of [Banks]; phasePaths are nil for [DefaultPhasePaths], and an empty path is the
// moment after the stub. States come in the order in which systemd-measure signs for them, by the text of their paths, and
// repeated paths are dropped. See [PCR11] for the measurements.
func PCR11States(ms []osmith.Measurement, banks []crypto.Hash, phasePaths [][]string) ([]map[crypto.Hash]map[int][]byte, error) {
	if banks == nil {
		banks = Banks()
	}
	if phasePaths == nil {
		phasePaths = DefaultPhasePaths()
	}
	if err := checkBanks(banks); err != nil {
		return nil, err
	}
	if len(banks) == 0 || len(phasePaths) == 0 {
		return nil, errors.New("tpm: PCR 11: no banks or no phase paths")
	}
	paths := slices.Clone(phasePaths)
	slices.SortStableFunc(paths, func(a, b []string) int { return strings.Compare(strings.Join(a, ":"), strings.Join(b, ":")) })
	paths = slices.CompactFunc(paths, slices.Equal[[]string])
	out := make([]map[crypto.Hash]map[int][]byte, len(paths))
	for i, path := range paths {
		out[i] = make(map[crypto.Hash]map[int][]byte, len(banks))
		for _, h := range banks {
			value, err := PCR11(h, ms, path...)
			if err != nil {
				return nil, err
			}
			out[i][h] = map[int][]byte{PCRKernel: value}
		}
	}
	return out, nil
}

// kernelBank is a bank after the stub.
func kernelBank(h crypto.Hash, ms []osmith.Measurement) (*Bank, error) {
	b := NewBank(h)
	err := sectionEvents(h, ms, func(_ sectionEvent, digest []byte) error { return b.Extend(PCRKernel, digest) })
	if err != nil {
		return nil, err
	}
	return b, nil
}

func extendPhases(b *Bank, phases []string) error {
	for _, p := range phases {
		if err := checkPhase(p); err != nil {
			return err
		}
		if err := b.Measure(PCRKernel, []byte(p)); err != nil {
			return err
		}
	}
	return nil
}

func checkPhase(p string) error {
	if p == "" || strings.ContainsAny(p, ":\x00") {
		return fmt.Errorf("tpm: phase %q: want one word; a phase path is a slice of words", p)
	}
	return nil
}
