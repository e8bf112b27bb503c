package build

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/partition"
)

// String is the comparison for a person: what changes, without what stays.
func (c *Comparison) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s -> %s, %s -> %s\n", c.New.ID, c.Old.Version, c.New.Version, partition.Bytes(c.Old.Size), partition.Bytes(c.New.Size))
	pair := func(what, before, next string) {
		if before != next {
			fmt.Fprintf(&b, "%s: %s -> %s\n", what, known(before), known(next))
		}
	}
	pair("supported until", string(c.Old.SupportedUntil), string(c.New.SupportedUntil))
	if len(c.Fixes) > 0 {
		fmt.Fprintf(&b, "fixes: %s\n", strings.Join(c.Fixes, ", "))
	}
	pair("kernel", c.Old.Kernel, c.New.Kernel)
	pair("stub", c.Old.Stub, c.New.Stub)
	pair("signed by", strings.Join(c.Old.Signers, "; "), strings.Join(c.New.Signers, "; "))
	if r := c.Root; r != nil {
		fmt.Fprintf(&b, "root file system: %d of %d blocks to be fetched (%s), %d moved\n", r.Changed, r.Blocks, partition.Bytes(r.Bytes), r.Moved)
		if r.Unknown != "" {
			fmt.Fprintf(&b, "  all of them, since the two cannot be compared: %s\n", r.Unknown)
		}
	}
	for _, s := range c.Sections {
		if s.Kind == ChangeSame {
			continue
		}
		fmt.Fprintf(&b, "section %s %s: %d -> %d bytes\n", s.Name, s.Kind, s.OldSize, s.NewSize)
		for _, line := range s.Lines {
			fmt.Fprintf(&b, "  %q\n", line)
		}
	}
	for _, f := range c.Files {
		fmt.Fprintf(&b, "%s %s: %d -> %d bytes\n", strings.TrimSpace(f.What+" "+f.Name), f.Kind, f.OldSize, f.NewSize)
	}
	for _, p := range c.PCR11 {
		at := "as the kernel starts"
		if p.Phase != "" {
			at = "after " + p.Phase
		}
		if p.Kind != ChangeSame {
			fmt.Fprintf(&b, "PCR 11 %s: %.16s... -> %.16s...\n", at, p.Old, p.New)
		}
	}
	for _, k := range c.Unlocks {
		if k.Signed {
			fmt.Fprintf(&b, "secrets sealed to key %.16s... open for both\n", k.Fingerprint)
		} else {
			fmt.Fprintf(&b, "secrets sealed to key %.16s... may not open for %s: no signature for %s\n", k.Fingerprint, c.New.Version, strings.Join(k.Missing, ", "))
		}
	}
	return b.String()
}

// known is a text that may be missing.
func known(text string) string {
	if text == "" {
		return "(not known)"
	}
	return text
}
