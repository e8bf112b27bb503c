package tpm

import (
	"bytes"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/smbios"
)

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
	for _, m := range sdstub.SMBIOSEvents() {
		for _, s := range p.structures {
			if s.Type != m.Type {
				continue
			}
			data := s.Raw
			if s.Type == 1 && len(s.Area) > sdstub.WakeUpType {
				data = bytes.Clone(data)
				data[sdstub.WakeUpType] = 0
			}
			p.hash(1, EventTag, data, taggedData(Tag(m.Tag), utf16z(m.Name)))
			if !m.All {
				break
			}
		}
	}
}

// addsCmdline reports whether the machine adds to the command line by SMBIOS.
func (p *predictor) addsCmdline() bool {
	return p.row.SMBIOSExtra && slices.ContainsFunc(p.structures, func(s smbios.Structure) bool {
		return s.Type == 11 && slices.ContainsFunc(s.Strings, func(text string) bool { return strings.HasPrefix(text, sdstub.CmdlineExtra) })
	})
}
