package pe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/osmith-dev/osmith"

	"github.com/stretchr/testify/require"
)

// Headers that lie, each with the field that is named and where it stands. The optional header of
// image is at 0x58, its section table at 0x148, its only section's data at 0x400 to 0x600, which is
// the end.
func TestLies(t *testing.T) {
	le := binary.LittleEndian
	u16 := func(off int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint16(b[off:], v); return b }
	}
	u32 := func(off int, v ...uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			for i, x := range v {
				le.PutUint32(b[off+4*i:], x)
			}
			return b
		}
	}
	const all = 1<<32 - 1
	for _, c := range []struct {
		name   string
		lie    func([]byte) []byte
		field  string
		offset int64
		text   string
	}{
		{"e_lfanew 0", u32(0x3c, 0), "PE header", 0x3c, "overlaps the MS-DOS header"},
		{"e_lfanew 63", u32(0x3c, 63), "PE header", 0x3c, "overlaps the MS-DOS header"},
		{"e_lfanew at the end", u32(0x3c, 0x600-23), "PE header", 0x600 - 23, "needs 24 bytes"},
		{"e_lfanew 2^32-1", u32(0x3c, all), "PE header", all, "needs 24 bytes"},
		{"65535 sections", u16(0x46, 0xffff), "NumberOfSections", 0x46, "table of 65535 sections ends at"},
		{"19 sections", u16(0x46, 19), "NumberOfSections", 0x46, "SizeOfHeaders is 1024"},
		{"optional header of 0", u16(0x54, 0), "optional header", 0x58, "size 0"},
		{"optional header of 111", u16(0x54, 111), "optional header", 0x58, "want at least 112"},
		{"optional header of 64 KiB", u16(0x54, 0xffff), "optional header", 0x58, "needs 65535 bytes"},
		{"ROM image", u16(0x58, 0x107), "optional header magic", 0x58, "0x107"},
		{"FileAlignment 0", u32(0x58+36, 0), "FileAlignment", 0x58 + 36, "0 is not a power of two"},
		{"SectionAlignment 3", u32(0x58+32, 3), "SectionAlignment", 0x58 + 32, "3 is not"},
		{"SectionAlignment 0", u32(0x58+32, 0), "SectionAlignment", 0x58 + 32, "0 is not"},
		{"headers of 0", u32(0x58+60, 0), "NumberOfSections", 0x46, "SizeOfHeaders is 0"},
		{"headers of 2^32-1", u32(0x58+60, all), "SizeOfHeaders", 0x58 + 60, "more than the file's 1536"},
		{"headers over the data", u32(0x58+60, 0x500), "section .text", 0x148 + 20, "overlaps the headers"},
		{"17 directories", u32(0x58+108, 17), "NumberOfRvaAndSizes", 0x58 + 108, "17 data directories do not fit"},
		{"2^32-1 directories", u32(0x58+108, all), "NumberOfRvaAndSizes", 0x58 + 108, "do not fit"},
		{"data of 2^32-1 bytes", u32(0x148+16, all), "section .text", 0x148 + 20, "its data ends at 4294968319, the file at 1536"},
		{"data at 2^32-1", u32(0x148+20, all), "section .text", 0x148 + 20, "its data ends at 4294967807"},
		{"both", u32(0x148+16, all, all), "section .text", 0x148 + 20, "its data ends at 8589934590"},
		{"data in the DOS header", u32(0x148+20, 0), "section .text", 0x148 + 20, "overlaps the headers"},
		{"address 2^32-1", u32(0x148+12, all), "section .text", 0x148 + 8, "above 4 GiB"},
		{"table of 2^32-1 bytes", u32(0x58+144, 0x600, all), "certificate table", 0x58 + 144, "ends at 4294968831, but the file ends at 1536"},
		{"table at 2^32-8", u32(0x58+144, 0xfffffff8, 8), "certificate table", 0x58 + 144, "ends at 4294967296"},
		{"table over the data", u32(0x58+144, 0x5f8, 8), "certificate table", 0x58 + 144, "inside the image"},
		{"table over the headers", u32(0x58+144, 0, 8), "certificate table", 0x58 + 144, "inside the image"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.lie(image())
			f, err := Parse(bytes.NewReader(b), int64(len(b)))
			require.Nil(t, f)
			e, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.field, e.Field)
			require.Equal(t, c.offset, e.Offset)
			require.ErrorContains(t, err, c.text)
		})
	}

	// These are none: no reader looks at the offset of a section without data or of a table without
	// a size.
	for _, harmless := range []func([]byte) []byte{u32(0x148+16, 0, all), u32(0x58+144, all, 0), u32(0x58+64, all)} {
		b := harmless(image())
		f, err := Parse(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		require.Equal(t, Range{}, f.Certificates)
	}
}

// A reader of a stream asks for what Parse needs, and for no more than the file says.
func TestHeadersSize(t *testing.T) {
	b := image()
	need := int64(FirstRead)
	var asked []int64
	for {
		n, err := HeadersSize(b[:need])
		require.NoError(t, err)
		asked = append(asked, n)
		if n == need {
			break
		}
		need = n
	}
	require.Equal(t, []int64{0x58 + 64, 0x400, 0x400}, asked)
	n, err := HeadersSize(nil)
	require.NoError(t, err)
	require.EqualValues(t, FirstRead, n)
	b[1] = 'z'
	_, err = HeadersSize(b[:FirstRead])
	require.ErrorIs(t, err, ErrNotPE)
	b[1] = 'Z'
	binary.LittleEndian.PutUint32(b[0x3c:], 1<<32-1)
	n, err = HeadersSize(b)
	require.NoError(t, err)
	require.Equal(t, int64(1<<32-1+24+64), n)
}

// However much of a file is there, parsing what HeadersSize asked for gives what parsing all gives.
func FuzzHeadersSize(f *testing.F) {
	f.Add(image())
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, err := Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		need := int64(FirstRead)
		for range 3 {
			n, err := HeadersSize(b[:need])
			if err != nil || n > int64(len(b)) {
				t.Fatalf("%d of %d bytes, %v", n, len(b), err)
			}
			need = n
		}
		part, err := Parse(bytes.NewReader(b[:need]), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		require.Equal(t, whole, part)
	})
}
