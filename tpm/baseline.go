package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/smbios"
)

// baseline is what the log of an earlier boot tells about the machine: what its firmware measures
// by itself, where, in which order and how. All digests are those of the banks to predict.
type baseline struct {
	// firmware are its own events, without those for programs, up to the last separator or the
	// first program, whichever is later. The first program was measured before firmware[first]:
	// behind all of it on edk2, before the separators on U-Boot.
	firmware []Event
	first    int

	programs    []Event // into PCR 4
	authorities []Event // what let them start, and what shim measured into PCR 7
	smbios      []Event // SMBIOS structures that loader or stub measured
	loaderConf  []Event
	grub        []Event // PCRs 8 and 9, up to the start of the kernel
	grubEnd     []Event // PCRs 8 and 9 behind it, with what the kernel measured
	exit        []Event // calls of ExitBootServices
	late        []Event // what the firmware measured of itself after it had started a program

	all map[int][]Event // PCRs 0 to 7, up to what userspace adds
}

// readBaseline takes an earlier boot's log apart.
func readBaseline(l *Log, banks []crypto.Hash) (*baseline, error) {
	if l.Registers != RegistersPCR {
		return nil, fmt.Errorf("the earlier boot's log is of %v: %w", l.Registers, ErrRegisters)
	}
	var events []Event
	for i, s := range l.subjects() {
		e := l.Events[i].only(banks)
		e.Subject = s
		if isSpecID(&e) || e.PCR < 0 || e.Type == EventIPL && s.Kind == SubjectSeparator || s.Kind == SubjectPhase {
			continue // our own, for PCRs that no TPM has, or of userspace
		}
		events = append(events, e)
	}
	attempt := slices.IndexFunc(events, func(e Event) bool { return e.Type == EventSeparator && e.PCR == 4 })
	if attempt < 0 {
		return nil, errors.New("the earlier boot's log has no separator in PCR 4: no boot was tried")
	}
	out := &baseline{all: map[int][]Event{}}
	early := slices.IndexFunc(events[:attempt], isBootProgram)
	start := attempt + slices.IndexFunc(events[attempt:], func(e Event) bool { return e.Subject.Kind.isProgram() || e.isOfOS() })
	if start < attempt {
		start = len(events)
	}
	out.read(events, early, start)
	if !slices.ContainsFunc(out.firmware, isSecureBootVariable) {
		return nil, errors.New("the earlier boot's log does not measure the variable SecureBoot into PCR 7")
	}
	return out, nil
}

// isBootProgram reports whether the event is of a program from a disk, and not of one that is part
// of the firmware.
func isBootProgram(e Event) bool {
	return e.PCR == 4 && e.Subject.Kind.isProgram() && e.Subject.Name != ""
}

// isOfOS reports whether the event is of a loader, a stub or a kernel.
func (e *Event) isOfOS() bool {
	switch e.Subject.Kind {
	case SubjectSMBIOS, SubjectLoaderConf, SubjectExitBoot, SubjectLoadOptions, SubjectInitrd, SubjectProfile:
		return true
	}
	return e.extends() && (e.PCR >= 8 || e.Type == EventIPL)
}

// read sorts the events. Programs start at start; before that, at early, firmware may have measured
// the first of them, -1 if it did not.
func (b *baseline) read(events []Event, early, start int) {
	attempt := false
	for i, e := range events {
		attempt = attempt || e.Type == EventSeparator && e.PCR == 4
		program := e.Subject.Kind.isProgram() && e.PCR == 4
		switch {
		case i == early || program && i >= start:
			if len(b.programs) == 0 {
				b.first = len(b.firmware)
			}
			b.programs = append(b.programs, e)
		case e.PCR == 7 && e.Type == EventEFIVariableAuthority && attempt:
			b.authorities = append(b.authorities, e)
		case i < start:
			if e.PCR < 8 {
				b.firmware = append(b.firmware, e)
			}
		case e.Subject.Kind == SubjectSMBIOS:
			b.smbios = append(b.smbios, e)
		case e.Subject.Kind == SubjectLoaderConf:
			b.loaderConf = append(b.loaderConf, e)
		case e.Subject.Kind == SubjectExitBoot:
			b.exit = append(b.exit, e)
		case e.extends() && (e.PCR <= 3 || e.PCR == 6) && e.Type != EventIPL:
			b.late = append(b.late, e)
		case e.PCR == 8 || e.PCR == 9 && (e.Type == EventIPL && e.Subject.Kind == SubjectUnknown || e.Subject.Kind == SubjectLoadOptions || e.Subject.Kind == SubjectInitrd):
			b.readGRUB(e)
		}
		if e.PCR < 8 && e.extends() {
			b.all[e.PCR] = append(b.all[e.PCR], e)
		}
	}
	if len(b.programs) == 0 {
		b.first = len(b.firmware)
	}
}

// readGRUB tells what GRUB measures before it starts the kernel from what comes behind: the command
// line is the first that it measures as it has loaded one (grub_verify_string of type
// kernel_cmdline).
func (b *baseline) readGRUB(e Event) {
	if len(b.grubEnd) > 0 || bytes.HasPrefix(e.Data, []byte("kernel_cmdline: ")) || e.Type == EventTag {
		b.grubEnd = append(b.grubEnd, e)
		return
	}
	b.grub = append(b.grub, e)
}

// secureBoot is the content of the variable as it was measured; known is false if that was not
// understood.
func (b *baseline) secureBoot() (content []byte, known bool) {
	for _, e := range b.firmware {
		if isSecureBootVariable(e) && e.Subject.Name == "SecureBoot" {
			_, _, data, ok := splitVariable(e.Data)
			return data, ok
		}
	}
	return nil, false
}

// enforced reports whether the firmware verified what it started.
func (b *baseline) enforced() bool {
	content, known := b.secureBoot()
	return known && len(content) == 1 && content[0] == 1
}

// firmwareAuthorities are the events by which the firmware says why it started a program, without
// those of shim.
func (b *baseline) firmwareAuthorities() (out []Event) {
	for _, e := range b.authorities {
		if e.Subject.Vendor == efi.ShimLock {
			break // shim has begun, and verifies what comes
		}
		out = append(out, e)
	}
	return out
}

// measuresNoAuthorities reports whether the firmware verified programs and started some, and
// measured nothing of why, as U-Boot.
func (b *baseline) measuresNoAuthorities() bool {
	return b.enforced() && len(b.programs) > 0 && len(b.firmwareAuthorities()) == 0 &&
		!slices.ContainsFunc(b.firmware, func(e Event) bool { return e.PCR == 7 && e.Type == EventEFIVariableAuthority })
}

// likeEDK2 reports whether the firmware goes through a boot as edk2 does: the variables of PCR 7
// and a separator, the boot attempt and a separator in PCR 4, and programs behind it. How such
// firmware measures what was not in the earlier boot is known.
func (b *baseline) likeEDK2() bool {
	if b.first != len(b.firmware) {
		return false
	}
	var fours, sevens []Event
	for _, e := range b.firmware {
		switch {
		case e.PCR == 4 && e.extends():
			fours = append(fours, e)
		case e.PCR == 7 && e.extends() && e.Type != EventEFIVariableAuthority:
			sevens = append(sevens, e)
		}
	}
	if len(sevens) < 6 || len(fours) == 0 || fours[len(fours)-1].Type != EventSeparator || sevens[len(sevens)-1].Type != EventSeparator {
		return false
	}
	for i, name := range []string{"SecureBoot", "PK", "KEK", "db", "dbx"} {
		if !isSecureBootVariable(sevens[i]) || sevens[i].Subject.Name != name {
			return false
		}
	}
	return !slices.ContainsFunc(sevens[:len(sevens)-1], func(e Event) bool { return !isSecureBootVariable(e) })
}

// only is the event with the digests of some banks.
func (e *Event) only(banks []crypto.Hash) Event {
	out := Event{PCR: e.PCR, Type: e.Type, Data: bytes.Clone(e.Data), Digests: make(map[crypto.Hash][]byte, len(banks))}
	for _, h := range banks {
		if d, ok := e.Digests[h]; ok && e.extends() {
			out.Digests[h] = bytes.Clone(d)
		} else {
			out.Digests[h] = make([]byte, h.Size()) // of an event that extends nothing
		}
	}
	return out
}

func isSecureBootVariable(e Event) bool {
	s := e.Subject
	if e.PCR != 7 || s.Kind != SubjectVariable {
		return false
	}
	if s.Vendor == globalVariable {
		return slices.Contains([]string{"SecureBoot", "PK", "KEK"}, s.Name)
	}
	return s.Vendor == imageSecurityDatabase && slices.Contains([]string{"db", "dbx", "dbt", "dbr"}, s.Name)
}

// isBootVariable reports whether the event is of BootOrder or a Boot####, which are in PCR 1, and
// in PCR 5 on older firmware (ThinkPads).
func isBootVariable(e Event) bool {
	s := e.Subject
	return (e.PCR == 1 || e.PCR == 5) && s.Kind == SubjectBootVariable && s.Vendor == globalVariable && bootVariableName.MatchString(s.Name)
}

func isGPT(e Event) bool { return e.PCR == 5 && e.Subject.Kind == SubjectGPT }

// firmwareAgain repeats what the earlier boot's firmware did, each thing in its place, with what is
// planned instead of what was.
func (p *predictor) firmwareAgain() {
	b := p.earlier
	bootVariables := false
	for i, e := range b.firmware {
		if i == b.first {
			p.startFirst()
		}
		switch {
		case e.PCR == 7 && e.Subject.Kind == SubjectVariable && p.boot.Variables != nil:
			p.variableAgain(e)
		case isBootVariable(e) && p.boot.BootVariables != nil:
			if !bootVariables {
				p.bootVariables(&e)
			}
			bootVariables = true
		case e.Type == EventSeparator && p.boot.Separator != [4]byte{}:
			p.separator(e.PCR)
		case isGPT(e) && p.gpt != nil && p.replaces(e):
			p.data(Subject{Kind: SubjectGPT}, e.PCR, e.Type, p.gpt)
		default:
			p.log.Events = append(p.log.Events, e)
		}
	}
	if b.first == len(b.firmware) {
		p.startFirst()
	}
	p.contradictions(bootVariables)
}

// contradictions are inputs that the earlier boot has no place for.
func (p *predictor) contradictions(bootVariables bool) {
	b := p.earlier
	if p.boot.BootVariables != nil && !bootVariables {
		p.doubt("boot variables are given, and firmware of the earlier boot measured none: whether it measures them, and where, is not known", 1, 5)
	}
	if p.gpt != nil && !slices.ContainsFunc(b.firmware, func(e Event) bool { return isGPT(e) && p.replaces(e) }) {
		p.doubt("a partition table is given, and firmware of the earlier boot measured none that it could be another version of", 5)
	}
	if measured, err := smbios.Measured(p.boot.SMBIOS); p.boot.SMBIOS != nil && err == nil {
		changed := func(e Event) bool {
			return e.Subject.Kind == SubjectTables && !hashedAs(&e, measured) && !hashedAs(&e, p.boot.SMBIOS)
		}
		if slices.ContainsFunc(b.all[1], changed) {
			p.doubt("firmware measures SMBIOS tables, and those that are given are not those of the earlier boot, as far as edk2 measures them: which parts of them this firmware measures is not known", 1)
		}
	}
	if len(b.programs) == 0 {
		p.doubt("firmware of the earlier boot measured no program that it started: whether it measures those is not known", 4, 7)
	}
	p.checkVariables()
}

// replaces reports whether the partition table that is given takes the place of the one of an
// event: the only one, or the one of the same disk.
func (p *predictor) replaces(e Event) bool {
	tables := 0
	for _, other := range p.earlier.firmware {
		if isGPT(other) {
			tables++
		}
	}
	return tables == 1 || diskGUID(e.Data) == diskGUID(p.gpt)
}

// diskGUID is that of a UEFI_GPT_DATA, whose beginning is the header of the partition table.
func diskGUID(data []byte) string {
	const offset = 56
	if len(data) < offset+16 {
		return ""
	}
	return string(data[offset : offset+16])
}

// measureLike measures new contents of a variable as an earlier event did the old ones.
func (p *predictor) measureLike(like *Event, s Subject, contents []byte) {
	_, _, old, ok := splitVariable(like.Data)
	data := variableData(s.Vendor, s.Name, contents)
	switch {
	case ok && like.Subject.Name == s.Name && bytes.Equal(old, contents):
		p.log.Events = append(p.log.Events, *like)
	case hashedAs(like, like.Data):
		p.data(s, like.PCR, like.Type, data)
	case ok && hashedAs(like, old):
		p.hash(s, like.PCR, like.Type, contents, data)
	default:
		p.log.Events = append(p.log.Events, *like)
		p.doubt(fmt.Sprintf("how firmware hashes the variable %s is not known: the digest in the earlier boot is neither of the event's data nor of the content", s), like.PCR)
	}
}

// variableAgain measures a variable of PCR 7 as it will be.
func (p *predictor) variableAgain(e Event) {
	v := p.boot.Variables
	if !isSecureBootVariable(e) {
		p.log.Events = append(p.log.Events, e)
		return
	}
	contents := *contentsOf(v, e.Subject.Name)
	if _, _, old, _ := splitVariable(e.Data); (e.Subject.Name == "dbt" || e.Subject.Name == "dbr") && contents == nil && len(old) > 0 {
		return // measured because it existed
	}
	p.measureLike(&e, e.Subject, contents)
	if e.Subject.Name == "dbx" && v.DBT != nil && !p.measured("dbt") {
		p.measureLike(&e, Subject{SubjectVariable, "dbt", imageSecurityDatabase}, v.DBT)
		if !p.earlier.likeEDK2() {
			p.doubt("a dbt is given, and firmware of the earlier boot, which goes another way than edk2, measured none", 7)
		}
	}
}

// measured reports whether the earlier boot measured that variable into PCR 7.
func (p *predictor) measured(name string) bool {
	return slices.ContainsFunc(p.earlier.firmware, func(e Event) bool { return isSecureBootVariable(e) && e.Subject.Name == name })
}

// checkVariables is about states of Secure Boot that the earlier boot does not tell about.
func (p *predictor) checkVariables() {
	b, v := p.earlier, p.boot.Variables
	if v == nil {
		return
	}
	old, known := b.secureBoot()
	if !known || len(old) > 1 {
		p.doubt("firmware of the earlier boot measured the variable SecureBoot in a way that is not understood", 7)
		return
	}
	if v.SecureBoot == nil {
		p.doubt("whether Secure Boot is on is not given", 7)
		return
	}
	if len(old) != len(v.SecureBoot) {
		p.doubt(fmt.Sprintf("SecureBoot is given with %d bytes, and firmware of the earlier boot measured %d: a machine that has no such variable does not get one, nor loses it",
			len(v.SecureBoot), len(old)), 7)
	}
	if v.DBR != nil && !p.measured("dbr") {
		p.doubt("whether firmware measures dbr is not known", 7)
	}
	for _, e := range b.firmware {
		if e.PCR == 7 && e.Subject.Kind == SubjectVariable && !isSecureBootVariable(e) && !bytes.Equal(old, v.SecureBoot) {
			p.doubt(fmt.Sprintf("firmware also measures %s, whose content after the change of Secure Boot is not known", e.Subject), 7)
		}
	}
}

// contentsOf is where the contents of a variable of PCR 7 are, one for which [isSecureBootVariable]
// holds.
func contentsOf(v *osmith.FirmwareVariables, name string) *[]byte {
	return map[string]*[]byte{"SecureBoot": &v.SecureBoot, "PK": &v.PK, "KEK": &v.KEK, "db": &v.DB, "dbx": &v.DBX, "dbt": &v.DBT, "dbr": &v.DBR}[name]
}

// variables are those of the earlier boot, by which the firmware's part is put together again.
func (b *baseline) variables() *osmith.FirmwareVariables {
	v := &osmith.FirmwareVariables{}
	for _, e := range b.firmware {
		_, _, data, ok := splitVariable(e.Data)
		if isSecureBootVariable(e) && ok {
			*contentsOf(v, e.Subject.Name) = append([]byte{}, data...)
		}
	}
	return v
}
