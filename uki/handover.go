package uki

import (
	"bytes"
	"crypto"
	"fmt"
	"strconv"
	"unicode/utf16"

	"github.com/osmith-dev/osmith"
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

	// BootSecret is what the stub passes on since systemd 261 ([DeriveBootSecret]); nil: none.
	BootSecret []byte
	// Previous is the initrd that an earlier stage has set up already. Stubs take it since systemd 261.
	Previous osmith.Source
	// Consoles are the "console=" arguments that stubs since systemd 261 append if the command line has none, by the
	// consoles that the firmware has.
	Consoles []string

	AssumeStub int // systemd release whose behaviour to assume; 0: the stub's own
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
}

// StubEvent is a measurement other than that of a section.
type StubEvent struct {
	Kind        StubEventKind
	PCR         int
	Tag         uint32        // of an EV_EVENT_TAG event; 0: an EV_IPL event
	Description string        // in the event log, as UTF-16LE with a NUL at the end
	Data        osmith.Source // what is hashed
}

// StubEventKind says what was measured.
type StubEventKind int

// The kinds of events, in the order in which stubs since systemd 257 measure them.
const (
	EventProfile         StubEventKind = iota + 1 // number of a profile that is not the default one
	EventPassedCmdline                            // command line that the boot loader passed
	EventAddonCmdline                             // command lines of add-ons
	EventSMBIOSCmdline                            // command line from SMBIOS
	EventAddonDeviceTree                          // device tree of one add-on
	EventArchive                                  // credentials, system or configuration extensions
	EventAddonMicrocode                           // microcode of one add-on
	EventAddonInitrd                              // initrd of one add-on
)

func (k StubEventKind) String() string {
	names := []string{"profile", "passed command line", "add-on command line", "SMBIOS command line", "add-on device tree", "companion files",
		"add-on microcode", "add-on initrd"}
	if k < 1 || int(k) > len(names) {
		return fmt.Sprintf("StubEventKind(%d)", int(k))
	}
	return names[k-1]
}

// InitrdPart is one part of what the kernel gets as initrd.
type InitrdPart struct {
	Name    string // section or companion kind: ".initrd", "Credentials initrd", "os-release"..., or file name of an add-on
	Content osmith.Source
}

// Tags of events: systemd 262, src/fundamental/tpm2-pcr.h.
const (
	tagProfile     = 0x13aed6db
	tagTreeAddon   = 0x6c46f751
	tagUcodeAddon  = 0xdac08e1a
	tagInitrdAddon = 0x49dffe0f
)

// Handover predicts what the embedded stub does in a boot. Nothing large is read; only texts are. Where releases differ in
// a way that is not known for the stub's, the error is [ErrUnknownStub].
//
// What is known: systemd 252, 254, 255, 257, 259 and 262 by their source; 252 to 256 and 258 to 261 else by the release
// notes. Booted: 257 and 262. A stub of 252 that was built with efi-tpm-pcr-compat measures into PCR 8 as well.
func (f *File) Handover(b Boot) (*Handover, error) {
	list, release, err := f.contents(b.AssumeStub)
	if err != nil {
		return nil, err
	}
	s, err := scopeOf(list, b.Profile, release)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	h := &handover{scope: s, boot: b, out: new(Handover)}
	for _, step := range []func() error{h.profile, h.passedCmdline, h.loadAddons, h.addonCmdlines, h.smbiosCmdline, h.archives, h.initrds} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	h.finishCmdline()
	return h.out, nil
}

// handover is a Handover in the making.
type handover struct {
	*scope
	boot    Boot
	out     *Handover
	cmdline []uint16
	packed  map[*cpioTarget]*view
}

// section is the section of that name that counts; nil if there is none or the stub does not know it.
func (h *handover) section(name string) *content {
	i := h.effective(name)
	if i < 0 || h.list[i].size == 0 || h.release < kindOf(name).since {
		return nil
	}
	return &h.list[i]
}

func (h *handover) event(kind StubEventKind, pcr int, tag uint32, description string, data osmith.Source) {
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
		h.event(EventProfile, pcrKernelConfig, tagProfile, text, bytes.NewReader(terminated(utf16.Encode([]rune(text)))))
	}
	return nil
}

// terminated is UTF-16LE with a NUL at the end.
func terminated(units []uint16) []byte { return append(appendUnits(nil, units), 0, 0) }

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
		h.event(EventArchive, a.target.pcr, 0, a.target.event, v)
	}
	if h.release < 257 {
		if h.release == 256 && h.countTrees() > 0 && len(h.packed) > 0 {
			return h.unknown("whether device tree add-ons are measured before or after companion files")
		}
		h.measureTrees()
	}
	return nil
}

// HandoverDigests are the digests of what a Handover leaves in PCRs, by hash.
type HandoverDigests struct {
	Events []map[crypto.Hash][]byte // of the data of each of Events
	// What kernels measure into PCR 9 themselves, in this order; nil for what they do not get.
	LoadOptions map[crypto.Hash][]byte
	Initrd      map[crypto.Hash][]byte
}

// Measure hashes the data of all events and what the kernel gets, each in one pass for all hashes. Without any hash,
// SHA-256 is used.
func (h *Handover) Measure(hashes ...crypto.Hash) (*HandoverDigests, error) {
	d := new(HandoverDigests)
	var list []content
	add := func(name string, src osmith.Source) { list = append(list, content{name, src, src.Size()}) }
	for _, e := range h.Events {
		add(e.Description, e.Data)
	}
	if h.LoadOptions != nil {
		add("load options", bytes.NewReader(h.LoadOptions))
	}
	if src := h.Initrd(); src != nil {
		add("initrd", src)
	}
	if len(list) == 0 {
		return d, nil
	}
	all := make([]int, len(list))
	for i := range all {
		all[i] = i
	}
	digests, err := measure(list, all, hashes)
	if err != nil {
		return nil, err
	}
	for i := range h.Events {
		d.Events = append(d.Events, digests[i].Digests)
	}
	rest := digests[len(h.Events):]
	if h.LoadOptions != nil {
		d.LoadOptions, rest = rest[0].Digests, rest[1:]
	}
	if len(rest) > 0 {
		d.Initrd = rest[0].Digests
	}
	return d, nil
}
