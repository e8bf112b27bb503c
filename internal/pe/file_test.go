package pe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/osmith-dev/osmith"

	"github.com/stretchr/testify/require"
)

// image builds a minimal PE32+ application with one section of 512 bytes.
func image() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0x600)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	le.PutUint16(b[0x44:], 0x8664)
	le.PutUint16(b[0x46:], 1)
	le.PutUint16(b[0x54:], 240)
	opt := b[0x58:]
	le.PutUint16(opt, magicPE32Plus)
	le.PutUint32(opt[optSectionAlignment:], 0x1000)
	le.PutUint32(opt[optFileAlignment:], 0x200)
	le.PutUint32(opt[optSizeOfHeaders:], 0x400)
	le.PutUint16(opt[optSubsystem:], SubsystemEFIApplication)
	le.PutUint32(opt[108:], 16)
	h := AppendSectionHeader(nil, Section{Name: ".text", VirtualSize: 100, VirtualAddress: 0x1000, RawSize: 0x200, Offset: 0x400})
	copy(b[0x58+240:], h)
	return b
}

func TestParse(t *testing.T) {
	b := image()
	f, err := Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	require.Equal(t, uint16(0x8664), f.Machine)
	require.Equal(t, uint16(SubsystemEFIApplication), f.Subsystem)
	require.Equal(t, int64(0x600), f.DataEnd())
	s, ok := f.Section(".text")
	require.True(t, ok)
	require.Equal(t, Range{0x400, 100}, s.Data())
	require.Equal(t, int64(0x58+144), f.Fields.CertificateDirectory)
}

// What a loader wants to know of an image beyond its sections, in both forms of the optional
// header.
func TestParseLoading(t *testing.T) {
	le := binary.LittleEndian
	b := image()
	opt := b[0x58:]
	le.PutUint64(opt[24:], 0x1_4000_0000)
	le.PutUint16(opt[44:], 3)
	le.PutUint32(opt[112+5*8+4:], 12)
	le.PutUint32(b[0x58+240+24:], 0x400)
	f, err := Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	require.Equal(t, uint64(0x1_4000_0000), f.ImageBase)
	require.Equal(t, uint16(3), f.MajorImageVersion)
	require.Equal(t, []uint32{16, 12}, []uint32{f.Directories, f.BaseRelocations})
	require.Equal(t, uint32(0x400), f.Sections[0].Relocations)

	le.PutUint32(opt[108:], 5) // the sixth directory is not one
	f, err = Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	require.Equal(t, []uint32{5, 0}, []uint32{f.Directories, f.BaseRelocations})

	le.PutUint16(opt, magicPE32)
	le.PutUint32(opt[28:], 0x40_0000)
	le.PutUint32(opt[92:], 16)
	le.PutUint32(opt[96+5*8+4:], 8)
	f, err = Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	require.Equal(t, uint64(0x40_0000), f.ImageBase)
	require.Equal(t, uint32(8), f.BaseRelocations)
}

func TestParseRefuses(t *testing.T) {
	le := binary.LittleEndian
	tests := []struct {
		name   string
		damage func(b []byte) []byte
		field  string
	}{
		{"empty", func(b []byte) []byte { return nil }, "MS-DOS header"},
		{"magic", func(b []byte) []byte { b[0] = 'X'; return b }, "MS-DOS header"},
		{"header-outside", func(b []byte) []byte { le.PutUint32(b[0x3c:], 0xfffffff0); return b }, "PE header"},
		{"signature", func(b []byte) []byte { b[0x40] = 0; return b }, "PE header"},
		{"optional-magic", func(b []byte) []byte { b[0x58] = 0; return b }, "optional header magic"},
		{"optional-short", func(b []byte) []byte { le.PutUint16(b[0x54:], 40); return b }, "optional header"},
		{"file-alignment", func(b []byte) []byte { le.PutUint32(b[0x58+36:], 513); return b }, "FileAlignment"},
		{"section-alignment", func(b []byte) []byte { le.PutUint32(b[0x58+32:], 0x100); return b }, "SectionAlignment"},
		{"headers-size", func(b []byte) []byte { le.PutUint32(b[0x58+60:], 0x10000); return b }, "SizeOfHeaders"},
		{"directories", func(b []byte) []byte { le.PutUint32(b[0x58+108:], 1<<31); return b }, "NumberOfRvaAndSizes"},
		{"sections", func(b []byte) []byte { le.PutUint16(b[0x46:], 0xffff); return b }, "NumberOfSections"},
		{"section-outside", func(b []byte) []byte { return b[:0x500] }, "section .text"},
		{"section-in-headers", func(b []byte) []byte { le.PutUint32(b[0x58+240+20:], 0x200); return b }, "section .text"},
		{"certificates-outside", func(b []byte) []byte { le.PutUint32(b[0x58+144:], 0x600); le.PutUint32(b[0x58+148:], 8); return b }, "certificate table"},
		{"certificates-inside", func(b []byte) []byte { le.PutUint32(b[0x58+144:], 0x500); le.PutUint32(b[0x58+148:], 8); return b }, "certificate table"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.damage(image())
			f, err := Parse(bytes.NewReader(b), int64(len(b)))
			require.Nil(t, f)
			var fe *osmith.FormatError
			require.ErrorAs(t, err, &fe)
			require.Equal(t, tt.field, fe.Field)
		})
	}
	_, err := Parse(bytes.NewReader(nil), 0)
	require.True(t, errors.Is(err, ErrNotPE))
}

func FuzzParse(f *testing.F) {
	f.Add(image())
	f.Fuzz(func(t *testing.T, b []byte) {
		pe, err := Parse(bytes.NewReader(b), int64(len(b)))
		if (pe == nil) != (err != nil) {
			t.Fatalf("file %v, error %v", pe, err)
		}
		if err != nil {
			return
		}
		for _, s := range pe.Sections {
			if s.RawSize > 0 && s.Data().End() > int64(len(b)) {
				t.Fatalf("section %+v leaves the file", s)
			}
		}
	})
}
