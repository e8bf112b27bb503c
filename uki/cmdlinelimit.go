package uki

import (
	"fmt"

	"github.com/osmith-dev/osmith/internal/sdstub"
)

// maxQuote bounds how much of an option is quoted in a finding.
const maxQuote = 80

// cmdlineFinding says what a kernel does not take of a command line; nil if it takes all of it.
func cmdlineFinding(text string, limit int, known bool, profile int) *Finding {
	lost := sdstub.FirstLost(text, limit)
	if lost == "" {
		return nil
	}
	if quote := firstRunes(lost, maxQuote); quote != lost {
		lost = quote + "..."
	}
	f := &Finding{SeverityError, "cmdline-too-long", ".cmdline", profile,
		fmt.Sprintf("%d bytes, of which the kernel takes %d: %q and all options behind it are lost", len(text), limit, lost)}
	if !known {
		f.Severity = SeverityUnknown
		f.Text = fmt.Sprintf("%d bytes, and all that is known is that the kernel takes %d: %q and all options behind it may be lost", len(text), limit, lost)
	}
	return f
}

// cmdlineLength checks that the kernel of each profile takes the whole built-in command line.
func (c *checker) cmdlineLength(profiles int) {
	f := c.f
	type pair struct{ kernel, cmdline int }
	seen := make(map[pair]bool)
	for p := range profiles {
		of := pair{f.profileIndex(p, ".linux"), f.profileIndex(p, ".cmdline")}
		if of.kernel < 0 || of.cmdline < 0 || seen[of] {
			continue
		}
		seen[of] = true
		b, err := f.text(of.cmdline)
		if err != nil {
			continue // the section's own check says so
		}
		at := max(f.sections[of.cmdline].Profile, f.sections[of.kernel].Profile)
		kernel := f.data(of.kernel)
		limit, known, err := sdstub.CmdlineLimit(kernel, kernel.Size(), f.pe.Machine)
		if err != nil {
			c.fail("unreadable", at, ".linux", "%v", err)
			continue
		}
		if found := cmdlineFinding(sdstub.Text(b, c.row.Number), limit, known, at); found != nil {
			c.out = append(c.out, *found)
		}
	}
}

// cmdlineLength checks that the kernel takes the whole command line that the stub passes.
func (h *handover) cmdlineLength() error {
	kernel := h.section(".linux")
	if kernel == nil {
		return nil
	}
	limit, known, err := sdstub.CmdlineLimit(kernel.src, kernel.size, h.machine)
	if err != nil {
		return fmt.Errorf("section .linux: %w", err)
	}
	if found := cmdlineFinding(h.out.Cmdline, limit, known, h.boot.Profile); found != nil {
		h.out.Findings = append(h.out.Findings, *found)
	}
	return nil
}
