package signedpe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pe"
)

// What is split can be put together again, and what is one PKCS #7 entry is what would be written
// for it.
func FuzzCertificateTable(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendEntry(nil, []byte("message")))
	f.Add(AppendEntry(AppendEntry(nil, make([]byte, 8)), []byte("another")))
	guid := AppendEntry(nil, append(efi.AppendGUID(nil, guidPKCS7), "message of a GUID"...))
	binary.LittleEndian.PutUint16(guid[6:], certTypeEFIGUID)
	f.Add(guid)
	f.Fuzz(func(t *testing.T, table []byte) {
		const start = 4096
		file := &pe.File{Size: start + int64(len(table)), Certificates: pe.Range{Offset: start, Size: int64(len(table))}}
		if len(table) == 0 {
			file.Certificates = pe.Range{}
		}
		entries, err := SplitTable(file, table)
		if err != nil {
			e, ok := errors.AsType[*osmith.FormatError](err)
			if !ok || e.Offset < start || e.Offset > file.Size || e.Field == "" || entries != nil {
				t.Fatalf("%v entries and error %v", entries, err)
			}
			return
		}
		var again []byte
		for _, e := range entries {
			again = append(again, e.Raw...)
			if e.Message == nil {
				continue
			}
			if !bytes.Equal(table[e.MessageOffset-start:][:len(e.Message)], e.Message) {
				t.Fatalf("data is not at 0x%x", e.MessageOffset)
			}
			if binary.LittleEndian.Uint16(e.Raw[6:]) == certTypePKCS7 && !bytes.Equal(AppendEntry(nil, e.Message), e.Raw) {
				t.Fatalf("%x is written as %x", e.Raw, AppendEntry(nil, e.Message))
			}
		}
		if !bytes.Equal(again, table) {
			t.Fatal("bytes lost")
		}
	})
}
