package luks

import (
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// An Image is a complete volume with content: an [osmith.Source] that encrypts while it is read, so
// that a partition is written in one pass without a temporary file. It is safe for concurrent use.
type Image struct {
	e       *extent
	header  *memory
	content osmith.Source
}

var _ osmith.Source = (*Image)(nil)

// NewImage makes a volume with the content, whose last sector is filled up with zeros. size is the
// size of the whole volume, 0: as small as possible; after the content are encrypted zeros. more,
// which may be nil, adds keys and tokens besides the passphrase: it is called with the volume and
// its key before any of the image is read. The content must not change while the Image is in use.
func NewImage(content osmith.Source, size int64, passphrase []byte, o FormatOptions, more func(v *Volume, key *Key) error) (im *Image, err error) {
	defer prefix.Add(pkg, &err)
	if content == nil {
		return nil, errors.New("no content was given")
	}
	if o.SectorSize == 0 {
		o.SectorSize = 4096
	}
	// The geometry does not depend on the size of the device, if that is large enough.
	g, err := o.geometry(1 << 62)
	if err != nil {
		return nil, err
	}
	sector := int64(g.sector)
	need := g.offset + max(g.size, (content.Size()+sector-1)/sector*sector, sector)
	if size == 0 {
		size = need
	}
	if size < need || g.size > 0 && content.Size() > g.size {
		return nil, &SpaceError{need, size}
	}
	o.TargetIsZero = true
	header := &memory{size: size, pages: map[int64][]byte{}}
	v, key, err := Format(header, passphrase, o)
	if err != nil {
		return nil, prefix.Bare(err)
	}
	if more != nil {
		if err := more(v, key); err != nil {
			return nil, err
		}
	}
	e, err := v.extent(key)
	if err != nil {
		return nil, err
	}
	header.size = e.offset // the rest is the content
	return &Image{e, header, content}, nil
}

// Size is the size of the volume in bytes.
func (im *Image) Size() int64 { return im.e.offset + im.e.size }

// NextData returns the first range [start, end) at or behind off that may hold anything but zeros,
// in bytes: the used parts of the header, and all of the data.
func (im *Image) NextData(off int64) (start, end int64, err error) {
	for at := off / pageSize; at*pageSize < im.e.offset; at++ {
		if im.header.pages[at] == nil {
			continue
		}
		last := at
		for im.header.pages[last] != nil && last*pageSize < im.e.offset {
			last++
		}
		return max(off, at*pageSize), last * pageSize, nil
	}
	return min(max(off, im.e.offset), im.Size()), im.Size(), nil
}

// ReadAt implements [io.ReaderAt].
func (im *Image) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("luks: read at %d", off)
	}
	atEnd := int64(len(p)) > im.Size()-off
	if atEnd {
		p = p[:max(0, im.Size()-off)]
	}
	if off < im.e.offset {
		n = int(min(int64(len(p)), im.e.offset-off))
		if _, err := im.header.ReadAt(p[:n], off); err != nil {
			return 0, prefix.Error(pkg, err)
		}
	}
	for n < len(p) {
		k, err := im.data(p[n:], off+int64(n)-im.e.offset)
		n += k
		if err != nil {
			return n, prefix.Error(pkg, fmt.Errorf("content: %w", err))
		}
	}
	if atEnd {
		return n, io.EOF
	}
	return n, nil
}

// data encrypts what is at off of the content: whole sectors in place, or a part of one.
func (im *Image) data(p []byte, off int64) (int, error) {
	sector := im.e.sector
	if off%sector == 0 && int64(len(p)) >= sector {
		p = p[:int64(len(p))/sector*sector]
		return len(p), im.sectors(p, off)
	}
	b := make([]byte, sector)
	start := off / sector * sector
	if err := im.sectors(b, start); err != nil {
		return 0, err
	}
	return copy(p, b[off-start:]), nil
}

func (im *Image) sectors(p []byte, off int64) error {
	n := int(max(0, min(int64(len(p)), im.content.Size()-off)))
	if n > 0 {
		if err := sparse.ReadFull(im.content, p[:n], off); err != nil {
			return err
		}
	}
	clear(p[n:])
	im.e.encrypt(p, off)
	return nil
}

const pageSize = 4096

// memory is a device of which only what was written is kept.
type memory struct {
	size  int64
	pages map[int64][]byte
}

// Size is the size of the device.
func (m *memory) Size() int64 { return m.size }

// ReadAt implements [io.ReaderAt].
func (m *memory) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		if at >= m.size {
			return n, io.EOF
		}
		want := int(min(int64(len(p)-n), pageSize-at%pageSize, m.size-at))
		if page := m.pages[at/pageSize]; page != nil {
			copy(p[n:n+want], page[at%pageSize:])
		} else {
			clear(p[n : n+want])
		}
		n += want
	}
	return n, nil
}

// WriteAt implements [io.WriterAt].
func (m *memory) WriteAt(p []byte, off int64) (n int, err error) {
	if off < 0 || int64(len(p)) > m.size-off {
		return 0, io.ErrShortWrite
	}
	for n < len(p) {
		at := off + int64(n)
		want := int(min(int64(len(p)-n), pageSize-at%pageSize))
		if m.pages[at/pageSize] == nil {
			m.pages[at/pageSize] = make([]byte, pageSize)
		}
		copy(m.pages[at/pageSize][at%pageSize:], p[n:n+want])
		n += want
	}
	return n, nil
}
