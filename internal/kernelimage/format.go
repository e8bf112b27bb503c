package kernelimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
)

// The first bytes of what kernel builds compress with (RFC 1952; RFC 8878; the xz, LZ4 and lzop
// file formats; Linux, scripts/Makefile.lib).
var compressions = []struct{ magic, format string }{
	{"\x1f\x8b", "gzip"},
	{"\x28\xb5\x2f\xfd", "zstd"},
	{"\xfd7zXZ\x00", "xz"},
	{"\x04\x22\x4d\x18", "lz4"},
	{"\x02\x21\x4c\x18", "lz4"}, // legacy frames, which kernels use
	{"\x89LZO\x00\x0d\x0a\x1a\x0a", "lzo"},
	{"\x5d\x00\x00", "lzma"},
	{"BZh", "bzip2"},
}

// Compression names how a source is compressed as a whole: "gzip", "zstd", "xz", "lz4", "lzo",
// "lzma", "bzip2"; "" if it is not.
func Compression(src osmith.Source) (string, error) {
	b := make([]byte, min(src.Size(), 16))
	if n, err := src.ReadAt(b, 0); n < len(b) {
		return "", fmt.Errorf("reading the first bytes: %w", NoEOF(err))
	}
	for _, c := range compressions {
		if bytes.HasPrefix(b, []byte(c.magic)) {
			return c.format, nil
		}
	}
	return "", nil
}

// Offsets of the header of EFI zboot kernels (Linux, drivers/firmware/efi/libstub/zboot-header.S):
// "MZ\0\0", "zimg", u32 offset and u32 size of the compressed kernel, and the name of the
// compression.
const (
	zbootMagic       = 4
	zbootOffset      = 8
	zbootSize        = 12
	zbootCompression = 24
	zbootHeaderEnd   = 56
)

// Zboot is a compressed kernel inside of an EFI program that decompresses it.
type Zboot struct {
	Format       string // as of [Compression]; another name is the header's own
	Offset, Size int64  // of the payload in the file, which it does not leave
}

// ReadZboot reads the header of a zboot kernel; nil for any other file.
func ReadZboot(src osmith.Source) (*Zboot, error) {
	h := make([]byte, min(src.Size(), zbootHeaderEnd))
	if n, err := src.ReadAt(h, 0); n < len(h) {
		return nil, fmt.Errorf("reading the header: %w", NoEOF(err))
	}
	if len(h) < zbootHeaderEnd || string(h[:2]) != "MZ" || string(h[zbootMagic:][:4]) != "zimg" {
		return nil, nil
	}
	le := binary.LittleEndian
	z := &Zboot{Offset: int64(le.Uint32(h[zbootOffset:])), Size: int64(le.Uint32(h[zbootSize:]))}
	if z.Offset+z.Size > src.Size() {
		return nil, fmt.Errorf("zboot payload ends at %d, the file at %d", z.Offset+z.Size, src.Size())
	}
	name, _, _ := bytes.Cut(h[zbootCompression:], []byte{0})
	switch z.Format = string(name); z.Format {
	case "zstd22":
		z.Format = "zstd"
	case "xzkern":
		z.Format = "xz"
	}
	return z, nil
}

// NoEOF is the error of a read that came too short.
func NoEOF(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
