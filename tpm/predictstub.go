package tpm

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
)

// stub is what systemd's stub measures, in its order, and the programs that it has the firmware load.
func (p *predictor) stub(b *Boot) error {
	p.profile(b)
	sections := slices.DeleteFunc(slices.Clone(b.Sections), func(m osmith.Measurement) bool { return unmeasured(m.Section, p.row) })
	if err := p.sections(sections); err != nil {
		return err
	}
	p.smbios(b, p.row)
	if b.Handover != nil {
		p.handover(b)
		return nil
	}
	options, known := p.ownOptions(b)
	if b.takesPassed() {
		p.data(12, EventIPL, utf16z(options))
	}
	for i := range b.Addons {
		p.application(&b.Addons[i].Application)
	}
	if extra := addonOptions(b.Addons); extra != "" {
		p.data(12, EventIPL, utf16z(extra))
		options = join(options, extra)
	}
	if extra := p.cmdlineExtra(b); extra != "" {
		p.data(12, EventIPL, utf16z(extra))
		options = join(options, extra)
	}
	for _, a := range b.Addons {
		if a.DeviceTree != nil {
			p.add(12, EventTag, a.DeviceTree, taggedData(TagDeviceTree, utf16z(devicetreeText)))
		}
	}
	for _, c := range b.Companions {
		p.add(c.PCR, EventIPL, c.Digests, utf16z(c.Description))
	}
	for _, a := range slices.Backward(b.Addons) {
		if a.Microcode != nil {
			p.add(12, EventTag, a.Microcode, taggedData(TagMicrocode, utf16z(microcodeText)))
		}
	}
	for _, a := range b.Addons {
		if a.Initrd != nil {
			p.add(12, EventTag, a.Initrd, taggedData(TagInitrdAddon, utf16z(initrdText)))
		}
	}
	p.setOptions(b, options, known)
	return nil
}

// handover is what somebody else predicted of the stub.
func (p *predictor) handover(b *Boot) {
	for i := range b.Addons {
		p.application(&b.Addons[i].Application)
	}
	for _, e := range b.Handover.Events {
		if e.Tag != 0 {
			p.add(e.PCR, EventTag, e.Digests, taggedData(e.Tag, utf16z(e.Description)))
		} else {
			p.add(e.PCR, EventIPL, e.Digests, utf16z(e.Description))
		}
	}
	p.loadOptions = b.Handover.LoadOptions
}

// How the stub describes its tagged events. The texts are not measured.
const (
	devicetreeText = "Device tree addon"
	microcodeText  = "Microcode addon"
	initrdText     = "Initrd addon"
)

// profile measures the choice of a profile other than 0 and a command line: systemd-boot the options that it starts the
// UKI with, then the stub the number.
func (p *predictor) profile(b *Boot) {
	options := b.Passed
	number := fmt.Sprint(b.Profile)
	if b.Profile != 0 {
		options = strings.TrimSuffix("@"+number+" "+options, " ")
	}
	if b.Loader != nil && options != "" {
		p.data(12, EventIPL, utf16z(options))
	}
	if b.Profile != 0 && b.Handover == nil {
		payload := utf16z(number)
		p.hash(12, EventTag, payload, taggedData(TagProfile, payload))
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

// takesPassed reports whether the stub takes the command line that it is passed. With Secure Boot on it does only if the
// UKI has none, and not in a confidential VM.
func (b *Boot) takesPassed() bool {
	return b.Passed != "" && (!b.enforcing() || !b.Confidential && !hasSection(b.Sections, ".cmdline"))
}

// ownOptions is the command line before anything is added to it; known is false if only its digest is given.
func (p *predictor) ownOptions(b *Boot) (options string, known bool) {
	if b.takesPassed() {
		return mangle(b.Passed), true
	}
	return mangle(strings.TrimRight(string(b.CommandLine), "\x00")), b.CommandLine != nil || !hasSection(b.Sections, ".cmdline")
}

// addonOptions joins the command lines of add-ons as the stub measures them: all in one event.
func addonOptions(addons []Addon) string {
	var out string
	for _, a := range addons {
		out = join(out, mangle(a.CommandLine))
	}
	return out
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " " + b
}

// mangle is what the stub makes of a command line: blanks at both ends go, and control characters become blanks.
func mangle(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.Trim(s, " ")
}

// setOptions settles what the kernel is started with.
func (p *predictor) setOptions(b *Boot, options string, known bool) {
	switch {
	case !known:
		p.unknown = "the text of the command line is not given"
	case p.row.Console && !hasConsole(options) && b.Console == "":
		p.unknown = "the stub adds console= by the firmware's consoles, which are not given"
	case p.row.Console && !hasConsole(options):
		options = join(options, b.Console)
	}
	if options != "" {
		p.loadOptions = utf16z(options)
	}
}

// hasConsole reports whether a command line names a console.
func hasConsole(options string) bool {
	return slices.ContainsFunc(strings.Fields(options), func(w string) bool { return strings.HasPrefix(w, "console=") })
}
