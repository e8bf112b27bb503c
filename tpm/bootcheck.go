package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// check refuses descriptions of boots that cannot be.
func (b *Boot) check(row StubVersion) error {
	if b.Variables == nil {
		return errors.New("tpm: predict: the firmware's variables are not given")
	}
	sb := b.Variables.SecureBoot
	if len(sb) != 1 || sb[0] > 1 {
		return fmt.Errorf("tpm: predict: variable SecureBoot is %x: want one byte, 0 or 1", sb)
	}
	if b.enforcing() {
		if len(b.Authorities) == 0 {
			return errors.New("tpm: predict: Secure Boot is on and no authority is given: the firmware would start nothing")
		}
		for i, a := range b.Authorities {
			if len(a) <= 16 || !bytes.Contains(b.Variables.DB, a) {
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
	if err := b.checkHandover(row); err != nil {
		return err
	}
	return b.checkUserspace()
}

var bootVariableName = regexp.MustCompile(`^Boot(Order|[0-9A-F]{4})$`)

func (b *Boot) checkSections(row StubVersion) error {
	if !hasSection(b.Sections, ".linux") {
		return errors.New("tpm: predict: the UKI's measurements hold no .linux section")
	}
	for _, m := range b.Sections {
		if s := sdstub.SectionOf(m.Section); s != nil && s.Since > row.Release && m.Size > 0 && !unmeasured(m.Section, row) {
			return fmt.Errorf("tpm: predict: stub %d does not measure %s: %d was the first that does", row.Release, m.Section, s.Since)
		}
	}
	if b.measures(osmith.HandoverProfile) && !hasSection(b.Sections, ".profile") {
		return errors.New("tpm: predict: another profile than the default is booted, but its measurements hold no .profile section")
	}
	return nil
}

// measures reports whether the stub has an event of that kind.
func (b *Boot) measures(kind osmith.HandoverKind) bool {
	return b.Handover != nil && slices.ContainsFunc(b.Handover.Events, func(e osmith.HandoverEvent) bool { return e.Kind == kind })
}

// unmeasured are sections that UKIs have for others than the stub: an old one passes them by.
func unmeasured(section string, row StubVersion) bool {
	return (section == ".uname" || section == ".sbat") && row.Release < sdstub.SectionOf(section).Since
}

func (b *Boot) checkHandover(row StubVersion) error {
	if first := sdstub.SectionOf(".cmdline").Addon; len(b.Addons) > 0 && row.Release < first {
		return fmt.Errorf("tpm: predict: stub %d has no add-ons: %d was the first", row.Release, first)
	}
	if b.Handover == nil {
		return nil
	}
	for _, e := range b.Handover.Events {
		if e.PCR != sdstub.PCRConfig && e.PCR != sdstub.PCRSysexts {
			return fmt.Errorf("tpm: predict: the stub measures %q into PCR %d: want 12 or 13", escape(e.Description), e.PCR)
		}
		if e.Kind < osmith.HandoverProfile || e.Kind > osmith.HandoverAddonInitrd {
			return fmt.Errorf("tpm: predict: the stub measures %q, which is of no known kind: %v", escape(e.Description), e.Kind)
		}
	}
	if strings.ContainsRune(b.Handover.Passed, 0) {
		return fmt.Errorf("tpm: predict: command line %q holds a NUL", escape(b.Handover.Passed))
	}
	if n := len(b.Handover.LoadOptions); n > 0 && (n%2 != 0 || !allByte(b.Handover.LoadOptions[n-2:], 0)) {
		return fmt.Errorf("tpm: predict: load options of %d bytes: want UTF-16 with a NUL at the end", n)
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
func (b *Boot) enforcing() bool { return b.Variables.SecureBoot[0] == 1 }

// rarePCR7 reports whether PCR 7 rests on what was read in edk2's source and not seen: keys with Secure Boot off, a dbt,
// or more than one authority.
func (b *Boot) rarePCR7() bool {
	if !b.enforcing() {
		return len(b.Variables.PK) > 0 || b.Variables.DBT != nil
	}
	several := slices.ContainsFunc(b.Authorities, func(a []byte) bool { return !bytes.Equal(a, b.Authorities[0]) })
	return several || b.Variables.DBT != nil
}

func hasSection(ms []osmith.Measurement, name string) bool {
	return slices.ContainsFunc(ms, func(m osmith.Measurement) bool { return m.Section == name && m.Size > 0 })
}
