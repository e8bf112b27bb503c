package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
)

// check refuses descriptions of boots that cannot be.
func (b *Boot) check(row StubVersion) error {
	sb := b.SecureBoot.SecureBoot
	if len(sb) != 1 || sb[0] > 1 {
		return fmt.Errorf("tpm: predict: variable SecureBoot is %x: want one byte, 0 or 1", sb)
	}
	if b.enforcing() {
		if len(b.Authorities) == 0 {
			return errors.New("tpm: predict: Secure Boot is on and no authority is given: the firmware would start nothing")
		}
		for i, a := range b.Authorities {
			if len(a) <= 16 || !bytes.Contains(b.SecureBoot.DB, a) {
				return fmt.Errorf("tpm: predict: authority %d of %d bytes is no entry of db", i, len(a))
			}
		}
	}
	if !allByte(b.Separator[:], 0) && !allByte(b.Separator[:], 0xff) {
		return fmt.Errorf("tpm: predict: separator %x: want zeros or ones", b.Separator)
	}
	if err := b.checkSections(row); err != nil {
		return err
	}
	for _, p := range b.Phases {
		if err := checkPhase(p); err != nil {
			return err
		}
	}
	for _, v := range b.BootVariables {
		if !bootVariableName.MatchString(v.Name) {
			return fmt.Errorf("tpm: predict: boot variable %q: want BootOrder or Boot####", v.Name)
		}
	}
	if err := b.checkAddons(row); err != nil {
		return err
	}
	return b.checkUserspace()
}

var bootVariableName = regexp.MustCompile(`^Boot(Order|[0-9A-F]{4})$`)

func (b *Boot) checkSections(row StubVersion) error {
	if b.Profile < 0 || b.Profile > 255 {
		return fmt.Errorf("tpm: predict: profile %d: want 0 to 255", b.Profile)
	}
	if !hasSection(b.Sections, ".linux") {
		return errors.New("tpm: predict: the UKI's measurements hold no .linux section")
	}
	for _, m := range b.Sections {
		if since := sectionSince[m.Section]; since > row.Version && m.Size > 0 && !unmeasured(m.Section, row) {
			return fmt.Errorf("tpm: predict: stub %d does not measure %s: %d was the first that does", row.Version, m.Section, since)
		}
	}
	if b.Profile > 0 && !hasSection(b.Sections, ".profile") {
		return fmt.Errorf("tpm: predict: profile %d is booted, but its measurements hold no .profile section", b.Profile)
	}
	if b.CommandLine == nil {
		return nil
	}
	i := slices.IndexFunc(b.Sections, func(m osmith.Measurement) bool { return m.Section == ".cmdline" })
	if i < 0 {
		return errors.New("tpm: predict: a command line is given, but the measurements hold no .cmdline section")
	}
	for h, d := range b.Sections[i].Digests {
		if checkBank(h) == nil && !bytes.Equal(d, sum(h, b.CommandLine)) {
			return fmt.Errorf("tpm: predict: the command line of %d bytes is not the one in .cmdline: %s %x, expected %x",
				len(b.CommandLine), BankName(h), sum(h, b.CommandLine), d)
		}
	}
	return nil
}

// unmeasured are sections that UKIs have for others than the stub: an old one passes them by.
func unmeasured(section string, row StubVersion) bool {
	return (section == ".uname" || section == ".sbat") && row.Version < sectionSince[section]
}

func (b *Boot) checkAddons(row StubVersion) error {
	if len(b.Addons) > 0 && row.Addons == EvidenceNone && row.Version < 254 {
		return fmt.Errorf("tpm: predict: stub %d has no add-ons: 254 was the first", row.Version)
	}
	for _, a := range b.Addons {
		if (a.Microcode != nil || a.Initrd != nil) && row.Version < 257 {
			return fmt.Errorf("tpm: predict: stub %d takes no initrd or microcode from %s: 257 was the first", row.Version, a.name())
		}
	}
	for _, c := range b.Companions {
		if c.PCR != 12 && c.PCR != 13 || c.Description == "" || len(c.Description) > maxText {
			return fmt.Errorf("tpm: predict: companion %q in PCR %d: want PCR 12 or 13 and the stub's description", escape(c.Description), c.PCR)
		}
	}
	if b.Handover != nil {
		for _, e := range b.Handover.Events {
			if e.PCR != 12 && e.PCR != 13 {
				return fmt.Errorf("tpm: predict: the stub measures %q into PCR %d: want 12 or 13", escape(e.Description), e.PCR)
			}
		}
	}
	for _, s := range []string{b.Passed, b.Console} {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("tpm: predict: command line %q holds a NUL", escape(s))
		}
	}
	if b.Console != "" && !strings.HasPrefix(b.Console, "console=") {
		return fmt.Errorf("tpm: predict: console %q: want \"console=…\"", escape(b.Console))
	}
	return nil
}

func (b *Boot) checkUserspace() error {
	if b.Userspace == nil {
		return nil
	}
	for _, w := range b.Userspace.NVPCRs {
		if !strings.HasPrefix(w, "nvpcr-init:") {
			return fmt.Errorf("tpm: predict: %q: want nvpcr-init:NAME:INDEX:NAME of the index", escape(w))
		}
	}
	for _, w := range b.Userspace.IdentityWords {
		if w == "" {
			return errors.New("tpm: predict: an empty word for PCR 15")
		}
	}
	return nil
}

// enforcing reports whether the firmware verifies what it starts.
func (b *Boot) enforcing() bool { return b.SecureBoot.SecureBoot[0] == 1 }

// rarePCR7 reports whether PCR 7 rests on what was read in edk2's source and not seen: keys with Secure Boot off, a dbt,
// or more than one authority.
func (b *Boot) rarePCR7() bool {
	if !b.enforcing() {
		return len(b.SecureBoot.PK) > 0 || b.SecureBoot.DBT != nil
	}
	several := slices.ContainsFunc(b.Authorities, func(a []byte) bool { return !bytes.Equal(a, b.Authorities[0]) })
	return several || b.SecureBoot.DBT != nil
}

func hasSection(ms []osmith.Measurement, name string) bool {
	return slices.ContainsFunc(ms, func(m osmith.Measurement) bool { return m.Section == name && m.Size > 0 })
}
