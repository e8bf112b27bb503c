package uki

import (
	"bytes"
	"crypto"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Boot is what the stub meets when it starts, besides its image. The zero value is a boot of the default profile by a
// boot loader that passes nothing, on a machine without Secure Boot and companion files.
type Boot struct {
	Profile        int
	Cmdline        string // passed by the boot loader, without "@N " (see [SplitLoadOptions])
	SecureBoot     bool   // enabled: the image's own command line wins over a passed one
	ConfidentialVM bool

	// Companions are the files next to the image; nil: none. Hardware is what add-ons with .dtbauto sections are matched
	// with; its SMBIOS may also add to the command line.
	Companions *Companions
	Hardware   Hardware

	// BootSecret is what the stub passes on since systemd 261 ([DeriveBootSecret]); nil: unknown, or none if NoBootSecret
	// says so: there is no variable LoaderBootSecret, or no mixin on the partition.
	BootSecret   []byte
	NoBootSecret bool

	// Previous is the initrd that an earlier stage has set up already. Stubs take it since systemd 261.
	Previous osmith.Source
	// Consoles are the "console=" arguments that stubs since systemd 261 append if the command line has none, by the
	// consoles that the firmware has. Nil: unknown; empty: none.
	Consoles []string

	AssumeStub int // systemd release that a stub is treated as whose own is not known ([ErrUnknownStub])
}

// Handover is what the stub passes to the kernel, and what it measures on the way except for the image's own sections
// ([File.MeasureVariants]).
type Handover struct {
	// Events go into PCRs 12 and 13, in this order.
	Events []StubEvent
	// Cmdline is the command line that the kernel gets: "" for none.
	Cmdline string
	// LoadOptions are its bytes, UTF-16LE with a NUL at the end. Kernels hash them into PCR 9 first.
	LoadOptions []byte
	// Initrds are the parts of the initrd. Each is padded with zeros to a multiple of four bytes, unless it is the only
	// one.
	Initrds []InitrdPart
	// Addons are those that the stub applies, in its order. It loads the others too, which the firmware measures.
	Addons []AppliedAddon

	// Unknown is what is missing for all that the kernel gets, since the [Boot] does not say it; "": nothing. LoadOptions and
	// Initrds are then without it.
	Unknown string

	passed string
}

// StubEvent is a measurement other than that of a section.
type StubEvent struct {
	Kind        osmith.HandoverKind
	PCR         int
	Tag         uint32        // of an EV_EVENT_TAG event; 0: an EV_IPL event
	Description string        // in the event log, as UTF-16LE with a NUL at the end
	Data        osmith.Source // what is hashed
}

// InitrdPart is one part of what the kernel gets as initrd.
type InitrdPart struct {
	Name    string // section or companion kind: ".initrd", "Credentials initrd", "os-release"..., or file name of an add-on
	Content osmith.Source
}

// Handover predicts what the embedded stub does in a boot. Nothing large is read; only texts are. Where releases differ in
// a way that is not known for the stub's, the error is [ErrUnknownStub].
//
// What is known: systemd 252, 254, 255, 257, 259 and 262 by their source; 252 to 256 and 258 to 261 else by the release
// notes. Booted: 257 and 262. A stub of 252 that was built with efi-tpm-pcr-compat measures into PCR 8 as well.
func (f *File) Handover(b Boot) (*Handover, error) {
	row, err := f.release(b.AssumeStub)
	if err != nil {
		return nil, err
	}
	list, release, err := f.contents(b.AssumeStub)
	if err != nil {
		return nil, err
	}
	s, err := scopeOf(list, b.Profile, release)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	h := &handover{scope: s, row: row, boot: b, out: &Handover{passed: b.passed()}}
	for _, step := range []func() error{h.profile, h.passedCmdline, h.loadAddons, h.addonCmdlines, h.smbiosCmdline, h.archives, h.initrds} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	h.finishCmdline()
	return h.out, nil
}

// passed is what the boot loader starts the stub with.
func (b *Boot) passed() string {
	if b.Profile == 0 {
		return b.Cmdline
	}
	return strings.TrimSuffix(fmt.Sprintf("@%d %s", b.Profile, b.Cmdline), " ")
}

// handover is a Handover in the making.
type handover struct {
	*scope
	row     sdstub.Release
	boot    Boot
	out     *Handover
	cmdline []uint16
	packed  map[*cpioTarget]*view
}

// section is the section of that name that counts; nil if there is none or the stub does not know it.
func (h *handover) section(name string) *content {
	i := h.effective(name)
	if i < 0 || h.list[i].size == 0 || h.release < sdstub.SectionOf(name).Since {
		return nil
	}
	return &h.list[i]
}

func (h *handover) event(kind osmith.HandoverKind, pcr int, tag uint32, description string, data osmith.Source) {
	h.out.Events = append(h.out.Events, StubEvent{kind, pcr, tag, description, data})
}

// unknown is the error for what is not known of a release.
func (h *handover) unknown(format string, args ...any) error {
	return fmt.Errorf("uki: %w: systemd %d: %s", ErrUnknownStub, h.release, fmt.Sprintf(format, args...))
}

// profile is measured unless it is the default one.
func (h *handover) profile() error {
	if h.boot.Profile != 0 {
		text := strconv.Itoa(h.boot.Profile)
		h.event(osmith.HandoverProfile, sdstub.PCRConfig, sdstub.TagProfile, text, bytes.NewReader(sdstub.Bytes(utf16.Encode([]rune(text)))))
	}
	return nil
}

// archives packs the companion files of each kind that the release knows, and measures them.
func (h *handover) archives() error {
	// The order of device tree add-ons and archives has changed between 255 and 257.
	if h.release >= 257 {
		h.measureTrees()
	}
	h.packed = make(map[*cpioTarget]*view)
	c := h.boot.Companions
	if c == nil {
		return nil
	}
	if c.Counted && h.release < 254 && len(c.Credentials)+len(c.Sysexts)+len(c.Confexts) > 0 {
		return h.unknown("stubs before 254 look for the companions of an image with a boot counter in its name in another directory")
	}
	sysexts, confexts := c.Sysexts, c.Confexts
	if h.release < 256 { // there were no confexts: all *.raw are alike
		sysexts, confexts = mergeFiles(sysexts, confexts), nil
	}
	for _, a := range []struct {
		target *cpioTarget
		files  []CompanionFile
		since  int
	}{
		{&cpioCredentials, c.Credentials, 252},
		{&cpioGlobalCredentials, c.GlobalCredentials, 252},
		{&cpioSysexts, sysexts, 252},
		{&cpioGlobalSysexts, c.GlobalSysexts, 258},
		{&cpioConfexts, confexts, 256},
		{&cpioGlobalConfexts, c.GlobalConfexts, 258},
	} {
		if len(a.files) == 0 || h.release < a.since {
			continue
		}
		v, err := a.target.archive(mergeFiles(a.files, nil))
		if err != nil {
			return err
		}
		h.packed[a.target] = v
		h.event(osmith.HandoverArchive, a.target.pcr, 0, a.target.event, v)
	}
	if h.release < 257 {
		if h.release == 256 && h.countTrees() > 0 && len(h.packed) > 0 {
			return h.unknown("whether device tree add-ons are measured before or after companion files")
		}
		h.measureTrees()
	}
	return nil
}

// Measure hashes the data of all events and what the kernel gets as initrd, each in one pass for all hashes. Without any
// hash, SHA-256 is used. The result is what package tpm predicts a boot by.
func (h *Handover) Measure(hashes ...crypto.Hash) (*osmith.Handover, error) {
	out := &osmith.Handover{Passed: h.passed, LoadOptions: h.LoadOptions, Unknown: h.Unknown}
	var list []content
	for _, e := range h.Events {
		list = append(list, content{e.Description, e.Data, e.Data.Size()})
	}
	if src := h.Initrd(); src != nil && h.Unknown == "" {
		list = append(list, content{"initrd", src, src.Size()})
	}
	if len(list) == 0 {
		return out, nil
	}
	all := make([]int, len(list))
	for i := range all {
		all[i] = i
	}
	digests, err := measure(list, all, hashes)
	if err != nil {
		return nil, err
	}
	for i, e := range h.Events {
		out.Events = append(out.Events, osmith.HandoverEvent{Kind: e.Kind, PCR: e.PCR, Tag: e.Tag, Description: e.Description, Digests: digests[i].Digests})
	}
	if len(digests) > len(h.Events) {
		out.Initrd = digests[len(h.Events)].Digests
	}
	return out, nil
}
