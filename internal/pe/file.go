package pe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
)

// Offsets and sizes of the fixed headers (Microsoft PE Format, "MS-DOS Stub", "COFF File Header",
// "Optional Header").
const (
	dosHeaderSize     = 64
	dosLfanew         = 0x3c
	coffHeaderSize    = 24 // with the four bytes of the signature
	sectionHeaderSize = 40

	magicPE32     = 0x10b
	magicPE32Plus = 0x20b

	optSizeOfInitializedData = 8
	optEntryPoint            = 16
	optImageBase32           = 28
	optImageBase64           = 24
	optSectionAlignment      = 32
	optFileAlignment         = 36
	optMajorImageVersion     = 44
	optSizeOfImage           = 56
	optSizeOfHeaders         = 60
	optCheckSum              = 64
	optSubsystem             = 68
	optDllCharacteristics    = 70

	// Indexes of the data directories "Certificate Table" and "Base Relocation Table".
	directoryCertificate     = 4
	directoryBaseRelocations = 5
)

// SubsystemEFIApplication is the subsystem of programs that firmware starts as such.
const SubsystemEFIApplication = 10

// DllCharacteristics bit that promises to run with non-executable data and stack.
const DllNXCompat = 0x0100

// ErrNotPE is returned (wrapped in a [osmith.FormatError]) for a file without MZ and PE signatures.
var ErrNotPE = errors.New("not a PE image")

// File is what the headers of one image say. All offsets are file offsets.
type File struct {
	Size int64 // of the whole file, certificates included

	Machine               uint16
	PE32Plus              bool
	SizeOfInitializedData uint32
	EntryPoint            uint32 // relative virtual address
	ImageBase             uint64 // preferred address
	MajorImageVersion     uint16
	SectionAlignment      uint32 // power of two
	FileAlignment         uint32 // power of two
	SizeOfImage           uint32
	SizeOfHeaders         uint32
	CheckSum              uint32
	Subsystem             uint16
	DllCharacteristics    uint16
	SymbolTable           uint32 // PointerToSymbolTable, 0 if none
	Directories           uint32 // NumberOfRvaAndSizes
	BaseRelocations       uint32 // size of the base relocation directory, 0 if there is none

	Sections     []Section
	Certificates Range // the certificate table; zero if the image is unsigned

	Fields Fields
}

// Range is a run of bytes of the file.
type Range struct {
	Offset, Size int64
}

// End is the offset behind the last byte.
func (r Range) End() int64 { return r.Offset + r.Size }

// Fields are the file offsets at which a writer patches, or a hash skips, header fields.
type Fields struct {
	COFF                  int64 // of the COFF header, behind "PE\0\0"
	NumberOfSections      int64
	OptionalHeader        int64
	SizeOfInitializedData int64
	SizeOfImage           int64
	SizeOfHeaders         int64
	CheckSum              int64
	DllCharacteristics    int64
	CertificateDirectory  int64 // 8 bytes: file offset and size of the certificate table
	SectionTable          int64
}

// Section is one row of the section table.
type Section struct {
	Name            string // up to the first NUL of its eight bytes
	VirtualSize     uint32
	VirtualAddress  uint32
	RawSize         uint32 // SizeOfRawData
	Offset          uint32 // PointerToRawData
	Relocations     uint32 // PointerToRelocations, which images do not have
	Characteristics uint32
}

// Data is where the section's bytes stand in the file, without the padding behind VirtualSize. A
// loader zero-fills from there to VirtualSize.
func (s Section) Data() Range {
	return Range{int64(s.Offset), int64(min(s.RawSize, s.VirtualSize))}
}

// Raw is the section's run of bytes in the file including padding.
func (s Section) Raw() Range { return Range{int64(s.Offset), int64(s.RawSize)} }

// Parse reads the headers of an image of size bytes. Sections that reach outside the file, a
// certificate table that overlaps them, and header sizes that contradict each other are errors of
// type [*osmith.FormatError].
func Parse(r io.ReaderAt, size int64) (*File, error) {
	p := parser{r: r, size: size}
	return p.parse()
}

type parser struct {
	r    io.ReaderAt
	size int64
}

func bad(off int64, field, format string, args ...any) error {
	return &osmith.FormatError{Offset: off, Field: field, Err: fmt.Errorf(format, args...)}
}

// read returns n bytes at off; n is bounded by the caller.
func (p *parser) read(off int64, n int, field string) ([]byte, error) {
	if off < 0 || int64(n) > p.size || off > p.size-int64(n) {
		return nil, bad(off, field, "needs %d bytes, the file has %d: %w", n, p.size, io.ErrUnexpectedEOF)
	}
	b := make([]byte, n)
	if m, err := p.r.ReadAt(b, off); m < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, &osmith.FormatError{Offset: off, Field: field, Err: err}
	}
	return b, nil
}

func (p *parser) parse() (*File, error) {
	le := binary.LittleEndian
	if p.size < dosHeaderSize {
		return nil, bad(0, "MS-DOS header", "%d bytes are too few: %w", p.size, ErrNotPE)
	}
	dos, err := p.read(0, dosHeaderSize, "MS-DOS header")
	if err != nil {
		return nil, err
	}
	if dos[0] != 'M' || dos[1] != 'Z' {
		return nil, bad(0, "MS-DOS header", "magic is % x, want 4d 5a: %w", dos[:2], ErrNotPE)
	}
	peOff := int64(le.Uint32(dos[dosLfanew:]))
	if peOff < dosHeaderSize {
		return nil, bad(dosLfanew, "PE header", "at %d it overlaps the MS-DOS header", peOff)
	}
	coff, err := p.read(peOff, coffHeaderSize, "PE header")
	if err != nil {
		return nil, err
	}
	if string(coff[:4]) != "PE\x00\x00" {
		return nil, bad(peOff, "PE header", "signature is % x: %w", coff[:4], ErrNotPE)
	}
	f := &File{Size: p.size, Machine: le.Uint16(coff[4:]), SymbolTable: le.Uint32(coff[12:])}
	f.Fields.COFF = peOff + 4
	f.Fields.NumberOfSections = peOff + 6
	f.Fields.OptionalHeader = peOff + coffHeaderSize
	optSize := int(le.Uint16(coff[20:]))
	if err := p.optionalHeader(f, optSize); err != nil {
		return nil, err
	}
	f.Fields.SectionTable = f.Fields.OptionalHeader + int64(optSize)
	if err := p.sections(f, int(le.Uint16(coff[6:]))); err != nil {
		return nil, err
	}
	if err := f.checkCertificates(); err != nil {
		return nil, err
	}
	return f, nil
}

func (p *parser) optionalHeader(f *File, size int) error {
	le := binary.LittleEndian
	at := f.Fields.OptionalHeader
	opt, err := p.read(at, size, "optional header")
	if err != nil {
		return err
	}
	if size < 2 {
		return bad(at, "optional header", "size %d", size)
	}
	// The two forms differ before the data directories by the width of five address fields.
	var directories int
	switch magic := le.Uint16(opt); magic {
	case magicPE32:
		directories = 96
	case magicPE32Plus:
		directories, f.PE32Plus = 112, true
	default:
		return bad(at, "optional header magic", "%#x is neither PE32 nor PE32+", magic)
	}
	if size < directories {
		return bad(at, "optional header", "size %d, want at least %d", size, directories)
	}
	f.SizeOfInitializedData = le.Uint32(opt[optSizeOfInitializedData:])
	f.EntryPoint = le.Uint32(opt[optEntryPoint:])
	f.ImageBase = uint64(le.Uint32(opt[optImageBase32:]))
	if f.PE32Plus {
		f.ImageBase = le.Uint64(opt[optImageBase64:])
	}
	f.MajorImageVersion = le.Uint16(opt[optMajorImageVersion:])
	f.SectionAlignment = le.Uint32(opt[optSectionAlignment:])
	f.FileAlignment = le.Uint32(opt[optFileAlignment:])
	f.SizeOfImage = le.Uint32(opt[optSizeOfImage:])
	f.SizeOfHeaders = le.Uint32(opt[optSizeOfHeaders:])
	f.CheckSum = le.Uint32(opt[optCheckSum:])
	f.Subsystem = le.Uint16(opt[optSubsystem:])
	f.DllCharacteristics = le.Uint16(opt[optDllCharacteristics:])
	f.Fields.SizeOfInitializedData = at + optSizeOfInitializedData
	f.Fields.SizeOfImage = at + optSizeOfImage
	f.Fields.SizeOfHeaders = at + optSizeOfHeaders
	f.Fields.CheckSum = at + optCheckSum
	f.Fields.DllCharacteristics = at + optDllCharacteristics

	if !powerOfTwo(f.FileAlignment) {
		return bad(at+optFileAlignment, "FileAlignment", "%d is not a power of two", f.FileAlignment)
	}
	if !powerOfTwo(f.SectionAlignment) || f.SectionAlignment < f.FileAlignment {
		return bad(at+optSectionAlignment, "SectionAlignment", "%d is not a power of two of at least FileAlignment (%d)", f.SectionAlignment, f.FileAlignment)
	}
	if int64(f.SizeOfHeaders) > p.size {
		return bad(f.Fields.SizeOfHeaders, "SizeOfHeaders", "%d is more than the file's %d bytes", f.SizeOfHeaders, p.size)
	}

	count := le.Uint32(opt[directories-4:])
	if int64(count)*8 > int64(size-directories) {
		return bad(at+int64(directories)-4, "NumberOfRvaAndSizes", "%d data directories do not fit the optional header of %d bytes", count, size)
	}
	if count > directoryCertificate {
		d := directories + 8*directoryCertificate
		f.Fields.CertificateDirectory = at + int64(d)
		// Unlike all other directories this one holds a file offset, not an address.
		f.Certificates = Range{int64(le.Uint32(opt[d:])), int64(le.Uint32(opt[d+4:]))}
	}
	if f.Directories = count; count > directoryBaseRelocations {
		f.BaseRelocations = le.Uint32(opt[directories+8*directoryBaseRelocations+4:])
	}
	return nil
}

func (p *parser) sections(f *File, count int) error {
	at := f.Fields.SectionTable
	if end := at + int64(count)*sectionHeaderSize; end > int64(f.SizeOfHeaders) {
		return bad(f.Fields.NumberOfSections, "NumberOfSections", "the table of %d sections ends at %d, SizeOfHeaders is %d", count, end, f.SizeOfHeaders)
	}
	table, err := p.read(at, count*sectionHeaderSize, "section table")
	if err != nil {
		return err
	}
	headers := make([]sectionHeader, count)
	if _, err := binary.Decode(table, binary.LittleEndian, headers); err != nil {
		return &osmith.FormatError{Offset: at, Field: "section table", Err: err}
	}
	f.Sections = make([]Section, 0, count)
	for i, h := range headers {
		s := Section{
			Name:            cString(h.Name[:]),
			VirtualSize:     h.VirtualSize,
			VirtualAddress:  h.VirtualAddress,
			RawSize:         h.SizeOfRawData,
			Offset:          h.PointerToRawData,
			Relocations:     h.PointerToRelocations,
			Characteristics: h.Characteristics,
		}
		hdr := at + int64(i)*sectionHeaderSize
		if s.RawSize > 0 && s.Raw().End() > p.size {
			return bad(hdr+20, "section "+s.Name, "its data ends at %d, the file at %d", s.Raw().End(), p.size)
		}
		if s.RawSize > 0 && s.Offset < f.SizeOfHeaders {
			return bad(hdr+20, "section "+s.Name, "its data at %d overlaps the headers, which end at %d", s.Offset, f.SizeOfHeaders)
		}
		if uint64(s.VirtualAddress)+uint64(s.VirtualSize) > 1<<32-1 {
			return bad(hdr+8, "section "+s.Name, "ends above 4 GiB in memory")
		}
		f.Sections = append(f.Sections, s)
	}
	return nil
}

func (f *File) checkCertificates() error {
	c := f.Certificates
	if c.Size == 0 {
		f.Certificates = Range{}
		return nil
	}
	at := f.Fields.CertificateDirectory
	if c.End() > f.Size {
		return bad(at, "certificate table", "ends at %d, but the file ends at %d", c.End(), f.Size)
	}
	if end := f.DataEnd(); c.Offset < end {
		return bad(at, "certificate table", "it starts at %d inside the image, whose data ends at %d", c.Offset, end)
	}
	return nil
}

// DataEnd is the offset behind the headers and the last section's data, where appended data and
// certificates begin.
func (f *File) DataEnd() int64 {
	end := int64(f.SizeOfHeaders)
	for _, s := range f.Sections {
		if s.RawSize > 0 {
			end = max(end, s.Raw().End())
		}
	}
	return end
}

// Section returns the first section of that name, the one a loader finds.
func (f *File) Section(name string) (Section, bool) {
	for _, s := range f.Sections {
		if s.Name == name {
			return s, true
		}
	}
	return Section{}, false
}

// sectionHeader is a row of the section table (Microsoft PE Format, "Section Table (Section
// Headers)").
type sectionHeader struct {
	Name                 [8]byte // padded with NULs
	VirtualSize          uint32
	VirtualAddress       uint32
	SizeOfRawData        uint32
	PointerToRawData     uint32
	PointerToRelocations uint32
	PointerToLinenumbers uint32
	NumberOfRelocations  uint16
	NumberOfLinenumbers  uint16
	Characteristics      uint32
}

// AppendSectionHeader appends the 40-byte form of s, relocation and line-number fields zero. A name
// longer than eight bytes is cut: callers refuse those before.
func AppendSectionHeader(b []byte, s Section) []byte {
	h := sectionHeader{VirtualSize: s.VirtualSize, VirtualAddress: s.VirtualAddress, SizeOfRawData: s.RawSize, PointerToRawData: s.Offset, Characteristics: s.Characteristics}
	copy(h.Name[:], s.Name)
	b, _ = binary.Append(b, binary.LittleEndian, h) // of fixed size: it cannot fail
	return b
}

func powerOfTwo(v uint32) bool { return v != 0 && v&(v-1) == 0 }

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
