package tpm

import (
	"bytes"
	"crypto"
	"slices"

	"github.com/osmith-dev/osmith"
)

// stub is what systemd's stub measures, in its order, and the programs that it has the firmware load.
func (p *predictor) stub(b *Boot) error {
	p.handover(b, osmith.HandoverProfile, osmith.HandoverProfile)
	sections := slices.DeleteFunc(slices.Clone(b.Sections), func(m osmith.Measurement) bool { return unmeasured(m.Section, p.row) })
	if err := p.sections(sections); err != nil {
		return err
	}
	p.smbios(b, p.row)
	p.handover(b, osmith.HandoverPassedCmdline, osmith.HandoverPassedCmdline)
	for i := range b.Addons {
		p.application(&b.Addons[i])
	}
	p.handover(b, osmith.HandoverAddonCmdline, osmith.HandoverAddonInitrd)
	return nil
}

// handover appends the events of these kinds, in the order in which they are given.
func (p *predictor) handover(b *Boot, first, last osmith.HandoverKind) {
	if b.Handover == nil {
		return
	}
	for _, e := range b.Handover.Events {
		switch {
		case e.Kind < first || e.Kind > last:
		case e.Tag != 0:
			p.add(e.PCR, EventTag, e.Digests, taggedData(Tag(e.Tag), utf16z(e.Description)))
		default:
			p.add(e.PCR, EventIPL, e.Digests, utf16z(e.Description))
		}
	}
}

// passed measures the options that systemd-boot starts the UKI with.
func (p *predictor) passed(b *Boot) {
	if b.Handover != nil && b.Handover.Passed != "" {
		p.data(12, EventIPL, utf16z(b.Handover.Passed))
	}
}

func (p *predictor) sections(ms []osmith.Measurement) error {
	first := len(p.log.Events)
	for _, h := range p.banks {
		i := first
		err := sectionEvents(h, ms, func(e sectionEvent, digest []byte) error {
			if i == len(p.log.Events) {
				p.log.Events = append(p.log.Events, Event{
					PCR: PCRKernel, Type: EventIPL, Data: utf16z(e.section), Digests: make(map[crypto.Hash][]byte, len(p.banks)),
				})
			}
			p.log.Events[i].Digests[h] = bytes.Clone(digest)
			i++
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
