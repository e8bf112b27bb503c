package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// PCRKernel is the PCR into which systemd's stub measures the sections of a UKI and systemd the
// phases of the boot.
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

// DefaultPhasePaths are the points of a boot for which systemd-measure and ukify sign by default:
// in the initrd, after it, after sysinit.target, and when the system is up.
func DefaultPhasePaths() [][]string {
	all := []string{PhaseEnterInitrd, PhaseLeaveInitrd, PhaseSysinit, PhaseReady}
	paths := make([][]string, 0, len(all))
	for i := range all {
		paths = append(paths, all[:i+1:i+1])
	}
	return paths
}

// sectionEvents are the events of PCR 11 that the stub makes of the sections, in its order: for
// each its name, then its data.
func sectionEvents(ms []osmith.Measurement, banks ...crypto.Hash) ([]Event, error) {
	var out []Event
	seen := make(map[string]bool, len(ms))
	last, lastName := -1, ""
	for _, m := range ms {
		if err := checkMeasurement(m); err != nil {
			return nil, err
		}
		// Names that a later stub may add are let through anywhere.
		if i := sdstub.Order(m.Section); i >= 0 {
			if i < last {
				return nil, fmt.Errorf("section %s: comes after %s, but the stub measures it before", m.Section, lastName)
			}
			last, lastName = i, m.Section
		}
		// The signatures are made over the PCR, so their section cannot be in it.
		if m.Section == ".pcrsig" || m.Size == 0 {
			continue
		}
		if seen[m.Section] {
			return nil, fmt.Errorf("section %s is given twice: the stub measures only one", m.Section)
		}
		seen[m.Section] = true
		event := func(kind SubjectKind) Event {
			return Event{PCR: PCRKernel, Type: EventIPL, Data: utf16z(m.Section), Digests: make(map[crypto.Hash][]byte, len(banks)),
				Subject: Subject{Kind: kind, Name: m.Section}}
		}
		name, data := event(SubjectSectionName), event(SubjectSection)
		for _, h := range banks {
			digest, ok := m.Digests[h]
			if !ok {
				return nil, fmt.Errorf("section %s: no %s digest: %w", m.Section, BankName(h), ErrBank)
			}
			if len(digest) != h.Size() {
				return nil, fmt.Errorf("section %s: a digest of %d bytes, want %d for %s", m.Section, len(digest), h.Size(), BankName(h))
			}
			name.Digests[h], data.Digests[h] = pcrbank.Sum(h, []byte(m.Section), []byte{0}), bytes.Clone(digest)
		}
		out = append(out, name, data)
	}
	return out, nil
}

func checkMeasurement(m osmith.Measurement) error {
	switch {
	case len(m.Section) < 2 || len(m.Section) > 8 || m.Section[0] != '.' || strings.ContainsRune(m.Section, 0):
		return fmt.Errorf("section %q: want a dot and 1 to 7 characters", m.Section)
	case m.Size < 0:
		return fmt.Errorf("section %s: size %d", m.Section, m.Size)
	}
	return nil
}

// PCR11 returns the value of PCR 11 of one bank: what the stub measures of a UKI, then the phases.
// The sections are extended in the order given, which must be the stub's own: .linux, .osrel,
// .cmdline, .initrd, .ucode, .splash, .dtb, .uname, .sbat, .pcrpkey, .profile, .dtbauto, .hwids,
// .efifw. It is not the order in the file, and known names out of this order are an error. .pcrsig
// and empty sections are skipped. Each phase is one word; a path such as
// "enter-initrd:leave-initrd" is two.
func PCR11(h crypto.Hash, ms []osmith.Measurement, phases ...string) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if err := pcrbank.Check(h); err != nil {
		return nil, err
	}
	events, err := sectionEvents(ms, h)
	if err != nil {
		return nil, err
	}
	b := NewBank(h)
	for _, e := range events {
		if err := b.extend(PCRKernel, e.Digests[h]); err != nil {
			return nil, err
		}
	}
	for _, p := range phases {
		if err := checkPhase(p); err != nil {
			return nil, err
		}
		if err := b.extend(PCRKernel, pcrbank.Sum(h, []byte(p))); err != nil {
			return nil, err
		}
	}
	return b.PCR(PCRKernel), nil
}

// PCR11States returns the values that PCR 11 has at the given points of a boot, for package policy
// to sign: each state has values by bank and PCR. Nil banks are all of [Banks]; nil phasePaths are
// [DefaultPhasePaths], and an empty path is the moment after the stub. States come in the order in
// which systemd-measure signs for them, by the text of their paths, and repeated paths are dropped.
// See [PCR11] for the measurements.
func PCR11States(ms []osmith.Measurement, banks []crypto.Hash, phasePaths [][]string) (_ []map[crypto.Hash]map[int][]byte, err error) {
	defer prefix.Add(pkg, &err)
	if banks == nil {
		banks = Banks()
	}
	if phasePaths == nil {
		phasePaths = DefaultPhasePaths()
	}
	if err := pcrbank.CheckAll(banks); err != nil {
		return nil, err
	}
	if len(banks) == 0 || len(phasePaths) == 0 {
		return nil, errors.New("PCR 11: no banks or no phase paths")
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

func checkPhase(p string) error {
	if p == "" || strings.ContainsAny(p, ":\x00") {
		return fmt.Errorf("phase %q: want one word; a phase path is a slice of words", p)
	}
	return nil
}
