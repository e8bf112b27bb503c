package tpm

import (
	"bytes"
	"fmt"
	"strings"
)

// smbiosStructure is one structure of an SMBIOS table with its strings (DMTF DSP0134, section 6.1).
type smbiosStructure struct {
	kind      byte
	formatted byte   // length of the part before the strings
	data      []byte // all of it, both NULs at the end included
}

// readSMBIOS splits a table into its structures, up to the end marker of type 127 if there is one.
func readSMBIOS(table []byte) ([]smbiosStructure, error) {
	var out []smbiosStructure
	for at := 0; at < len(table); {
		rest := table[at:]
		if len(rest) < 4 || rest[1] < 4 || int(rest[1]) > len(rest) {
			return nil, &FormatError{Offset: int64(at), Field: "SMBIOS table", Err: fmt.Errorf("no structure in %d bytes", len(rest))}
		}
		end := bytes.Index(rest[rest[1]:], []byte{0, 0})
		if end < 0 {
			return nil, &FormatError{Offset: int64(at), Field: "SMBIOS table", Err: fmt.Errorf("the strings of a structure of type %d do not end", rest[0])}
		}
		size := int(rest[1]) + end + 2
		if rest[0] == 127 {
			break
		}
		out = append(out, smbiosStructure{rest[0], rest[1], rest[:size:size]})
		at += size
	}
	return out, nil
}

// strings are those behind the formatted part.
func (s *smbiosStructure) strings() []string {
	var out []string
	for _, text := range strings.Split(strings.TrimRight(string(s.data[s.formatted:]), "\x00"), "\x00") {
		if text != "" {
			out = append(out, text)
		}
	}
	return out
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

// smbios measures the structures. Those of an earlier boot stand in for a table that is not given.
func (p *predictor) smbios(b *Boot) {
	if !p.row.SMBIOS || p.smbiosDone {
		return
	}
	p.smbiosDone = true
	if b.SMBIOS == nil {
		p.log.Events = append(p.log.Events, p.smbiosBefore...)
		return
	}
	for _, m := range smbiosMeasured {
		for _, s := range p.structures {
			if s.kind != m.kind {
				continue
			}
			data := s.data
			if s.kind == 1 && s.formatted > wakeUpType {
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
		if s.kind != 11 {
			continue
		}
		for _, text := range s.strings() {
			if extra, ok := strings.CutPrefix(text, "io.systemd.stub.kernel-cmdline-extra="); ok {
				return extra
			}
		}
	}
	return ""
}
