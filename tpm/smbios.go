package tpm

import (
	"bytes"
	"errors"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/smbios"
)

// readSMBIOS splits a table into its structures.
func readSMBIOS(table []byte) ([]smbios.Structure, error) {
	list, err := smbios.Parse(table)
	if err != nil {
		e, _ := errors.AsType[*smbios.FormatError](err)
		return nil, &osmith.FormatError{Offset: e.Offset, Field: e.Field, Err: e.Err}
	}
	return list, nil
}

// smbiosMeasured are the structures that systemd 261 measures, in its order, and their tags.
var smbiosMeasured = []struct {
	kind byte
	all  bool // not only the first of its type
	tag  Tag
	name string
}{
	{1, false, TagSMBIOSType1, "smbios:type1"},
	{2, false, TagSMBIOSType2, "smbios:type2"},
	{11, true, TagSMBIOSType11, "smbios:type11"},
}

// wakeUpType is the byte of type 1 that says what switched the machine on, which is not measured.
const wakeUpType = 0x18

// smbios measures the structures, if the release of that row does; whoever of loader and stub comes first does it for both. Those of an earlier
// boot stand in for a table that is not given.
func (p *predictor) smbios(b *Boot, row StubVersion) {
	if !row.SMBIOS || p.smbiosDone {
		return
	}
	p.smbiosDone = true
	if b.SMBIOS == nil {
		p.log.Events = append(p.log.Events, p.smbiosBefore...)
		return
	}
	for _, m := range smbiosMeasured {
		for _, s := range p.structures {
			if s.Type != m.kind {
				continue
			}
			data := s.Raw
			if s.Type == 1 && len(s.Area) > wakeUpType {
				data = bytes.Clone(data)
				data[wakeUpType] = 0
			}
			p.hash(1, EventTag, data, taggedData(m.tag, utf16z(m.name)))
			if !m.all {
				break
			}
		}
	}
}

// cmdlineExtra is what the first string of this kind adds to the command line.
func (p *predictor) cmdlineExtra(b *Boot) string {
	if !p.row.SMBIOSExtra || b.Confidential {
		return ""
	}
	for _, s := range p.structures {
		if s.Type != 11 {
			continue
		}
		for _, text := range s.Strings {
			if extra, ok := strings.CutPrefix(text, "io.systemd.stub.kernel-cmdline-extra="); ok {
				return extra
			}
		}
	}
	return ""
}
