package uki

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// maxHeaders bounds the PE headers, which are the one part of the stub that is held in memory. Real ones have 20 KiB.
const maxHeaders = 1 << 20

// A plan is a checked set of parts: headers of stub and kernels read, nothing written.
type plan struct {
	stub      *pe.File
	stubSrc   osmith.Source
	noSymbols bool       // stubSrc lacks the symbol table that the header speaks of
	linux     []*pe.File // the kernels of all profiles
	sbat      *content   // in place of the stub's own, if that has one and it is to be exchanged
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
	for i, profile := range im.Profiles {
		if profile.Linux != nil {
			k, err := parseKernel(fmt.Sprintf("Profiles[%d].Linux", i), profile.Linux)
			if err != nil {
				return nil, err
			}
			kernels = append(kernels, profile.Linux)
			p.linux = append(p.linux, k)
		}
	}
	p.linux = append([]*pe.File{linux}, p.linux...)
	for _, k := range p.linux {
		if !sameArchitecture(p.stub.Machine, k.Machine) {
			return nil, partError("Linux", "machine type %#04x, the stub's is %#04x", k.Machine, p.stub.Machine)
		}
	}
	base := im.parts()
	sbat, err := p.mergedSBAT(kernels, im.SBAT, sbatDefault)
	if err != nil {
		return nil, err
	}
	if !p.replaceSBAT(sbat) {
		base.sbat = sbat
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

// defaultProfile is what ukify writes for profile 0 of an image that profiles are joined to if it has none yet.
const defaultProfile = "ID=main"

func (im *Image) addProfiles(p *plan) error {
	if n := len(im.Profiles) + 1; n > maxProfiles {
		return partError("Profiles", "%d profiles with the base, stubs know %d", n, maxProfiles)
	}
	if len(im.Profiles) > 0 || len(im.Profile) > 0 {
		for _, s := range im.Sections {
			if s.Name == ".profile" {
				return &PartError{"Profile", errors.New("Sections has a .profile too")}
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

// planOn checks the stub of an image ("stub") or of an add-on ("addon"). Each starts without the other's sections and does nothing with
// its own, so that a mix-up is refused. A stub that does not say what it is may be either, and "" takes both.
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
		return nil, partError("Stub", "%w: this is systemd-%s, systemd-%s is wanted", ErrNotStub, other, program)
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
	if len(given) == 0 {
		own = []string{otherwise}
	}
	return mergeSBAT(append(list, own)...), nil
}

// replaceSBAT takes b for the content of the stub's own .sbat section; false if it has none.
func (p *plan) replaceSBAT(b []byte) bool {
	if _, ok := p.stub.Section(".sbat"); !ok {
		return false
	}
	p.sbat = &content{".sbat", bytes.NewReader(b), int64(len(b))}
	return true
}

// all lists the sections that the result will have besides the stub's, in file order as the stub will see them: a
// .sbat that the stub brings along stands before everything added.
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

// checkNames refuses names that the stub cannot see and sections of which the stub would silently use one only.
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
			return partError("Sections", "%s is there twice", s.name)
		}
		seen[s.name] = true
		if _, taken := p.stub.Section(s.name); taken && s.name != ".sbat" {
			return partError("Sections", "the stub has a section %s of its own", s.name)
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
			return fmt.Errorf("%w: it has a section %s already, as a finished image or another program has", ErrNotStub, s.Name)
		}
	}
	return nil
}

// sameArchitecture allows the two x86 machine types to mix: a 32-bit stub may start a 64-bit kernel.
func sameArchitecture(stub, kernel uint16) bool {
	x86 := func(m uint16) bool { return m == arch.X86.Machine || m == arch.X8664.Machine }
	return stub == kernel || x86(stub) && x86(kernel)
}
