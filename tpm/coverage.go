package tpm

import (
	"fmt"
	"strings"
)

// State says how far a PCR is predicted.
type State int

const (
	NotPredicted State = iota // the log does not hold all of its events
	Exact                     // replaying the log gives its value
)

// String is "not predicted" or "exact".
func (s State) String() string {
	if s == Exact {
		return "exact"
	}
	return "not predicted"
}

// Coverage is what a predicted log says about one PCR.
type Coverage struct {
	PCR      int
	State    State
	Evidence Evidence // that such a boot measures what the log says
	Note     string   // why a PCR is not predicted, or what an exact one rests on
}

// String is the coverage as a line: "PCR 4: exact (booted): ...".
func (c Coverage) String() string {
	if c.State == Exact {
		return fmt.Sprintf("PCR %d: %v (%v): %s", c.PCR, c.State, c.Evidence, c.Note)
	}
	return fmt.Sprintf("PCR %d: %v: %s", c.PCR, c.State, c.Note)
}

// coverage is the table that a prediction is handed out with.
func coverage(b Boot, row StubVersion) []Coverage {
	out := make([]Coverage, 0, 16)
	for pcr := range 16 {
		c := Coverage{PCR: pcr, State: Exact, Evidence: row.Evidence}
		var note string
		switch pcr {
		case 0, 2:
			c.State, note = NotPredicted, "firmware and option ROMs: not a value that the OS controls"
		case 1:
			c.State, note = NotPredicted, "firmware configuration, boot variables and SMBIOS of the machine"
		case 3, 6:
			c.State, note = NotPredicted, "firmware configuration and vendor: usually the separator alone"
		case 4:
			note = "holds if no other boot option was tried before"
		case 5:
			c.State, note = NotPredicted, "partition table, loader.conf and how often ExitBootServices was tried"
		case 7:
			note = "holds for firmware that measures as edk2 does"
			if b.rarePCR7() && c.Evidence > EvidenceSource {
				c.Evidence = EvidenceSource
			}
		case 8:
			note = "zero: GRUB's"
		case 9:
			c.State, note = NotPredicted, "initrds as handed over, which hold a secret of the machine from systemd 261 on"
		case 10:
			c.State, note = NotPredicted, "the kernel's IMA"
		case 11:
			note = "UKI sections"
			if len(b.Phases) > 0 {
				note += " and phases " + strings.Join(b.Phases, ":")
			}
		case 12:
			note = "holds without add-ons, credentials, configuration extensions and a command line from elsewhere"
			if b.Profile > 0 {
				c.Evidence = row.Profiles
				if b.Loader == nil && c.Evidence > EvidenceSource {
					c.Evidence = EvidenceSource
				}
			}
		case 13:
			note = "holds without system extensions"
		case 14:
			note = "holds without shim"
		case 15:
			note = "zero until userspace measures the machine ID and file systems"
		}
		if c.State == NotPredicted {
			c.Evidence = EvidenceNone
		} else if c.Evidence != EvidenceBooted {
			note += fmt.Sprintf("; not verified by such a boot with stub %d", row.Version)
		}
		c.Note = note
		out = append(out, c)
	}
	return out
}
