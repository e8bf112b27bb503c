package tpm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Reliance says how far a secret of a machine can be bound to a PCR.
type Reliance int

const (
	// the value after the next boot cannot be known, or the PCR was not looked at
	RelianceNone Reliance = iota
	// the value is that of this boot as long as firmware, its settings and the hardware are the
	// same
	RelianceSame
	// the value follows from inputs that the operating system has: it can be predicted when they
	// change
	ReliancePredicted
)

// String is "not", "as in this boot" or "predicted".
func (r Reliance) String() string {
	switch r {
	case RelianceSame:
		return "as in this boot"
	case ReliancePredicted:
		return "predicted"
	}
	return "not"
}

// PCRReliance is what the log of a boot tells about a PCR in later boots of that machine.
type PCRReliance struct {
	PCR      int
	Reliance Reliance
	Note     string // why not, or what the value follows from
}

// String is a line: "PCR 7: predicted: ...".
func (r PCRReliance) String() string {
	return fmt.Sprintf("PCR %d: %v: %s", r.PCR, r.Reliance, r.Note)
}

// Reliances judges PCRs 0 to 15 of a machine by the firmware's log of one boot: which PCRs
// [Predict] can compute for later boots with that log as [Boot.Firmware], which it cannot, and why.
// Call it before secrets are sealed. It predicts the boot again from its own parts; a PCR for which
// that does not lead to the value of the log is one in which this firmware is not understood.
func (l *Log) Reliances() (_ []PCRReliance, err error) {
	defer prefix.Add(pkg, &err)
	if l.Registers != RegistersPCR {
		return nil, fmt.Errorf("PCRs to rely on in a log of %v: %w", l.Registers, ErrRegisters)
	}
	banks := l.Banks()
	if len(banks) == 0 {
		return nil, ErrBank
	}
	base, err := readBaseline(l, banks)
	if err != nil {
		base = &baseline{all: map[int][]Event{}}
	}
	out := make([]PCRReliance, 16)
	for n := range out {
		out[n].PCR = n
		if n < 8 && err != nil {
			out[n].Note = err.Error()
		}
	}
	if err == nil {
		base.relyOnFirmware(out, base.guard(l))
	}
	base.relyOnPrograms(out, l)
	for i, s := range l.subjects() {
		if e := &l.Events[i]; s.Kind == SubjectSeparator && e.PCR >= 0 && e.PCR < 8 && isErrorSeparator(e) {
			out[e.PCR].Reliance, out[e.PCR].Note = RelianceNone, "firmware met an error as it measured, and says so in the separator"
		}
	}
	return out, nil
}

// guard returns why PCRs of the boot do not follow from its own parts.
func (b *baseline) guard(l *Log) doubts {
	p := &predictor{banks: l.Banks(), earlier: b, doubts: doubts{}, boot: Boot{Firmware: l, BootVariables: []BootVariable{}}, gpt: []byte{0}}
	p.ownBoot()
	if len(b.programs) == 0 {
		p.doubt("firmware measured no program that it started", 4, 7)
	}
	return p.doubts
}

func (b *baseline) relyOnFirmware(out []PCRReliance, d doubts) {
	set := func(n int, r Reliance, note string) {
		out[n].Reliance, out[n].Note = r, note
		if why := d[n]; why != "" {
			out[n].Reliance, out[n].Note = RelianceNone, why
		}
	}
	set(0, RelianceSame, "firmware code; an update of firmware changes it")
	set(2, RelianceSame, "option ROMs; other hardware or its firmware changes it")
	set(3, RelianceSame, "configuration of option ROMs")
	set(6, RelianceSame, "what the vendor measures")
	order := "programs behind the separator, as on edk2"
	if b.first < len(b.firmware) {
		order = "the first program in front of the separator, as U-Boot measures it"
	}
	set(4, ReliancePredicted, "the programs of the chain: "+b.chain()+"; "+order)
	boot := 0
	for _, e := range b.firmware {
		if isBootVariable(e) {
			boot = e.PCR
		}
	}
	one, five := "settings of firmware", "partition table, loader.conf and ExitBootServices"
	switch boot {
	case 1:
		one += ", and the boot variables, which can change with each update of the menu"
	case 5:
		five = "boot variables, " + five
	}
	if slices.ContainsFunc(b.all[1], func(e Event) bool { return e.Subject.Kind == SubjectTables }) {
		one += "; SMBIOS tables"
	}
	set(1, RelianceSame, one)
	set(5, ReliancePredicted, five)
	if !slices.ContainsFunc(b.firmware, isGPT) {
		set(5, RelianceNone, "firmware measured no partition table; whether it measures one is not known")
	}
	content, _ := b.secureBoot()
	seven := "Secure Boot is off"
	switch {
	case b.measuresNoAuthorities():
		seven = "Secure Boot is on; firmware measures nothing of what lets programs start"
	case b.enforced():
		seven = "Secure Boot is on, with what lets the programs start"
	case len(content) == 0:
		seven = "firmware has no variable SecureBoot"
	case !b.likeEDK2():
		seven = "Secure Boot is off; what this firmware would measure with it on is not known"
	}
	set(7, ReliancePredicted, "PK, KEK, db and dbx; "+seven)
}

// chain names the programs in the order in which they started.
func (b *baseline) chain() string {
	var names []string
	for _, e := range b.programs {
		if e.Subject.Name == "" {
			names = append(names, "one without a path")
			continue
		}
		names = append(names, escape(e.Subject.Name))
	}
	if len(names) > 8 {
		names = append(names[:8], fmt.Sprintf("and %d more", len(names)-8))
	}
	return strings.Join(names, ", ")
}

// relyOnPrograms is about PCRs 8 to 15, into which firmware measures nothing.
func (b *baseline) relyOnPrograms(out []PCRReliance, l *Log) {
	measured := map[int]bool{}
	shim, kernel, foreign := false, false, false
	for i, s := range l.subjects() {
		e := &l.Events[i]
		if !e.extends() || s.Kind == SubjectSeparator {
			continue
		}
		measured[e.PCR] = true
		shim = shim || e.PCR == 14 && s.Kind == SubjectShimVariable || s.Kind == SubjectAuthority && s.Vendor == efi.ShimLock
		kernel = kernel || s.Kind == SubjectInitrd
		foreign = foreign || e.PCR >= 11 && e.PCR <= 14 && e.Type != EventIPL && e.Type != EventTag || e.PCR == PCRKernel && s.Kind == SubjectUnknown
	}
	set := func(n int, r Reliance, note string) { out[n].Reliance, out[n].Note = r, note }
	grub := len(b.grub) > 0
	switch {
	case grub:
		set(8, RelianceSame, "GRUB's commands, as long as all files that it reads are the same")
		set(9, RelianceSame, "GRUB's files, and what the kernel gets, as long as they are the same")
	default:
		set(8, ReliancePredicted, "zero: GRUB's")
		set(9, ReliancePredicted, "command line and initrds, as the kernel gets them; from systemd 261 on with a secret of the machine")
		if !kernel {
			set(9, RelianceNone, "the kernel measured no initrd, so that a boot with another one would look the same, or it had none")
		}
	}
	set(PCRIMA, RelianceNone, "the kernel's IMA")
	unless := "unless the next boot has a UKI"
	switch {
	case foreign:
		for _, n := range []int{11, 12, 13} {
			set(n, RelianceNone, "another system than Linux with systemd measures into it")
		}
	case measured[PCRKernel]:
		set(PCRKernel, ReliancePredicted, "the sections of the UKI, and the phases of the boot")
		set(12, ReliancePredicted, "what is passed to the stub: command lines, credentials, add-ons")
		set(13, ReliancePredicted, "system extensions")
	default:
		set(PCRKernel, ReliancePredicted, "zero: no UKI was measured, "+unless)
		set(12, ReliancePredicted, "the command line of a Type #1 entry, or zero, "+unless)
		set(13, ReliancePredicted, "zero, "+unless)
	}
	switch {
	case shim:
		set(14, ReliancePredicted, "shim's lists of keys: give the shim and its variables")
	case foreign || measured[14]:
		set(14, RelianceNone, "what measures into it is not known")
	default:
		set(14, ReliancePredicted, "zero: shim's")
	}
	set(15, ReliancePredicted, "what userspace measures: machine ID, file systems, volume keys")
}
