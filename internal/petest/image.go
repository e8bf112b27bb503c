package petest

import (
	"encoding/binary"

	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
)

// Geometry of every image here: the alignments of systemd-stub and of x86 kernels.
const (
	sectionAlignment = 4096
	fileAlignment    = 512

	peOffset       = 64  // e_lfanew, directly behind the MS-DOS header
	optionalSize   = 240 // PE32+ with 16 data directories
	sectionsOffset = peOffset + 24 + optionalSize
)

// Section characteristics (Microsoft PE Format, "Section Flags").
const (
	code = 0x60000020 // code, execute, read
	data = 0x40000040 // initialised data, read
)

// halt is "hlt; jmp -3": an entry point that does nothing for ever.
var halt = []byte{0xf4, 0xeb, 0xfd}

// A Section is the name and content of one section of an [Image].
type Section struct {
	Name    string
	Content []byte
	RawSize int // space in the file, if more than Content needs
	Code    bool
}

// Image describes a PE32+ EFI application for x86-64.
type Image struct {
	SizeOfHeaders      int // multiple of 512
	DllCharacteristics uint16
	ImageVersion       uint16 // MajorImageVersion; kernels have 1 or more
	ImageBase          uint64 // preferred address
	// sections are as large in memory as in the file, as those of kernels are
	Whole    bool
	Sections []Section
}

// imageBase is where the linker of systemd's EFI programs puts them.
const imageBase = 0x14df90000

// Bytes lays the image out: headers, then each section at the next file and memory boundary.
func (im Image) Bytes() []byte {
	le := binary.LittleEndian
	b := make([]byte, im.SizeOfHeaders)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], peOffset)
	copy(b[peOffset:], "PE\x00\x00")
	le.PutUint16(b[peOffset+4:], arch.X8664.Machine)
	le.PutUint16(b[peOffset+6:], uint16(len(im.Sections)))
	le.PutUint16(b[peOffset+20:], optionalSize)
	// executable, large addresses, no line numbers, symbols or debug data
	le.PutUint16(b[peOffset+22:], 0x022e)

	table := make([]byte, 0, len(im.Sections)*40)
	address := roundUp(im.SizeOfHeaders, sectionAlignment)
	var codeSize, dataSize, entry, end int
	for _, s := range im.Sections {
		raw := roundUp(max(len(s.Content), s.RawSize), fileAlignment)
		size := len(s.Content)
		if im.Whole {
			size = raw
		}
		h := pe.Section{Name: s.Name, VirtualSize: uint32(size), VirtualAddress: uint32(address),
			RawSize: uint32(raw), Offset: uint32(len(b)), Characteristics: data}
		if s.Code {
			h.Characteristics = code
			codeSize += raw
			if entry == 0 {
				entry = address
			}
		} else {
			dataSize += raw
		}
		table = pe.AppendSectionHeader(table, h)
		b = append(b, s.Content...)
		b = append(b, make([]byte, raw-len(s.Content))...)
		end = address + size
		address = roundUp(address+max(size, 1), sectionAlignment)
	}
	copy(b[sectionsOffset:], table)

	opt := b[peOffset+24:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[4:], uint32(codeSize))
	le.PutUint32(opt[8:], uint32(dataSize))
	le.PutUint32(opt[16:], uint32(entry))
	le.PutUint32(opt[20:], uint32(entry)) // BaseOfCode
	le.PutUint64(opt[24:], im.ImageBase)
	le.PutUint32(opt[32:], sectionAlignment)
	le.PutUint32(opt[36:], fileAlignment)
	le.PutUint16(opt[44:], im.ImageVersion)
	le.PutUint16(opt[48:], 1) // MajorSubsystemVersion
	le.PutUint32(opt[56:], uint32(roundUp(end, sectionAlignment)))
	le.PutUint32(opt[60:], uint32(im.SizeOfHeaders))
	le.PutUint16(opt[68:], pe.SubsystemEFIApplication)
	le.PutUint16(opt[70:], im.DllCharacteristics)
	for i := range 4 { // stack and heap, reserved and committed
		le.PutUint64(opt[72+8*i:], uint64([4]int{0x100000, 0x1000, 0x100000, 0x1000}[i]))
	}
	le.PutUint32(opt[108:], 16) // NumberOfRvaAndSizes
	return b
}

func roundUp(n, align int) int { return (n + align - 1) / align * align }
