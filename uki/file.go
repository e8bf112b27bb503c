package uki

import (
	"fmt"
	"sort"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// What is held in memory of an image: text sections, which real ones keep below a few KiB.
const (
	maxText = 1 << 20
	// maxZeroFill bounds the difference between a section's size in memory and in the file, as systemd's own readers
	// of finished images do; a section of 4 GiB of zeros would otherwise cost its reader time, not its author.
	maxZeroFill = 64 << 20
)

// File is an existing unified kernel image, add-on or profile. Only headers and the few text sections are read when it
// is opened; all else is read when it is asked for.
type File struct {
	src      osmith.Source
	pe       *pe.File
	kind     fileKind
	sections []SectionInfo
	first    map[sectionKey]int // the first section of a name among the shared ones (-1) or in a profile
	profiles []ProfileInfo
	cmdline  []byte
	osrel    []byte
	uname    []byte

	version    osmith.Version
	versionErr error
}

// SectionInfo is one row of the section table. Sizes and offsets are bytes.
type SectionInfo struct {
	Name           string
	Size           int64 // as loaded (VirtualSize): what is measured
	Offset         int64 // of the data in the file
	RawSize        int64 // in the file, with alignment padding
	VirtualAddress int64 // relative to where the image is loaded
	Profile        int   // -1: shared by all profiles, else the index of the profile it belongs to
}

type sectionKey struct {
	profile int
	name    string
}

type fileKind int

const (
	kindImage fileKind = iota
	kindAddon
	kindProfile
)

// Open reads the headers of an image, which may come from anyone: made by this package, ukify, dracut or objcopy,
// signed or not. A file that is no PE image or has no .linux section is refused ([ErrNotPE], [ErrNotUKI]), and so is
// one whose known sections overlap or lie outside what firmware loads, because no one could say what the stub will see
// of it; the error is a [*FormatError]. What is wrong in lesser ways, Check tells.
func Open(src osmith.Source) (*File, error) { return open(src, kindImage) }

// OpenAddon is Open for an add-on: an image without a kernel that brings parts for the stub of another one to apply,
// one of .cmdline, .initrd, .ucode, .dtb and .dtbauto at least. Anything else is refused with [ErrNotAddon].
func OpenAddon(src osmith.Source) (*File, error) { return open(src, kindAddon) }

func open(src osmith.Source, kind fileKind) (*File, error) {
	if src == nil {
		return nil, &FormatError{0, "image", ErrMissing}
	}
	p, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, formatError(err)
	}
	f := &File{src: src, pe: p, kind: kind, first: make(map[sectionKey]int)}
	profile := -1
	for i, s := range p.Sections {
		if s.Name == ".profile" {
			profile++
		}
		if _, taken := f.first[sectionKey{profile, s.Name}]; !taken {
			f.first[sectionKey{profile, s.Name}] = i
		}
		f.sections = append(f.sections, SectionInfo{Name: s.Name, Size: int64(s.VirtualSize), Offset: int64(s.Offset), RawSize: int64(s.RawSize),
			VirtualAddress: int64(s.VirtualAddress), Profile: profile})
	}
	if err := f.checkKind(); err != nil {
		return nil, &FormatError{p.Fields.SectionTable, "section table", err}
	}
	if p.Subsystem != pe.SubsystemEFIApplication {
		return nil, &FormatError{p.Fields.OptionalHeader, "subsystem", fmt.Errorf("%d, want %d (EFI application)", p.Subsystem, pe.SubsystemEFIApplication)}
	}
	if err := f.checkMemory(p); err != nil {
		return nil, err
	}
	for name, text := range map[string]*[]byte{".cmdline": &f.cmdline, ".osrel": &f.osrel, ".uname": &f.uname} {
		if *text, err = f.text(f.index(name)); err != nil {
			return nil, err
		}
	}
	if err := f.readProfiles(); err != nil {
		return nil, err
	}
	program := sdstub.ProgramStub
	if kind == kindAddon {
		program = sdstub.ProgramAddon
	}
	f.version, f.versionErr = programVersion(src, p, program)
	return f, nil
}

// checkKind tells whether the image has what one of its kind must have.
func (f *File) checkKind() error {
	var linux, profile, part bool
	for _, s := range f.sections {
		linux = linux || s.Name == ".linux"
		profile = profile || s.Name == ".profile"
		if k := sdstub.SectionOf(s.Name); k != nil && k.Addon > 0 && s.Profile < 0 {
			part = true
		}
	}
	switch f.kind {
	case kindImage:
		if !linux {
			return ErrNotUKI
		}
	case kindAddon:
		if linux {
			return fmt.Errorf("%w: it has a .linux section", ErrNotAddon)
		}
		if !part {
			return fmt.Errorf("%w: it has none of the sections .cmdline, .initrd, .ucode, .dtb, .dtbauto", ErrNotAddon)
		}
	case kindProfile:
		if !profile {
			return ErrNotProfile
		}
	}
	return nil
}

// checkMemory holds the known sections against the memory that the image occupies: one that overlaps another would be
// loaded with other bytes than the file says, and one that ends behind SizeOfImage is ignored by the stub (systemd 262,
// src/boot/pe.c, pe_locate_sections_internal).
func (f *File) checkMemory(p *pe.File) error {
	order := make([]int, 0, len(f.sections))
	for i, s := range f.sections {
		if s.Size > 0 {
			order = append(order, i)
		}
	}
	sort.SliceStable(order, func(a, b int) bool {
		return f.sections[order[a]].VirtualAddress < f.sections[order[b]].VirtualAddress
	})
	known := func(i int) bool { return sdstub.SectionOf(f.sections[i].Name) != nil }
	bad := func(i int, format string, args ...any) error {
		at := p.Fields.SectionTable + int64(i)*sectionHeaderSize
		return &FormatError{at, "section " + f.sections[i].Name, fmt.Errorf(format, args...)}
	}
	end, last := int64(p.SizeOfHeaders), -1 // of the section that reaches furthest so far
	for _, i := range order {
		s := f.sections[i]
		if known(i) || last >= 0 && known(last) {
			if s.VirtualAddress < end {
				return bad(i, "at address %#x, overlaps what ends at %#x", s.VirtualAddress, end)
			}
		}
		if known(i) {
			if s.VirtualAddress+s.Size > int64(p.SizeOfImage) {
				return bad(i, "ends at address %#x, behind SizeOfImage %#x", s.VirtualAddress+s.Size, p.SizeOfImage)
			}
			if s.Size-s.RawSize > maxZeroFill {
				return bad(i, "%d bytes in memory for %d in the file", s.Size, s.RawSize)
			}
		}
		if e := s.VirtualAddress + s.Size; e > end {
			end, last = e, i
		}
	}
	return nil
}
