package tpm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/efi"
)

// The tags of Windows' boot manager and loader (wbcl.h of the Windows SDK 10.0.14393). Windows
// measures them into PCRs 12 to 14 and ends each of these PCRs with a separator of the text "WBCL"
// (Windows Boot Configuration Log).
const (
	TagWindowsTrustBoundary Tag = 0x40010001 // PCRs 12, 13, 14: what one program of the boot found
	TagWindowsELAM          Tag = 0x40010002 // an antimalware driver
	TagWindowsModule        Tag = 0x40010003 // a module that was loaded
	TagWindowsTrustPoint    Tag = 0xc0010004 // not measured: EV_NO_ACTION
	TagWindowsNoAuthority   Tag = 0x00060001
	TagWindowsAuthority     Tag = 0x00060002 // PCR 14: a public key
)

// isWindowsContainer reports whether the data of a tagged event are tagged events themselves.
func isWindowsContainer(t Tag) bool { return t&0x7fff0000 == 0x40010000 }

// windowsLogEnd is what the separators of PCRs 12 to 14 hold.
const windowsLogEnd = "WBCL"

// windowsSettings are the tags of settings that say how far the boot can be trusted; of one byte
// each.
var windowsSettings = map[Tag]string{
	0x00040001: "boot debugging", 0x00050001: "kernel debugging", 0x00050002: "code integrity", 0x00050003: "test signing",
	0x00050005: "safe mode", 0x00050006: "Windows PE", 0x00050021: "flight signing",
}

// Tags inside of containers.
const (
	windowsFilePath Tag = 0x00070001
	windowsIssuer   Tag = 0x00070005
)

// windowsDepth bounds containers in containers.
const windowsDepth = 4

// windowsEvent is what people ask of a container.
type windowsEvent struct {
	settings []string
	modules  []string // names of files, safe to print
	signers  []string // issuers of the certificates that they are signed with, each once
	keys     int      // public keys of authorities
}

// read goes through the events in b. What is no event ends it.
func (w *windowsEvent) read(b []byte, depth int) {
	for len(b) >= 8 {
		tag, size := Tag(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])
		if uint64(size) > uint64(len(b)-8) {
			return
		}
		data := b[8 : 8+size]
		name, setting := windowsSettings[tag]
		switch {
		case isWindowsContainer(tag) && depth < windowsDepth:
			w.read(data, depth+1)
		case setting && len(data) == 1:
			state := "on"
			if data[0] == 0 {
				state = "off"
			}
			w.settings = append(w.settings, name+" "+state)
		case tag == windowsFilePath:
			path := windowsText(data)
			w.modules = append(w.modules, escape(path[strings.LastIndexByte(path, '\\')+1:]))
		case tag == windowsIssuer:
			if signer := quote(windowsText(data)); !slices.Contains(w.signers, signer) && len(w.signers) <= maxWindows {
				w.signers = append(w.signers, signer)
			}
		case tag == TagWindowsAuthority:
			w.keys++
		}
		b = b[8+size:]
	}
}

func windowsText(b []byte) string { return strings.TrimRight(efi.DecodeUTF16(b), "\x00") }

// maxWindows bounds what a line names of one kind.
const maxWindows = 8

// describeWindows is what a container holds, as far as people ask for it.
func describeWindows(data []byte) string {
	var w windowsEvent
	w.read(data, 0)
	var parts []string
	list := func(before string, names []string) {
		if len(names) > 0 {
			parts = append(parts, before+strings.Join(atMost(names, maxWindows), ", "))
		}
	}
	list("", w.settings)
	list("modules ", w.modules)
	list("signed by ", w.signers)
	if w.keys > 0 {
		parts = append(parts, count(w.keys, "key")+" of authorities")
	}
	if parts == nil {
		return describeBytes(data)
	}
	return strings.Join(parts, "; ")
}

// describeWindowsChange says in which settings and modules two containers differ, "" if in none of
// them.
func describeWindowsChange(want, got []byte) string {
	var w, g windowsEvent
	w.read(want, 0)
	g.read(got, 0)
	var parts []string
	list := func(format string, names []string) {
		if len(names) > 0 {
			parts = append(parts, fmt.Sprintf(format, strings.Join(atMost(names, maxWindows), ", ")))
		}
	}
	list("%s not expected", minus(g.settings, w.settings))
	list("%s missing", minus(w.settings, g.settings))
	list("modules %s not expected", minus(g.modules, w.modules))
	list("modules %s missing", minus(w.modules, g.modules))
	return strings.Join(parts, "; ")
}
