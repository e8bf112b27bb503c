package uki

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Offsets of the x86 real-mode setup header (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
const (
	setupMagic         = 0x202 // "HdrS"
	setupKernelVersion = 0x20e // u16: offset of the version string, less 0x200
	setupHeaderEnd     = 0x210
	maxVersionString   = 128
)

// Offsets of the header of EFI zboot kernels (Linux, drivers/firmware/efi/libstub/zboot-header.S): "MZ\0\0", "zimg",
// u32 offset and u32 size of the compressed kernel, and the name of the compression.
const (
	zbootMagic       = 4
	zbootOffset      = 8
	zbootSize        = 12
	zbootCompression = 24
	zbootHeaderEnd   = 56
)

// ProbeUname finds the version of a kernel, the output of `uname -r` when it runs: of an x86 bzImage where the boot
// protocol puts it, of others in the banner ("Linux version ...") in their data. Kernels of arm64, riscv and loongarch
// may be compressed with gzip, as a whole (Image.gz) or as the payload of an EFI zboot kernel (vmlinuz.efi); they are
// decompressed into a buffer, no more. Other compressions are a [CompressedError]. Any error is a [PartError] with
// [ErrUnknownUname].
func ProbeUname(kernel osmith.Source) (_ string, err error) {
	defer prefix.Add("uki", &err)
	if kernel == nil {
		return "", &PartError{"Linux", ErrMissing}
	}
	return unameOf("", "", false, kernel)
}

func probeUname(kernel osmith.Source) (string, error) {
	h := make([]byte, min(kernel.Size(), setupHeaderEnd))
	if n, err := kernel.ReadAt(h, 0); n < len(h) {
		return "", fmt.Errorf("reading the header: %w", noEOF(err))
	}
	if len(h) == setupHeaderEnd && string(h[setupMagic:][:4]) == "HdrS" {
		return setupUname(kernel, h)
	}
	format, err := compression(kernel)
	if err != nil {
		return "", err
	}
	payload := io.NewSectionReader(kernel, 0, kernel.Size())
	if len(h) >= zbootHeaderEnd && string(h[:2]) == "MZ" && string(h[zbootMagic:][:4]) == "zimg" {
		name, _, _ := strings.Cut(string(h[zbootCompression:zbootHeaderEnd]), "\x00")
		if format = name; format == "zstd22" {
			format = "zstd"
		}
		off, size := int64(binary.LittleEndian.Uint32(h[zbootOffset:])), int64(binary.LittleEndian.Uint32(h[zbootSize:]))
		if off+size > kernel.Size() {
			return "", fmt.Errorf("zboot payload ends at %d, the file at %d", off+size, kernel.Size())
		}
		payload = io.NewSectionReader(kernel, off, size)
	}
	switch format {
	case "":
		uname, err := findBanner(payload)
		if errors.Is(err, errNoBanner) {
			err = fmt.Errorf("no x86 setup header (HdrS at %#x) and no banner (Linux version) in %d bytes", setupMagic, kernel.Size())
		}
		return uname, err
	case "gzip":
		z, err := gzip.NewReader(payload)
		if err != nil {
			return "", fmt.Errorf("gzip: %w", noEOF(err))
		}
		return findBanner(&limited{r: z, format: format})
	}
	return "", &CompressedError{firstRunes(format, 16)}
}

// setupUname follows the pointer in the setup header h.
func setupUname(kernel osmith.Source, h []byte) (string, error) {
	at := 0x200 + int64(binary.LittleEndian.Uint16(h[setupKernelVersion:]))
	if at == 0x200 || at >= kernel.Size() {
		return "", fmt.Errorf("no version string: setup header points to %#x", at)
	}
	b := make([]byte, min(maxVersionString, kernel.Size()-at))
	if n, err := kernel.ReadAt(b, at); n < len(b) {
		return "", fmt.Errorf("reading the version string: %w", noEOF(err))
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	uname, ok := beforeBuilder(b)
	if !ok {
		return "", fmt.Errorf("version string %q is not VERSION (BUILDER)", b)
	}
	return uname, nil
}

// beforeBuilder is VERSION of "VERSION (BUILDER) ...".
func beforeBuilder(b []byte) (string, bool) {
	uname, rest, ok := bytes.Cut(b, []byte(" "))
	return string(uname), ok && bytes.HasPrefix(rest, []byte("(")) && validUname(string(uname))
}

var errNoBanner = errors.New("no banner (Linux version) in the kernel")

// findBanner looks for "Linux version VERSION (BUILDER)" (Linux, init/version.c), which stands in the kernel's
// read-only data. The same words with something else behind them are a text of their own.
func findBanner(r io.Reader) (string, error) {
	banner := []byte("Linux version ")
	const tail = maxVersionString // what may have to be looked at again with the next bytes
	buf := make([]byte, 0, copyBuffer)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return "", err
		}
		// A match too close to the end waits for more bytes.
		end := len(buf)
		for at := 0; ; {
			i := bytes.Index(buf[at:], banner)
			if i < 0 {
				break
			}
			at += i
			if !last && len(buf)-at < tail {
				end = at
				break
			}
			text := buf[at+len(banner) : min(at+tail, len(buf))]
			if uname, ok := beforeBuilder(text); ok && uname[0] >= '0' && uname[0] <= '9' {
				return uname, nil
			}
			at += len(banner)
		}
		if last {
			return "", errNoBanner
		}
		if end == len(buf) {
			end -= len(banner)
		}
		buf = buf[:copy(buf[:cap(buf)], buf[end:])]
	}
}

// validUname reports whether s can be a kernel release: what Kbuild and distributions put there.
func validUname(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("._+~:-", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

func noEOF(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// CompressedError is returned for a kernel that is compressed as a whole, which no firmware loads. It is an
// [ErrNotPE].
type CompressedError struct {
	Format string // "gzip", "zstd", "xz", "lz4", "lzo", "lzma", "bzip2"
}

func (e *CompressedError) Error() string {
	if e.Format == "gzip" {
		return "not a PE image: compressed with gzip, which DecompressKernel undoes"
	}
	return "not a PE image: compressed with " + e.Format
}

func (e *CompressedError) Unwrap() error { return ErrNotPE }

// The first bytes of what kernel builds compress with (RFC 1952; RFC 8878; the xz, LZ4 and lzop file formats; Linux,
// scripts/Makefile.lib).
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

// compression names how a source is compressed as a whole, "" if it is not.
func compression(src osmith.Source) (string, error) {
	b := make([]byte, min(src.Size(), 16))
	if n, err := src.ReadAt(b, 0); n < len(b) {
		return "", fmt.Errorf("reading the first bytes: %w", noEOF(err))
	}
	for _, c := range compressions {
		if bytes.HasPrefix(b, []byte(c.magic)) {
			return c.format, nil
		}
	}
	return "", nil
}

// parseKernel reads the PE headers of a kernel.
func parseKernel(part string, kernel osmith.Source) (*pe.File, error) {
	f, err := pe.Parse(kernel, kernel.Size())
	if err == nil {
		return f, nil
	}
	unusableErr := unusable(part, err)
	if errors.Is(unusableErr, ErrNotPE) {
		if format, err := compression(kernel); err == nil && format != "" {
			return nil, &PartError{part, &CompressedError{format}}
		}
	}
	return nil, unusableErr
}

// maxKernel bounds what a compressed kernel may grow to. Real ones have up to a few hundred MiB with debugging data.
const maxKernel = 2 << 30

// DecompressKernel writes the kernel that the Linux of an [Image] has to be if it came compressed with gzip, as
// Image.gz of arm64 does, and returns its size. It reads and writes sequentially. A kernel that is not compressed as a
// whole is copied; the zboot kernels of EFI (vmlinuz.efi) are ones, since they decompress themselves. Other
// compressions are a [PartError] with a [CompressedError].
//
// Why not in Assemble: an image is read at random and its layout needs the size of each part, and what gzip notes of
// the size cannot be trusted. So where the plain kernel is kept, in memory or in a file, is the caller's choice.
func DecompressKernel(w io.Writer, kernel osmith.Source) (_ int64, err error) {
	defer prefix.Add("uki", &err)
	if kernel == nil {
		return 0, &PartError{"Linux", ErrMissing}
	}
	format, err := compression(kernel)
	if err != nil {
		return 0, &PartError{"Linux", err}
	}
	if format != "" && format != "gzip" {
		return 0, &PartError{"Linux", &CompressedError{format}}
	}
	var r io.Reader = io.NewSectionReader(kernel, 0, kernel.Size())
	if format == "gzip" {
		z, err := gzip.NewReader(r)
		if err != nil {
			return 0, partError("Linux", "gzip: %w", noEOF(err))
		}
		r = z
	}
	in := &limited{r: r, format: format}
	n, err := io.CopyBuffer(onlyWriter{w}, in, make([]byte, copyBuffer))
	switch {
	case in.err != nil:
		return n, &PartError{"Linux", in.err}
	case err != nil:
		return n, fmt.Errorf("writing the kernel at %d: %w", n, err)
	case format == "" && n < kernel.Size():
		return n, partError("Linux", "reading at %d: %w", n, io.ErrUnexpectedEOF)
	}
	return n, nil
}

// onlyWriter hides ReadFrom, so that copying uses our buffer.
type onlyWriter struct{ io.Writer }

// limited reads at most maxKernel bytes and keeps its error, to be told from that of a writer.
type limited struct {
	r      io.Reader
	format string
	done   int64
	err    error
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	l.done += int64(n)
	switch {
	case l.done > maxKernel:
		l.err = fmt.Errorf("more than %d bytes", int64(maxKernel))
	case err == nil || err == io.EOF:
		return n, err
	case l.format != "":
		l.err = fmt.Errorf("%s: at %d of the decompressed bytes: %w", l.format, l.done, err)
	default:
		l.err = fmt.Errorf("reading at %d: %w", l.done, err)
	}
	return 0, l.err
}
