package tpm

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/smbios"
)

// Predict writes the event log that a boot will leave, and says in its Coverage for which PCRs its replay therefore
// holds, and what that rests on.
//
//   - PCRs 0, 2, 3 and 6 and the firmware's part of PCR 1 are those of [Boot.Firmware];
//   - PCR 1 also holds the boot variables and, from stub 261 on, SMBIOS structures;
//   - PCR 4 the boot attempt, a separator, the loader, the UKI and add-ons (stubs before 257 also have the firmware load
//     the kernel inside);
//   - PCR 5 a separator, the partition table, loader.conf and the calls of ExitBootServices;
//   - PCR 7 the Secure Boot variables, a separator and the authorities;
//   - PCR 9 the command line and the initrds, as the kernel gets them;
//   - PCR 11 the sections of the UKI, then the phases;
//   - PCRs 12 and 13 what the loader passes to the stub, and the events of [Boot.Handover].
func Predict(b Boot) (*Log, error) {
	row, err := stubRow(b.Stub, b.AssumeStub)
	if err != nil {
		return nil, err
	}
	loader := row
	if b.LoaderVersion != "" {
		if loader, err = stubRow(b.LoaderVersion, b.AssumeStub); err != nil {
			return nil, err
		}
	}
	if err := b.check(row); err != nil {
		return nil, err
	}
	banks, err := b.banks()
	if err != nil {
		return nil, err
	}
	p := predictor{row: row, loader: loader, banks: banks, log: &Log{Events: []Event{newSpecID(banks)}}}
	if p.structures, err = smbios.Parse(b.SMBIOS); err != nil {
		return nil, &wrapError{"predict", err}
	}
	if err := p.firmware(&b); err != nil {
		return nil, err
	}
	if b.Loader != nil {
		p.application(b.Loader)
		p.smbios(&b, loader)
		if b.LoaderConf != nil && loader.LoaderConf {
			p.hash(5, EventTag, b.LoaderConf, taggedData(TagLoaderConf, utf16z("loader.conf")))
		}
	}
	p.application(&b.UKI)
	if b.Loader != nil {
		p.passed(&b)
	}
	if err := p.stub(&b); err != nil {
		return nil, err
	}
	p.kernel(&b)
	p.exitBoot(&b)
	p.userspace(&b)
	p.log.Coverage = p.coverage(&b)
	return p.log, nil
}

// predictor appends events to a log.
type predictor struct {
	row        StubVersion // of the stub
	loader     StubVersion
	banks      []crypto.Hash
	log        *Log
	structures []smbios.Structure

	smbiosDone   bool
	smbiosBefore []Event // of an earlier boot
	late         []Event // of an earlier boot's firmware, after the loader had started
	exits        []Event // of an earlier boot: ExitBootServices
	hasGPT       bool
	authority    [][]byte // measured so far
}

// add appends an event with given digests, of which it keeps those of the banks.
func (p *predictor) add(pcr int, t EventType, digests map[crypto.Hash][]byte, data []byte) {
	e := Event{PCR: pcr, Type: t, Data: bytes.Clone(data), Digests: make(map[crypto.Hash][]byte, len(p.banks))}
	for _, h := range p.banks {
		e.Digests[h] = bytes.Clone(digests[h])
	}
	p.log.Events = append(p.log.Events, e)
}

// hash appends an event whose digest is that of measured.
func (p *predictor) hash(pcr int, t EventType, measured, data []byte) {
	digests := make(map[crypto.Hash][]byte, len(p.banks))
	for _, h := range p.banks {
		digests[h] = sum(h, measured)
	}
	p.add(pcr, t, digests, data)
}

// data appends an event whose digest is that of its own data.
func (p *predictor) data(pcr int, t EventType, data []byte) { p.hash(pcr, t, data, data) }

// application appends an EFI program that the firmware starts.
func (p *predictor) application(a *Application) {
	p.add(4, EventEFIBootServicesApplication, a.Digests, imageLoadEvent(*a))
}

// wants are all digests of a boot that somebody else computed, by what they are of.
func (b *Boot) wants() []wanted {
	out := []wanted{{b.UKI.name() + ": an Authenticode digest", b.UKI.Digests}}
	if b.Loader != nil {
		out = append(out, wanted{b.Loader.name() + ": an Authenticode digest", b.Loader.Digests})
	}
	if b.Kernel != nil {
		out = append(out, wanted{b.Kernel.name() + ": an Authenticode digest", b.Kernel.Digests})
	}
	for _, a := range b.Addons {
		out = append(out, wanted{a.name() + ": an Authenticode digest", a.Digests})
	}
	if b.Handover != nil {
		for _, e := range b.Handover.Events {
			out = append(out, wanted{escape(e.Description) + ": a digest", e.Digests})
		}
		if b.Handover.Initrd != nil {
			out = append(out, wanted{"initrds: a digest", b.Handover.Initrd})
		}
	}
	return out
}

type wanted struct {
	what    string
	digests map[crypto.Hash][]byte
}

// banks are the ones to predict. Everything has digests of the right length in each of them.
func (b *Boot) banks() ([]crypto.Hash, error) {
	wants := b.wants()
	want := b.Banks
	if want == nil {
		for _, h := range Banks() {
			missing := slices.ContainsFunc(wants, func(w wanted) bool { return w.digests[h] == nil }) ||
				slices.ContainsFunc(b.Sections, func(m osmith.Measurement) bool { return m.Section != ".pcrsig" && m.Size > 0 && m.Digests[h] == nil }) ||
				b.Firmware != nil && !slices.Contains(b.Firmware.Banks(), h)
			if !missing {
				want = append(want, h)
			}
		}
	}
	if len(want) == 0 {
		return nil, fmt.Errorf("tpm: predict: no bank that loader, UKI and all sections have digests for: %w", ErrBank)
	}
	if err := checkBanks(want); err != nil {
		return nil, err
	}
	for _, h := range want {
		for _, w := range wants {
			if len(w.digests[h]) != h.Size() {
				return nil, fmt.Errorf("tpm: predict: %s of %d bytes, want %d for %s: %w", w.what, len(w.digests[h]), h.Size(), BankName(h), ErrBank)
			}
		}
		if b.Firmware != nil && !slices.Contains(b.Firmware.Banks(), h) {
			return nil, fmt.Errorf("tpm: predict: the earlier boot's log has no %s digests: %w", BankName(h), ErrBank)
		}
	}
	return want, nil
}

func (a *Application) name() string {
	if a.Path == "" {
		return "EFI application"
	}
	return a.Path
}
