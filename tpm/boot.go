package tpm

import (
	"bytes"
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

// Application is an EFI program that the firmware starts: a boot loader or a UKI.
type Application struct {
	Path    string                 // on the ESP, for the reader of the log; not measured
	Size    int64                  // of the file, likewise
	Digests map[crypto.Hash][]byte // Authenticode digests of the PE
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
	ExitBootUnknown     ExitBoot = iota // as in Boot.Firmware; without one, once or retried
	ExitBootOnce                        // it succeeds at once
	ExitBootRetried                     // it fails, and succeeds when it is called again, as with OVMF 2026.08
	ExitBootNotMeasured                 // firmware that measures nothing then
)

// Boot describes, by values, a boot of UEFI firmware into a UKI with systemd's stub. What has no value is absent: a boot
// without add-ons, companions, a passed command line, loader.conf. Four things are different, since they are always there
// and may be unknown: GPT, SMBIOS, BootVariables and the initrds of Handover. The PCRs that depend on those are then not
// predicted.
type Boot struct {
	// Banks to predict; nil is every bank that all the digests below are given in.
	Banks []crypto.Hash

	// Firmware is the log of an earlier boot of this machine: what PCRs 0 to 3 and 6 then held is expected again, but
	// for what is given here. Nil: edk2's order of events, and those PCRs are not predicted.
	Firmware *Log

	// Variables are the firmware's. Those that do not exist count as empty, except DBT, which is measured only if it exists.
	// SecureBoot always exists. With a DBR, PCR 7 is not predicted: how firmware measures it is not known here.
	Variables *osmith.FirmwareVariables

	// NoShim says that firmware starts loader and UKI, and that the variables of shim which Variables may have are left from earlier. Otherwise
	// they are a sign of shim, and the PCRs that it measures into are not predicted. What Firmware shows of shim counts in any case.
	NoShim bool

	// Authorities are the entries of db (EFI_SIGNATURE_DATA: owner GUID, then certificate or hash) that let the loader
	// and the UKI start, in that order. One that comes twice is measured once. With Secure Boot off they are ignored,
	// since the firmware verifies nothing.
	Authorities [][]byte

	// BootVariables are BootOrder, then the Boot#### that it lists, in its order: PCR 1. Nil: those of Firmware.
	BootVariables []BootVariable

	// SMBIOS are the structures of the machine, as in /sys/firmware/dmi/tables/DMI, of which systemd 261 measures some into
	// PCR 1. Nil: what Firmware has of them.
	SMBIOS []byte

	// GPT is measured into PCR 5. Nil: that of Firmware.
	GPT *PartitionTable

	// Separator is what ends the firmware's part of PCRs 0 to 7: zeros, or ones as the specification allows too.
	Separator [4]byte

	// ExitBoot is about the end of PCR 5.
	ExitBoot ExitBoot

	Loader     *Application // systemd-boot; nil when the firmware starts the UKI itself
	LoaderConf []byte       // contents of \loader\loader.conf, nil if there is no such file
	UKI        Application
	Sections   []osmith.Measurement // of the UKI and the profile that is booted, in the order in which the stub measures

	// Kernel is the PE in .linux. Stubs before 257 have the firmware load it, which measures it if Secure Boot is off.
	Kernel *Application

	// Addons are the signed .addon.efi that the stub loads, in the order in which it does: those of \loader\addons, then
	// those beside the UKI, each directory sorted by name; without those that the firmware refuses. What they bring is in
	// Handover.
	Addons []Application

	// Handover is what the stub measures into PCRs 12 and 13 and passes to the kernel: the profile, command lines, add-ons,
	// companion files and initrds. Package uki predicts it for each release. Nil: the default profile, and nothing from
	// outside the UKI; what the kernel gets is unknown, and so is PCR 9.
	Handover *osmith.Handover

	// Phases are what userspace extends PCR 11 with up to the moment of interest; none is the moment when the kernel
	// starts.
	Phases []string

	// Userspace is what systemd measures into other PCRs up to that moment. Nil: not known, and with Phases the PCRs that it measures into, 0 to 7, 9 and 12
	// to 15, are not predicted; [PhasesAlone] is nothing.
	Userspace *Userspace

	// Stub is the version of the UKI's stub. One that is newer than all of [StubVersions] is a [*StubVersionError], unless
	// AssumeStub names the release to treat it as.
	Stub       osmith.Version
	AssumeStub int

	// LoaderVersion is the version of the loader, where that is another: UKIs of several releases live beside one loader.
	// "": that of the stub. AssumeStub counts for it, too.
	LoaderVersion osmith.Version
}

// check refuses descriptions of boots that cannot be.
func (b *Boot) check(stub sdstub.Release) error {
	if b.Variables == nil {
		return errors.New("the firmware's variables are not given")
	}
	sb := b.Variables.SecureBoot
	if len(sb) != 1 || sb[0] > 1 {
		return fmt.Errorf("variable SecureBoot is %x: want one byte, 0 or 1", sb)
	}
	if b.enforcing() {
		if len(b.Authorities) == 0 {
			return errors.New("no authority is given, but Secure Boot is on: the firmware would start nothing")
		}
		for i, a := range b.Authorities {
			if len(a) <= 16 || !bytes.Contains(b.Variables.DB, a) {
				return fmt.Errorf("authority %d of %d bytes is no entry of db", i, len(a))
			}
		}
	}
	if !allByte(b.Separator[:], 0) && !allByte(b.Separator[:], 0xff) {
		return fmt.Errorf("separator %x: want zeros or ones", b.Separator)
	}
	if err := b.checkSections(stub); err != nil {
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

func (b *Boot) checkSections(stub sdstub.Release) error {
	if !hasSection(b.Sections, ".linux") {
		return errors.New("the UKI's measurements hold no .linux section")
	}
	for _, m := range b.Sections {
		if s := sdstub.SectionOf(m.Section); s != nil && s.Since > stub.Number && m.Size > 0 && !unmeasured(m.Section, stub) {
			return fmt.Errorf("stub %d does not measure %s: %d was the first that does", stub.Number, m.Section, s.Since)
		}
	}
	if b.measures(osmith.HandoverProfile) && !hasSection(b.Sections, ".profile") {
		return errors.New("another profile than the default is booted, but its measurements hold no .profile section")
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
		return fmt.Errorf("stub %d has no add-ons: %d was the first", stub.Number, first)
	}
	if b.Handover == nil {
		return nil
	}
	for _, e := range b.Handover.Events {
		if e.PCR != sdstub.PCRConfig && e.PCR != sdstub.PCRSysexts {
			return fmt.Errorf("the stub measures %q into PCR %d: want 12 or 13", escape(e.Description), e.PCR)
		}
		if e.Kind < osmith.HandoverProfile || e.Kind > osmith.HandoverAddonInitrd {
			return fmt.Errorf("the stub measures %q, which is of no known kind: %v", escape(e.Description), e.Kind)
		}
	}
	if strings.ContainsRune(b.Handover.Passed, 0) {
		return fmt.Errorf("command line %q holds a NUL", escape(b.Handover.Passed))
	}
	if n := len(b.Handover.LoadOptions); n > 0 && (n%2 != 0 || !allByte(b.Handover.LoadOptions[n-2:], 0)) {
		return fmt.Errorf("load options of %d bytes: want UTF-16 with a NUL at the end", n)
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

// wants are all digests of a boot that somebody else computed, by what they are of.
func (b *Boot) wants() []wanted {
	out := []wanted{{b.UKI.name() + ": an Authenticode digest", b.UKI.Digests}}
	if b.Loader != nil {
		out = append(out, wanted{b.Loader.name() + ": an Authenticode digest", b.Loader.Digests})
	}
	if b.Kernel != nil {
		out = append(out, wanted{b.Kernel.name() + ": an Authenticode digest", b.Kernel.Digests})
	}
	for _, a := range b.Addons {
		out = append(out, wanted{a.name() + ": an Authenticode digest", a.Digests})
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
		return nil, fmt.Errorf("no bank that loader, UKI and all sections have digests for: %w", ErrBank)
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
