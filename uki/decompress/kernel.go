package decompress

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/kernelimage"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/uki"
)

// DefaultLimit is how many bytes a kernel may have when it is decompressed: 2 GiB. Real ones have
// up to a few hundred MiB with debugging data.
const DefaultLimit = 2 << 30

// maxWindow bounds the window or dictionary that a file asks for, in bytes.
const maxWindow = 128 << 20

// Options say how far decompression goes. The zero value unpacks what is compressed as a whole, up
// to DefaultLimit.
type Options struct {
	Limit int64 // of the output, in bytes; 0: DefaultLimit
	Zboot bool  // unpack an EFI zboot kernel, too, though it decompresses itself
}

// LimitError is returned for a kernel that is longer than the limit.
type LimitError struct {
	Limit int64 // bytes
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the kernel has more than %d bytes when it is decompressed: raise the limit to allow this", e.Limit)
}

// Format names how a kernel is compressed as a whole: "gzip", "zstd" and "xz", which this package
// decompresses, "lz4", "lzo", "lzma" or "bzip2", which it does not; "" for a kernel that is not
// compressed as a whole.
func Format(kernel osmith.Source) (_ string, err error) {
	defer prefix.Add("decompress", &err)
	if kernel == nil {
		return "", uki.ErrMissing
	}
	return kernelimage.Compression(kernel)
}

// Kernel writes the plain kernel, which the Linux of an [uki.Image] has to be, and returns its size
// in bytes. One that is not compressed is copied. Formats that are not known are an
// [*uki.CompressedError].
func Kernel(w io.Writer, kernel osmith.Source, o Options) (_ int64, err error) {
	defer prefix.Add("decompress", &err)
	in, err := open(kernel, o)
	if err != nil {
		return 0, err
	}
	defer in.close()
	n, err := io.CopyBuffer(onlyWriter{w}, in, make([]byte, 256<<10))
	switch {
	case in.err != nil:
		return n, in.err
	case err != nil:
		return n, fmt.Errorf("writing the kernel at %d: %w", n, err)
	}
	return n, nil
}

// Uname finds the version of a kernel, as [uki.ProbeUname] does, and of those that only this
// package decompresses. Nothing is kept of what is decompressed. A version that is not found is an
// [uki.ErrUnknownUname].
func Uname(kernel osmith.Source) (_ string, err error) {
	defer prefix.Add("decompress", &err)
	if kernel == nil {
		return "", uki.ErrMissing
	}
	uname, err := uki.ProbeUname(kernel)
	var compressed *uki.CompressedError
	if err == nil || !errors.As(err, &compressed) {
		return uname, prefix.Bare(err)
	}
	in, err := open(kernel, Options{Zboot: true})
	if err != nil {
		return "", fmt.Errorf("%w: %w", uki.ErrUnknownUname, err)
	}
	defer in.close()
	if uname, err = kernelimage.FindBanner(in); err != nil {
		return "", fmt.Errorf("%w: %w", uki.ErrUnknownUname, err)
	}
	return uname, nil
}

// onlyWriter hides ReadFrom, so that copying uses our buffer.
type onlyWriter struct{ io.Writer }

// An input is a kernel that is being decompressed. It keeps its error, to be told from that of a
// writer.
type input struct {
	r      io.Reader
	close  func()
	format string
	limit  int64
	done   int64
	tail   *tail
	err    error
}

// open finds out how a kernel is compressed, and begins to decompress it.
func open(kernel osmith.Source, o Options) (*input, error) {
	if kernel == nil {
		return nil, uki.ErrMissing
	}
	if o.Limit < 0 {
		return nil, fmt.Errorf("limit of %d bytes", o.Limit)
	}
	in := &input{limit: o.Limit, close: func() {}}
	if in.limit == 0 {
		in.limit = DefaultLimit
	}
	format, err := kernelimage.Compression(kernel)
	if err != nil {
		return nil, err
	}
	payload := io.NewSectionReader(kernel, 0, kernel.Size())
	if format == "" && o.Zboot {
		z, err := kernelimage.ReadZboot(kernel)
		if err != nil {
			return nil, err
		}
		if z != nil {
			if format, err = in.zboot(kernel, z); err != nil {
				return nil, err
			}
			payload = io.NewSectionReader(kernel, z.Offset, z.Size)
		}
	}
	in.format = format
	switch format {
	case "":
		in.r = whole{payload}
	case "gzip":
		in.r, err = gzip.NewReader(payload)
	case "zstd":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(payload, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true)); err == nil {
			in.r, in.close = d, d.Close
		}
	case "xz":
		in.r, err = newXZ(payload)
	default:
		return nil, &uki.CompressedError{Format: format, Payload: in.tail != nil}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", format, noEOF(err))
	}
	return in, nil
}

// A tail is the size of the kernel, which stands behind the payload of a zboot kernel unless its
// format has it itself (Linux, drivers/firmware/efi/libstub/Makefile.zboot).
type tail struct {
	size uint32
	any  bool
}

// zboot takes the size of the kernel off the end of the payload.
func (in *input) zboot(kernel osmith.Source, z *kernelimage.Zboot) (string, error) {
	in.tail = new(tail)
	if z.Format != "zstd" && z.Format != "xz" {
		return z.Format, nil
	}
	var b [4]byte
	if z.Size < int64(len(b)) {
		return "", fmt.Errorf("zboot payload of %d bytes: %w", z.Size, io.ErrUnexpectedEOF)
	}
	z.Size -= int64(len(b))
	if n, err := kernel.ReadAt(b[:], z.Offset+z.Size); n < len(b) {
		return "", fmt.Errorf("reading the size after the zboot payload: %w", noEOF(err))
	}
	in.tail.size, in.tail.any = binary.LittleEndian.Uint32(b[:]), true
	return z.Format, nil
}

func (in *input) Read(b []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.r.Read(b)
	in.done += int64(n)
	switch {
	case in.done > in.limit:
		in.err = &LimitError{in.limit}
	case err == io.EOF && in.tail != nil && in.tail.any && in.tail.size != uint32(in.done):
		in.err = fmt.Errorf("%s: %d bytes, but the size after the zboot payload says %d", in.format, in.done, in.tail.size)
	case err == nil || err == io.EOF:
		return n, err
	case in.format == "":
		in.err = fmt.Errorf("reading at %d: %w", in.done, err)
	default:
		in.err = fmt.Errorf("%s: at %d of the decompressed bytes: %w", in.format, in.done, err)
	}
	return 0, in.err
}

// whole is a source that is shorter than it says only with an error.
type whole struct{ r *io.SectionReader }

func (w whole) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if err == io.EOF {
		if at, _ := w.r.Seek(0, io.SeekCurrent); at < w.r.Size() {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
