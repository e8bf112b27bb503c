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
	Path    string                 // path on the ESP, for the reader of the log; not measured
	Size    int64                  // size of the file, for the reader of the log; not measured
	Digests map[crypto.Hash][]byte // Authenticode digests of the PE

	// Authority is what let the program start, as firmware or shim measures it: UEFI_VARIABLE_DATA
	// (Firmware Profile 1.06, section 10.2.6) of an entry of db or of MokListRT.
	// secureboot.Verdict.AuthorityEvent makes it. Nil: nothing was measured, or the authority is
	// unknown; PCR 7 is then not predicted if firmware or shim verifies the program. An authority
	// of several programs is measured once.
	Authority []byte
}

// BootVariable is one of BootOrder and Boot####, as efivarfs has it without attributes.
type BootVariable struct {
	Name string
	Data []byte
}

// PartitionTable is the GPT of the disk that is booted from, as on disk.
type PartitionTable struct {
	Header  []byte // the 92 bytes of the header, or its whole sector
	Entries []byte // the array; unused entries may be left out
}

// ExitBoot says how often ExitBootServices is called before it succeeds.
type ExitBoot int

const (
	ExitBootUnknown ExitBoot = iota // as in Boot.Firmware; without Firmware, once or retried
	ExitBootOnce                    // the first call succeeds
	// the first call fails and the second succeeds, as with OVMF 2026.08
	ExitBootRetried
	ExitBootNotMeasured // the firmware does not measure the calls
)

// Boot describes, by values, a boot of UEFI firmware into a UKI with systemd's stub, or into a
// kernel without a stub. A field without a value usually means that the boot lacks the thing:
// add-ons, companions, a passed command line, loader.conf. Variables, GPT, SMBIOS, BootVariables
// and the initrds of Handover exist in every boot; without a value they are unknown, and the PCRs
// that depend on them are taken from Firmware or not predicted.
type Boot struct {
	// Banks are the banks to predict; nil is every bank for which all the digests below are given.
	Banks []crypto.Hash

	// Firmware is the log of an earlier boot of this machine. It shows what the machine's firmware
	// measures, where, in which order and how. Values given in Boot replace those of the log; the
	// rest of the log is expected again. A PCR for which the two contradict each other is not
	// predicted. Nil: edk2's events in edk2's order, and PCRs 0 to 3 and 6 are not predicted.
	Firmware *Log

	// Variables are the firmware's variables. PK, KEK, db and dbx count as empty if they do not
	// exist; dbt and dbr are measured only if they exist. A nil SecureBoot is unknown, and PCR 7 is
	// not predicted; an empty SecureBoot does not exist, and is measured as empty. With a dbr, PCR
	// 7 is not predicted unless Firmware measured a dbr: this package does not know how firmware
	// measures dbr otherwise. Nil: the variables of Firmware.
	Variables *osmith.FirmwareVariables

	// NoShim says that firmware starts the chain directly, and that shim's variables in Variables
	// are leftovers. Without NoShim these variables are a sign of shim, and if Chain has no shim,
	// the PCRs that shim measures into are not predicted. Events of shim in Firmware count with or
	// without NoShim.
	NoShim bool

	// BootVariables are BootOrder, then the Boot#### that it lists, in its order. They are measured
	// into PCR 1, or into PCR 5 by some firmware. Nil: those of Firmware.
	BootVariables []BootVariable

	// SMBIOS are the structures of the machine, as in /sys/firmware/dmi/tables/DMI, of which
	// systemd 261 measures some into PCR 1. Nil: those of Firmware.
	SMBIOS []byte

	// GPT is measured into PCR 5. Nil: the GPT of Firmware.
	GPT *PartitionTable

	// Separator ends the firmware's part of PCRs 0 to 7: zeros, or ones, which the specification
	// allows too.
	Separator [4]byte

	// ExitBoot says how PCR 5 ends.
	ExitBoot ExitBoot

	// Chain are the programs that lead to the UKI or kernel, each of which starts the next: shim,
	// boot loaders. If Chain is empty, the firmware starts the UKI or kernel itself.
	Chain []Program

	// UKI is the image that the chain ends with. Without Sections the chain ends with Kernel, and
	// no events of a stub are expected.
	UKI Application
	// of the UKI and the profile that is booted, in the order in which the stub measures
	Sections []osmith.Measurement

	// Kernel is the PE in .linux: stubs before 257 have the firmware load the kernel, and the
	// firmware measures it if Secure Boot is off. In a boot without Sections, Kernel is the kernel
	// that a Type #1 entry names, or that GRUB starts.
	Kernel *Application

	// Addons are the signed .addon.efi files that the stub loads, in the order in which the stub
	// loads them: those of \loader\addons, then those beside the UKI, each directory sorted by
	// name. Add-ons that the firmware refuses are left out. The contents of the add-ons are in
	// Handover.
	Addons []Application

	// Handover is what the stub measures into PCRs 12 and 13 and passes to the kernel: the profile,
	// command lines, add-ons, companion files and initrds. Package uki predicts it for each
	// release. Nil: the default profile, and nothing from outside the UKI; what the kernel receives
	// is unknown, and so is PCR 9. For a Type #1 entry, Handover is what systemd-boot does: Passed
	// is the command line that systemd-boot measures, and LoadOptions is the same command line for
	// the kernel.
	Handover *osmith.Handover

	// Phases are what userspace extends PCR 11 with up to the moment of interest; none is the
	// moment when the kernel starts.
	Phases []string

	// Userspace is what systemd measures into other PCRs up to that moment. Nil: unknown, and with
	// Phases the PCRs that systemd may measure into, 0 to 7, 9 and 12 to 15, are not predicted.
	// [PhasesAlone] says that systemd measures only phases.
	Userspace *Userspace

	// Stub is the version of the UKI's stub. A version newer than all of [StubVersions] is a
	// [*StubVersionError], unless AssumeStub names the release whose behaviour is assumed.
	// AssumeStub applies to systemd-boot, too.
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
