package partition

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Source is sized random-access input: *bytes.Reader, *strings.Reader and *io.SectionReader are Sources. A Source
// that also has
//
//	NextData(off int64) (start, end int64, err error)
//
// tells its holes: the first range at or after off that may hold anything but zeros, or [io.EOF]. On Linux the holes
// of the file under an *io.SectionReader are found without it.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Spec is a partition to be laid out.
type Spec struct {
	Type, ID   GUID
	Name       string // at most [MaxName] UTF-16 units; [EmptyName] for a slot without content
	Size       int64  // bytes, rounded up to 4096; 0: as large as Content
	Attributes uint64
	Content    Source // what is in it, followed by zeros; nil: zeros
}

// Layout is a disk to be made.
type Layout struct {
	DiskID     GUID
	SectorSize int   // 512 (also 0) or 4096
	Size       int64 // bytes of the disk; 0: as small as possible, rounded up to Align
	Align      int64 // every partition starts at a multiple of it; 0: 1 MiB
	Partitions []Spec
}

// Image is a planned disk: a table and what goes into its partitions.
type Image struct {
	Table *Table
	Size  int64 // bytes of the disk

	contents []Source // by index in Table.Partitions
}

// grain is what partition sizes are rounded up to: the block size of file systems and of dm-verity, as in systemd-repart.
const grain = 4096

// Plan lays out a disk: the partitions in the order given, each at the first aligned sector behind the one before.
// Nothing is read or written. What does not fit is a [*SpaceError] that names the first partition which does not;
// everything that [Table.Check] finds is refused.
func Plan(l Layout) (*Image, error) {
	t := &Table{DiskID: l.DiskID, SectorSize: l.SectorSize}
	if t.SectorSize == 0 {
		t.SectorSize = 512
	}
	if t.SectorSize != 512 && t.SectorSize != 4096 {
		return nil, fmt.Errorf("partition: sector size %d: want 512 or 4096", l.SectorSize)
	}
	ss := int64(t.SectorSize)
	align := l.Align
	if align == 0 {
		align = 1 << 20
	}
	if align < ss || align%ss != 0 || align > 1<<40 {
		return nil, fmt.Errorf("partition: alignment %d: want a multiple of the sector size %d, at most 1 TiB", l.Align, ss)
	}
	if l.Size < 0 || l.Size%ss != 0 {
		return nil, fmt.Errorf("partition: disk size %d is not a multiple of the sector size %d", l.Size, ss)
	}
	arrays := (defaultCount*defaultEntry + ss - 1) / ss * ss
	head, tail := 2*ss+arrays, arrays+ss // MBR, header and entries; entries and header
	im := &Image{Table: t}
	end := head
	misfit := "" // first partition that ends behind the last usable sector
	for _, s := range l.Partitions {
		size, err := s.bytes()
		if err != nil {
			return nil, err
		}
		start, ok := roundUp(end, align)
		if !ok || size > math.MaxInt64-start-align-tail {
			return nil, fmt.Errorf("partition: %q: the disk would have more than 2^63 bytes", s.Name)
		}
		end = start + size
		if l.Size > 0 && misfit == "" && end > l.Size-tail {
			misfit = s.Name
		}
		t.Partitions = append(t.Partitions, Partition{
			Type: s.Type, ID: s.ID, Name: s.Name, Attributes: s.Attributes,
			FirstLBA: uint64(start / ss), LastLBA: uint64(end/ss) - 1,
		})
		im.contents = append(im.contents, s.Content)
	}
	if misfit != "" {
		return nil, &SpaceError{Need: end + tail, Have: l.Size, Partition: misfit}
	}
	im.Size = l.Size
	if im.Size == 0 {
		im.Size, _ = roundUp(end+tail, align) // fits: checked above
	}
	t.Size = im.Size
	if err := t.Check(); err != nil {
		return nil, err
	}
	for i := range t.Partitions {
		t.Partitions[i].Number = i + 1
	}
	p, _, err := t.geometry()
	if err != nil {
		return nil, err
	}
	t.FirstUsableLBA, t.LastUsableLBA = p.firstUsable, p.lastUsable
	return im, nil
}

// bytes is the size of the partition.
func (s *Spec) bytes() (int64, error) {
	var content int64
	if s.Content != nil {
		if content = s.Content.Size(); content < 0 {
			return 0, fmt.Errorf("partition: %q: content of %d bytes", s.Name, content)
		}
	}
	size := s.Size
	switch {
	case size < 0:
		return 0, fmt.Errorf("partition: %q: size %d", s.Name, size)
	case size == 0 && content == 0:
		return 0, &EntryError{Name: s.Name, Err: errors.New("has neither size nor content")}
	case size == 0:
		size = content
	}
	size, ok := roundUp(size, grain)
	if !ok {
		return 0, fmt.Errorf("partition: %q: size %d", s.Name, s.Size)
	}
	if content > size {
		return 0, &SpaceError{Need: content, Have: size, Partition: s.Name}
	}
	return size, nil
}

func roundUp(n, unit int64) (int64, bool) {
	if n > math.MaxInt64-unit {
		return 0, false
	}
	return (n + unit - 1) / unit * unit, true
}
