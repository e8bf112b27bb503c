package authenticode

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// A body is an image without its certificate table.
type body struct {
	file *pe.File
	end  int64    // of its data, where padding and table follow
	sum  checksum // of the data without the two header fields
}

// newBody reads an image for its checksum alone.
func newBody(f *pe.File, src osmith.Source) (body, error) {
	b := body{file: f, end: f.Size}
	if f.Certificates.Size != 0 {
		b.end = f.Certificates.Offset
	}
	var regions []pe.Range
	from := int64(0)
	for _, skip := range append(signedpe.Skipped(f), pe.Range{Offset: b.end}) {
		regions = append(regions, pe.Range{Offset: from, Size: skip.Offset - from})
		from = skip.End()
	}
	err := signedpe.Scan(src, regions, func(off int64, p []byte) error {
		b.sum.add(off, p)
		return nil
	})
	return b, err
}

// padding is the number of zeros between the data and a certificate table.
func (b body) padding() int64 { return -b.end & (signedpe.Alignment - 1) }

// A change is how a file with another certificate table differs from the one that was read: two
// header fields, and all from the end of the image's data on. All edits are made of it.
type change struct {
	body
	tail     []byte // padding and table; empty for an image without signature
	entry    []byte // certificate directory entry
	checksum []byte
}

// withTable works out the change for a certificate table. Without one the directory entry is
// cleared.
func (b body) withTable(table []byte) (*change, error) {
	le := binary.LittleEndian
	c := &change{body: b}
	size := b.end
	if len(table) == 0 {
		c.entry = make([]byte, 8)
	} else {
		start := b.end + b.padding()
		size = start + int64(len(table))
		if size > math.MaxUint32 || len(table) > signedpe.MaxTableSize {
			return nil, fmt.Errorf("the signed image would have %d bytes, %d of them certificates; the header counts to %d, firmware to %d", size, len(table), uint32(math.MaxUint32), signedpe.MaxTableSize)
		}
		c.tail = append(make([]byte, b.padding()), table...)
		c.entry = le.AppendUint32(le.AppendUint32(nil, uint32(start)), uint32(len(table)))
	}
	sum := b.sum
	sum.add(b.file.Fields.CertificateDirectory, c.entry)
	sum.add(b.end, c.tail)
	c.checksum = le.AppendUint32(nil, sum.value(size))
	return c, nil
}

// copy writes the changed file front to back.
func (c *change) copy(w io.Writer, src io.ReaderAt) error {
	at, dir := c.file.Fields.CheckSum, c.file.Fields.CertificateDirectory
	out := patcher{w: w, src: src}
	out.copy(0, at)
	out.write(c.checksum)
	out.copy(at+4, dir)
	out.write(c.entry)
	out.copy(dir+8, c.end)
	out.write(c.tail)
	return out.err
}

// patch writes what differs over a copy of the image; the directory entry, which makes the table
// count, after the table.
func (c *change) patch(w io.WriterAt) error {
	for _, part := range []struct {
		off int64
		b   []byte
	}{{c.end, c.tail}, {c.file.Fields.CertificateDirectory, c.entry}, {c.file.Fields.CheckSum, c.checksum}} {
		if _, err := w.WriteAt(part.b, part.off); err != nil {
			return writing(part.off, err)
		}
	}
	return nil
}

func writing(off int64, err error) error {
	return fmt.Errorf("write at 0x%x: %w", off, err)
}

// A patcher copies ranges of a source and bytes to a writer until the first error.
type patcher struct {
	w   io.Writer
	src io.ReaderAt
	off int64
	err error
}

func (p *patcher) copy(from, to int64) {
	if p.err != nil {
		return
	}
	err := signedpe.Scan(p.src, []pe.Range{{Offset: from, Size: to - from}}, func(_ int64, b []byte) error {
		p.write(b)
		return p.err
	})
	if p.err == nil {
		p.err = err
	}
}

func (p *patcher) write(b []byte) {
	if p.err != nil {
		return
	}
	n, err := p.w.Write(b)
	if err != nil {
		p.err = writing(p.off+int64(n), err)
	}
	p.off += int64(n)
}

// A checksum sums up the words of a file for the CheckSum field of the optional header (Microsoft
// PE Format, "Optional Header Windows-Specific Fields"; the algorithm is that of ImageHlp's
// CheckSumMappedFile): 16-bit little-endian words added with end-around carry, the field itself
// taken as zero, plus the length of the file. Since carries are folded at the end, pieces can be
// added in any order, each with its offset.
type checksum struct{ sum uint64 }

func (c *checksum) add(off int64, b []byte) {
	if len(b) > 0 && off&1 == 1 {
		c.sum += uint64(b[0]) << 8
		b = b[1:]
	}
	// Words of 32 bits fold into the same sum, as 1<<16 is 1 modulo 0xffff; 64 bits leave room for
	// 16 GiB of them.
	var s uint64
	for len(b) >= 8 {
		v := binary.LittleEndian.Uint64(b)
		s += v>>32 + v&0xffffffff
		b = b[8:]
	}
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.LittleEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint64(b[0])
	}
	c.sum += s>>32 + s&0xffffffff
}

// value folds the sum for a file of so many bytes.
func (c checksum) value(size int64) uint32 {
	s := c.sum
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint32(s) + uint32(size)
}
