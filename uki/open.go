package uki

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/kernelimage"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// How much of an image is held in memory: text sections, which have at most a few KiB in real
// images.
const (
	maxText = 1 << 20
	// maxZeroFill bounds the difference between a section's size in memory and in the file, as
	// systemd's own readers of finished images do; a section of 4 GiB of zeros would otherwise cost
	// its reader time, not its author.
	maxZeroFill = 64 << 20
	// maxZeros bounds that of all sections together.
	maxZeros = 256 << 20
)

// File is an existing unified kernel image, add-on or profile. Only headers and the few text
// sections are read when it is opened; everything else is read on request.
type File struct {
	src      osmith.Source
	pe       *pe.File
	kind     fileKind
	sections []SectionInfo
	// the first section of a name among the shared ones (-1) or in a profile
	first    map[sectionKey]int
	profiles []ProfileInfo
	cmdline  []byte
	osrel    []byte
	uname    []byte

	version    osmith.Version
	versionErr error
	assume     int // of AssumeStub
}

// SectionInfo is one row of the section table. Sizes and offsets are bytes.
type SectionInfo struct {
	Name           string
	Size           int64 // size as loaded (VirtualSize), which is measured
	Offset         int64 // offset of the data in the file
	RawSize        int64 // size in the file, with alignment padding
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

// Open reads the headers of an image, which may be untrusted: made by this package, ukify, dracut
// or objcopy, signed or not. A file that is not a PE image or has no .linux section is refused
// ([ErrNotPE], [ErrNotUKI]), and so is one whose known sections overlap or lie outside what
// firmware loads, because it is undefined what the stub sees of it; the error is a
// [*osmith.FormatError]. Check reports lesser faults.
func Open(src osmith.Source) (_ *File, err error) {
	defer prefix.Add("uki", &err)
	return open(src, kindImage)
}

// OpenAddon is Open for an add-on: a PE image without a kernel whose sections the stub of a UKI
// applies; it must have at least one of .cmdline, .initrd, .ucode, .dtb and .dtbauto. Anything else
// is refused with [ErrNotAddon].
func OpenAddon(src osmith.Source) (_ *File, err error) {
	defer prefix.Add("uki", &err)
	return open(src, kindAddon)
}

func open(src osmith.Source, kind fileKind) (*File, error) {
	if src == nil {
		return nil, &osmith.FormatError{Offset: 0, Field: "image", Err: ErrMissing}
	}
	p, err := pe.Parse(src, src.Size())
	if err != nil {
		bad := formatError(err)
		if format, err := kernelimage.Compression(src); err == nil && format != "" && errors.Is(bad, ErrNotPE) {
			bad.Err = &CompressedError{Format: format}
		}
		return nil, bad
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
		return nil, &osmith.FormatError{Offset: p.Fields.SectionTable, Field: "section table", Err: err}
	}
	if p.Subsystem != pe.SubsystemEFIApplication {
		return nil, &osmith.FormatError{Offset: p.Fields.OptionalHeader, Field: "subsystem", Err: fmt.Errorf("%d, want %d (EFI application)", p.Subsystem, pe.SubsystemEFIApplication)}
	}
	program := sdstub.ProgramStub
	if kind == kindAddon {
		program = sdstub.ProgramAddon
	}
	f.version, f.versionErr = programVersion(src, p, program)
	if err := f.checkMemory(p); err != nil {
		return nil, err
	}
	if err := f.checkSharing(p); err != nil {
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
			return fmt.Errorf("%w: none of the sections .cmdline, .initrd, .ucode, .dtb, .dtbauto", ErrNotAddon)
		}
	case kindProfile:
		if !profile {
			return ErrNotProfile
		}
	}
	return nil
}

// checkMemory checks the known sections against the memory that the image occupies: one that
// overlaps another would be loaded with other bytes than the file says, and one that ends behind
// SizeOfImage is ignored by the stub (systemd 262, src/boot/pe.c, pe_locate_sections_internal).
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
		return &osmith.FormatError{Offset: at, Field: "section " + f.sections[i].Name, Err: fmt.Errorf(format, args...)}
	}
	end, last := int64(p.SizeOfHeaders), -1 // of the section that reaches furthest so far
	for _, i := range order {
		s := f.sections[i]
		if known(i) || last >= 0 && known(last) {
			if s.VirtualAddress < end && !f.onlySBATOverlaps(last, i) {
				return bad(i, "at address %#x, overlaps what ends at %#x", s.VirtualAddress, end)
			}
		}
		if known(i) {
			if s.VirtualAddress+s.Size > int64(p.SizeOfImage) {
				return bad(i, "ends at address %#x, beyond SizeOfImage %#x", s.VirtualAddress+s.Size, p.SizeOfImage)
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

// A fileRange is what a section is made of. Sections of the same range have the same content.
type fileRange struct{ offset, inFile, size int64 }

func (f *File) fileRange(i int) fileRange {
	s := f.sections[i]
	return fileRange{s.Offset, min(s.Size, s.RawSize), s.Size}
}

// checkSharing bounds what all known sections are together by the size of the file: thousands of
// them that each begin a few bytes behind the other would make a reader read gigabytes.
// The same range counts once.
func (f *File) checkSharing(p *pe.File) error {
	seen := make(map[fileRange]bool)
	var inFile, zeros int64
	for i, s := range f.sections {
		r := f.fileRange(i)
		if sdstub.SectionOf(s.Name) == nil || s.Size == 0 || seen[r] {
			continue
		}
		seen[r] = true
		inFile += r.inFile
		zeros += r.size - r.inFile
		at := p.Fields.SectionTable + int64(i)*sectionHeaderSize
		if inFile > f.src.Size() {
			return &osmith.FormatError{Offset: at, Field: "section " + s.Name, Err: fmt.Errorf("the sections so far have more bytes than the file's %d: sections overlap in the file", f.src.Size())}
		}
		if zeros > maxZeros {
			return &osmith.FormatError{Offset: at, Field: "section " + s.Name, Err: fmt.Errorf("the sections so far have %d bytes in memory that are not in the file, want at most %d", zeros, int64(maxZeros))}
		}
	}
	return nil
}

// onlySBATOverlaps tells whether all that two sections share in memory is the end of .sbat, with a
// section of the stub that is loaded behind it, and the stub does not measure .sbat: shim reads
// that in the file, so nothing depends on what is in memory. ukify makes such images on stubs of
// 252, which leave no room for its lines, and they boot.
func (f *File) onlySBATOverlaps(first, second int) bool {
	if first < 0 || first > second || f.sections[first].Name != ".sbat" || sdstub.SectionOf(f.sections[second].Name) != nil {
		return false
	}
	row := stubRow(f.version, f.versionErr, 0)
	return row.Number > 0 && row.Number < sdstub.SectionOf(".sbat").Since
}

// Sections lists all sections in the order of the file, including those of the stub.
func (f *File) Sections() []SectionInfo { return append([]SectionInfo(nil), f.sections...) }

// Section is the data, as loaded, of the section of that name that counts in the default profile:
// the first one of profile 0 or, if that has none, the first of the sections shared by all
// profiles.
func (f *File) Section(name string) (*io.SectionReader, bool) {
	i := f.index(name)
	if i < 0 {
		return nil, false
	}
	return f.data(i), true
}

// SectionData is the data, as loaded, of the i-th of Sections.
func (f *File) SectionData(i int) *io.SectionReader { return f.data(i) }

func (f *File) index(name string) int { return f.profileIndex(0, name) }

// profileIndex is the section of that name that counts in a profile, or -1. A profile that is not
// there shares all.
func (f *File) profileIndex(profile int, name string) int {
	if i, ok := f.first[sectionKey{profile, name}]; ok {
		return i
	}
	if i, ok := f.first[sectionKey{-1, name}]; ok {
		return i
	}
	return -1
}

// text is the content of a section that has to be small; nil for -1.
func (f *File) text(i int) ([]byte, error) {
	if i < 0 {
		return nil, nil
	}
	s := f.sections[i]
	b, err := readAll(f.data(i), s.Size, maxText)
	if err != nil {
		return nil, &osmith.FormatError{Offset: s.Offset, Field: "section " + s.Name, Err: err}
	}
	return b, nil
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

// StubVersion is the version in the marker of the stub (of an add-on: of its own stub), such as
// "262-1"; the error is [ErrUnknownStub] if there is no version.
func (f *File) StubVersion() (_ osmith.Version, err error) {
	defer prefix.Add("uki", &err)
	if f.versionErr != nil {
		return "", f.versionErr
	}
	return f.version, nil
}

// AssumeStub returns the same image with its stub treated as that of the named systemd release, if
// the stub's own release is unknown: it is newer than this package, or the stub states none
// ([ErrUnknownStub]). All measurements and hand-overs of the result rest on this assumption of the
// caller.
func (f *File) AssumeStub(release int) *File {
	assumed := *f
	assumed.assume = release
	return &assumed
}

// Machine is the PE machine type of the image: 0x8664 for x86-64, 0xaa64 for arm64.
func (f *File) Machine() uint16 { return f.pe.Machine }

// Signed reports whether the image has a certificate table, which holds Secure Boot signatures.
func (f *File) Signed() bool { return f.pe.Certificates.Size > 0 }

// KernelVersion is what `uname -r` will print: the text of .uname or, without one, what ProbeUname
// finds in the kernel of the default profile. [ErrUnknownUname] is returned if neither has the
// version.
func (f *File) KernelVersion() (_ string, err error) {
	defer prefix.Add("uki", &err)
	if v := f.Uname(); v != "" {
		return v, nil
	}
	linux, ok := f.Section(".linux")
	if !ok {
		return "", fmt.Errorf("%w: no kernel", ErrUnknownUname)
	}
	return unameOf("", "", false, linux)
}

// Cmdline is the built-in kernel command line of the default profile, up to a NUL byte if there is
// one; false if the image has none and accepts any command line of the boot loader.
func (f *File) Cmdline() (string, bool) { return untilNUL(f.cmdline), f.index(".cmdline") >= 0 }

// Uname is the kernel version in .uname, "" if there is none.
func (f *File) Uname() string { return untilNUL(f.uname) }

// OSRelease parses .osrel. An image without .osrel is an error: boot loaders do not list it.
func (f *File) OSRelease() (_ OSRelease, err error) {
	defer prefix.Add("uki", &err)
	if f.index(".osrel") < 0 {
		return nil, fmt.Errorf("section .osrel: %w", ErrMissing)
	}
	return ParseOSRelease(bytes.TrimRight(f.osrel, "\x00"))
}

// ProfileOSRelease is OSRelease of any profile: the profile's own .osrel or, without one, the
// shared .osrel.
func (f *File) ProfileOSRelease(profile int) (_ OSRelease, err error) {
	defer prefix.Add("uki", &err)
	b, err := f.profileText(profile, ".osrel")
	if err != nil {
		return nil, err
	}
	return ParseOSRelease(bytes.TrimRight(b, "\x00"))
}

// ProfileCmdline is Cmdline of any profile.
func (f *File) ProfileCmdline(profile int) (_ string, err error) {
	defer prefix.Add("uki", &err)
	b, err := f.profileText(profile, ".cmdline")
	return untilNUL(b), err
}

// profileText reads a text section that has to be there.
func (f *File) profileText(profile int, name string) ([]byte, error) {
	if err := f.checkProfile(profile); err != nil {
		return nil, err
	}
	i := f.profileIndex(profile, name)
	if i < 0 {
		return nil, fmt.Errorf("section %s: %w", name, ErrMissing)
	}
	return f.text(i)
}

func untilNUL(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// programVersion reads the version of one of systemd's EFI programs.
func programVersion(r io.ReaderAt, f *pe.File, program string) (osmith.Version, error) {
	version, err := sdstub.ReadVersion(r, f, program)
	if errors.Is(err, sdstub.ErrNoMarker) {
		return "", fmt.Errorf("%w: %w", ErrUnknownStub, err)
	}
	return version, err
}

// knownRelease is how a stub behaves: by its own release, or if that is not known by the one that
// the caller names.
func knownRelease(version osmith.Version, versionErr error, assume int) (sdstub.Release, error) {
	if versionErr != nil && assume == 0 {
		return sdstub.Release{}, versionErr
	}
	row, err := sdstub.Find(version, assume)
	if err != nil {
		return sdstub.Release{}, fmt.Errorf("%w: %w", ErrUnknownStub, err)
	}
	return row, nil
}
