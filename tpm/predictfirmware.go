package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// What edk2 writes about a boot attempt and about its end.
const (
	actionCalling     = "Calling EFI Application from Boot Option"
	actionExit        = "Exit Boot Services Invocation"
	actionExitFailed  = "Exit Boot Services Returned with Failure"
	actionExitSucceed = "Exit Boot Services Returned with Success"
)

// The vendors of the Secure Boot variables (UEFI 2.10, sections 3.3 and 32.4.1).
var (
	globalVariable        = osmith.MustParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	imageSecurityDatabase = osmith.MustParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
)

// firmware is everything up to the first program: an earlier boot's with what is planned in its place, or edk2's.
func (p *predictor) firmware(b *Boot) error {
	if b.Firmware != nil {
		if err := p.baseline(b); err != nil {
			return err
		}
	} else {
		p.variables(b)
		p.bootVariables(b, nil)
		p.data(4, EventEFIAction, []byte(actionCalling))
		for _, pcr := range []int{1, 4, 5} {
			known := pcr == 4 || pcr == 5 && b.GPT != nil || pcr == 1 && (b.BootVariables != nil || b.SMBIOS != nil)
			if known {
				p.data(pcr, EventSeparator, b.Separator[:])
			}
		}
	}
	p.authorities(b)
	if b.GPT == nil {
		return nil
	}
	data, err := gptData(b.GPT.Header, b.GPT.Entries)
	if err != nil {
		return err
	}
	p.hasGPT = true
	p.data(5, EventEFIGPT, data)
	return nil
}

// variables measures the Secure Boot configuration as edk2 does (MeasureAllSecureVariables), then the separator.
func (p *predictor) variables(b *Boot) {
	p.secureBoot(b)
	p.data(7, EventSeparator, b.Separator[:])
}

// secureBoot measures the variables: one that does not exist counts as empty, except dbt.
func (p *predictor) secureBoot(b *Boot) {
	v := b.Variables
	for _, x := range []struct {
		vendor osmith.GUID
		name   string
		data   []byte
	}{
		{globalVariable, "SecureBoot", v.SecureBoot},
		{globalVariable, "PK", v.PK},
		{globalVariable, "KEK", v.KEK},
		{imageSecurityDatabase, "db", v.DB},
		{imageSecurityDatabase, "dbx", v.DBX},
	} {
		p.data(7, EventEFIVariableDriverConfig, variableData(x.vendor, x.name, x.data))
	}
	if v.DBT != nil {
		p.data(7, EventEFIVariableDriverConfig, variableData(imageSecurityDatabase, "dbt", v.DBT))
	}
}

// bootVariables measures BootOrder and Boot####, in the way of an earlier event or else in edk2's: the contents alone.
func (p *predictor) bootVariables(b *Boot, like *Event) {
	for _, v := range b.BootVariables {
		data := variableData(globalVariable, v.Name, v.Data)
		switch {
		case like != nil && like.Type == EventEFIVariableBoot2:
			p.data(1, like.Type, data)
		case like != nil && hashedAs(like, like.Data): // all of it: older firmware
			p.data(1, EventEFIVariableBoot, data)
		default:
			p.hash(1, EventEFIVariableBoot, v.Data, data)
		}
	}
}

// authorities measures each distinct entry of db that let an image start. In PCR 7 they all follow the separator, so
// their order relative to the images, which are in PCR 4, changes no value.
func (p *predictor) authorities(b *Boot) {
	if !b.enforcing() {
		return
	}
	for _, a := range b.Authorities {
		data := variableData(imageSecurityDatabase, "db", a)
		if slices.ContainsFunc(p.authority, func(o []byte) bool { return bytes.Equal(o, data) }) {
			continue
		}
		p.authority = append(p.authority, data)
		p.data(7, EventEFIVariableAuthority, data)
	}
}

// baseline walks through an earlier boot's log and keeps what its firmware did.
func (p *predictor) baseline(b *Boot) error {
	var secureBoot, bootVars, attempt, started bool
	for i := range b.Firmware.Events {
		e := &b.Firmware.Events[i]
		application := e.Type == EventEFIBootServicesApplication && e.PCR == 4 && attempt
		started = started || application
		attempt = attempt || e.Type == EventSeparator && e.PCR == 4
		switch {
		case started:
			p.keepLate(e)
		case isSpecID(e) || e.PCR >= 8 || e.PCR < 0 || e.PCR == 7 && e.Type == EventEFIVariableAuthority && attempt:
			// Our own, or of the programs, or for PCRs that no TPM has.
		case isSecureBootVariable(e):
			if !secureBoot {
				p.secureBoot(b)
			}
			secureBoot = true
		case isBootVariable(e) && b.BootVariables != nil:
			if !bootVars {
				p.bootVariables(b, e)
			}
			bootVars = true
		case e.Type == EventSeparator && e.PCR <= 7 && b.Separator != [4]byte{}:
			p.data(e.PCR, EventSeparator, b.Separator[:])
		case e.PCR == 5 && (e.Type == EventEFIGPT || e.Type == EventEFIGPT2):
			if b.GPT == nil {
				p.keep(e)
				p.hasGPT = true
			}
		default:
			if e.PCR == 7 && e.Type == EventEFIVariableAuthority {
				p.authority = append(p.authority, e.Data)
			}
			p.keep(e)
		}
	}
	switch {
	case !attempt:
		return errors.New("tpm: predict: the earlier boot's log has no separator in PCR 4: no boot was tried")
	case !secureBoot:
		return errors.New("tpm: predict: the earlier boot's log does not measure the variable SecureBoot into PCR 7")
	}
	return nil
}

// keepLate sorts what is in an earlier boot's log after its loader had started.
func (p *predictor) keepLate(e *Event) {
	tag := Tag(0)
	if t, err := readTagged(e.Data); e.Type == EventTag && err == nil {
		tag = t.Tag
	}
	switch {
	case tag == TagSMBIOSType1 || tag == TagSMBIOSType2 || tag == TagSMBIOSType11:
		p.smbiosBefore = append(p.smbiosBefore, p.copyOf(e))
	case e.PCR == 5 && e.Type == EventEFIAction && strings.HasPrefix(string(e.Data), "Exit Boot Services"):
		p.exits = append(p.exits, p.copyOf(e))
	case e.extends() && e.PCR >= 0 && (e.PCR <= 3 || e.PCR == 6) && e.Type != EventIPL:
		p.late = append(p.late, p.copyOf(e))
	}
}

func (p *predictor) keep(e *Event) { p.log.Events = append(p.log.Events, p.copyOf(e)) }

// copyOf is an event with the digests of the banks to predict.
func (p *predictor) copyOf(e *Event) Event {
	out := Event{PCR: e.PCR, Type: e.Type, Data: bytes.Clone(e.Data), Digests: make(map[crypto.Hash][]byte, len(p.banks))}
	for _, h := range p.banks {
		if d, ok := e.Digests[h]; ok && e.extends() {
			out.Digests[h] = bytes.Clone(d)
		} else {
			out.Digests[h] = make([]byte, h.Size()) // of an event that extends nothing
		}
	}
	return out
}

func isSecureBootVariable(e *Event) bool {
	if e.PCR != 7 || e.Type != EventEFIVariableDriverConfig {
		return false
	}
	v, err := readVariable(e.Data)
	if err != nil {
		return false
	}
	if v.Vendor == globalVariable {
		return slices.Contains([]string{"SecureBoot", "PK", "KEK"}, v.Name)
	}
	return v.Vendor == imageSecurityDatabase && slices.Contains([]string{"db", "dbx", "dbt"}, v.Name)
}

func isBootVariable(e *Event) bool {
	if e.PCR != 1 || e.Type != EventEFIVariableBoot && e.Type != EventEFIVariableBoot2 {
		return false
	}
	v, err := readVariable(e.Data)
	return err == nil && v.Vendor == globalVariable && bootVariableName.MatchString(v.Name)
}

// exitBoot measures the end of the firmware's services, if the partition table is known and PCR 5 can be complete.
func (p *predictor) exitBoot(b *Boot) {
	if !p.hasGPT {
		return
	}
	actions := []string{actionExit, actionExitSucceed}
	switch {
	case b.ExitBoot == ExitNotMeasured:
		return
	case b.ExitBoot == ExitRetried:
		actions = []string{actionExit, actionExitFailed, actionExit, actionExitSucceed}
	case b.ExitBoot == ExitUnknown && b.Firmware != nil:
		p.log.Events = append(p.log.Events, p.exits...)
		return
	}
	for _, a := range actions {
		p.data(5, EventEFIAction, []byte(a))
	}
}

// variableData is a UEFI_VARIABLE_DATA (Firmware Profile 1.06, section 10.2.6).
func variableData(vendor osmith.GUID, name string, data []byte) []byte {
	b := efi.AppendGUID(nil, vendor)
	b = binary.LittleEndian.AppendUint64(b, uint64(efi.UTF16Len(name)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	return append(efi.AppendUTF16(b, name), data...)
}

// imageLoadEvent is a UEFI_IMAGE_LOAD_EVENT (section 10.2.3) with what can be known before a boot: no address, and a
// device path that holds the file's path alone.
func imageLoadEvent(a Application) []byte {
	b := make([]byte, 8, 64)
	b = binary.LittleEndian.AppendUint64(b, uint64(max(a.Size, 0)))
	b = binary.LittleEndian.AppendUint64(b, 0)
	var path []byte
	if a.Path != "" {
		name := utf16z(`\` + strings.TrimLeft(strings.ReplaceAll(a.Path, "/", `\`), `\`))
		path = append(path, pathMedia, 4) // file path
		path = binary.LittleEndian.AppendUint16(path, uint16(min(4+len(name), 0xfffe)))
		path = append(path, name[:min(len(name), 0xfffe-4)]...)
		path = append(path, 0x7f, 0xff, 4, 0)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(path)))
	return append(b, path...)
}

func utf16z(s string) []byte { return append(efi.AppendUTF16(nil, s), 0, 0) }
