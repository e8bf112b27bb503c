package authenticode

import (
	"fmt"
	"io"
	"math"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
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
	for _, skip := range append(skipped(f), pe.Range{Offset: b.end}) {
		regions = append(regions, pe.Range{Offset: from, Size: skip.Offset - from})
		from = skip.End()
	}
	err := scan(src, regions, func(off int64, p []byte) error {
		b.sum.add(off, p)
		return nil
	})
	return b, err
}

// padding is the number of zeros between the data and a certificate table.
func (b body) padding() int64 { return -b.end & (certAlignment - 1) }

// A change is how a file with another certificate table differs from the one that was read: two header fields, and all from the end of
// the image's data on. All edits are made of it.
type change struct {
	body
	tail     []byte // padding and table; empty for an image without signature
	entry    []byte // certificate directory entry
	checksum []byte
}

// withTable works out the change for a certificate table. Without one the directory entry is cleared.
func (b body) withTable(table []byte) (*change, error) {
	c := &change{body: b}
	size := b.end
	if len(table) == 0 {
		c.entry = appendUint32(0, 0)
	} else {
		start := b.end + b.padding()
		size = start + int64(len(table))
		if size > math.MaxUint32 || len(table) > maxTableSize {
			return nil, fmt.Errorf("authenticode: the signed image would have %d bytes, %d of them certificates; the header counts to %d, firmware to %d", size, len(table), uint32(math.MaxUint32), maxTableSize)
		}
		c.tail = append(make([]byte, b.padding()), table...)
		c.entry = appendUint32(start, int64(len(table)))
	}
	sum := b.sum
	sum.add(b.file.Fields.CertificateDirectory, c.entry)
	sum.add(b.end, c.tail)
	c.checksum = appendUint32(int64(sum.value(size)))
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

// patch writes what differs over a copy of the image; the directory entry, which makes the table count, after the table.
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
	return fmt.Errorf("authenticode: write at 0x%x: %w", off, err)
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
	err := scan(p.src, []pe.Range{{Offset: from, Size: to - from}}, func(_ int64, b []byte) error {
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
