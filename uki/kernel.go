package uki

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

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
func DecompressKernel(w io.Writer, kernel osmith.Source) (int64, error) {
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
		return n, fmt.Errorf("uki: writing the kernel at %d: %w", n, err)
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
