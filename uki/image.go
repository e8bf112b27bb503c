package uki

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/osmith-dev/osmith/internal/pe"
)

// Source is sized random-access input: *bytes.Reader, *strings.Reader and *io.SectionReader are ones.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Image describes a unified kernel image by its parts. Stub and Linux are required; a part that is nil or empty is
// absent from the image. Sources are read when the result is read, so they must stay unchanged until then.
type Image struct {
	Stub  Source // systemd-stub, unsigned: linuxx64.efi.stub, linuxaa64.efi.stub...
	Linux Source // the kernel, a PE image with an EFI stub; may be signed

	// Initrd goes into one .initrd section: a single one unchanged, several one after the other, each padded with
	// zeros to a multiple of four bytes.
	Initrd []Source

	// Cmdline is the kernel command line, byte for byte. (ukify normalises white space when the text is given as an
	// argument and keeps it when it comes from a file.)
	Cmdline string

	OSRelease []byte // os-release(5); boot loaders list only images that have one

	// Uname is `uname -r` of the kernel. Empty: found by ProbeUname, and an error if that finds none, unless
	// OmitUname leaves the section out.
	Uname     string
	OmitUname bool

	Splash Source // BMP

	// SBAT holds component lines for Secure Boot revocation, with or without the "sbat,1,..." header line. They follow
	// the lines of the stub and of the kernel. Empty: the line `uki,1,UKI,uki,1,...` that ukify writes.
	SBAT []byte

	PCRPublicKey []byte // PEM, "PUBLIC KEY": goes into .pcrpkey, which is measured
	PCRSignature []byte // JSON: goes into .pcrsig, which is not measured

	// Sections are further sections in the order given. Names have at most eight printable ASCII characters.
	Sections []Section

	// AssumeStub names the systemd release whose measurements to predict if the stub's own is newer than this package
	// knows. 0: the stub's own.
	AssumeStub int
}

// Section is a section to add to an [Image].
type Section struct {
	Name    string
	Content Source
}

// A content is a section as it will stand in the image.
type content struct {
	name string
	src  io.ReaderAt
	size int64
}

// maxHeaders bounds the PE headers, which are the one part of the stub that is held in memory. Real ones have 20 KiB.
const maxHeaders = 1 << 20

// A plan is a checked Image: headers of stub and kernel read, nothing written.
type plan struct {
	stub     *pe.File
	linux    *pe.File
	stubSrc  Source
	sbat     content   // in place of the stub's own if that has one
	sections []content // to be added, in file order, without .sbat and .pcrsig
	pcrsig   *content
}

// plan checks the parts and puts them into the order of ukify 262 (make_uki): .osrel .cmdline .uname .splash .pcrpkey
// .linux .initrd, the caller's own, .sbat, .pcrsig.
func (im *Image) plan() (*plan, error) {
	p := &plan{stubSrc: im.Stub}
	if im.Stub == nil {
		return nil, &PartError{"Stub", ErrMissing}
	}
	if im.Linux == nil {
		return nil, &PartError{"Linux", ErrMissing}
	}
	var err error
	if p.linux, err = pe.Parse(im.Linux, im.Linux.Size()); err != nil {
		return nil, unusable("Linux", err)
	}
	if p.stub, err = pe.Parse(im.Stub, im.Stub.Size()); err != nil {
		return nil, unusable("Stub", err)
	}
	if err := checkStub(p.stub); err != nil {
		return nil, &PartError{"Stub", err}
	}
	if !sameArchitecture(p.stub.Machine, p.linux.Machine) {
		return nil, partError("Linux", "machine type %#04x, the stub's is %#04x", p.linux.Machine, p.stub.Machine)
	}
	if err := p.mergeSBAT(im); err != nil {
		return nil, err
	}

	uname := im.Uname
	switch {
	case im.OmitUname && uname != "":
		return nil, &PartError{"Uname", errors.New("both a value and OmitUname given")}
	case !im.OmitUname && uname == "":
		if uname, err = ProbeUname(im.Linux); err != nil {
			return nil, err
		}
	}
	if strings.IndexByte(im.Cmdline, 0) >= 0 {
		return nil, &PartError{"Cmdline", errors.New("contains a NUL byte; the kernel would see only what is before it")}
	}
	if len(im.PCRPublicKey) > 0 {
		if b, _ := pem.Decode(im.PCRPublicKey); b == nil || b.Type != "PUBLIC KEY" {
			return nil, &PartError{"PCRPublicKey", errors.New(`not a PEM block of type "PUBLIC KEY"`)}
		}
	}

	p.bytes(".osrel", im.OSRelease)
	p.bytes(".cmdline", []byte(im.Cmdline))
	p.bytes(".uname", []byte(uname))
	p.source(".splash", im.Splash)
	p.bytes(".pcrpkey", im.PCRPublicKey)
	p.source(".linux", im.Linux)
	if err := p.initrd(im.Initrd); err != nil {
		return nil, err
	}
	for i, s := range im.Sections {
		if s.Content == nil {
			return nil, &PartError{fmt.Sprintf("Sections[%d]", i), ErrMissing}
		}
		p.source(s.Name, s.Content)
	}
	if len(im.PCRSignature) > 0 {
		p.pcrsig = &content{".pcrsig", bytes.NewReader(im.PCRSignature), int64(len(im.PCRSignature))}
	}
	if err := p.checkNames(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *plan) bytes(name string, b []byte) {
	if len(b) > 0 {
		p.sections = append(p.sections, content{name, bytes.NewReader(b), int64(len(b))})
	}
}

func (p *plan) source(name string, s Source) {
	if s != nil {
		p.sections = append(p.sections, content{name, s, s.Size()})
	}
}

func (p *plan) initrd(parts []Source) error {
	for i, s := range parts {
		if s == nil {
			return &PartError{fmt.Sprintf("Initrd[%d]", i), ErrMissing}
		}
	}
	switch len(parts) {
	case 0:
	case 1:
		p.source(".initrd", parts[0])
	default:
		v := new(view)
		for i, s := range parts {
			v.add(fmt.Sprintf("initrd %d", i), s, s.Size())
			v.padTo(4)
		}
		p.source(".initrd", v)
	}
	return nil
}

func (p *plan) mergeSBAT(im *Image) error {
	stub, err := sbatOf(im.Stub, p.stub)
	if err != nil {
		return &PartError{"Stub", err}
	}
	kernel, err := sbatOf(im.Linux, p.linux)
	if err != nil {
		return &PartError{"Linux", err}
	}
	own, err := sbatLines(im.SBAT, false)
	if err != nil {
		return &PartError{"SBAT", err}
	}
	if len(im.SBAT) == 0 {
		own = []string{sbatDefault}
	}
	b := mergeSBAT(stub, kernel, own)
	p.sbat = content{".sbat", bytes.NewReader(b), int64(len(b))}
	return nil
}

// all lists the sections that the result will have besides the stub's, in file order as the stub will see them: a
// .sbat that the stub brings along stands before everything added.
func (p *plan) all(withSignature bool) []content {
	var list []content
	_, inPlace := p.stub.Section(".sbat")
	if inPlace {
		list = append(list, p.sbat)
	}
	list = append(list, p.sections...)
	if !inPlace {
		list = append(list, p.sbat)
	}
	if withSignature && p.pcrsig != nil {
		list = append(list, *p.pcrsig)
	}
	return list
}

// checkNames refuses names that the stub cannot see and sections of which the stub would silently use one only.
func (p *plan) checkNames() error {
	seen := make(map[string]bool)
	for _, s := range p.all(true) {
		if len(s.name) == 0 || len(s.name) > 8 {
			return partError("Sections", "name %q: want 1 to 8 characters", s.name)
		}
		for _, c := range []byte(s.name) {
			if c <= ' ' || c > '~' {
				return partError("Sections", "name %q: not printable ASCII", s.name)
			}
		}
		if s.name == ".profile" {
			// Each profile begins a new set of names (UAPI.5, "Multi-Profile UKIs").
			clear(seen)
		}
		if k := kindOf(s.name); seen[s.name] && (k == nil || !k.repeats) {
			return partError("Sections", "%s is there twice", s.name)
		}
		seen[s.name] = true
		if _, taken := p.stub.Section(s.name); taken && s.name != ".sbat" {
			return partError("Sections", "the stub has a section %s of its own", s.name)
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
		if k := kindOf(s.Name); k != nil && s.Name != ".sbat" {
			return fmt.Errorf("%w: it has a section %s already, as a finished image or another program has", ErrNotStub, s.Name)
		}
	}
	return nil
}

// sameArchitecture allows the two x86 machine types to mix: a 32-bit stub may start a 64-bit kernel.
func sameArchitecture(stub, kernel uint16) bool {
	x86 := func(m uint16) bool { return m == pe.MachineI386 || m == pe.MachineAMD64 }
	return stub == kernel || x86(stub) && x86(kernel)
}
