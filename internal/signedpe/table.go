package signedpe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pe"
)

// winCertificate is the beginning of WIN_CERTIFICATE (UEFI Specification 2.10, section 32.2.4; PE
// Format, "The Attribute Certificate Table"). The certificate follows.
type winCertificate struct {
	Length         uint32 // with this header
	Revision, Type uint16
}

const (
	Alignment    = 8        // bytes, at which the table and each entry start
	MaxTableSize = 16 << 20 // bytes

	certHeaderSize   = 8
	certRevision     = 0x0200
	certTypePKCS7    = 0x0002 // WIN_CERT_TYPE_PKCS_SIGNED_DATA
	certTypeEFIGUID  = 0x0ef1 // WIN_CERT_TYPE_EFI_GUID: a GUID, then what it names
	certGUIDAndStart = certHeaderSize + 16
	maxTableEntries  = 64
)

// guidPKCS7 is EFI_CERT_TYPE_PKCS7_GUID.
var guidPKCS7 = osmith.MustParseGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")

// An Entry is one WIN_CERTIFICATE.
type Entry struct {
	Raw           []byte // all of it, header and padding
	Offset        int64  // of Raw in the file
	Message       []byte // the PKCS #7 part, nil in an entry of a type that firmware skips
	MessageOffset int64  // of Message in the file
}

// ReadTable reads the certificate table and splits it.
func ReadTable(f *pe.File, src io.ReaderAt) ([]Entry, error) {
	raw, err := RawTable(f, src)
	if err != nil {
		return nil, err
	}
	return SplitTable(f, raw)
}

// RawTable reads the certificate table, which has to end with the file.
func RawTable(f *pe.File, src io.ReaderAt) (raw []byte, err error) {
	t := f.Certificates
	switch {
	case t.Size == 0:
		return nil, nil
	case t.Size > MaxTableSize:
		return nil, TableTooLarge(f)
	case t.Offset%Alignment != 0:
		return nil, &osmith.FormatError{Offset: t.Offset, Field: "certificate table", Err: fmt.Errorf("does not start at a multiple of %d", Alignment)}
	case t.End() != f.Size:
		return nil, BytesBehind(f)
	}
	err = Scan(src, []pe.Range{t}, func(_ int64, b []byte) error {
		raw = append(raw, b...)
		return nil
	})
	return raw, err
}

// TableTooLarge is the error of a certificate table of more than [MaxTableSize].
func TableTooLarge(f *pe.File) error {
	return &osmith.FormatError{Offset: f.Certificates.Offset, Field: "certificate table", Err: fmt.Errorf("%d bytes, limit %d", f.Certificates.Size, MaxTableSize)}
}

// BytesBehind is the error of a file that goes on behind its certificate table.
func BytesBehind(f *pe.File) error {
	end := f.Certificates.End()
	return &osmith.FormatError{Offset: end, Field: "certificate table", Err: fmt.Errorf("%d bytes follow it, firmware would hash the wrong range", f.Size-end)}
}

// SplitTable splits the certificate table as firmware does. Nothing is lost: the raw parts one
// after the other are the table.
func SplitTable(f *pe.File, raw []byte) (entries []Entry, err error) {
	t := f.Certificates
	if t.Size == 0 {
		return nil, nil
	}
	bad := func(off int64, field string, err error) ([]Entry, error) {
		return nil, &osmith.FormatError{Offset: off, Field: field, Err: err}
	}
	if t.Offset%Alignment != 0 {
		return bad(t.Offset, "certificate table", fmt.Errorf("does not start at a multiple of %d", Alignment))
	}
	if t.End() != f.Size {
		return nil, BytesBehind(f)
	}
	for pos := 0; pos < len(raw); {
		at := t.Offset + int64(pos)
		left := raw[pos:]
		var h winCertificate
		if _, err := binary.Decode(left, binary.LittleEndian, &h); err != nil {
			return bad(at, "WIN_CERTIFICATE", fmt.Errorf("%d bytes left, the header has %d", len(left), certHeaderSize))
		}
		if len(entries) == maxTableEntries {
			return bad(at, "certificate table", fmt.Errorf("more than %d entries", maxTableEntries))
		}
		size := int64(h.Length)
		if size <= certHeaderSize || size > int64(len(left)) {
			return bad(at, "WIN_CERTIFICATE length", fmt.Errorf("%d, want more than %d and at most the %d bytes left", size, certHeaderSize, len(left)))
		}
		e, err := parseEntry(h, left[:size], at)
		if err != nil {
			return nil, err
		}
		next := (size + Alignment - 1) / Alignment * Alignment
		if next > int64(len(left)) {
			return bad(at, "WIN_CERTIFICATE length", fmt.Errorf("%d, and its padding to %d does not fit the table", size, next))
		}
		if !allZero(left[size:next]) {
			return bad(at+size, "padding of a WIN_CERTIFICATE", errors.New("not zero"))
		}
		e.Raw, e.Offset = left[:next:next], at
		entries = append(entries, e)
		pos += int(next)
	}
	return entries, nil
}

// parseEntry looks at one WIN_CERTIFICATE of which b is all but the padding.
func parseEntry(h winCertificate, b []byte, at int64) (Entry, error) {
	if h.Revision != certRevision {
		return Entry{}, &osmith.FormatError{Offset: at + 4, Field: "WIN_CERTIFICATE revision", Err: fmt.Errorf("0x%04x, want 0x%04x", h.Revision, certRevision)}
	}
	switch h.Type {
	case certTypePKCS7:
		return Entry{MessageOffset: at + certHeaderSize, Message: b[certHeaderSize:]}, nil
	case certTypeEFIGUID:
		if len(b) > certGUIDAndStart && efi.GUID(b[certHeaderSize:]) == guidPKCS7 {
			return Entry{MessageOffset: at + certGUIDAndStart, Message: b[certGUIDAndStart:]}, nil
		}
	}
	return Entry{}, nil
}

// AppendEntry appends a WIN_CERTIFICATE with a PKCS #7 message and its padding. Like sbsign and
// unlike osslsigncode, the length does not count the padding; firmware takes both.
func AppendEntry(b, message []byte) []byte {
	size := certHeaderSize + len(message)
	// of fixed size: it cannot fail
	b, _ = binary.Append(b, binary.LittleEndian, winCertificate{uint32(size), certRevision, certTypePKCS7})
	b = append(b, message...)
	for ; size%Alignment != 0; size++ {
		b = append(b, 0)
	}
	return b
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
