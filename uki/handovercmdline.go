package uki

import (
	"bytes"
	"strings"
	"unicode/utf16"
)

// passedCmdline takes the command line that the boot loader passes, or the image's own. systemd 252 and 255, src/boot/
// stub.c, use_load_options; systemd 257 and 262, process_arguments and settle_command_line.
func (h *handover) passedCmdline() error {
	own := h.section(".cmdline")
	text, _, _ := strings.Cut(h.boot.Cmdline, "\x00")
	passed := utf16.Encode([]rune(text))
	confidential := h.boot.ConfidentialVM && h.release >= 255
	refused := h.boot.SecureBoot && (own != nil || confidential)
	if len(passed) > 0 && !h.printable(passed) { // taken for something else than text
		refused = true
	}
	blank := len(passed) > 0
	passed = mangleCmdline(passed, h.release)
	if blank = blank && len(passed) == 0; blank && !refused && h.release < 257 {
		return h.unknown("what becomes of a passed command line of nothing but white space")
	}
	if !refused && len(passed) > 0 {
		h.measureCmdline(EventPassedCmdline, passed)
		h.cmdline = passed
		return nil
	}
	if own == nil {
		return nil
	}
	b, err := readAll(own.src, own.size, maxText)
	if err != nil {
		return &FormatError{0, "section .cmdline", err}
	}
	h.cmdline = mangleCmdline(stubUTF16(b), h.release)
	return nil
}

// printable says whether passed load options are taken for text: stubs look at the first character, and since 258 at
// all of them.
func (h *handover) printable(units []uint16) bool {
	if h.release < 258 {
		units = units[:1]
	}
	for _, u := range units {
		if u <= 0x1f {
			return false
		}
	}
	return true
}

func (h *handover) measureCmdline(kind StubEventKind, units []uint16) {
	h.event(kind, pcrKernelConfig, 0, string(utf16.Decode(units)), bytes.NewReader(terminated(units)))
}

// addonCmdlines appends the command lines of add-ons, global ones first, and measures them all together: since systemd
// 255. Before, those of each of the two directories were measured together, or each one in early point releases of 254.
func (h *handover) addonCmdlines() error {
	if h.release == 254 {
		for _, global := range []bool{true, false} {
			texts := h.addonTexts(func(a *AppliedAddon) bool { return a.Global == global })
			if len(texts) > 1 {
				return h.unknown("whether command lines of several add-ons are measured together depends on the point release")
			}
			h.addCmdline(EventAddonCmdline, mangleCmdline(joinAddons(texts, h.release), h.release))
		}
		return nil
	}
	texts := h.addonTexts(func(*AppliedAddon) bool { return true })
	text := mangleCmdline(joinAddons(texts, h.release), h.release)
	if h.release == 256 && !sameUnits(text, mangleCmdline(joinAddons(texts, 257), 257)) {
		return h.unknown("what becomes of white space around command lines of add-ons")
	}
	h.addCmdline(EventAddonCmdline, text)
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

// joinAddons puts command lines one behind the other; since systemd 257 each is cleaned up first.
func joinAddons(texts []string, release int) []uint16 {
	var all []uint16
	for _, text := range texts {
		units := stubUTF16([]byte(text))
		if release >= 257 {
			units = mangleCmdline(units, release)
		}
		all = joinCmdline(all, units)
	}
	return all
}

func sameUnits(a, b []uint16) bool { return string(utf16.Decode(a)) == string(utf16.Decode(b)) }

func (h *handover) addCmdline(kind StubEventKind, units []uint16) {
	if len(units) > 0 {
		h.measureCmdline(kind, units)
		h.cmdline = joinCmdline(h.cmdline, units)
	}
}

// smbiosCmdline appends what a hypervisor gives in SMBIOS: since systemd 254, as it is; since 257 cleaned up.
func (h *handover) smbiosCmdline() error {
	if h.boot.Hardware.SMBIOS == nil || h.boot.ConfidentialVM || h.release < 254 {
		return nil
	}
	text, ok := h.boot.Hardware.SMBIOS.CmdlineExtra()
	if !ok {
		return nil
	}
	raw := stubUTF16([]byte(text))
	clean := mangleCmdline(raw, h.release)
	if h.release < 257 {
		if len(h.cmdline) == 0 || h.release == 256 && !sameUnits(raw, clean) || len(raw) == 0 {
			return h.unknown("what becomes of %q without another command line or with white space around it", text)
		}
		clean = raw
	}
	h.addCmdline(EventSMBIOSCmdline, clean)
	return nil
}

// finishCmdline adds consoles, which happens behind the stub's measurements.
func (h *handover) finishCmdline() {
	text := string(utf16.Decode(h.cmdline))
	if h.release >= 261 && !strings.HasPrefix(text, "console=") && !strings.Contains(text, " console=") {
		for _, c := range h.boot.Consoles {
			h.cmdline = joinCmdline(h.cmdline, utf16.Encode([]rune(c)))
		}
	}
	if len(h.cmdline) > 0 {
		h.out.Cmdline = string(utf16.Decode(h.cmdline))
		h.out.LoadOptions = terminated(h.cmdline)
	}
}
