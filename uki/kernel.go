package uki

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/kernelimage"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Offsets of the x86 real-mode setup header (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode
// Kernel Header").
const (
	setupMagic         = 0x202 // "HdrS"
	setupKernelVersion = 0x20e // u16: offset of the version string, less 0x200
	setupHeaderEnd     = 0x210
)

// ProbeUname finds the version of a kernel, the output of `uname -r` when it runs: in an x86
// bzImage at the place that the boot protocol defines, in other kernels in the banner ("Linux
// version ...") in their data. Kernels of arm64, riscv and loongarch may be compressed with gzip,
// as a whole (Image.gz) or as the payload of an EFI zboot kernel (vmlinuz.efi); they are
// decompressed piece by piece into a buffer. For other compressions the error is a
// [CompressedError]; package uki/decompress finds the version in some of them, too. Every error is
// a [PartError] with [ErrUnknownUname].
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
	format, err := kernelimage.Compression(kernel)
	if err != nil {
		return "", err
	}
	zboot, payload := false, io.NewSectionReader(kernel, 0, kernel.Size())
	if z, err := kernelimage.ReadZboot(kernel); err != nil {
		return "", err
	} else if zboot = z != nil; zboot {
		format, payload = z.Format, io.NewSectionReader(kernel, z.Offset, z.Size)
	}
	switch format {
	case "":
		uname, err := kernelimage.FindBanner(payload)
		if errors.Is(err, kernelimage.ErrNoBanner) {
			err = fmt.Errorf("no x86 setup header (HdrS at %#x) and no banner (Linux version) in %d bytes", setupMagic, kernel.Size())
		}
		return uname, err
	case "gzip":
		z, err := gzip.NewReader(payload)
		if err != nil {
			return "", fmt.Errorf("gzip: %w", noEOF(err))
		}
		return kernelimage.FindBanner(&limited{r: z})
	}
	return "", &CompressedError{firstRunes(format, 16), zboot}
}

// setupUname follows the pointer in the setup header h.
func setupUname(kernel osmith.Source, h []byte) (string, error) {
	at := 0x200 + int64(binary.LittleEndian.Uint16(h[setupKernelVersion:]))
	if at == 0x200 || at >= kernel.Size() {
		return "", fmt.Errorf("no version string: setup header points to %#x", at)
	}
	b := make([]byte, min(kernelimage.MaxVersion, kernel.Size()-at))
	if n, err := kernel.ReadAt(b, at); n < len(b) {
		return "", fmt.Errorf("reading the version string: %w", noEOF(err))
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	uname, ok := kernelimage.BeforeBuilder(b)
	if !ok {
		return "", fmt.Errorf("version string %q is not VERSION (BUILDER)", b)
	}
	return uname, nil
}

func noEOF(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// CompressedError is returned for a kernel that is compressed as a whole, which firmware cannot
// load and which is also an [ErrNotPE], and for an EFI zboot kernel whose version is in a payload
// that this package cannot decompress.
type CompressedError struct {
	Format  string // "gzip", "zstd", "xz", "lz4", "lzo", "lzma", "bzip2"
	Payload bool   // of a zboot kernel
}

func (e *CompressedError) Error() string {
	known := e.Format == "gzip" || e.Format == "zstd" || e.Format == "xz"
	switch {
	case e.Payload && known:
		return "the payload is compressed with " + e.Format + ": decompress.Uname of package uki/decompress finds the version"
	case e.Payload:
		return "the payload is compressed with " + e.Format + ": give the version"
	case known:
		return "not a PE image: compressed with " + e.Format + ": decompress it first (package uki/decompress does)"
	}
	return "not a PE image: compressed with " + e.Format + ": decompress it first"
}

func (e *CompressedError) Unwrap() error {
	if e.Payload {
		return nil
	}
	return ErrNotPE
}

// parseKernel reads the PE headers of a kernel.
func parseKernel(part string, kernel osmith.Source) (*pe.File, error) {
	f, err := pe.Parse(kernel, kernel.Size())
	if err == nil {
		return f, nil
	}
	unusableErr := unusable(part, err)
	if errors.Is(unusableErr, ErrNotPE) {
		if format, err := kernelimage.Compression(kernel); err == nil && format != "" {
			return nil, &PartError{part, &CompressedError{Format: format}}
		}
	}
	return nil, unusableErr
}

// maxKernel bounds what a compressed kernel may grow to. Real ones have up to a few hundred MiB
// with debugging data.
const maxKernel = 2 << 30

// limited reads at most maxKernel bytes of what is decompressed.
type limited struct {
	r    io.Reader
	done int64
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	l.done += int64(n)
	switch {
	case l.done > maxKernel:
		return 0, fmt.Errorf("more than %d bytes", int64(maxKernel))
	case err == nil || err == io.EOF:
		return n, err
	}
	return 0, fmt.Errorf("gzip: at %d of the decompressed bytes: %w", l.done, err)
}
