package uki

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"sort"

	"github.com/osmith-dev/osmith/internal/pe"
)

// What is held in memory of an image: text sections, which real ones keep below a few KiB.
const (
	maxText = 1 << 20
	// maxZeroFill bounds the difference between a section's size in memory and in the file, as systemd's own readers
	// of finished images do; a section of 4 GiB of zeros would otherwise cost its reader time, not its author.
	maxZeroFill = 64 << 20
)

// File is an existing unified kernel image. Only headers and the few text sections are read when it is opened; all
// else is read when it is asked for.
type File struct {
	src      Source
	sections []SectionInfo
	cmdline  []byte
	osrel    []byte
	uname    []byte

	version    string
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

// Open reads the headers of an image, which may come from anyone: made by this package, ukify, dracut or objcopy,
// signed or not. A file that is no PE image or has no .linux section is refused ([ErrNotPE], [ErrNotUKI]), and so is
// one whose known sections overlap or lie outside what firmware loads, because no one could say what the stub will see
// of it; the error is a [*FormatError].
func Open(src Source) (*File, error) { return open(src, ".linux", ErrNotUKI) }

// open is Open of an image that has the required section.
func open(src Source, required string, missing error) (*File, error) {
	if src == nil {
		return nil, &FormatError{0, "image", ErrMissing}
	}
	p, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, formatError(err)
	}
	f := &File{src: src}
	profile := -1
	for _, s := range p.Sections {
		if s.Name == ".profile" {
			profile++
		}
		f.sections = append(f.sections, SectionInfo{Name: s.Name, Size: int64(s.VirtualSize), Offset: int64(s.Offset), RawSize: int64(s.RawSize),
			VirtualAddress: int64(s.VirtualAddress), Profile: profile})
	}
	if _, ok := p.Section(required); !ok {
		return nil, &FormatError{p.Fields.SectionTable, "section table", missing}
	}
	if p.Subsystem != pe.SubsystemEFIApplication {
		return nil, &FormatError{p.Fields.OptionalHeader, "subsystem", fmt.Errorf("%d, want %d (EFI application)", p.Subsystem, pe.SubsystemEFIApplication)}
	}
	if err := f.checkMemory(p); err != nil {
		return nil, err
	}
	for name, text := range map[string]*[]byte{".cmdline": &f.cmdline, ".osrel": &f.osrel, ".uname": &f.uname} {
		if i := f.index(name); i >= 0 {
			s := f.sections[i]
			if *text, err = readAll(f.data(i), s.Size, maxText); err != nil {
				return nil, &FormatError{s.Offset, "section " + name, err}
			}
		}
	}
	f.version, f.versionErr = stubVersion(src, p)
	return f, nil
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
	known := func(i int) bool { return kindOf(f.sections[i].Name) != nil }
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

// Sections lists all sections in the order of the file, those of the stub included.
func (f *File) Sections() []SectionInfo { return append([]SectionInfo(nil), f.sections...) }

// Section is the data, as loaded, of the section of that name that counts in the default profile: the first one of
// profile 0 if that has one, else the first one of the sections shared by all profiles.
func (f *File) Section(name string) (*io.SectionReader, bool) {
	i := f.index(name)
	if i < 0 {
		return nil, false
	}
	return f.data(i), true
}

// SectionData is the data, as loaded, of the i-th of Sections.
func (f *File) SectionData(i int) *io.SectionReader { return f.data(i) }

func (f *File) index(name string) int {
	found := -1
	for i, s := range f.sections {
		if s.Name != name || s.Profile > 0 {
			continue
		}
		if s.Profile == 0 {
			return i
		}
		if found < 0 {
			found = i
		}
	}
	return found
}

// data is a section's bytes with the zeros that the loader adds behind the data in the file.
func (f *File) data(i int) *io.SectionReader {
	s := f.sections[i]
	inFile := min(s.Size, s.RawSize)
	if inFile == s.Size {
		return io.NewSectionReader(f.src, s.Offset, s.Size)
	}
	v := new(view)
	v.add("section "+s.Name, offsetReader{f.src, s.Offset}, inFile)
	v.size = s.Size
	return io.NewSectionReader(v, 0, s.Size)
}

// MeasureOptions choose what Measurements of a [File] predicts. The zero value is the default boot.
type MeasureOptions struct {
	Profile    int // index of the profile that boots; one other than 0 is also measured into PCR 12
	AssumeStub int // systemd release whose behaviour to assume; 0: the stub's own

	// Variant is what boots, of an image in which the stub picks sections by the hardware; its Profile counts, not the
	// one above. Nil: the image has only one variant of the profile, [ErrHardwareDependent] if that is not so.
	Variant *Variant
}

// Measurements is what the embedded stub measures into PCR 11 when the image boots in its default profile, in measured
// order. Each section is read once for all hashes, which run in parallel; without any, SHA-256 is used. If the stub
// picks sections by the hardware, [ErrHardwareDependent] is returned: MeasureVariants has the measurements of all cases.
func (f *File) Measurements(hashes ...crypto.Hash) ([]Measurement, error) {
	return f.MeasurementsWith(MeasureOptions{}, hashes...)
}

// MeasurementsWith is Measurements of another boot than the default one.
func (f *File) MeasurementsWith(o MeasureOptions, hashes ...crypto.Hash) ([]Measurement, error) {
	list, release, err := f.contents(o.AssumeStub)
	if err != nil {
		return nil, err
	}
	var chosen []int
	if o.Variant != nil {
		chosen, err = selectVariant(list, *o.Variant, release)
	} else {
		chosen, err = selectOnly(list, o.Profile, release)
	}
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	return measure(list, chosen, hashes)
}

// StubVersion is the version in the stub's marker, such as "262-1"; [ErrUnknownStub] if it has none.
func (f *File) StubVersion() (string, error) {
	if f.versionErr != nil {
		return "", fmt.Errorf("uki: %w", f.versionErr)
	}
	return f.version, nil
}

// Cmdline is the built-in kernel command line of the default profile, up to a NUL byte if there is one; false if the
// image has none and takes whatever the boot loader passes.
func (f *File) Cmdline() (string, bool) { return untilNUL(f.cmdline), f.index(".cmdline") >= 0 }

// Uname is the kernel version in .uname, "" if there is none.
func (f *File) Uname() string { return untilNUL(f.uname) }

// OSRelease parses .osrel. An image without one is an error: no boot loader lists it.
func (f *File) OSRelease() (OSRelease, error) {
	if f.index(".osrel") < 0 {
		return nil, fmt.Errorf("uki: section .osrel: %w", ErrMissing)
	}
	return ParseOSRelease(bytes.TrimRight(f.osrel, "\x00"))
}

func untilNUL(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
