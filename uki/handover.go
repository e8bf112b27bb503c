package uki

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Boot is the environment in which the stub of an image starts. The zero value is a boot of the
// default profile by a boot loader that passes no command line, on a machine without Secure Boot
// and companion files.
type Boot struct {
	Profile        int
	Cmdline        string // passed by the boot loader, without "@N " (see [SplitLoadOptions])
	SecureBoot     bool   // enabled: the image's own command line wins over a passed one
	ConfidentialVM bool

	// Companions are the files next to the image; nil: none. Hardware is compared with the .dtbauto
	// sections of add-ons; its SMBIOS may also add to the command line.
	Companions *Companions
	Hardware   Hardware

	// BootSecret is the secret that the stub passes to the initrd since systemd 261
	// ([DeriveBootSecret]). Nil: unknown or, with NoBootSecret, none: the variable LoaderBootSecret
	// or the mixin on the partition is missing.
	BootSecret   []byte
	NoBootSecret bool

	// Previous is the initrd that an earlier stage has set up already. Stubs accept it since
	// systemd 261.
	Previous osmith.Source
	// Consoles are the "console=" arguments that stubs since systemd 261 append if the command line
	// has none, according to the consoles of the firmware. Nil: unknown; empty: none.
	Consoles []string
}

// Handover is what the stub passes to the kernel, and what it measures besides the image's own
// sections ([File.MeasureVariants]).
type Handover struct {
	// Events go into PCRs 12 and 13, in this order.
	Events []StubEvent
	// Cmdline is the command line that the kernel receives: "" for none.
	Cmdline string
	// LoadOptions are the bytes of Cmdline, UTF-16LE with a NUL at the end. Kernels hash them into
	// PCR 9 first.
	LoadOptions []byte
	// Initrds are the parts of the initrd. Each is padded with zeros to a multiple of four bytes,
	// unless it is the only one.
	Initrds []InitrdPart
	// Addons are the add-ons that the stub applies, in its order. It also loads the other add-ons,
	// which the firmware measures.
	Addons []AppliedAddon

	// Unknown names the input that is missing in [Boot]; "": none. LoadOptions and Initrds then
	// lack what depends on it.
	Unknown string

	// Findings list what the kernel does not accept: options of a command line that is too long.
	// Unknown Consoles are not counted.
	Findings []Finding

	passed string
}

// StubEvent is a measurement of something other than a section.
type StubEvent struct {
	Kind        osmith.HandoverKind
	PCR         int
	Tag         uint32        // of an EV_EVENT_TAG event; 0: an EV_IPL event
	Description string        // written to the event log as UTF-16LE with a NUL at the end
	Data        osmith.Source // what is hashed
}

// InitrdPart is one part of the initrd that the kernel receives.
type InitrdPart struct {
	// section or companion kind: ".initrd", "Credentials initrd", "os-release"..., or file name of
	// an add-on
	Name    string
	Content osmith.Source
}

// Handover predicts what the embedded stub does in a boot. It reads only texts, no large sections.
// If releases differ in a way that is unknown for the stub's release, the error is
// [ErrUnknownStub].
//
// Evidence: the source of systemd 252, 254, 255, 257, 259 and 262; for 252 to 256 and 258 to 261
// otherwise the release notes. Booted: 257 and 262. A stub of 252 that was built with
// efi-tpm-pcr-compat measures into PCR 8 as well.
func (f *File) Handover(b Boot) (_ *Handover, err error) {
	defer prefix.Add("uki", &err)
	h, err := f.handover(b)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{h.profile, h.passedCmdline, h.loadAddons, h.addonCmdlines, h.smbiosCmdline, h.archives, h.initrds} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	h.finishCmdline()
	if err := h.cmdlineLength(); err != nil {
		return nil, err
	}
	return h.out, nil
}

// handover begins one.
func (f *File) handover(b Boot) (*handover, error) {
	row, err := f.release()
	if err != nil {
		return nil, err
	}
	list, release, err := f.contents()
	if err != nil {
		return nil, err
	}
	s, err := scopeOf(list, b.Profile, release)
	if err != nil {
		return nil, err
	}
	return &handover{scope: s, row: row, machine: f.pe.Machine, boot: b, out: &Handover{passed: b.passed()}}, nil
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
	machine uint16 // of the image
	boot    Boot
	out     *Handover
	cmdline []uint16
	packed  map[*cpioTarget]*view
}

// section is the section of that name that counts; nil if there is none or the stub does not know
// it.
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
	return fmt.Errorf("%w: systemd %d: %s", ErrUnknownStub, h.release, fmt.Sprintf(format, args...))
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
		return h.unknown("stubs before 254 look in a different directory for the companions of an image with a boot counter in its name")
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

// Measure hashes the data of all events and the kernel's initrd, each in one pass for all hashes.
// Without any hash, SHA-256 is used. Package tpm predicts a boot from the result.
func (h *Handover) Measure(hashes ...crypto.Hash) (_ *osmith.Handover, err error) {
	defer prefix.Add("uki", &err)
	out := &osmith.Handover{Passed: h.passed, LoadOptions: h.LoadOptions, Unknown: h.Unknown}
	var list []content
	for _, e := range h.Events {
		list = append(list, content{name: e.Description, src: e.Data, size: e.Data.Size()})
	}
	if src := h.Initrd(); src != nil && h.Unknown == "" {
		list = append(list, content{name: "initrd", src: src, size: src.Size()})
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

// AppliedAddon holds the sections of an add-on that the stub applies: those that its release
// supports and that match the machine.
type AppliedAddon struct {
	Name       string        // of the file
	Global     bool          // from loader/addons
	Cmdline    string        // content of .cmdline, "" for none
	DeviceTree osmith.Source // nil for none, as for the fields below
	Microcode  osmith.Source
	Initrd     osmith.Source
}

// mergeFiles sorts files as the stub takes them: by name, byte by byte.
func mergeFiles(a, b []CompanionFile) []CompanionFile {
	all := append(append([]CompanionFile(nil), a...), b...)
	sort.SliceStable(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// loadAddons opens the add-ons, global ones first. systemd 254, src/boot/efi/stub.c,
// cmdline_append_and_measure_addons; systemd 255, 257 and 262, load_addons.
func (h *handover) loadAddons() error {
	c := h.boot.Companions
	if c == nil || h.release < 254 {
		return nil
	}
	for _, dir := range []struct {
		files  []CompanionFile
		global bool
	}{{c.GlobalAddons, true}, {c.Addons, false}} {
		for _, file := range mergeFiles(dir.files, nil) {
			a, err := h.loadAddon(file)
			if err != nil {
				return fmt.Errorf("add-on %s: %w", file.Name, err)
			}
			if a != nil {
				a.Global = dir.global
				h.out.Addons = append(h.out.Addons, *a)
			}
		}
	}
	return nil
}

// loadAddon reads an add-on; nil for one that the stub ignores.
func (h *handover) loadAddon(file CompanionFile) (*AppliedAddon, error) {
	f, err := open(file.Content, kindAddon)
	if err != nil {
		return nil, err
	}
	a, err := h.applyAddon(file.Name, f)
	if _, skipped := errors.AsType[*SkippedAddonError](err); skipped {
		return nil, nil
	}
	return a, err
}

// applyAddon says what the stub takes from an add-on; a [*SkippedAddonError] if it is nothing.
func (h *handover) applyAddon(name string, f *File) (*AppliedAddon, error) {
	list := make([]content, len(f.sections))
	for i, s := range f.sections {
		list[i] = content{name: s.Name, src: f.data(i), size: s.Size}
	}
	m, err := newMatcher(list, h.boot.Hardware, h.release)
	if err != nil {
		return nil, err
	}
	first := make(map[string]*content)
	for i := range list {
		c := &list[i]
		k := sdstub.SectionOf(c.name)
		if k == nil || h.release < k.Since || c.size == 0 || first[c.name] != nil {
			continue
		}
		if k.Repeats {
			if ok, err := m.takes(*c); err != nil {
				return nil, err
			} else if !ok {
				continue
			}
		}
		first[c.name] = c
	}
	if err := h.forThisKernel(first[".uname"]); err != nil {
		return nil, err
	}
	a, err := h.partsOf(name, first)
	if err == nil && a == nil {
		err = &SkippedAddonError{Text: "it has no part that is for this machine and known to the stub"}
	}
	return a, err
}

// partsOf takes the sections that the release applies, nil if there are none.
func (h *handover) partsOf(name string, first map[string]*content) (*AppliedAddon, error) {
	a := &AppliedAddon{Name: name}
	if c := first[".cmdline"]; c != nil {
		text, err := readAll(c.src, c.size, maxText)
		if err != nil {
			return nil, &osmith.FormatError{Offset: 0, Field: "section .cmdline", Err: err}
		}
		a.Cmdline = string(text)
	}
	source := func(name string) osmith.Source {
		c := first[name]
		if c == nil || h.release < sdstub.SectionOf(name).Addon {
			return nil
		}
		return io.NewSectionReader(c.src, 0, c.size)
	}
	a.Initrd, a.Microcode = source(".initrd"), source(".ucode")
	if a.DeviceTree = source(".dtbauto"); a.DeviceTree == nil {
		a.DeviceTree = source(".dtb")
	}
	if a.Cmdline == "" && a.DeviceTree == nil && a.Microcode == nil && a.Initrd == nil {
		return nil, nil
	}
	return a, nil
}

// forThisKernel compares .uname of the add-on, as far as it goes, with that of the image. Images
// and add-ons without one go with everything.
func (h *handover) forThisKernel(c *content) error {
	own := h.section(".uname")
	if c == nil || own == nil {
		return nil
	}
	want, err := readAll(own.src, own.size, maxText)
	if err != nil {
		return &osmith.FormatError{Offset: 0, Field: "section .uname", Err: err}
	}
	have, err := readAll(c.src, c.size, maxText)
	if err != nil {
		return &osmith.FormatError{Offset: 0, Field: "section .uname", Err: err}
	}
	want, _, _ = bytes.Cut(want, []byte{0})
	prefix, _, ended := bytes.Cut(have, []byte{0})
	same := bytes.HasPrefix(want, prefix) && (!ended || len(prefix) == len(want))
	switch {
	case same:
		return nil
	case h.release == 255 || h.release == 256:
		return h.unknown("whether an add-on for kernel %q is ignored under kernel %q depends on the point release", prefix, want)
	}
	return &SkippedAddonError{Want: string(want), Got: string(prefix), Text: fmt.Sprintf("the add-on is for kernel %q, and the image has %q", prefix, want)}
}

func (h *handover) countTrees() int {
	n := 0
	for _, a := range h.out.Addons {
		if a.DeviceTree != nil {
			n++
		}
	}
	return n
}

// measureTrees measures the device trees of add-ons.
func (h *handover) measureTrees() {
	for _, a := range h.out.Addons {
		if a.DeviceTree != nil {
			h.event(osmith.HandoverAddonDeviceTree, sdstub.PCRConfig, sdstub.TagAddonDeviceTree, a.Name, a.DeviceTree)
		}
	}
}

// initrds puts the parts of the initrd into the order in which the stub hands them over, and
// measures those of add-ons. Microcode comes first, and that of the last add-on before all, since
// the kernel takes the first that it finds; the parts of later add-ons overwrite files of earlier
// ones. systemd 252 and 255, src/boot/efi/stub.c, efi_main and run; systemd 257 and 262,
// src/boot/stub.c, run.
func (h *handover) initrds() error {
	if h.boot.Previous != nil && h.release < 261 {
		return h.unknown("stubs before 261 cannot add to an initrd that is set up already")
	}
	for i := len(h.out.Addons) - 1; i >= 0; i-- {
		if a := h.out.Addons[i]; a.Microcode != nil {
			h.event(osmith.HandoverAddonMicrocode, sdstub.PCRConfig, sdstub.TagAddonMicrocode, a.Name, a.Microcode)
			h.initrd(a.Name, a.Microcode)
		}
	}
	h.initrdSection(".ucode")
	if h.boot.Previous != nil {
		h.initrd("previous initrd", h.boot.Previous)
	}
	h.initrdSection(".initrd")
	for _, t := range []*cpioTarget{&cpioCredentials, &cpioGlobalCredentials, &cpioSysexts, &cpioGlobalSysexts, &cpioConfexts, &cpioGlobalConfexts} {
		if v := h.packed[t]; v != nil {
			h.initrd(t.event, v)
		}
	}
	if err := h.extraFiles(); err != nil {
		return err
	}
	for _, a := range h.out.Addons {
		if a.Initrd != nil {
			h.event(osmith.HandoverAddonInitrd, sdstub.PCRConfig, sdstub.TagAddonInitrd, a.Name, a.Initrd)
			h.initrd(a.Name, a.Initrd)
		}
	}
	return nil
}

// extraFiles wraps what the initrd shall find of the image and the boot in /.extra. Sections have
// been measured themselves, or must not be.
func (h *handover) extraFiles() error {
	for _, x := range []struct {
		section, name string
		since         int
	}{
		{".pcrsig", "tpm2-pcr-signature.json", 252},
		{".pcrpkey", "tpm2-pcr-public-key.pem", 252},
		{".osrel", "os-release", 257},
		{".profile", "profile", 257},
	} {
		c := h.section(x.section)
		if c == nil || h.release < x.since {
			continue
		}
		if err := h.extraFile(&cpioMeta, x.name, io.NewSectionReader(c.src, 0, c.size)); err != nil {
			return err
		}
	}
	secret := h.boot.BootSecret
	if !h.row.BootSecret {
		return nil
	}
	if secret == nil {
		if !h.boot.NoBootSecret {
			h.out.Unknown = "the boot secret, which the stub puts into the initrd, is not given"
		}
		return nil
	}
	if len(secret) != bootSecretSize {
		return fmt.Errorf("boot secret: %d bytes, want %d", len(secret), bootSecretSize)
	}
	return h.extraFile(&cpioSecret, "boot-secret", bytes.NewReader(secret))
}

func (h *handover) extraFile(t *cpioTarget, name string, src osmith.Source) error {
	v, err := t.archive([]CompanionFile{{name, src}})
	if err == nil {
		h.initrd(name, v)
	}
	return err
}

func (h *handover) initrdSection(name string) {
	if c := h.section(name); c != nil {
		h.initrd(name, io.NewSectionReader(c.src, 0, c.size))
	}
}

func (h *handover) initrd(name string, src osmith.Source) {
	if src.Size() > 0 {
		h.out.Initrds = append(h.out.Initrds, InitrdPart{name, src})
	}
}

// Initrd is the initrd that the kernel receives and hashes into PCR 9; nil if there is none. Its
// sources are read only when it is read.
func (h *Handover) Initrd() osmith.Source {
	switch len(h.Initrds) {
	case 0:
		return nil
	case 1:
		return h.Initrds[0].Content
	}
	v := new(view)
	for _, p := range h.Initrds {
		v.add(p.Name, p.Content, p.Content.Size())
		v.padTo(4)
	}
	return v
}
