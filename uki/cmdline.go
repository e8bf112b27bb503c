package uki

import (
	"bytes"
	"strings"
	"unicode/utf16"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// passedCmdline takes the command line that the boot loader passes, or the image's own. systemd 252
// and 255, src/boot/ stub.c, use_load_options; systemd 257 and 262, process_arguments and
// settle_command_line.
func (h *handover) passedCmdline() error {
	own := h.section(".cmdline")
	text, _, _ := strings.Cut(h.boot.Cmdline, "\x00")
	passed := utf16.Encode([]rune(text))
	confidential := h.boot.ConfidentialVM && h.release >= 255
	refused := h.boot.SecureBoot && (own != nil || confidential)
	if len(passed) > 0 && !sdstub.IsText(passed, h.release) { // taken for something else than text
		refused = true
	}
	blank := len(passed) > 0
	passed = sdstub.Mangle(passed, h.release)
	if blank = blank && len(passed) == 0; blank && !refused && h.release < 257 {
		return h.unknown("how the stub treats a passed command line of white space only")
	}
	if !refused && len(passed) > 0 {
		h.measureCmdline(osmith.HandoverPassedCmdline, passed)
		h.cmdline = passed
		return nil
	}
	if own == nil {
		return nil
	}
	b, err := readAll(own.src, own.size, maxText)
	if err != nil {
		return &osmith.FormatError{Offset: 0, Field: "section .cmdline", Err: err}
	}
	h.cmdline = sdstub.Mangle(sdstub.UTF16(b), h.release)
	return nil
}

func (h *handover) measureCmdline(kind osmith.HandoverKind, units []uint16) {
	h.event(kind, sdstub.PCRConfig, 0, string(utf16.Decode(units)), bytes.NewReader(sdstub.Bytes(units)))
}

// addonCmdlines appends the command lines of add-ons, global ones first, and measures them all
// together: since systemd
//  255. Before, those of each of the two directories were measured together, or each one in early
//     point releases of 254.
func (h *handover) addonCmdlines() error {
	if h.release == 254 {
		for _, global := range []bool{true, false} {
			texts := h.addonTexts(func(a *AppliedAddon) bool { return a.Global == global })
			if len(texts) > 1 {
				return h.unknown("whether command lines of several add-ons are measured together depends on the point release")
			}
			h.addCmdline(osmith.HandoverAddonCmdline, sdstub.Mangle(sdstub.JoinAddons(texts, h.release), h.release))
		}
		return nil
	}
	texts := h.addonTexts(func(*AppliedAddon) bool { return true })
	text := sdstub.Mangle(sdstub.JoinAddons(texts, h.release), h.release)
	if h.release == 256 && !sameUnits(text, sdstub.Mangle(sdstub.JoinAddons(texts, 257), 257)) {
		return h.unknown("how the stub treats white space around command lines of add-ons")
	}
	h.addCmdline(osmith.HandoverAddonCmdline, text)
	return nil
}

func (h *handover) addonTexts(want func(*AppliedAddon) bool) []string {
	var texts []string
	for i := range h.out.Addons {
		if a := &h.out.Addons[i]; a.Cmdline != "" && want(a) {
			texts = append(texts, a.Cmdline)
		}
	}
	return texts
}

func sameUnits(a, b []uint16) bool { return string(utf16.Decode(a)) == string(utf16.Decode(b)) }

func (h *handover) addCmdline(kind osmith.HandoverKind, units []uint16) {
	if len(units) > 0 {
		h.measureCmdline(kind, units)
		h.cmdline = sdstub.Join(h.cmdline, units)
	}
}

// smbiosCmdline appends what a hypervisor gives in SMBIOS: since systemd 254, as it is; since 257
// cleaned up.
func (h *handover) smbiosCmdline() error {
	if h.boot.Hardware.SMBIOS == nil || h.boot.ConfidentialVM || !h.row.SMBIOSExtra {
		return nil
	}
	text, ok := h.boot.Hardware.SMBIOS.CmdlineExtra()
	if !ok {
		return nil
	}
	raw := sdstub.UTF16([]byte(text))
	clean := sdstub.Mangle(raw, h.release)
	if h.release < 257 {
		if len(h.cmdline) == 0 || h.release == 256 && !sameUnits(raw, clean) || len(raw) == 0 {
			return h.unknown("how the stub treats %q as the only command line or with white space around it", text)
		}
		clean = raw
	}
	h.addCmdline(osmith.HandoverSMBIOSCmdline, clean)
	return nil
}

// finishCmdline adds consoles, which happens behind the stub's measurements.
func (h *handover) finishCmdline() {
	if h.row.Console && !sdstub.HasConsole(h.cmdline) {
		if h.boot.Consoles == nil {
			h.out.Unknown = "the stub adds console= by the firmware's consoles, which are not given"
		}
		for _, c := range h.boot.Consoles {
			h.cmdline = sdstub.Join(h.cmdline, utf16.Encode([]rune(c)))
		}
	}
	if len(h.cmdline) > 0 {
		h.out.Cmdline = string(utf16.Decode(h.cmdline))
		h.out.LoadOptions = sdstub.Bytes(h.cmdline)
	}
}

// SplitLoadOptions splits the text that a boot loader passes to a unified kernel image into the
// number of the profile, which a leading "@N" chooses since systemd 257, and the command line after
// it.
func SplitLoadOptions(s string) (profile int, cmdline string) {
	rest, ok := strings.CutPrefix(s, "@")
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
		profile = min(profile*10+int(rest[digits-1]-'0'), 1<<20) // enough to be no profile's number
	}
	switch {
	case !ok || digits == 0 || profile == 1<<20:
		return 0, s
	case digits == len(rest):
		return profile, ""
	case rest[digits] == ' ':
		return profile, rest[digits+1:]
	}
	return 0, s
}
