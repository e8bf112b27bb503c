package uki

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sbat"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// Image describes a unified kernel image by its parts. Stub and Linux are required; a part that is
// nil, and text that is empty, is absent from the image. A Source of no bytes makes an empty
// section, which stubs ignore; ukify does the same with an empty file. Sources are read when the
// result is read, so they must stay unchanged until then.
type Image struct {
	Stub  osmith.Source // systemd-stub, unsigned: linuxx64.efi.stub, linuxaa64.efi.stub...
	Linux osmith.Source // the kernel, a PE image with an EFI stub; may be signed

	// Initrd are the initrds for the one .initrd section: a single initrd is written unchanged,
	// several one after the other, each padded with zeros to a multiple of four bytes.
	Initrd []osmith.Source

	// Cmdline is the kernel command line, byte for byte. (ukify normalises white space when the
	// text is given as an argument and keeps it when it comes from a file.)
	Cmdline string

	OSRelease []byte // os-release(5); boot loaders list only images that have one

	// Uname is `uname -r` of the kernel. Empty: found by ProbeUname, and an error if that finds
	// none, unless OmitUname leaves the section out.
	Uname     string
	OmitUname bool

	Splash osmith.Source // BMP

	Microcode osmith.Source // cpio archive that the kernel reads first; into .ucode

	// DeviceTree is the device tree for every machine (.dtb). Each DeviceTreeAuto becomes a
	// .dtbauto section; the stub uses the first one that matches the machine, in place of
	// DeviceTree: by the compatible string of the firmware's own tree, or by the one that HWIDs
	// give for the machine's hardware ids.
	DeviceTree     osmith.Source
	DeviceTreeAuto []osmith.Source
	HWIDs          []hwid.Record // .hwids
	Firmware       []Firmware    // .efifw, one section each

	// SBAT holds component lines for Secure Boot revocation, with or without the "sbat,1,..."
	// header line: six columns of ASCII, none empty, the second a generation from 1 to 65535. They
	// follow the lines of the stub and of the kernel, which must have the same form: shim does not
	// start an image with a line that it cannot read. Empty: the line `uki,1,UKI,uki,1,...` that
	// ukify writes.
	SBAT []byte

	PCRPublicKey []byte // PEM, "PUBLIC KEY": goes into .pcrpkey, which is measured
	PCRSignature []byte // JSON: goes into .pcrsig, which is not measured

	// PCRSignatureReserve is the size of .pcrsig in bytes, also if PCRSignature is not set yet. A
	// shorter PCRSignature is padded with spaces, which JSON allows, and a longer one is a
	// [SpaceError]. 0: as many as PCRSignature has.
	PCRSignatureReserve int

	// Sections are further sections in the order given. Names have at most eight printable ASCII
	// characters.
	Sections []Section

	// Profile makes the image multi-profile: os-release-like text with the fields ID and TITLE of
	// profile 0, the default one. If it is empty and there are Profiles, it is "ID=main", as with
	// ukify.
	Profile []byte

	// Profiles are the further profiles, from 1 on. Sections that they do not override are shared
	// with profile 0.
	Profiles []Profile

	// AssumeStub names the systemd release whose measurements to predict if the stub's own is newer
	// than this package knows. 0: the stub's own.
	AssumeStub int

	// AllowKernelThatTheStubRefuses makes an image although its stub does not start one of the
	// kernels, or although it is unknown whether it does: see [KernelError]. Check of the image
	// still reports it.
	AllowKernelThatTheStubRefuses bool
}

// Section is a section to add to an [Image].
type Section struct {
	Name    string
	Content osmith.Source
}

// maxHeaders bounds the PE headers, which are the one part of the stub that is held in memory. Real
// ones have 20 KiB.
const maxHeaders = 1 << 20

// A plan is a checked set of parts: headers of stub and kernels read, nothing written.
type plan struct {
	stub      *pe.File
	stubSrc   osmith.Source
	noSymbols bool       // stubSrc lacks the symbol table that the header speaks of
	linux     []*pe.File // the kernels of all profiles
	sbat      *content   // in place of the stub's own, if that has one and it is to be exchanged
	sbatOwn   int64      // bytes of the caller's lines in it
	added     []content  // in file order
}

// plan checks the parts and puts them into file order.
func (im *Image) plan() (*plan, error) {
	if im.Stub == nil {
		return nil, &PartError{"Stub", ErrMissing}
	}
	if im.Linux == nil {
		return nil, &PartError{"Linux", ErrMissing}
	}
	linux, err := parseKernel("Linux", im.Linux)
	if err != nil {
		return nil, err
	}
	p, err := planOn(im.Stub, "stub")
	if err != nil {
		return nil, err
	}
	kernels := []osmith.Source{im.Linux}
	names := []string{"Linux"}
	p.linux = []*pe.File{linux}
	for i, profile := range im.Profiles {
		if profile.Linux != nil {
			name := fmt.Sprintf("Profiles[%d].Linux", i)
			k, err := parseKernel(name, profile.Linux)
			if err != nil {
				return nil, err
			}
			kernels, names = append(kernels, profile.Linux), append(names, name)
			p.linux = append(p.linux, k)
		}
	}
	for i, k := range p.linux {
		if !sameArchitecture(p.stub.Machine, k.Machine) {
			return nil, partError(names[i], "machine type %#04x, the stub's is %#04x", k.Machine, p.stub.Machine)
		}
	}
	if !im.AllowKernelThatTheStubRefuses {
		if err := p.checkKernels(kernels, names, im.AssumeStub); err != nil {
			return nil, err
		}
	}
	base := im.parts()
	merged, err := p.mergedSBAT(kernels, im.SBAT, sbatDefault)
	if err != nil {
		return nil, err
	}
	if i := indexSection(p.stub.Sections, ".sbat"); i >= 0 && len(im.SBAT) == 0 && int64(len(merged)) > sbatRoom(p.stub.Sections, i) {
		if merged, err = p.mergedSBAT(kernels, nil, sbatShort); err != nil {
			return nil, err
		}
	}
	if !p.replaceSBAT(merged) {
		base.sbat = merged
	}
	if base.uname, err = unameOf("", im.Uname, im.OmitUname, im.Linux); err != nil {
		return nil, err
	}
	if len(im.Profiles) > 0 {
		base.profileLast = true
		if len(base.profile) == 0 {
			base.profile = []byte(defaultProfile)
		}
	}
	if p.added, err = base.contents(); err != nil {
		return nil, err
	}
	if err := im.addProfiles(p); err != nil {
		return nil, err
	}
	return p, p.checkNames()
}

func (im *Image) parts() *parts {
	return &parts{
		osrel: im.OSRelease, cmdline: im.Cmdline, splash: im.Splash, pcrpkey: im.PCRPublicKey, linux: im.Linux, initrd: im.Initrd,
		ucode: im.Microcode, dtb: im.DeviceTree, dtbauto: im.DeviceTreeAuto, hwids: im.HWIDs, firmware: im.Firmware,
		sections: im.Sections, pcrsig: im.PCRSignature, reserve: im.PCRSignatureReserve, profile: im.Profile,
	}
}

// defaultProfile is what ukify writes for profile 0 of an image that profiles are joined to if it
// has none yet.
const defaultProfile = "ID=main"

func (im *Image) addProfiles(p *plan) error {
	if n := len(im.Profiles) + 1; n > maxProfiles {
		return partError("Profiles", "%d profiles with the base, stubs know %d", n, maxProfiles)
	}
	if len(im.Profiles) > 0 || len(im.Profile) > 0 {
		for _, s := range im.Sections {
			if s.Name == ".profile" {
				return &PartError{"Profile", errors.New("Profile and Sections both have a .profile")}
			}
		}
	}
	for i := range im.Profiles {
		own, err := im.Profiles[i].contents(fmt.Sprintf("Profiles[%d].", i))
		if err != nil {
			return err
		}
		p.added = append(p.added, own...)
	}
	return nil
}

// planOn checks the stub of an image ("stub") or of an add-on ("addon"). Each starts without the
// other's sections and does nothing with its own, so that a mix-up is refused. A stub that does not
// say what it is may be either, and "" takes both.
func planOn(stub osmith.Source, program string) (*plan, error) {
	f, err := pe.Parse(stub, stub.Size())
	if err != nil {
		return nil, unusable("Stub", err)
	}
	if err := checkStub(f); err != nil {
		return nil, &PartError{"Stub", err}
	}
	other := map[string]string{"stub": "addon", "addon": "stub"}[program]
	if _, err := programVersion(stub, f, other); err == nil && other != "" {
		return nil, partError("Stub", "%w: got systemd-%s, want systemd-%s", ErrNotStub, other, program)
	}
	p := &plan{stub: f}
	if err := p.stubSource(stub); err != nil {
		return nil, &PartError{"Stub", err}
	}
	return p, nil
}

// unameOf is the version to put into .uname.
func unameOf(where, given string, omit bool, kernel osmith.Source) (string, error) {
	switch {
	case omit && given != "":
		return "", &PartError{where + "Uname", errors.New("both a value and OmitUname given")}
	case omit || given != "" || kernel == nil:
		return given, nil
	}
	uname, err := probeUname(kernel)
	if err != nil {
		return "", &PartError{where + "Linux", fmt.Errorf("%w (%w)", ErrUnknownUname, err)}
	}
	return uname, nil
}

// mergedSBAT is the SBAT of stub, kernels and caller in one.
func (p *plan) mergedSBAT(kernels []osmith.Source, given []byte, otherwise string) ([]byte, error) {
	stub, err := sbatOf(p.stubSrc, p.stub)
	if err != nil {
		return nil, &PartError{"Stub", err}
	}
	list := [][]string{stub}
	for i, k := range kernels {
		lines, err := sbatOf(k, p.linux[i])
		if err != nil {
			return nil, &PartError{"Linux", err}
		}
		if i > 0 {
			lines = notIn(lines, list[1:])
		}
		list = append(list, lines)
	}
	own, err := sbatLines(given, false)
	if err != nil {
		return nil, &PartError{"SBAT", err}
	}
	for _, l := range own {
		if !sbat.IsASCII(l) {
			return nil, partError("SBAT", "%q is not ASCII", l)
		}
	}
	if len(given) == 0 {
		own = []string{otherwise}
	}
	p.sbatOwn = 0
	for _, l := range own {
		p.sbatOwn += int64(len(l)) + 1
	}
	return mergeSBAT(append(list, own)...), nil
}

// replaceSBAT takes b for the content of the stub's own .sbat section; false if it has none.
func (p *plan) replaceSBAT(b []byte) bool {
	if _, ok := p.stub.Section(".sbat"); !ok {
		return false
	}
	p.sbat = &content{name: ".sbat", src: bytes.NewReader(b), size: int64(len(b))}
	return true
}

// all lists the sections that the result will have besides the stub's, in file order as the stub
// will see them: a .sbat that the stub brings along stands before everything added.
func (p *plan) all(withSignatures bool) []content {
	var list []content
	if p.sbat != nil {
		list = append(list, *p.sbat)
	}
	for _, c := range p.added {
		if withSignatures || c.name != ".pcrsig" {
			list = append(list, c)
		}
	}
	return list
}

// checkNames refuses names that the stub cannot see and sections of which the stub would silently
// use one only.
func (p *plan) checkNames() error {
	seen := make(map[string]bool)
	for _, s := range p.all(true) {
		if err := checkName(s.name); err != nil {
			return &PartError{"Sections", err}
		}
		if s.name == ".profile" {
			// Each profile begins a new set of names (UAPI.5, "Multi-Profile UKIs").
			clear(seen)
		}
		if k := sdstub.SectionOf(s.name); seen[s.name] && (k == nil || !k.Repeats) {
			return partError("Sections", "%s is given twice", s.name)
		}
		seen[s.name] = true
		if _, taken := p.stub.Section(s.name); taken && s.name != ".sbat" {
			return partError("Sections", "the stub already has a section %s", s.name)
		}
	}
	return nil
}

// checkName checks what can stand in the eight bytes of a section header.
func checkName(name string) error {
	if len(name) == 0 || len(name) > 8 {
		return fmt.Errorf("name %q: want 1 to 8 characters", name)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("name %q: not printable ASCII", name)
		}
	}
	return nil
}

func checkStub(f *pe.File) error {
	if f.Certificates.Size != 0 {
		return ErrSigned
	}
	if f.Subsystem != pe.SubsystemEFIApplication {
		return fmt.Errorf("%w: subsystem %d", ErrNotStub, f.Subsystem)
	}
	if len(f.Sections) == 0 {
		return fmt.Errorf("%w: no sections", ErrNotStub)
	}
	for _, s := range f.Sections {
		if k := sdstub.SectionOf(s.Name); k != nil && s.Name != ".sbat" {
			return fmt.Errorf("%w: already has a section %s, so this is a finished image or a different program", ErrNotStub, s.Name)
		}
	}
	return nil
}

// A content is a section as it will stand in the image.
type content struct {
	name string
	src  osmith.Source
	size int64
	same *fileRange // contents of the same range are the same; nil: not known
}

// parts is what an image, a profile and an add-on can be made of.
type parts struct {
	where string // prefix of the part's name in errors

	osrel       []byte
	cmdline     string
	uname       string
	splash      osmith.Source
	pcrpkey     []byte
	linux       osmith.Source
	initrd      []osmith.Source
	ucode       osmith.Source
	dtb         osmith.Source
	dtbauto     []osmith.Source
	hwids       []hwid.Record
	firmware    []Firmware
	sections    []Section
	pcrsig      []byte
	reserve     int
	sbat        []byte // whole section; nil: none
	profile     []byte
	profileLast bool // .profile stands by its rank instead of at the beginning
}

// A collector puts contents into a list; the first error stays.
type collector struct {
	where string
	list  []content
	err   error
}

func (c *collector) fail(part string, err error) {
	if c.err == nil {
		var p *PartError
		if err = prefix.Bare(err); errors.As(err, &p) {
			// of an encoder, which does not know whose part it was given
			err = p.Err
		}
		c.err = &PartError{c.where + part, err}
	}
}

func (c *collector) bytes(name string, b []byte) {
	if len(b) > 0 {
		c.list = append(c.list, content{name: name, src: bytes.NewReader(b), size: int64(len(b))})
	}
}

func (c *collector) source(name string, s osmith.Source) {
	if s == nil {
		return
	}
	c.list = append(c.list, content{name: name, src: s, size: s.Size()})
}

// required is source for an element of a list, where nil can only be a mistake.
func (c *collector) required(part, name string, s osmith.Source) {
	if s == nil {
		c.fail(part, ErrMissing)
		return
	}
	c.source(name, s)
}

// contents checks the parts and makes sections of them in the order of the file.
func (p *parts) contents() ([]content, error) {
	c := &collector{where: p.where}
	c.bytes(".osrel", p.osrel)
	if strings.IndexByte(p.cmdline, 0) >= 0 {
		c.fail("Cmdline", errors.New("contains a NUL byte: the kernel would ignore everything after it"))
	}
	c.bytes(".cmdline", []byte(p.cmdline))
	c.bytes(".uname", []byte(p.uname))
	c.source(".splash", p.splash)
	if len(p.pcrpkey) > 0 {
		if !isPublicKey(p.pcrpkey) {
			c.fail("PCRPublicKey", errors.New(`not a PEM block of type "PUBLIC KEY"`))
		}
	}
	c.bytes(".pcrpkey", p.pcrpkey)
	c.source(".linux", p.linux)
	c.initrd(p.initrd)
	c.source(".ucode", p.ucode)
	c.hardware(p)
	for i, s := range p.sections {
		c.required(fmt.Sprintf("Sections[%d]", i), s.Name, s.Content)
	}
	own := len(c.list) - len(p.sections) // Sections stay together, whatever their names
	c.bytes(".sbat", p.sbat)
	c.bytes(".profile", p.profile)
	c.pcrsig(p.pcrsig, p.reserve)
	if c.err != nil {
		return nil, c.err
	}
	return p.order(c.list, own), nil
}

func isPublicKey(b []byte) bool {
	block, _ := pem.Decode(b)
	return block != nil && block.Type == "PUBLIC KEY"
}

// order sorts by the ranks of the table. The caller's own sections begin at index own.
func (p *parts) order(list []content, own int) []content {
	ranks := make([]int, len(list))
	order := make([]int, len(list))
	for i, s := range list {
		order[i] = i
		ranks[i] = rankOf(s.name)
		if i >= own && i < own+len(p.sections) {
			ranks[i] = sdstub.OtherRank
		} else if s.name == ".profile" && !p.profileLast {
			ranks[i] = 0
		}
	}
	sort.SliceStable(order, func(a, b int) bool { return ranks[order[a]] < ranks[order[b]] })
	out := make([]content, len(list))
	for i, at := range order {
		out[i] = list[at]
	}
	return out
}

// initrd makes one section of several archives: the kernel unpacks them one after the other and
// wants each at a multiple of four bytes.
func (c *collector) initrd(list []osmith.Source) {
	for i, s := range list {
		if s == nil {
			c.fail(fmt.Sprintf("Initrd[%d]", i), ErrMissing)
			return
		}
	}
	switch len(list) {
	case 0:
	case 1:
		c.source(".initrd", list[0])
	default:
		v := new(view)
		for i, s := range list {
			v.add(fmt.Sprintf("initrd %d", i), s, s.Size())
			v.padTo(4)
		}
		if v.size > 0 { // as ukify: several empty archives leave no section, a single one does
			c.source(".initrd", v)
		}
	}
}

// hardware adds the sections that the stub picks by the machine, or picks by.
func (c *collector) hardware(p *parts) {
	c.source(".dtb", p.dtb)
	for i, s := range p.dtbauto {
		c.required(fmt.Sprintf("DeviceTreeAuto[%d]", i), ".dtbauto", s)
	}
	if len(p.hwids) > 0 {
		b, err := hwid.Encode(p.hwids)
		if err != nil {
			c.fail("HWIDs", err)
			return
		}
		c.bytes(".hwids", b)
	}
	for i, f := range p.firmware {
		s, err := EncodeFirmware(f)
		if err != nil {
			c.fail(fmt.Sprintf("Firmware[%d]", i), err)
			return
		}
		c.source(".efifw", s)
	}
}

// emptySignatures stands in a .pcrsig that is reserved and not signed yet.
const emptySignatures = "{}"

// maxReserve bounds .pcrsig, which is held in memory. Real ones have a few KiB for each signature.
const maxReserve = 16 << 20

func (c *collector) pcrsig(signature []byte, reserve int) {
	if reserve < 0 || reserve > maxReserve {
		c.fail("PCRSignatureReserve", fmt.Errorf("%d bytes, want 0 to %d", reserve, maxReserve))
		return
	}
	if reserve == 0 {
		c.bytes(".pcrsig", signature)
		return
	}
	if len(signature) == 0 {
		signature = []byte(emptySignatures)
	}
	if len(signature) > reserve {
		if c.err == nil {
			c.err = &SpaceError{What: c.where + "PCRSignature", Need: int64(len(signature)), Have: int64(reserve)}
		}
		return
	}
	padded := bytes.Repeat([]byte{' '}, reserve)
	copy(padded, signature)
	c.bytes(".pcrsig", padded)
}
