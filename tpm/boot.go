package tpm

import (
	"crypto"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Application is an EFI program that the firmware starts: a boot loader, a UKI, a kernel.
type Application struct {
	Path    string                 // on the ESP, for the reader of the log; not measured
	Size    int64                  // of the file, likewise
	Digests map[crypto.Hash][]byte // Authenticode digests of the PE

	// Authority is what let it start, as firmware or shim measures that: UEFI_VARIABLE_DATA
	// (Firmware Profile 1.06, section 10.2.6) of an entry of db or of MokListRT.
	// secureboot.Verdict.AuthorityEvent makes it. Nil: nothing was measured, or it is not known;
	// PCR 7 is not predicted then if firmware or shim verifies the program. One that comes twice is
	// measured once.
	Authority []byte
}

// BootVariable is one of BootOrder and Boot####, as efivarfs has it without attributes.
type BootVariable struct {
	Name string
	Data []byte
}

// PartitionTable is the GPT of the disk that is booted from, as on disk.
type PartitionTable struct {
	Header  []byte // its 92 bytes, or the sector
	Entries []byte // the array; unused entries may be left out
}

// ExitBoot says how often ExitBootServices is called before it succeeds.
type ExitBoot int

const (
	ExitBootUnknown ExitBoot = iota // as in Boot.Firmware; without one, once or retried
	ExitBootOnce                    // it succeeds at once
	// it fails, and succeeds when it is called again, as with OVMF 2026.08
	ExitBootRetried
	ExitBootNotMeasured // firmware that measures nothing then
)

// Boot describes, by values, a boot of UEFI firmware into a UKI with systemd's stub, or into a
// kernel without one. What has no value is absent: a boot without add-ons, companions, a passed
// command line, loader.conf. Some things are different, since they are always there and may be
// unknown: Variables, GPT, SMBIOS, BootVariables and the initrds of Handover. The PCRs that depend
// on those are then not predicted, or are those of Firmware.
type Boot struct {
	// Banks to predict; nil is every bank that all the digests below are given in.
	Banks []crypto.Hash

	// Firmware is the log of an earlier boot of this machine, by which it is known what its
	// firmware measures, where, in which order and how. What is given here takes the place of what
	// the log has of it; the rest is expected again. What contradicts the log is not predicted.
	// Nil: edk2's events in edk2's order, and PCRs 0 to 3 and 6 are not predicted.
	Firmware *Log

	// Variables are the firmware's. PK, KEK, db and dbx that do not exist count as empty; dbt and
	// dbr are measured only if they exist. A SecureBoot that is nil is not known, and PCR 7 is not
	// predicted; one that is empty does not exist, and is measured as empty. With a DBR, PCR 7 is
	// not predicted unless Firmware measured one: how firmware does it is not known here. Nil:
	// those of Firmware.
	Variables *osmith.FirmwareVariables

	// NoShim says that firmware starts the chain, and that the variables of shim which Variables
	// may have are left from earlier. Otherwise they are a sign of shim, and if the chain has none,
	// the PCRs that it measures into are not predicted. What Firmware shows of shim counts in any
	// case.
	NoShim bool

	// BootVariables are BootOrder, then the Boot#### that it lists, in its order: PCR 1, or PCR 5
	// where firmware has them there. Nil: those of Firmware.
	BootVariables []BootVariable

	// SMBIOS are the structures of the machine, as in /sys/firmware/dmi/tables/DMI, of which
	// systemd 261 measures some into PCR 1. Nil: what Firmware has of them.
	SMBIOS []byte

	// GPT is measured into PCR 5. Nil: that of Firmware.
	GPT *PartitionTable

	// Separator is what ends the firmware's part of PCRs 0 to 7: zeros, or ones as the
	// specification allows too.
	Separator [4]byte

	// ExitBoot is about the end of PCR 5.
	ExitBoot ExitBoot

	// Chain are the programs that lead to the UKI or kernel, each of which starts the next: shim,
	// boot loaders. None: the firmware starts it itself.
	Chain []Program

	// UKI is the image that the chain ends with. Without Sections the chain ends with Kernel, and
	// nothing is expected of a stub.
	UKI Application
	// of the UKI and the profile that is booted, in the order in which the stub measures
	Sections []osmith.Measurement

	// Kernel is the PE in .linux: stubs before 257 have the firmware load it, which measures it if
	// Secure Boot is off. In a boot without Sections it is the kernel that a Type #1 entry names,
	// or that GRUB starts.
	Kernel *Application

	// Addons are the signed .addon.efi that the stub loads, in the order in which it does: those of
	// \loader\addons, then those beside the UKI, each directory sorted by name; without those that
	// the firmware refuses. What they bring is in Handover.
	Addons []Application

	// Handover is what the stub measures into PCRs 12 and 13 and passes to the kernel: the profile,
	// command lines, add-ons, companion files and initrds. Package uki predicts it for each
	// release. Nil: the default profile, and nothing from outside the UKI; what the kernel gets is
	// unknown, and so is PCR 9. For a Type #1 entry it is what systemd-boot does: Passed is the
	// command line that it measures, LoadOptions the same for the kernel.
	Handover *osmith.Handover

	// Phases are what userspace extends PCR 11 with up to the moment of interest; none is the
	// moment when the kernel starts.
	Phases []string

	// Userspace is what systemd measures into other PCRs up to that moment. Nil: not known, and
	// with Phases the PCRs that it measures into, 0 to 7, 9 and 12 to 15, are not predicted;
	// [PhasesAlone] is nothing.
	Userspace *Userspace

	// Stub is the version of the UKI's stub. One that is newer than all of [StubVersions] is a
	// [*StubVersionError], unless AssumeStub names the release to treat it as. AssumeStub counts
	// for systemd-boot, too.
	Stub       osmith.Version
	AssumeStub int
}

// check refuses descriptions of boots that cannot be.
func (b *Boot) check(stub sdstub.Release) error {
	if v := b.Variables; v != nil && (len(v.SecureBoot) > 1 || len(v.SecureBoot) == 1 && v.SecureBoot[0] > 1) {
		return fmt.Errorf("variable SecureBoot is %x: want one byte, 0 or 1, or no value if the variable is missing", v.SecureBoot[:min(len(v.SecureBoot), 16)])
	}
	if err := b.checkChain(); err != nil {
		return err
	}
	if !allByte(b.Separator[:], 0) && !allByte(b.Separator[:], 0xff) {
		return fmt.Errorf("separator %x: want zeros or ones", b.Separator)
	}
	if err := b.checkImage(stub); err != nil {
		return err
	}
	for _, p := range b.Phases {
		if err := checkPhase(p); err != nil {
			return err
		}
	}
	for _, v := range b.BootVariables {
		if !bootVariableName.MatchString(v.Name) {
			return fmt.Errorf("boot variable %q: want BootOrder or Boot####", v.Name)
		}
	}
	if err := b.checkHandover(stub); err != nil {
		return err
	}
	return b.checkUserspace()
}

var bootVariableName = regexp.MustCompile(`^Boot(Order|[0-9A-F]{4})$`)

// bareKernel reports whether the boot has no stub: a Type #1 entry, or what GRUB starts.
func (b *Boot) bareKernel() bool { return b.Kernel != nil && b.Sections == nil && b.UKI.Digests == nil }

func (b *Boot) checkImage(stub sdstub.Release) error {
	if b.bareKernel() {
		if len(b.Addons) > 0 || b.Handover != nil && len(b.Handover.Events) > 0 {
			return errors.New("add-ons or stub events are given without a UKI")
		}
		return nil
	}
	if !hasSection(b.Sections, ".linux") {
		return errors.New("the UKI's measurements hold no .linux section")
	}
	for _, m := range b.Sections {
		if s := sdstub.SectionOf(m.Section); s != nil && s.Since > stub.Number && m.Size > 0 && !unmeasured(m.Section, stub) {
			return fmt.Errorf("stub %d does not measure %s: stubs do since %d", stub.Number, m.Section, s.Since)
		}
	}
	if b.measures(osmith.HandoverProfile) && !hasSection(b.Sections, ".profile") {
		return errors.New("a profile other than the default is booted, but its measurements have no .profile section")
	}
	return nil
}

// measures reports whether the stub has an event of that kind.
func (b *Boot) measures(kind osmith.HandoverKind) bool {
	return b.Handover != nil && slices.ContainsFunc(b.Handover.Events, func(e osmith.HandoverEvent) bool { return e.Kind == kind })
}

// unmeasured are sections that UKIs have for others than the stub: an old one passes them by.
func unmeasured(section string, stub sdstub.Release) bool {
	return (section == ".uname" || section == ".sbat") && stub.Number < sdstub.SectionOf(section).Since
}

func (b *Boot) checkHandover(stub sdstub.Release) error {
	if first := sdstub.SectionOf(".cmdline").Addon; len(b.Addons) > 0 && stub.Number < first {
		return fmt.Errorf("stub %d does not support add-ons: stubs do since %d", stub.Number, first)
	}
	if b.Handover == nil {
		return nil
	}
	for _, e := range b.Handover.Events {
		if e.PCR != sdstub.PCRConfig && e.PCR != sdstub.PCRSysexts {
			return fmt.Errorf("the stub measures \"%s\" into PCR %d: want 12 or 13", escape(e.Description), e.PCR)
		}
		if e.Kind < osmith.HandoverProfile || e.Kind > osmith.HandoverAddonInitrd {
			return fmt.Errorf("the stub measures \"%s\", which is of an unknown kind: %v", escape(e.Description), e.Kind)
		}
	}
	if strings.ContainsRune(b.Handover.Passed, 0) {
		return fmt.Errorf("command line \"%s\" holds a NUL", escape(b.Handover.Passed))
	}
	if n := len(b.Handover.LoadOptions); n > 0 && (n%2 != 0 || !allByte(b.Handover.LoadOptions[n-2:], 0) && !b.bareKernel()) {
		// GRUB 2.12 has no NUL
		return fmt.Errorf("load options of %d bytes: want UTF-16 with a NUL at the end", n)
	}
	return nil
}

// secureBoot says whether the firmware verifies what it starts; known is false if that cannot be
// told.
func (b *Boot) secureBoot() (on, known bool) {
	if b.Variables == nil || b.Variables.SecureBoot == nil {
		return false, false
	}
	return len(b.Variables.SecureBoot) == 1 && b.Variables.SecureBoot[0] == 1, true
}

func hasSection(ms []osmith.Measurement, name string) bool {
	return slices.ContainsFunc(ms, func(m osmith.Measurement) bool { return m.Section == name && m.Size > 0 })
}

// wants are all digests of a boot that the caller computed, by their subject.
func (b *Boot) wants() []wanted {
	var out []wanted
	for _, a := range b.applications() {
		out = append(out, wanted{a.name() + ": an Authenticode digest", a.Digests})
	}
	if g := b.grub(); g != nil {
		for _, e := range slices.Concat(g.Before, g.After) {
			out = append(out, wanted{"GRUB: " + escape(string(e.Data)) + ": a digest", e.Digests})
		}
	}
	if b.Handover != nil {
		for _, e := range b.Handover.Events {
			out = append(out, wanted{escape(e.Description) + ": a digest", e.Digests})
		}
		if b.Handover.Initrd != nil {
			out = append(out, wanted{"initrds: a digest", b.Handover.Initrd})
		}
	}
	return append(out, b.wantsOfUserspace()...)
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
		return nil, fmt.Errorf("no PCR bank for which all programs and sections have digests: %w", ErrBank)
	}
	if err := pcrbank.CheckAll(want); err != nil {
		return nil, err
	}
	for _, h := range want {
		for _, w := range wants {
			if len(w.digests[h]) != h.Size() {
				return nil, fmt.Errorf("%s of %d bytes, want %d for %s: %w", w.what, len(w.digests[h]), h.Size(), BankName(h), ErrBank)
			}
		}
		if b.Firmware != nil && !slices.Contains(b.Firmware.Banks(), h) {
			return nil, fmt.Errorf("the earlier boot's log has no %s digests: %w", BankName(h), ErrBank)
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
