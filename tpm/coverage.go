package tpm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/smbios"
)

// Prediction says how far a PCR is predicted.
type Prediction int

const (
	PredictionNone Prediction = iota // the log does not hold all events of the PCR
	// the log holds all events up to the moment that was asked for
	PredictionExact
	// the same, if firmware and userspace repeat what they did in the earlier boot that was given
	PredictionBaseline
	// the log holds the events of one of several ways the boot may go: see [Alternatives]
	PredictionOneOf
)

// String is "not predicted", "exact", "exact given the baseline" or "one of several".
func (p Prediction) String() string {
	switch p {
	case PredictionExact:
		return "exact"
	case PredictionBaseline:
		return "exact given the baseline"
	case PredictionOneOf:
		return "one of several"
	}
	return "not predicted"
}

// known reports whether the PCR has one value.
func (p Prediction) known() bool { return p == PredictionExact || p == PredictionBaseline }

// Coverage is what a predicted log says about one PCR.
type Coverage struct {
	PCR        int
	Prediction Prediction
	Evidence   Evidence // evidence that such a boot measures what the log says
	Note       string   // why the PCR is not predicted, or what an exact prediction rests on

	// BeforeUserspace is how far the PCR is predicted up to the start of userspace, if only the
	// measurements of userspace keep it from being predicted; otherwise it is [PredictionNone].
	// [Compare] compares that part.
	BeforeUserspace Prediction
}

// String is the coverage as a line: "PCR 4: exact (booted): ...".
func (c Coverage) String() string {
	if c.Prediction != PredictionNone {
		return fmt.Sprintf("PCR %d: %v (%v): %s", c.PCR, c.Prediction, c.Evidence, c.Note)
	}
	return fmt.Sprintf("PCR %d: %v: %s", c.PCR, c.Prediction, c.Note)
}

// coverage is the table that a prediction is handed out with.
func (p *predictor) coverage() []Coverage {
	out := make([]Coverage, 0, 16)
	p.signs()
	later := p.userspaceDoubts()
	for pcr := range 16 {
		c := Coverage{PCR: pcr, Prediction: PredictionExact, Evidence: Evidence(p.stub.Evidence)}
		switch {
		case pcr <= 3 || pcr == 6:
			p.coverFirmware(&c)
		case pcr == 4 || pcr == 5 || pcr == 7:
			p.coverBoot(&c)
		case pcr == 9:
			p.coverKernel(&c)
		case pcr == 12 || pcr == 13:
			p.coverParameters(&c)
		default:
			p.coverRest(&c)
		}
		p.coverUserspace(&c)
		if why := p.doubts[pcr]; why != "" && c.Prediction != PredictionNone {
			c.not(why)
		}
		if why := later[pcr]; why != "" && c.Prediction != PredictionNone {
			c.BeforeUserspace = c.Prediction
			c.not(why)
		}
		if c.Prediction == PredictionNone {
			c.Evidence = EvidenceNone
		} else if c.Evidence != EvidenceBooted {
			c.Note += fmt.Sprintf("; not verified by such a boot with stub %s", p.boot.Stub)
		}
		out = append(out, c)
	}
	return out
}

func (c *Coverage) not(why string) { c.Prediction, c.Note = PredictionNone, why }

// weaken is for what is less well known than the rest of the boot.
func (c *Coverage) weaken(e Evidence) { c.Evidence = min(c.Evidence, e) }

// coverFirmware is about what the firmware measures of itself.
func (p *predictor) coverFirmware(c *Coverage) {
	b := &p.boot
	if b.Firmware == nil {
		switch c.PCR {
		case 0, 2:
			c.not("firmware and option ROMs: not a value that the OS controls")
		case 1:
			c.not("firmware configuration, boot variables and SMBIOS of the machine")
		default:
			c.not("firmware configuration and vendor: usually the separator alone")
		}
		return
	}
	c.Prediction, c.Note = PredictionBaseline, "as in the earlier boot"
	if c.PCR != 1 {
		return
	}
	if b.BootVariables != nil {
		c.Note += ", with the boot variables given"
	}
	if (p.stub.SMBIOS || p.loaderMeasuresSMBIOS()) && b.SMBIOS == nil && p.earlier.smbios == nil {
		c.not("the stub measures SMBIOS structures, which neither are given nor are in the earlier boot")
	}
}

func (p *predictor) coverBoot(c *Coverage) {
	b := &p.boot
	like := "as edk2 does"
	if b.Firmware != nil {
		c.Prediction, like = PredictionBaseline, "as in the earlier boot"
	}
	on, known := p.enforcing()
	switch c.PCR {
	case 4:
		c.Note = fmt.Sprintf("holds for firmware that measures %s, if no other boot option was tried before", like)
		switch {
		case p.stub.InnerKernel && !known:
			c.not(fmt.Sprintf("stub %d has the firmware load the kernel, which is measured if Secure Boot is off, and that is not known", p.stub.Number))
		case p.stub.InnerKernel && b.Kernel == nil && !on:
			c.not(fmt.Sprintf("stub %d has the firmware load and measure the kernel, whose digest is not given", p.stub.Number))
		}
		if len(b.Addons) > 0 {
			c.weaken(Evidence(p.stub.Addons))
		}
	case 5:
		switch {
		case !p.knowsGPT():
			c.not("partition table, loader.conf and how often ExitBootServices was tried")
		case b.ExitBoot == ExitBootUnknown && b.Firmware == nil:
			c.Prediction, c.Note = PredictionOneOf, "holds for firmware that measures as edk2 does, where ExitBootServices may fail the first time"
		default:
			c.Note = fmt.Sprintf("partition table, loader.conf and ExitBootServices; holds for firmware that measures %s", like)
		}
	case 7:
		c.Note = fmt.Sprintf("holds for firmware that measures %s", like)
		switch {
		case b.Variables == nil && b.Firmware == nil:
			c.not("the firmware's variables are not given")
		case b.Variables == nil:
			c.Note += ", with the variables that it had then"
		case b.Variables.SecureBoot == nil:
			c.not("whether Secure Boot is on is not given")
		case b.Variables.DBR != nil && b.Firmware == nil:
			c.not("whether firmware measures dbr is not known")
		case p.rarePCR7():
			c.weaken(EvidenceSource)
		}
	}
}

// rarePCR7 reports whether PCR 7 rests on what was read in edk2's source and not seen: keys with
// Secure Boot off, a dbt, or several authorities by firmware.
func (p *predictor) rarePCR7() bool {
	v := p.boot.Variables
	on, _ := p.enforcing()
	return v.DBT != nil || !on && len(v.PK) > 0 && p.earlier == nil || len(p.byFirmware) > 1
}

func (p *predictor) coverKernel(c *Coverage) {
	switch h := p.boot.Handover; {
	case p.boot.bareKernel() && p.boot.grub() != nil && p.boot.grub().Before == nil:
		c.Prediction, c.Note = PredictionBaseline, "GRUB's files, and what the kernel gets, as in the earlier boot"
	case h != nil && h.Unknown != "":
		c.not(h.Unknown)
	case h == nil || h.Initrd == nil:
		c.not("initrds as handed over, which hold a secret of the machine from systemd 261 on")
	default:
		if g := p.boot.grub(); g != nil && g.Before == nil {
			c.Prediction = PredictionBaseline
		}
		c.Note = "holds for kernels that measure command line and initrds, as Linux 7.2 does"
		if p.stub.BootSecret {
			c.Note += ", the boot secret among them"
		}
	}
}

func (p *predictor) coverParameters(c *Coverage) {
	b := &p.boot
	addsCmdline := p.stub.SMBIOSExtra && slices.ContainsFunc(p.smbios, func(s smbios.Structure) bool {
		return s.Type == 11 && slices.ContainsFunc(s.Strings, func(text string) bool { return strings.HasPrefix(text, sdstub.CmdlineExtra) })
	})
	switch {
	case b.Handover != nil:
		c.Note = "what the stub hands over, as given"
		for _, e := range b.Handover.Events {
			if e.PCR == c.PCR {
				c.weaken(p.evidenceOf(e.Kind))
			}
		}
		if c.PCR == sdstub.PCRConfig && b.Handover.Passed != "" && !b.measures(osmith.HandoverProfile) {
			c.weaken(EvidenceSource)
		}
	case c.PCR == sdstub.PCRSysexts:
		c.Note = "holds without system extensions"
	case len(b.Addons) > 0:
		c.not("what the add-ons bring is not given: want a Handover")
	case addsCmdline:
		c.not("what SMBIOS adds to the command line is not given: want a Handover")
	case p.stub.SMBIOSExtra && b.SMBIOS == nil && p.extraStrings():
		c.not("the earlier boot measured SMBIOS strings of type 11, which may add to the command line: want SMBIOS or a Handover")
	default:
		c.Note = "holds without credentials, configuration extensions and a command line from elsewhere"
		if p.stub.SMBIOSExtra && b.SMBIOS == nil {
			c.Note += ", and without one in SMBIOS"
		}
	}
}

// evidenceOf says how it is known what the stub measures of that kind.
func (p *predictor) evidenceOf(kind osmith.HandoverKind) Evidence {
	switch kind {
	case osmith.HandoverProfile:
		if p.boot.systemdBoot() == nil {
			return min(Evidence(p.stub.Profiles), EvidenceSource)
		}
		return Evidence(p.stub.Profiles)
	case osmith.HandoverPassedCmdline, osmith.HandoverSMBIOSCmdline:
		return min(Evidence(p.stub.Evidence), EvidenceSource)
	case osmith.HandoverArchive:
		return Evidence(p.stub.Archives)
	default:
		return Evidence(p.stub.Addons)
	}
}

func (p *predictor) coverRest(c *Coverage) {
	b := &p.boot
	switch c.PCR {
	case 8:
		c.Note = "zero: GRUB's"
		if g := b.grub(); g != nil && g.Before != nil {
			c.Note = "the commands that GRUB's configuration has it run, as GRUB 2.12 and 2.14 of Debian measure them"
		} else if g != nil {
			c.Prediction, c.Note = PredictionBaseline, "GRUB's commands as in the earlier boot, since it reads the same files"
		}
	case PCRIMA:
		c.not("the kernel's IMA")
	case PCRKernel:
		c.Note = "UKI sections"
		if b.bareKernel() {
			c.Note = "zero: the boot has no UKI"
		}
		if len(b.Phases) > 0 {
			c.Note += " and phases " + strings.Join(b.Phases, ":")
		}
	case 14:
		c.Note = "zero: shim's"
		if b.shim() != nil {
			c.Note = "holds for shims that measure as 15.8 to 16.1 do"
		}
	case 15:
		c.Note = "zero until userspace measures the machine ID and file systems"
	}
}
