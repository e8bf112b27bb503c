package uki

import (
	"bytes"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
)

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

func (f *File) index(name string) int { return f.profileIndex(0, name) }

// profileIndex is the section of that name that counts in a profile, or -1. A profile that is not there shares all.
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
		return nil, &FormatError{s.Offset, "section " + s.Name, err}
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

// StubVersion is the version in the marker of the stub, of an add-on its own stub's, such as "262-1";
// [ErrUnknownStub] if it has none.
func (f *File) StubVersion() (osmith.Version, error) {
	if f.versionErr != nil {
		return "", fmt.Errorf("uki: %w", f.versionErr)
	}
	return f.version, nil
}

// Signed reports whether the image carries a certificate table, in which Secure Boot signatures stand.
func (f *File) Signed() bool { return f.pe.Certificates.Size > 0 }

// KernelVersion is what `uname -r` will print: the text of .uname, or else what ProbeUname finds in the kernel of the
// default profile. [ErrUnknownUname] is returned if neither says.
func (f *File) KernelVersion() (string, error) {
	if v := f.Uname(); v != "" {
		return v, nil
	}
	linux, ok := f.Section(".linux")
	if !ok {
		return "", fmt.Errorf("uki: %w: there is no kernel", ErrUnknownUname)
	}
	return ProbeUname(linux)
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

// ProfileOSRelease is OSRelease of another profile than the default one, which has the shared one if none of its own.
func (f *File) ProfileOSRelease(profile int) (OSRelease, error) {
	b, err := f.profileText(profile, ".osrel")
	if err != nil {
		return nil, err
	}
	return ParseOSRelease(bytes.TrimRight(b, "\x00"))
}

// ProfileCmdline is Cmdline of another profile than the default one.
func (f *File) ProfileCmdline(profile int) (string, error) {
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
		return nil, fmt.Errorf("uki: section %s: %w", name, ErrMissing)
	}
	return f.text(i)
}

func untilNUL(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
