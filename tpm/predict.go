package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/smbios"
)

// Predict returns the event log that a boot will leave. The log's Coverage says for which PCRs the
// replay is a prediction, and what the prediction rests on.
//
//   - PCRs 0, 2, 3 and 6 and the firmware's part of PCR 1 are taken from [Boot.Firmware];
//   - PCR 1 also holds the boot variables and, from stub 261 on, SMBIOS structures;
//   - PCR 4 the boot attempt, a separator, the programs of the chain, the UKI and add-ons (stubs
//     before 257 also have the firmware load the kernel inside);
//   - PCR 5 a separator, the partition table, loader.conf and the calls of ExitBootServices;
//   - PCR 7 the Secure Boot variables, a separator, the authorities, and what shim adds;
//   - PCRs 8 and 9 what GRUB measures, if GRUB does the same as in the earlier boot;
//   - PCR 9 the command line and the initrds, as the kernel receives them;
//   - PCR 11 the sections of the UKI, then the phases;
//   - PCRs 12 and 13 what the loader passes to the stub, and the events of [Boot.Handover];
//   - PCR 14 shim's lists of keys;
//   - PCR 15, and the ends of PCRs 0 to 7, 9 and 12 to 14, what systemd's services measure:
//     [Boot.Userspace].
//
// What is unknown is not claimed. This applies to the PCRs of a program, such as shim or GRUB, that
// left a sign in the earlier boot or the variables but is missing from the chain; and to a PCR for
// which the events of the earlier boot do not lead to its value.
func Predict(b Boot) (_ *Log, err error) {
	defer prefix.Add(pkg, &err)
	l, err := predict(b)
	if err != nil {
		return nil, fmt.Errorf("predict: %w", err)
	}
	return l, nil
}

// predict follows a boot from its first event to its last. Whatever can be wrong with its
// description is found before.
func predict(b Boot) (*Log, error) {
	p, err := newPredictor(b)
	if err != nil {
		return nil, err
	}
	p.firmware()
	p.startChain()
	if b.bareKernel() {
		p.startBareKernel()
	} else {
		p.startStub()
		p.startKernel()
	}
	p.exitBootServices()
	firmware := len(p.log.Events)
	p.userspace()
	p.log.userspace, p.log.hasUserspace = len(p.log.Events)-firmware, true
	p.log.Coverage = p.coverage()
	return p.log, nil
}

// predictor is a boot with what is worked out from it, and the log so far.
type predictor struct {
	boot         Boot
	stub, loader sdstub.Release
	banks        []crypto.Hash
	smbios       []smbios.Structure
	gpt          []byte    // data of the event of the partition table that is given, nil for none
	sections     []Event   // of the UKI
	earlier      *baseline // nil if no log of an earlier boot is given
	byFirmware   [][]byte  // authorities that the firmware has measured; each does that once
	byShim       [][]byte  // and those of shim, which does not know what the firmware has measured
	doubts       doubts    // why PCRs are not predicted
	user         userspaceMoment
	log          *Log
}

func newPredictor(b Boot) (p *predictor, err error) {
	p = &predictor{boot: b, doubts: doubts{}}
	if err := p.releases(); err != nil {
		return nil, err
	}
	if err := b.check(p.stub); err != nil {
		return nil, err
	}
	if p.banks, err = b.banks(); err != nil {
		return nil, err
	}
	if p.user, err = b.userspace(); err != nil {
		return nil, err
	}
	if p.smbios, err = smbios.Parse(b.SMBIOS); err != nil {
		return nil, err
	}
	if b.GPT != nil {
		if p.gpt, err = gptData(b.GPT.Header, b.GPT.Entries); err != nil {
			return nil, err
		}
	}
	measured := slices.DeleteFunc(slices.Clone(b.Sections), func(m osmith.Measurement) bool { return unmeasured(m.Section, p.stub) })
	if p.sections, err = sectionEvents(measured, p.banks...); err != nil {
		return nil, err
	}
	if b.Firmware != nil {
		if p.earlier, err = readBaseline(b.Firmware, p.banks); err != nil {
			return nil, err
		}
	}
	p.log = &Log{Events: []Event{newSpecID(p.banks)}}
	return p, nil
}

// releases finds those of the stub and of systemd-boot. A boot without a stub has what is known of
// its loader.
func (p *predictor) releases() (err error) {
	b := &p.boot
	if !b.bareKernel() {
		if p.stub, err = stubRelease(b.Stub, b.AssumeStub); err != nil {
			return err
		}
	}
	p.loader = p.stub
	if s := b.systemdBoot(); s != nil && (s.Version != "" || b.bareKernel()) {
		if p.loader, err = stubRelease(s.Version, b.AssumeStub); err != nil {
			return err
		}
	}
	if b.bareKernel() {
		p.stub = sdstub.Release{Evidence: p.loader.Evidence}
		if b.systemdBoot() == nil {
			p.stub.Evidence = sdstub.EvidenceBooted
		}
	}
	return nil
}

// doubt takes PCRs out of the claim. The first reason counts.
func (p *predictor) doubt(why string, pcrs ...int) { p.doubts.add(why, pcrs...) }

// add appends an event with given digests, of which it keeps those of the banks.
func (p *predictor) add(s Subject, pcr int, t EventType, digests map[crypto.Hash][]byte, data []byte) {
	e := Event{PCR: pcr, Type: t, Data: bytes.Clone(data), Digests: make(map[crypto.Hash][]byte, len(p.banks)), Subject: s}
	for _, h := range p.banks {
		e.Digests[h] = bytes.Clone(digests[h])
	}
	p.log.Events = append(p.log.Events, e)
}

// hash appends an event whose digest is that of measured.
func (p *predictor) hash(s Subject, pcr int, t EventType, measured, data []byte) {
	digests := make(map[crypto.Hash][]byte, len(p.banks))
	for _, h := range p.banks {
		digests[h] = pcrbank.Sum(h, measured)
	}
	p.add(s, pcr, t, digests, data)
	if (s.Kind == SubjectLoaderConf || s.Kind == SubjectLoadOptions) && len(measured) <= maxContents {
		p.log.Events[len(p.log.Events)-1].contents = bytes.Clone(measured)
	}
}

// data appends an event whose digest is that of its own data.
func (p *predictor) data(s Subject, pcr int, t EventType, data []byte) { p.hash(s, pcr, t, data, data) }

// program appends an EFI program that the firmware starts.
func (p *predictor) program(kind SubjectKind, a *Application) {
	data, path := imageLoadEvent(a)
	p.add(Subject{Kind: kind, Name: path.file()}, 4, EventEFIBootServicesApplication, a.Digests, data)
}

// What edk2 writes about a boot attempt and about its end.
const (
	actionCalling     = "Calling EFI Application from Boot Option"
	actionExit        = "Exit Boot Services Invocation"
	actionExitFailed  = "Exit Boot Services Returned with Failure"
	actionExitSucceed = "Exit Boot Services Returned with Success"
)

// firmware is everything up to the first program, and its start: what an earlier boot's firmware
// did, with what is planned in its place, or what edk2 does.
func (p *predictor) firmware() {
	if p.earlier != nil {
		p.firmwareAgain()
		return
	}
	p.edk2()
	if p.gpt != nil {
		p.data(Subject{Kind: SubjectGPT}, 5, EventEFIGPT, p.gpt)
	}
	p.startFirst()
}

// edk2 measures the Secure Boot configuration (MeasureAllSecureVariables), then what is known of
// the machine.
func (p *predictor) edk2() {
	p.variables()
	p.separator(7)
	p.bootVariables(nil)
	p.data(Subject{Kind: SubjectAction, Name: actionCalling}, 4, EventEFIAction, []byte(actionCalling))
	if p.boot.BootVariables != nil || p.boot.SMBIOS != nil {
		p.separator(1)
	}
	p.separator(4)
	if p.gpt != nil {
		p.separator(5)
	}
}

func (p *predictor) separator(pcr int) {
	p.data(Subject{Kind: SubjectSeparator}, pcr, EventSeparator, p.boot.Separator[:])
}

// variables measures the Secure Boot variables: one that does not exist counts as empty, except
// dbt.
func (p *predictor) variables() {
	v := p.boot.Variables
	if v == nil {
		return // PCR 7 is not predicted
	}
	measure := func(vendor osmith.GUID, name string, contents []byte) {
		p.data(Subject{SubjectVariable, name, vendor}, 7, EventEFIVariableDriverConfig, variableData(vendor, name, contents))
	}
	measure(globalVariable, "SecureBoot", v.SecureBoot)
	measure(globalVariable, "PK", v.PK)
	measure(globalVariable, "KEK", v.KEK)
	measure(imageSecurityDatabase, "db", v.DB)
	measure(imageSecurityDatabase, "dbx", v.DBX)
	if v.DBT != nil {
		measure(imageSecurityDatabase, "dbt", v.DBT)
	}
}

// bootVariables measures BootOrder and Boot####, in the way and the PCR of an earlier event or else
// in edk2's: the contents alone, into PCR 1.
func (p *predictor) bootVariables(like *Event) {
	for _, v := range p.boot.BootVariables {
		s := Subject{SubjectBootVariable, v.Name, globalVariable}
		if like != nil {
			p.measureLike(like, s, v.Data)
			continue
		}
		p.hash(s, 1, EventEFIVariableBoot, v.Data, variableData(globalVariable, v.Name, v.Data))
	}
}

// startFirst is the start of the first program, which firmware measures in a place of its own.
func (p *predictor) startFirst() {
	b := &p.boot
	switch {
	case len(b.Chain) > 0 && b.Chain[0].kind() == SubjectUnknown: // those of the earlier boot
		p.log.Events = append(p.log.Events, p.earlier.programs[:min(len(p.earlier.programs), 1)]...)
	case len(b.Chain) > 0:
		p.start(b.Chain[0].kind(), b.Chain[0].application(), false)
	case !b.bareKernel():
		p.start(SubjectUKI, &b.UKI, false)
	}
}

// start is the start of a program, which firmware or shim verifies and measures.
func (p *predictor) start(kind SubjectKind, a *Application, byShim bool) {
	p.authority(a, byShim)
	p.program(kind, a)
}

// next starts a program behind the first.
func (p *predictor) next(kind SubjectKind, a *Application) { p.start(kind, a, p.boot.shim() != nil) }

// authority measures what lets a program start. In PCR 7 those of firmware and shim all follow the
// separator, so their order relative to the programs, which are in PCR 4, changes no value.
func (p *predictor) authority(a *Application, byShim bool) {
	on, known := p.enforcing()
	switch {
	case known && !on:
		return
	case byShim:
		if nothing, known := p.boot.shim().verifiesNothing(); !known || nothing {
			return // not known: shim's run has said so
		}
	case p.earlier != nil && p.earlier.measuresNoAuthorities():
		return
	}
	if a.Authority == nil || !known {
		p.doubt(fmt.Sprintf("what lets %s start, which is measured, is not given", a.name()), 7)
		return
	}
	by := &p.byFirmware
	if byShim {
		by = &p.byShim
	}
	again := func(data []byte) bool { return bytes.Equal(data, a.Authority) }
	// by firmware, for a driver
	before := func(e Event) bool { return e.PCR == 7 && e.Type == EventEFIVariableAuthority && again(e.Data) }
	if slices.ContainsFunc(*by, again) || !byShim && p.earlier != nil && slices.ContainsFunc(p.earlier.firmware, before) {
		return
	}
	*by = append(*by, a.Authority)
	s := Subject{Kind: SubjectAuthority}
	if v, err := readVariable(a.Authority); err == nil {
		s.Name, s.Vendor = v.Name, v.Vendor
	}
	p.data(s, 7, EventEFIVariableAuthority, a.Authority)
}

// enforcing reports whether programs are verified as they start: by the variables that are given,
// or else by those of the earlier boot.
func (p *predictor) enforcing() (on, known bool) {
	if p.boot.Variables != nil || p.earlier == nil {
		return p.boot.secureBoot()
	}
	_, known = p.earlier.secureBoot()
	return p.earlier.enforced(), known
}

// startChain is what the programs of the chain measure, each up to the start of the next.
func (p *predictor) startChain() {
	for i, c := range p.boot.Chain {
		if i > 0 {
			p.next(c.kind(), c.application())
		}
		p.run(c)
	}
}

// startStub is the start of the UKI, then what systemd's stub measures, in its order, and the
// programs that it has the firmware load.
func (p *predictor) startStub() {
	b := &p.boot
	if len(b.Chain) > 0 {
		p.next(SubjectUKI, &b.UKI)
	}
	p.passed()
	if g := b.grub(); g != nil {
		g.measure(p, g.After)
	}
	p.handover(osmith.HandoverProfile, osmith.HandoverProfile)
	p.log.Events = append(p.log.Events, p.sections...)
	if p.stub.SMBIOS && !p.loaderMeasuresSMBIOS() {
		p.measureSMBIOS()
	}
	p.handover(osmith.HandoverPassedCmdline, osmith.HandoverPassedCmdline)
	for i := range b.Addons {
		p.next(SubjectAddon, &b.Addons[i])
	}
	p.handover(osmith.HandoverAddonCmdline, osmith.HandoverAddonInitrd)
}

// passed is the command line that systemd-boot measures as it starts the UKI or kernel.
func (p *predictor) passed() {
	if b := &p.boot; b.systemdBoot() != nil && b.Handover != nil && b.Handover.Passed != "" {
		p.data(Subject{Kind: SubjectPassed, Name: b.Handover.Passed}, sdstub.PCRConfig, EventIPL, utf16z(b.Handover.Passed))
	}
}

// startBareKernel is the start of a kernel without a stub, by systemd-boot for a Type #1 entry or
// by GRUB.
func (p *predictor) startBareKernel() {
	p.next(SubjectProgram, p.boot.Kernel)
	p.passed()
	if g := p.boot.grub(); g != nil {
		g.end(p)
		return
	}
	p.kernelStub()
}

// loaderMeasuresSMBIOS reports whether the loader is the one that measures SMBIOS: it comes first,
// and does it for both.
func (p *predictor) loaderMeasuresSMBIOS() bool {
	return p.boot.systemdBoot() != nil && p.loader.SMBIOS
}

// measureSMBIOS measures the structures. Those of an earlier boot stand in for a table that is not
// given.
func (p *predictor) measureSMBIOS() {
	if p.boot.SMBIOS == nil {
		if p.earlier != nil {
			p.log.Events = append(p.log.Events, p.earlier.smbios...)
		}
		return
	}
	for _, m := range sdstub.SMBIOSEvents() {
		for _, s := range p.smbios {
			if s.Type != m.Type {
				continue
			}
			data := s.Raw
			if s.Type == 1 && len(s.Area) > sdstub.WakeUpType {
				data = bytes.Clone(data)
				data[sdstub.WakeUpType] = 0
			}
			subject := Subject{Kind: SubjectSMBIOS, Name: Tag(m.Tag).String()}
			p.hash(subject, 1, EventTag, data, taggedData(Tag(m.Tag), utf16z(m.Name)))
			if !m.All {
				break
			}
		}
	}
}

// handoverSubjects are what the kinds of events in a hand-over measure.
var handoverSubjects = map[osmith.HandoverKind]SubjectKind{
	osmith.HandoverProfile:         SubjectProfile,
	osmith.HandoverPassedCmdline:   SubjectCommandLine,
	osmith.HandoverAddonCmdline:    SubjectAddonCommandLine,
	osmith.HandoverSMBIOSCmdline:   SubjectCommandLine,
	osmith.HandoverAddonDeviceTree: SubjectAddonDeviceTree,
	osmith.HandoverArchive:         SubjectCompanion,
	osmith.HandoverAddonMicrocode:  SubjectAddonMicrocode,
	osmith.HandoverAddonInitrd:     SubjectAddonInitrd,
}

// handover appends the events of these kinds, in the order in which they are given.
func (p *predictor) handover(first, last osmith.HandoverKind) {
	if p.boot.Handover == nil {
		return
	}
	for _, e := range p.boot.Handover.Events {
		if e.Kind < first || e.Kind > last {
			continue
		}
		s := Subject{Kind: handoverSubjects[e.Kind]}
		if s.Kind == SubjectProfile || s.Kind == SubjectCompanion || s.Kind.isCommandLine() {
			s.Name = e.Description
		}
		if e.Tag != 0 {
			p.add(s, e.PCR, EventTag, e.Digests, taggedData(Tag(e.Tag), utf16z(e.Description)))
		} else {
			p.add(s, e.PCR, EventIPL, e.Digests, utf16z(e.Description))
		}
	}
}

// startKernel is what the kernel's own EFI stub measures, and the firmware if it loads the kernel.
func (p *predictor) startKernel() {
	b := &p.boot
	if on, known := p.enforcing(); p.stub.InnerKernel && b.Kernel != nil && known && !on {
		p.program(SubjectKernel, b.Kernel)
	}
	p.kernelStub()
}

// kernelStub is what the EFI stub of the kernel measures: the command line and the initrds that it
// gets.
func (p *predictor) kernelStub() {
	h := p.boot.Handover
	if h == nil || h.Initrd == nil || h.Unknown != "" {
		return
	}
	if len(h.LoadOptions) > 0 {
		p.hash(Subject{Kind: SubjectLoadOptions}, 9, EventTag, h.LoadOptions, taggedData(TagLoadOptions, []byte("LOADED_IMAGE::LoadOptions\x00")))
	}
	p.add(Subject{Kind: SubjectInitrd}, 9, EventTag, h.Initrd, taggedData(TagInitrd, []byte("Linux initrd\x00")))
}

// knowsGPT reports whether the partition table is known: without it PCR 5 cannot be complete.
func (p *predictor) knowsGPT() bool {
	return p.gpt != nil || p.earlier != nil && slices.ContainsFunc(p.earlier.firmware, isGPT)
}

// exitBootServices is the end of the firmware's services, which the kernel's EFI stub asks for, and
// what the firmware measured of itself meanwhile.
func (p *predictor) exitBootServices() {
	var actions []string
	switch {
	case !p.knowsGPT() || p.boot.ExitBoot == ExitBootNotMeasured:
	case p.boot.ExitBoot == ExitBootUnknown && p.earlier != nil:
		p.log.Events = append(p.log.Events, p.earlier.exit...)
	case p.boot.ExitBoot == ExitBootRetried:
		actions = []string{actionExit, actionExitFailed, actionExit, actionExitSucceed}
	default:
		actions = []string{actionExit, actionExitSucceed}
	}
	for _, a := range actions {
		p.data(Subject{Kind: SubjectExitBoot, Name: a}, 5, EventEFIAction, []byte(a))
	}
	if p.earlier != nil {
		p.log.Events = append(p.log.Events, p.earlier.late...)
	}
}

// The vendors of the Secure Boot variables (UEFI 2.10, sections 3.3 and 32.4.1).
var (
	globalVariable        = efi.GlobalVariable
	imageSecurityDatabase = efi.ImageSecurityDatabase
)

// variableData is a UEFI_VARIABLE_DATA (Firmware Profile 1.06, section 10.2.6).
func variableData(vendor osmith.GUID, name string, data []byte) []byte {
	b := efi.AppendGUID(nil, vendor)
	b = binary.LittleEndian.AppendUint64(b, uint64(efi.UTF16Len(name)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	return append(efi.AppendUTF16(b, name), data...)
}

// imageLoadEvent is a UEFI_IMAGE_LOAD_EVENT (section 10.2.3) with what can be known before a boot:
// no address, and a device path that holds the file's path alone.
func imageLoadEvent(a *Application) ([]byte, DevicePath) {
	var path DevicePath
	if a.Path != "" {
		name := utf16z(`\` + strings.TrimLeft(strings.ReplaceAll(a.Path, "/", `\`), `\`))
		name = name[:min(len(name), 0xfffe-4)]
		// file path
		path = binary.LittleEndian.AppendUint16([]byte{efi.PathMedia, 4}, uint16(4+len(name)))
		path = append(append(path, name...), 0x7f, 0xff, 4, 0)
	}
	var b []byte
	for _, n := range []uint64{0, uint64(max(a.Size, 0)), 0, uint64(len(path))} {
		// location, size, link time, length of the path
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return append(b, path...), path
}

func utf16z(s string) []byte { return append(efi.AppendUTF16(nil, s), 0, 0) }
