package tpm

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// State says how far a PCR is predicted.
type State int

const (
	NotPredicted  State = iota // the log does not hold all events of the PCR
	Exact                      // it holds all events up to the moment that was asked for
	ExactBaseline              // likewise, if the firmware does again what it did in the boot that was given
	OneOf                      // it holds the events of one of several ways the boot may go: see [Alternatives]
)

// String is "not predicted", "exact", "exact given the baseline" or "one of several".
func (s State) String() string {
	switch s {
	case Exact:
		return "exact"
	case ExactBaseline:
		return "exact given the baseline"
	case OneOf:
		return "one of several"
	}
	return "not predicted"
}

// known reports whether the PCR has one value.
func (s State) known() bool { return s == Exact || s == ExactBaseline }

// Coverage is what a predicted log says about one PCR.
type Coverage struct {
	PCR      int
	State    State
	Evidence Evidence // that such a boot measures what the log says
	Note     string   // why a PCR is not predicted, or what an exact one rests on
}

// String is the coverage as a line: "PCR 4: exact (booted): ...".
func (c Coverage) String() string {
	if c.State != NotPredicted {
		return fmt.Sprintf("PCR %d: %v (%v): %s", c.PCR, c.State, c.Evidence, c.Note)
	}
	return fmt.Sprintf("PCR %d: %v: %s", c.PCR, c.State, c.Note)
}

// coverage is the table that a prediction is handed out with.
func (p *predictor) coverage(b *Boot) []Coverage {
	out := make([]Coverage, 0, 16)
	for pcr := range 16 {
		c := Coverage{PCR: pcr, State: Exact, Evidence: p.row.Evidence}
		switch {
		case pcr <= 3 || pcr == 6:
			p.coverFirmware(b, &c)
		case pcr == 4 || pcr == 5 || pcr == 7:
			p.coverBoot(b, &c)
		case pcr == 9:
			p.coverKernel(b, &c)
		case pcr == 12 || pcr == 13:
			p.coverParameters(b, &c)
		default:
			p.coverRest(b, &c)
		}
		if c.State == NotPredicted {
			c.Evidence = EvidenceNone
		} else if c.Evidence != EvidenceBooted {
			c.Note += fmt.Sprintf("; not verified by such a boot with stub %s", b.Stub)
		}
		out = append(out, c)
	}
	return out
}

func (c *Coverage) not(why string) { c.State, c.Note = NotPredicted, why }

// weaken is for what is less well known than the rest of the boot.
func (c *Coverage) weaken(e Evidence) { c.Evidence = min(c.Evidence, e) }

// coverFirmware is about what the firmware measures of itself.
func (p *predictor) coverFirmware(b *Boot, c *Coverage) {
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
	c.State, c.Note = ExactBaseline, "as in the earlier boot"
	if c.PCR != 1 {
		return
	}
	if b.BootVariables != nil {
		c.Note += ", with the boot variables given"
	}
	if (p.row.SMBIOS || b.Loader != nil && p.loader.SMBIOS) && b.SMBIOS == nil && p.smbiosBefore == nil {
		c.not("the stub measures SMBIOS structures, which neither are given nor are in the earlier boot")
	}
}

func (p *predictor) coverBoot(b *Boot, c *Coverage) {
	if b.Firmware != nil {
		c.State = ExactBaseline
	}
	switch c.PCR {
	case 4:
		c.Note = "holds if no other boot option was tried before"
		if p.row.InnerKernel && b.Kernel == nil && !b.enforcing() {
			c.not(fmt.Sprintf("stub %d has the firmware load and measure the kernel, whose digest is not given", p.row.Release))
		}
		if len(b.Addons) > 0 {
			c.weaken(p.row.Addons)
		}
	case 5:
		switch {
		case !p.hasGPT:
			c.not("partition table, loader.conf and how often ExitBootServices was tried")
		case b.ExitBoot == ExitUnknown && b.Firmware == nil:
			c.State, c.Note = OneOf, "ExitBootServices may fail the first time"
		default:
			c.Note = "partition table, loader.conf and ExitBootServices"
		}
		if b.GPT != nil && (b.ExitBoot != ExitUnknown) && c.State == ExactBaseline {
			c.State = Exact
		}
	case 7:
		c.Note = "holds for firmware that measures as edk2 does"
		if b.Firmware != nil {
			c.Note = "the earlier boot's, with the variables and authorities given"
		}
		if b.rarePCR7() {
			c.weaken(EvidenceSource)
		}
	}
}

func (p *predictor) coverKernel(b *Boot, c *Coverage) {
	switch h := b.Handover; {
	case h != nil && h.Unknown != "":
		c.not(h.Unknown)
	case h == nil || h.Initrd == nil:
		c.not("initrds as handed over, which hold a secret of the machine from systemd 261 on")
	default:
		c.Note = "holds for kernels that measure command line and initrds, as Linux 7.2 does"
		if p.row.BootSecret {
			c.Note += ", the boot secret among them"
		}
	}
}

func (p *predictor) coverParameters(b *Boot, c *Coverage) {
	switch {
	case b.Handover != nil:
		c.Note = "what the stub hands over, as given"
		for _, e := range b.Handover.Events {
			if e.PCR == c.PCR {
				c.weaken(p.evidenceOf(b, e.Kind))
			}
		}
		if c.PCR == sdstub.PCRConfig && b.Handover.Passed != "" && !b.measures(osmith.HandoverProfile) {
			c.weaken(EvidenceSource)
		}
	case c.PCR == sdstub.PCRSysexts:
		c.Note = "holds without system extensions"
	case len(b.Addons) > 0:
		c.not("what the add-ons bring is not given: want a Handover")
	case p.addsCmdline():
		c.not("what SMBIOS adds to the command line is not given: want a Handover")
	default:
		c.Note = "holds without credentials, configuration extensions and a command line from elsewhere"
		if p.row.SMBIOSExtra && b.SMBIOS == nil {
			c.Note += ", and without one in SMBIOS"
		}
	}
}

// evidenceOf says how it is known what the stub measures of that kind.
func (p *predictor) evidenceOf(b *Boot, kind osmith.HandoverKind) Evidence {
	switch kind {
	case osmith.HandoverProfile:
		if b.Loader == nil {
			return min(p.row.Profiles, EvidenceSource)
		}
		return p.row.Profiles
	case osmith.HandoverPassedCmdline, osmith.HandoverSMBIOSCmdline:
		return min(p.row.Evidence, EvidenceSource)
	case osmith.HandoverArchive:
		return p.row.Archives
	default:
		return p.row.Addons
	}
}

func (p *predictor) coverRest(b *Boot, c *Coverage) {
	switch c.PCR {
	case 8:
		c.Note = "zero: GRUB's"
	case PCRIMA:
		c.not("the kernel's IMA")
	case PCRKernel:
		c.Note = "UKI sections"
		if len(b.Phases) > 0 {
			c.Note += " and phases " + strings.Join(b.Phases, ":")
		}
	case 14:
		c.Note = "holds without shim"
	case 15:
		c.Note = "zero until userspace measures the machine ID and file systems"
		if b.Userspace != nil && len(b.Userspace.IdentityWords) > 0 {
			c.Note = "the words given"
		}
	}
}
