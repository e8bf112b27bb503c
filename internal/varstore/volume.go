package varstore

import (
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

func bad(off int, field, format string, args ...any) error {
	return &osmith.FormatError{Offset: int64(off), Field: field, Err: fmt.Errorf(format, args...)}
}

// MaxSize bounds an image: flash chips with variables have at most a few MiB, and OVMF's largest
// volume 528 KiB.
const MaxSize = 64 << 20

// volumeHeader is EFI_FIRMWARE_VOLUME_HEADER (PI Specification 1.8, volume 3, section 3.2.1.1). The
// block map follows.
type volumeHeader struct {
	_                                      [16]byte // zero
	FileSystem                             [16]byte // GUID
	Length                                 uint64   // of the volume
	Signature                              [4]byte
	Attributes                             uint32
	HeaderLength, Checksum, ExtendedHeader uint16
	_, Revision                            uint8
}

const (
	volumeHeaderSize = 56
	volumeGUIDOffset = 16
	volumeLenOffset  = 32
	volumeSigOffset  = 40
	volumeHdrOffset  = 48
	volumeRevOffset  = 55
	volumeRevision   = 2
)

// storeHeader is VARIABLE_STORE_HEADER (edk2, VariableFormat.h).
type storeHeader struct {
	Signature     [16]byte // GUID
	Size          uint32   // with this header
	Format, State uint8
	_             [6]byte
}

const (
	storeHeaderSize = 28
	storeFormatted  = 0x5a
	storeHealthy    = 0xfe
)

var (
	// gEfiSystemNvDataFvGuid
	guidNVData = osmith.MustParseGUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
	// gEfiVariableGuid
	guidStore = osmith.MustParseGUID("ddcf3616-3275-4164-98b6-fe85707ffe7d")
	// gEfiAuthenticatedVariableGuid
	guidAuthenticated = osmith.MustParseGUID("aaf32c78-947b-439a-a180-2e144ec37792")
)

// findStore checks the volume's header and that of the store in it: start and end of the variables.
func findStore(b []byte) (start, end int, authenticated bool, err error) {
	le := binary.LittleEndian
	if len(b) > MaxSize {
		return 0, 0, false, bad(0, "firmware volume", "%d bytes, limit %d", len(b), MaxSize)
	}
	var v volumeHeader
	if _, err := binary.Decode(b, le, &v); err != nil {
		return 0, 0, false, bad(0, "firmware volume", "%d bytes, its header has %d", len(b), volumeHeaderSize)
	}
	if string(v.Signature[:]) != "_FVH" {
		return 0, 0, false, bad(volumeSigOffset, "signature", "%q, want _FVH: this is not a firmware volume", v.Signature[:])
	}
	if g := efi.GUID(v.FileSystem[:]); g != guidNVData {
		return 0, 0, false, bad(volumeGUIDOffset, "file system", "%v: this volume does not hold variables (%v)", g, guidNVData)
	}
	if v.Revision != volumeRevision {
		return 0, 0, false, bad(volumeRevOffset, "revision", "%d, want %d", v.Revision, volumeRevision)
	}
	length, header := v.Length, int(v.HeaderLength)
	if length > uint64(len(b)) {
		return 0, 0, false, bad(volumeLenOffset, "volume length", "%d, there are %d bytes", length, len(b))
	}
	if header < volumeHeaderSize || header%2 != 0 || uint64(header)+storeHeaderSize > length {
		return 0, 0, false, bad(volumeHdrOffset, "header length", "%d, in a volume of %d bytes", header, length)
	}
	var sum uint16
	for i := 0; i < header; i += 2 {
		sum += le.Uint16(b[i:])
	}
	if sum != 0 {
		return 0, 0, false, bad(volumeHdrOffset+2, "checksum", "the header's words add up to 0x%04x, want 0", sum)
	}
	var s storeHeader
	if _, err := binary.Decode(b[header:], le, &s); err != nil {
		return 0, 0, false, bad(header, "variable store", "%w", err)
	}
	switch g := efi.GUID(s.Signature[:]); g {
	case guidAuthenticated:
		authenticated = true
	case guidStore:
	default:
		return 0, 0, false, bad(header, "variable store", "signature %v, want %v or %v", g, guidAuthenticated, guidStore)
	}
	size := uint64(s.Size)
	if size < storeHeaderSize || size > length-uint64(header) {
		return 0, 0, false, bad(header+16, "store size", "%d, want %d to the %d bytes left in the volume", size, storeHeaderSize, length-uint64(header))
	}
	if s.Format != storeFormatted || s.State != storeHealthy {
		return 0, 0, false, bad(header+20, "store state", "format 0x%02x and state 0x%02x, want 0x%02x and 0x%02x", s.Format, s.State, storeFormatted, storeHealthy)
	}
	return align(header + storeHeaderSize), header + int(size), authenticated, nil
}

// align rounds up to the boundary at which a variable's header begins.
func align(n int) int { return (n + 3) &^ 3 }
