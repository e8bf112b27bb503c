package tpm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
)

// Subject is what an event measured. Events of a predicted log have the subject that the prediction
// meant; the subject of an event in a parsed log follows from its type, PCR, tag, data and digest,
// and from the events around it. The words of an event's text do not matter: the command line
// "quiet initrd" is a command line, since its digest is that of the text.
type Subject struct {
	Kind SubjectKind

	// Name tells subjects of one kind apart: the name of a variable, a section or a companion, the
	// path of a program, the text of a command line, the word of a phase. It is unescaped text of
	// the log: print [Subject.String] instead.
	Name string

	Vendor osmith.GUID // vendor of a variable, or of the variable that holds an authority
}

// SubjectKind is a kind of [Subject].
type SubjectKind int

// The kinds of subjects, in the order in which a boot measures them.
const (
	SubjectUnknown  SubjectKind = iota
	SubjectNothing              // EV_NO_ACTION: says something about the log
	SubjectFirmware             // code and configuration of the firmware
	SubjectTables               // tables that the firmware hands over: ACPI, SMBIOS
	SubjectAction               // action of the firmware: the boot attempt
	// end of a part of the boot: the firmware's, or "os-separator" of userspace
	SubjectSeparator
	SubjectVariable         // variable of the Secure Boot configuration, in PCR 7
	SubjectSetting          // variable of the firmware's settings, in PCR 1 for example
	SubjectBootVariable     // BootOrder or Boot####
	SubjectAuthority        // entry of a variable that let a program start
	SubjectGPT              // partition table
	SubjectDriver           // program of the firmware
	SubjectProgram          // program whose part in the boot is not known
	SubjectLoader           // boot loader
	SubjectUKI              // unified kernel image
	SubjectLoaderConf       // loader.conf
	SubjectPassed           // command line that the boot loader starts the UKI with
	SubjectProfile          // number of the UKI's profile
	SubjectSectionName      // name of a section of the UKI
	SubjectSection          // section of the UKI
	SubjectSMBIOS           // SMBIOS structures that systemd measures
	SubjectCommandLine      // command line that the stub takes from outside the UKI
	SubjectAddonCommandLine // command lines of add-ons
	SubjectAddon            // add-on
	SubjectAddonDeviceTree  // device tree of an add-on
	SubjectAddonMicrocode   // microcode of an add-on
	SubjectAddonInitrd      // initrd of an add-on
	// files beside the UKI: credentials, system and configuration extensions
	SubjectCompanion
	// kernel in the UKI that the firmware loads; in a parsed log perhaps an add-on
	SubjectKernel
	SubjectShimVariable // variable of shim, which shim mirrors
	SubjectLoadOptions  // command line of the kernel
	SubjectInitrd       // initrds of the kernel
	SubjectExitBoot     // call of ExitBootServices, or its result
	SubjectPhase        // phase of the boot
	SubjectNVPCR        // NvPCR that userspace set up
	SubjectMachineID    // machine ID
	SubjectFileSystem   // file system
	SubjectIdentity     // something else of the machine's identity, in PCR 15
)

var subjectNames = map[SubjectKind]string{
	SubjectNothing: "nothing", SubjectFirmware: "firmware", SubjectTables: "tables", SubjectAction: "action", SubjectSeparator: "separator",
	SubjectVariable: "Secure Boot variable", SubjectSetting: "firmware setting", SubjectBootVariable: "boot variable", SubjectAuthority: "authority", SubjectGPT: "partition table",
	SubjectDriver: "driver", SubjectProgram: "program", SubjectLoader: "boot loader", SubjectUKI: "UKI", SubjectShimVariable: "variable of shim", SubjectLoaderConf: "loader.conf",
	SubjectPassed: "passed command line", SubjectProfile: "profile", SubjectSectionName: "name of UKI section", SubjectSection: "UKI section",
	SubjectSMBIOS: "SMBIOS", SubjectCommandLine: "command line", SubjectAddonCommandLine: "command line add-on", SubjectAddon: "add-on",
	SubjectAddonDeviceTree: "device tree add-on", SubjectAddonMicrocode: "microcode add-on", SubjectAddonInitrd: "initrd add-on",
	SubjectCompanion: "companion", SubjectKernel: "kernel", SubjectLoadOptions: "kernel command line", SubjectInitrd: "kernel initrd",
	SubjectExitBoot: "ExitBootServices", SubjectPhase: "phase", SubjectNVPCR: "NvPCR", SubjectMachineID: "machine ID",
	SubjectFileSystem: "file system", SubjectIdentity: "identity",
}

// String is the kind in a few words: "UKI section".
func (k SubjectKind) String() string {
	if s, ok := subjectNames[k]; ok {
		return s
	}
	return "unknown"
}

// String is the kind and the name: "UKI section .cmdline". It is safe to print.
func (s Subject) String() string {
	name := escape(s.Name)
	if s.Vendor != (osmith.GUID{}) && s.Vendor != globalVariable && s.Vendor != imageSecurityDatabase {
		name += "-" + s.Vendor.String()
	}
	if name == "" {
		return s.Kind.String()
	}
	return fmt.Sprintf("%v %s", s.Kind, name)
}

// isProgram reports whether the subject is a program that the firmware starts as an application.
func (k SubjectKind) isProgram() bool {
	switch k {
	case SubjectProgram, SubjectLoader, SubjectUKI, SubjectAddon, SubjectKernel:
		return true
	}
	return false
}

// isCommandLine reports whether the event's data are the command line itself, of which its digest
// is.
func (k SubjectKind) isCommandLine() bool {
	return k == SubjectPassed || k == SubjectCommandLine || k == SubjectAddonCommandLine
}

// isSection reports whether the subject is a section of the UKI or its name.
func (k SubjectKind) isSection() bool { return k == SubjectSection || k == SubjectSectionName }

// thing is what two versions of one thing have in common. Programs of one part in the boot are
// such, since the path of a UKI changes with its boot counter; so are command lines of one origin,
// whose names are their texts, and what there is one of.
func (s Subject) thing() Subject {
	switch s.Kind {
	case SubjectUnknown, SubjectVariable, SubjectSetting, SubjectBootVariable, SubjectAuthority, SubjectSection, SubjectSectionName, SubjectSMBIOS, SubjectCompanion, SubjectPhase, SubjectShimVariable:
		return s
	}
	return Subject{Kind: s.Kind}
}

// things are those that a subject may be another version of: a program whose part in the boot is
// not known may be any.
func (s Subject) things() []Subject {
	switch {
	case s.Kind == SubjectProgram:
		return []Subject{{Kind: SubjectProgram}, {Kind: SubjectLoader}, {Kind: SubjectUKI}, {Kind: SubjectAddon}, {Kind: SubjectKernel}}
	case s.Kind.isProgram():
		return []Subject{{Kind: s.Kind}, {Kind: SubjectProgram}}
	}
	return []Subject{s.thing()}
}

// subjects are those of the log's events: what they carry, and for those that carry none, as events
// made by hand, what follows from the log.
func (l *Log) subjects() []Subject {
	out := make([]Subject, len(l.Events))
	var r subjectReader
	for i := range l.Events {
		out[i] = r.next(&l.Events[i])
	}
	r.settle(out)
	for i := range l.Events {
		if l.Events[i].Subject.Kind != SubjectUnknown {
			out[i] = l.Events[i].Subject
		}
	}
	return out
}

// setSubjects gives each event its subject, and what is known of its contents.
func (l *Log) setSubjects() {
	for i, s := range l.subjects() {
		l.Events[i].Subject = s
	}
	l.setContents()
}

// subjectReader finds subjects, event by event in the order of the log.
type subjectReader struct {
	index    int
	programs []int // before the stub measures the UKI
	// the stub has begun to measure the UKI, whose sections only it does; Windows has other events
	// in PCR 11
	stub    bool
	section string // whose name was measured, and whose data come next
	addons  bool   // add-ons were loaded, and their command lines come next
}

// next is the subject of the next event.
func (r *subjectReader) next(e *Event) Subject {
	s := r.subject(e)
	r.stub = r.stub || s.Kind.isSection()
	if s.Kind == SubjectProgram {
		s.Kind = r.program(s.Name)
	}
	switch {
	case s.Kind == SubjectAddon:
		r.addons = true
	case s.Kind == SubjectCommandLine && r.addons: // it is the first one behind them
		s.Kind, r.addons = SubjectAddonCommandLine, false
	}
	r.index++
	return s
}

// program is what a program is that the firmware starts: before the stub begins, the last one is
// the UKI.
func (r *subjectReader) program(path string) SubjectKind {
	switch {
	case strings.HasSuffix(strings.ToLower(path), ".addon.efi"):
		return SubjectAddon
	case r.stub:
		return SubjectKernel
	}
	r.programs = append(r.programs, r.index)
	return SubjectProgram
}

// settle tells the programs before the stub apart, when the log has ended. Without a stub none is
// known.
func (r *subjectReader) settle(subjects []Subject) {
	if !r.stub {
		for i := range subjects {
			if subjects[i].Kind == SubjectAddon {
				subjects[i].Kind = SubjectProgram
			}
		}
		return
	}
	for n, i := range r.programs {
		subjects[i].Kind = SubjectLoader
		if n == len(r.programs)-1 {
			subjects[i].Kind = SubjectUKI
		}
	}
}

// subject is what an event is about, as far as it and the sections before it tell.
func (r *subjectReader) subject(e *Event) Subject {
	switch e.Type {
	case EventNoAction:
		return Subject{Kind: SubjectNothing}
	case EventSeparator:
		return Subject{Kind: SubjectSeparator}
	case EventEFIVariableDriverConfig:
		s := variableSubject(SubjectVariable, e)
		if s.Kind == SubjectVariable && (!e.in(7) || e.cc && !slices.Contains(secureBootNames[s.Vendor], s.Name)) {
			s.Kind = SubjectSetting
		}
		return s
	case EventEFIVariableBoot, EventEFIVariableBoot2:
		return variableSubject(SubjectBootVariable, e)
	case EventEFIVariableAuthority:
		return variableSubject(SubjectAuthority, e)
	case EventEFIGPT, EventEFIGPT2:
		return Subject{Kind: SubjectGPT}
	case EventEFIHandoffTables, EventEFIHandoffTables2:
		return Subject{Kind: SubjectTables}
	case EventEFIBootServicesDriver, EventEFIRuntimeServicesDriver:
		return Subject{Kind: SubjectDriver, Name: programPath(e)}
	case EventEFIBootServicesApplication:
		if e.in(4) {
			return Subject{Kind: SubjectProgram, Name: programPath(e)}
		}
		return Subject{Kind: SubjectDriver, Name: programPath(e)}
	case EventAction, EventEFIAction:
		text, _ := textOf(e.Data)
		if e.in(5) && slices.Contains([]string{actionExit, actionExitFailed, actionExitSucceed}, text) {
			return Subject{Kind: SubjectExitBoot, Name: text}
		}
		return Subject{Kind: SubjectAction, Name: text}
	case EventTag:
		return taggedSubject(e)
	case EventIPL:
		return r.ipl(e)
	case EventPostCode, EventPostCode2, EventCRTMContents, EventCRTMVersion, EventCPUMicrocode, EventPlatformConfigFlags, EventTableOfDevices,
		EventNonhostCode, EventNonhostConfig, EventNonhostInfo, EventEFIPlatformFirmwareBlob, EventEFIPlatformFirmwareBlob2, EventEFIHCRTM,
		EventEFISPDMFirmwareBlob, EventEFISPDMFirmwareConfig, EventEFISPDMDevicePolicy, EventEFISPDMDeviceAuthority:
		return Subject{Kind: SubjectFirmware}
	}
	return Subject{}
}

func variableSubject(kind SubjectKind, e *Event) Subject {
	v, err := readVariable(e.Data)
	if err != nil {
		return Subject{}
	}
	return Subject{Kind: kind, Name: v.Name, Vendor: v.Vendor}
}

func programPath(e *Event) string {
	p, err := readImageLoad(e.Data)
	if err != nil {
		return ""
	}
	return p.Path.file()
}

// What Linux writes beside its events.
const (
	textLoadOptions = "LOADED_IMAGE::LoadOptions"
	textInitrd      = "Linux initrd"
)

func taggedSubject(e *Event) Subject {
	t, err := readTagged(e.Data)
	if err != nil {
		switch text, _ := textOf(e.Data); text { // Linux on TDX, which leaves the tag out
		case textLoadOptions:
			return Subject{Kind: SubjectLoadOptions}
		case textInitrd:
			return Subject{Kind: SubjectInitrd}
		}
		return Subject{}
	}
	switch t.Tag {
	case TagInitrd:
		return Subject{Kind: SubjectInitrd}
	case TagLoadOptions:
		return Subject{Kind: SubjectLoadOptions}
	case TagSMBIOSType1, TagSMBIOSType2, TagSMBIOSType11:
		return Subject{Kind: SubjectSMBIOS, Name: t.Tag.String()}
	case TagLoaderConf:
		return Subject{Kind: SubjectLoaderConf}
	case TagProfile:
		text, ok := textOf(t.Data)
		if !ok {
			text = fmt.Sprintf("%x", t.Data)
		}
		return Subject{Kind: SubjectProfile, Name: text}
	case TagDeviceTree:
		return Subject{Kind: SubjectAddonDeviceTree}
	case TagMicrocode:
		return Subject{Kind: SubjectAddonMicrocode}
	case TagInitrdAddon:
		return Subject{Kind: SubjectAddonInitrd}
	}
	return Subject{Kind: SubjectUnknown, Name: t.Tag.String()}
}

// ipl is about the events of boot loaders, of the stub and of userspace. Where a digest is of the
// text beside it, the form of the text tells who wrote it: systemd's loader and stub write UTF-16
// with a NUL, userspace UTF-8.
func (r *subjectReader) ipl(e *Event) Subject {
	text, ok := iplText(e)
	if !ok {
		return Subject{}
	}
	if e.cc {
		return r.iplOfRTMR(e, text)
	}
	word := e.PCR != PCRKernel && hashedAs(e, []byte(text))
	switch {
	case e.PCR == PCRKernel:
		return r.kernelPCR(e, text)
	case word && text == wordSeparator && e.PCR != 15, word && text == wordNVSeparator && e.PCR == 9:
		return Subject{Kind: SubjectSeparator, Name: text}
	case word && e.PCR == 9 && strings.HasPrefix(text, wordNVInit):
		return Subject{Kind: SubjectNVPCR, Name: text}
	case word && e.PCR == 15 && strings.HasPrefix(text, wordMachineID):
		return Subject{Kind: SubjectMachineID, Name: text}
	case word && e.PCR == 15 && strings.HasPrefix(text, wordFileSystem):
		return Subject{Kind: SubjectFileSystem, Name: text}
	case e.PCR == 14 && shimPurposes[text] != "":
		return Subject{Kind: SubjectShimVariable, Name: text}
	case e.PCR == 15:
		return Subject{Kind: SubjectIdentity, Name: text}
	case e.PCR == 12 && attestedText(e) && !r.stub:
		return Subject{Kind: SubjectPassed, Name: text}
	case e.PCR == 12 && attestedText(e):
		return Subject{Kind: SubjectCommandLine, Name: text}
	case e.PCR == 12 || e.PCR == 13:
		return Subject{Kind: SubjectCompanion, Name: text}
	}
	return Subject{}
}

// iplOfRTMR is [subjectReader.ipl] for a register that takes the place of PCRs 8 to 15, whose
// events stand in it together.
func (r *subjectReader) iplOfRTMR(e *Event, text string) Subject {
	if !e.in(PCRKernel) {
		return Subject{}
	}
	if s := r.kernelPCR(e, text); s.Kind.isSection() {
		return s
	}
	switch {
	case shimPurposes[text] != "":
		return Subject{Kind: SubjectShimVariable, Name: text}
	case !hashedAs(e, utf16z(text)):
		return Subject{}
	case r.stub:
		return Subject{Kind: SubjectCommandLine, Name: text}
	}
	return Subject{Kind: SubjectPassed, Name: text}
}

// shimPurposes are the names that shim writes beside what it measures into PCR 14, and what they
// are for.
var shimPurposes = map[string]string{
	"MokList":        "keys of the machine's owner that shim lets programs in by",
	"MokListX":       "what the machine's owner or shim's vendor forbids",
	"MokSBState":     "shim lets in programs without a signature",
	"MokDBState":     "shim ignores db",
	"MokListTrusted": "Linux trusts MokList, too",
	"MokPolicy":      "what shim does at an error",
}

// kernelPCR is about PCR 11: the stub measures the name of a section with a NUL, then its data,
// with the name beside both; userspace measures phases.
func (r *subjectReader) kernelPCR(e *Event, text string) Subject {
	before := r.section
	r.section = ""
	switch {
	case before != "" && before == text:
		return Subject{Kind: SubjectSection, Name: text}
	case strings.HasPrefix(text, ".") && hashedAs(e, append([]byte(text), 0)):
		r.section = text
		return Subject{Kind: SubjectSectionName, Name: text}
	case hashedAs(e, []byte(text)):
		return Subject{Kind: SubjectPhase, Name: text}
	case strings.HasPrefix(text, "."):
		return Subject{Kind: SubjectSection, Name: text}
	}
	return Subject{}
}
