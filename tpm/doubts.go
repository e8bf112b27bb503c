package tpm

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// doubts are PCRs that are not claimed although the boot is described, and why: there are signs of programs that the description does not have, or the
// firmware of the earlier boot did not measure its own parts as Predict would have it do.
type doubts map[int]string

// add keeps the first reason.
func (d doubts) add(why string, pcrs ...int) {
	for _, n := range pcrs {
		if d[n] == "" {
			d[n] = why
		}
	}
}

// PCRs that further programs measure into: shim into its own, and into those of programs and of what let them start; GRUB into two more.
var (
	shimPCRs = []int{4, 7, 14}
	grubPCRs = []int{4, 7, 8, 9, 14}
)

func (p *predictor) doubts() doubts {
	d := doubts{}
	v := p.boot.Variables
	for _, of := range []struct {
		name string
		data []byte
	}{
		{"SbatLevel", v.SbatLevel}, {"MokList", v.MokList}, {"MokListX", v.MokListX}, {"MokListRT", v.MokListRT}, {"MokListXRT", v.MokListXRT},
		{"MokSBState", v.MokSBState}, {"MokDBState", v.MokDBState}, {"MokPolicy", v.MokPolicy}, {"MokListTrustedRT", v.MokListTrustedRT},
	} {
		if len(of.data) > 0 && !p.boot.NoShim {
			d.add(fmt.Sprintf("the machine has shim's variable %s, and what shim measures is not predicted", of.name), shimPCRs...)
		}
	}
	if p.boot.Firmware == nil {
		return d
	}
	subjects := p.boot.Firmware.subjects()
	p.strangers(d, subjects)
	p.ownBoot(d, subjects)
	return d
}

// strangers looks for traces of programs that the description of a boot has no place for.
func (p *predictor) strangers(d doubts, subjects []Subject) {
	attempted := false
	for i, s := range subjects {
		e := &p.boot.Firmware.Events[i]
		attempted = attempted || e.Type == EventSeparator && e.PCR == 4
		switch {
		case !e.extends():
		case e.Type == EventEFIVariableAuthority && (s.Vendor == efi.ShimLock || s.Name == "Shim"):
			d.add(fmt.Sprintf("the earlier boot went through shim: it measured %s, and what shim measures is not predicted", s), shimPCRs...)
		case s.Kind == SubjectSeparator || s.Kind == SubjectPhase:
		case e.PCR == 14:
			d.add("the earlier boot went through shim, which alone extends PCR 14, and what shim measures is not predicted", shimPCRs...)
		case e.PCR == 8:
			d.add("the earlier boot went through GRUB, which alone extends PCR 8, and what GRUB measures is not predicted", grubPCRs...)
		case e.PCR == 9 && e.Type == EventIPL && s.Kind == SubjectUnknown:
			d.add("the earlier boot went through a boot loader that measures files into PCR 9, as GRUB does, and what it measures is not predicted", grubPCRs...)
		case e.PCR == 4 && s.Kind == SubjectProgram:
			d.add(fmt.Sprintf("the earlier boot started %s, whose part in the boot is not known", s), 4, 7)
		case e.PCR == 4 && s.Kind.isProgram() && !attempted && s.Name != "":
			d.add(fmt.Sprintf("firmware measured %s before the separator of PCR 4, and Predict has programs behind it", s), 4)
		}
	}
	if n := programs(subjects); n > 2 { // a loader and a UKI; the boot that is described may do without the loader
		d.add(fmt.Sprintf("the earlier boot started %d programs one from the other, which are more than a boot loader and a UKI", n), 4, 7)
	}
}

// programs counts loaders and UKIs: a chain of more than two has a program that the description does not have.
func programs(subjects []Subject) (n int) {
	for _, s := range subjects {
		if s.Kind == SubjectLoader || s.Kind == SubjectUKI {
			n++
		}
	}
	return n
}

// ownBoot predicts the earlier boot's firmware from its own parts: a PCR in which that does not come out as it was is one in which this firmware goes another
// way than edk2, and what is put in the place of its parts would not come out either.
func (p *predictor) ownBoot(d doubts, subjects []Subject) {
	own := &predictor{stub: p.stub, loader: p.loader, banks: p.banks, earlier: p.earlier, log: &Log{}}
	own.boot.Firmware = p.boot.Firmware
	v := &osmith.FirmwareVariables{}
	own.boot.Variables = v
	actual := map[int][]Event{}
	for i, s := range subjects {
		e := p.boot.Firmware.Events[i].only(p.banks)
		e.Subject = s
		if !p.boot.Firmware.Events[i].extends() || e.Type == EventIPL || s.Kind == SubjectPhase {
			continue // what userspace and loaders say
		}
		actual[e.PCR] = append(actual[e.PCR], e)
		_, name, data, ok := splitVariable(e.Data)
		switch {
		case isSecureBootVariable(e) && ok:
			*map[string]*[]byte{"SecureBoot": &v.SecureBoot, "PK": &v.PK, "KEK": &v.KEK, "db": &v.DB, "dbx": &v.DBX, "dbt": &v.DBT}[s.Name] = append([]byte{}, data...)
		case e.Type == EventEFIVariableAuthority && e.PCR == 7 && s.Vendor == imageSecurityDatabase && s.Name == "db" && ok:
			own.boot.Authorities = append(own.boot.Authorities, data)
		case isBootVariable(e) && ok && p.boot.BootVariables != nil:
			own.boot.BootVariables = append(own.boot.BootVariables, BootVariable{name, data})
		case isGPT(e) && p.gpt != nil:
			own.gpt = e.Data
		}
	}
	if len(v.SecureBoot) != 1 {
		d.add("firmware measured the variable SecureBoot as one that is empty or absent, and Predict measures one byte", 7)
		return
	}
	own.firmware()
	for _, n := range []int{1, 4, 5, 7} {
		got := actual[n]
		same := true
		k := 0
		for _, e := range own.log.Events {
			if e.PCR != n || !e.extends() {
				continue
			}
			same = same && k < len(got) && sameDigests(e, got[k])
			k++
		}
		if !same || n == 7 && k < len(got) {
			d.add(fmt.Sprintf("firmware of the earlier boot did not measure into PCR %d what edk2 would, or not in its order: its own parts do not lead to its own value", n), n)
		}
	}
	p.authorityPlace(d, actual[7])
	if !own.boot.enforcing() && p.boot.enforcing() && (d[4] != "" || d[5] != "") {
		d.add("Secure Boot was off in the earlier boot, whose firmware goes another way than edk2: what it measures of that which lets programs start is not known", 7)
	}
	if own.boot.enforcing() && p.boot.enforcing() && len(own.boot.Authorities) == 0 {
		d.add("firmware of the earlier boot started programs with Secure Boot on, and measured nothing of what let them start", 7)
	}
}

// authorityPlace is about firmware that measured authorities before the separator of PCR 7 alone. Those of option ROMs come there, and are not measured again for
// a program; whether another one would come behind the separator is not known then.
func (p *predictor) authorityPlace(d doubts, events []Event) {
	var before [][]byte
	separated := false
	for _, e := range events {
		separated = separated || e.Type == EventSeparator
		switch {
		case e.Type != EventEFIVariableAuthority:
		case separated:
			return
		default:
			before = append(before, e.Data)
		}
	}
	if len(before) == 0 || !p.boot.enforcing() {
		return
	}
	for _, a := range p.boot.Authorities {
		data := variableData(imageSecurityDatabase, "db", a)
		if !slices.ContainsFunc(before, func(b []byte) bool { return bytes.Equal(b, data) }) {
			d.add("firmware of the earlier boot measured what let programs start before the separator of PCR 7 alone, and where it measures another entry of db is not known", 7)
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

// extraStrings reports whether the earlier boot measured SMBIOS strings of the kind that can add to a command line.
func (p *predictor) extraStrings() bool {
	return p.earlier != nil && slices.ContainsFunc(p.earlier.smbios, func(e Event) bool {
		return slices.ContainsFunc(sdstub.SMBIOSEvents(), func(m sdstub.SMBIOSEvent) bool { return m.Type == 11 && e.Subject.Name == Tag(m.Tag).String() })
	})
}
