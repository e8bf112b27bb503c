package tpm

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// doubts are PCRs that are not claimed although the boot is described, and why: there are signs of
// programs that the description does not have, or the firmware of the earlier boot did not measure
// its own parts as Predict would have it do.
type doubts map[int]string

// add keeps the first reason.
func (d doubts) add(why string, pcrs ...int) {
	for _, n := range pcrs {
		if d[n] == "" {
			d[n] = why
		}
	}
}

// PCRs that further programs measure into: shim into its own, and into those of programs and of
// what let them start; GRUB into two more.
var (
	shimPCRs = []int{4, 7, 14}
	grubPCRs = []int{4, 7, 8, 9, 14}
)

// signs looks for traces of what the description of a boot has no place for.
func (p *predictor) signs() {
	if v := p.boot.Variables; v != nil && !p.boot.NoShim && p.boot.shim() == nil {
		for _, of := range []struct {
			name string
			data []byte
		}{
			{"SbatLevel", v.SbatLevel}, {"MokList", v.MokList}, {"MokListX", v.MokListX}, {"MokListRT", v.MokListRT}, {"MokListXRT", v.MokListXRT},
			{"MokSBState", v.MokSBState}, {"MokDBState", v.MokDBState}, {"MokPolicy", v.MokPolicy}, {"MokListTrustedRT", v.MokListTrustedRT},
		} {
			if len(of.data) > 0 {
				p.doubt(fmt.Sprintf("the machine has shim's variable %s, and the chain has no shim", of.name), shimPCRs...)
			}
		}
	}
	if p.earlier != nil {
		p.strangers(p.boot.Firmware.subjects())
		p.ownBoot()
	}
}

// strangers looks for traces of programs in the earlier boot's log.
func (p *predictor) strangers(subjects []Subject) {
	shim, grub := p.boot.shim() != nil, p.boot.grub() != nil
	// each takes the place of one
	asMany := len(p.boot.Chain) > 0 && programs(subjects) == len(p.boot.Chain)+1
	for i, s := range subjects {
		e := &p.boot.Firmware.Events[i]
		switch {
		case !e.extends() || s.Kind == SubjectSeparator || s.Kind == SubjectPhase:
		case !shim && e.Type == EventEFIVariableAuthority && (s.Vendor == efi.ShimLock || s.Name == "Shim"):
			p.doubt(fmt.Sprintf("the earlier boot went through shim, since it measured %s, and the chain has no shim", s), shimPCRs...)
		case !shim && e.PCR == 14:
			p.doubt("the earlier boot went through shim, which alone extends PCR 14, and the chain has no shim", shimPCRs...)
		case !grub && e.PCR == 8:
			p.doubt("the earlier boot went through GRUB, which alone extends PCR 8, and the chain has no GRUB", grubPCRs...)
		case !grub && e.PCR == 9 && e.Type == EventIPL && s.Kind == SubjectUnknown:
			p.doubt("the earlier boot went through a boot loader that measures files into PCR 9, as GRUB does, and the chain has no GRUB", grubPCRs...)
		case e.PCR == 4 && s.Kind == SubjectProgram && !asMany && !p.starts(e):
			p.doubt(fmt.Sprintf("the earlier boot started %s, whose part in the boot is not known", s), 4, 7)
		}
	}
	known := max(2, len(p.boot.Chain)+1) // a boot with a loader tells enough for one without
	if shim {
		known = max(3, known)
	}
	if n := programs(subjects); n > known {
		p.doubt(fmt.Sprintf("the earlier boot started %d programs one from the other, and this one is said to start %d", n, len(p.boot.Chain)+1), 4, 7)
	}
}

// starts reports whether the program of an event is one of those that are given.
func (p *predictor) starts(e *Event) bool {
	only := e.only(p.banks)
	return slices.ContainsFunc(p.boot.applications(), func(a *Application) bool { return sameDigests(only, Event{Digests: a.Digests}) })
}

// programs counts what was started one from the other: a chain of more programs has one that the
// description does not have.
func programs(subjects []Subject) (n int) {
	for _, s := range subjects {
		if s.Kind == SubjectLoader || s.Kind == SubjectUKI || s.Kind == SubjectProgram {
			n++
		}
	}
	return n
}

// ownBoot puts the earlier boot together again from its own parts: a PCR that does not come out as
// it was is one in which this firmware goes a way that is not understood, and what is put in the
// place of its parts would not come out either.
func (p *predictor) ownBoot() {
	own := p.earlier.together(p.banks, p.boot.BootVariables != nil, p.gpt != nil)
	for _, n := range []int{1, 4, 5, 7} {
		got := p.earlier.all[n]
		same := len(own[n]) == len(got)
		for i := 0; same && i < len(got); i++ {
			same = sameDigests(own[n][i], got[i])
		}
		if !same {
			p.doubt(fmt.Sprintf("what firmware of the earlier boot measured into PCR %d is not understood: its own parts do not lead to its own value", n), n)
		}
	}
	p.authorityPlace()
	on, known := p.enforcing()
	if known && on && !p.earlier.enforced() && !p.earlier.likeEDK2() {
		p.doubt("Secure Boot was off in the earlier boot, whose firmware goes another way than edk2: what it measures of that which lets programs start is not known", 7)
	}
}

// together returns what the firmware and the programs of the earlier boot measured, as Predict puts
// it together: with the boot variables and the partition table taken out and put in again, if they
// are to be replaced.
func (b *baseline) together(banks []crypto.Hash, bootVariables, gpt bool) map[int][]Event {
	own := &predictor{banks: banks, earlier: b, log: &Log{}, doubts: doubts{}, boot: Boot{Variables: b.variables()}}
	for _, e := range b.firmware {
		_, name, data, ok := splitVariable(e.Data)
		switch {
		case isBootVariable(e) && ok && bootVariables:
			own.boot.BootVariables = append(own.boot.BootVariables, BootVariable{name, data})
		case isGPT(e) && gpt:
			own.gpt = e.Data
		}
	}
	own.boot.Chain = []Program{&recordedChain{}}
	own.firmwareAgain()
	out := map[int][]Event{}
	for _, e := range slices.Concat(own.log.Events, b.programs[min(len(b.programs), 1):], b.authorities, b.smbios, b.loaderConf, b.exit, b.late) {
		if e.extends() {
			out[e.PCR] = append(out[e.PCR], e)
		}
	}
	return out
}

// recordedChain stands for the programs of an earlier boot.
type recordedChain struct{ OtherProgram }

func (*recordedChain) kind() SubjectKind { return SubjectUnknown }

// authorityPlace is about firmware that measured authorities before the separator of PCR 7 alone.
// Those of option ROMs come there, and are not measured again for a program; whether another one
// would come behind the separator is not known then.
func (p *predictor) authorityPlace() {
	var before [][]byte
	separated := false
	for _, e := range p.earlier.all[7] {
		separated = separated || e.Type == EventSeparator
		switch {
		case e.Type != EventEFIVariableAuthority:
		case separated:
			return
		default:
			before = append(before, e.Data)
		}
	}
	if on, known := p.enforcing(); len(before) == 0 || known && !on {
		return
	}
	for _, a := range p.boot.applications() {
		if !slices.ContainsFunc(before, func(b []byte) bool { return bytes.Equal(b, a.Authority) }) {
			p.doubt("firmware of the earlier boot measured what let programs start before the separator of PCR 7 alone, and where it measures another entry of db is not known", 7)
		}
	}
}

func sameDigests(a, b Event) bool {
	for h, sum := range a.Digests {
		if !bytes.Equal(sum, b.Digests[h]) {
			return false
		}
	}
	return true
}

// extraStrings reports whether the earlier boot measured SMBIOS strings of the kind that can add to
// a command line.
func (p *predictor) extraStrings() bool {
	return p.earlier != nil && slices.ContainsFunc(p.earlier.smbios, func(e Event) bool {
		return slices.ContainsFunc(sdstub.SMBIOSEvents(), func(m sdstub.SMBIOSEvent) bool { return m.Type == 11 && e.Subject.Name == Tag(m.Tag).String() })
	})
}
