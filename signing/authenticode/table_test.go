package authenticode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pe"
)

// What is split can be put together again, and what is one PKCS #7 entry is what would be written for it.
func FuzzCertificateTable(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendEntry(nil, []byte("message")))
	f.Add(appendEntry(appendEntry(nil, make([]byte, 8)), []byte("another")))
	guid := appendEntry(nil, append(efi.AppendGUID(nil, guidPKCS7), "message of a GUID"...))
	binary.LittleEndian.PutUint16(guid[6:], certTypeEFIGUID)
	f.Add(guid)
	f.Fuzz(func(t *testing.T, table []byte) {
		const start = 4096
		file := &pe.File{Size: start + int64(len(table)), Certificates: pe.Range{Offset: start, Size: int64(len(table))}}
		if len(table) == 0 {
			file.Certificates = pe.Range{}
		}
		entries, err := splitTable(file, table)
		if err != nil {
			e, ok := errors.AsType[*FormatError](err)
			if !ok || e.Offset < start || e.Offset > file.Size || e.Field == "" || entries != nil {
				t.Fatalf("%v entries and error %v", entries, err)
			}
			return
		}
		var again []byte
		for _, e := range entries {
			again = append(again, e.raw...)
			if e.data == nil {
				continue
			}
			if !bytes.Equal(table[e.offset-start:][:len(e.data)], e.data) {
				t.Fatalf("data is not at 0x%x", e.offset)
			}
			if binary.LittleEndian.Uint16(e.raw[6:]) == certTypePKCS7 && !bytes.Equal(appendEntry(nil, e.data), e.raw) {
				t.Fatalf("%x is written as %x", e.raw, appendEntry(nil, e.data))
			}
		}
		if !bytes.Equal(again, table) {
			t.Fatal("bytes lost")
		}
	})
}

// slowChecksum is that of ImageHlp, word by word.
func slowChecksum(b []byte) uint32 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i])
		if i+1 < len(b) {
			word |= uint32(b[i+1]) << 8
		}
		sum += word
		sum = sum>>16 + sum&0xffff
	}
	return sum + uint32(len(b))
}

// Pieces of any size in any order sum up to the same.
func FuzzChecksum(f *testing.F) {
	f.Add([]byte("odd"), uint(1), uint(2))
	f.Add(bytes.Repeat([]byte{0xff}, 131), uint(64), uint(65))
	f.Add(bytes.Repeat([]byte{0xff}, 1<<17), uint(3), uint(8))
	f.Fuzz(func(t *testing.T, b []byte, i, j uint) {
		n := uint(len(b)) + 1
		i, j = i%n, j%n
		i, j = min(i, j), max(i, j)
		var c checksum
		c.add(int64(j), b[j:])
		c.add(0, b[:i])
		c.add(int64(i), b[i:j])
		if got, want := c.value(int64(len(b))), slowChecksum(b); got != want {
			t.Fatalf("0x%x, want 0x%x", got, want)
		}
	})
}

func TestChecksumOfLargeImages(t *testing.T) {
	b := bytes.Repeat([]byte{0xff, 0xfe}, 1<<20)
	var c checksum
	c.add(0, b)
	require.Equal(t, slowChecksum(b), c.value(int64(len(b))))
}
