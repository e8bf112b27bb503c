package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// BuildOptions are the parameters of a new volume. The same files and options give the same bytes.
type BuildOptions struct {
	// Size is the size of the volume in bytes, a multiple of the sector size. 0: the result of
	// [MinSize].
	Size int64
	// Kind is 12, 16 or 32; 0: FAT32 if a volume of Size can be one, else FAT16, else FAT12; with
	// Size 0 the smallest FAT32. [AnyKind]: the first of these kinds that the files fit, with Size
	// 0 the smallest possible volume; firmware reads all kinds.
	Kind int
	// ClusterSize is the unit of allocation in bytes: 1 to 128 sectors, a power of two. 0: it is
	// chosen.
	ClusterSize int64
	// VolumeID is the serial number that Linux shows as UUID=XXXX-XXXX.
	VolumeID uint32
	// Label has up to 11 characters and is stored in upper case. Empty: "NO NAME".
	Label string
	// Time is the time stamp of every file, in UTC. The zero value is 1980-01-01, the earliest time
	// in FAT.
	Time time.Time
	// SectorSize is the logical sector size of the disk that the volume is for: 512 (also 0) to
	// 4096.
	SectorSize int
	// HiddenSectors is the LBA of the partition that the volume is for. Only BIOS boot code uses
	// it.
	HiddenSectors uint32
	// ShortCase stores names such as "loader.efi", lower case but 8.3, in one entry with the case
	// bits of Windows NT.
	ShortCase bool
	// TargetIsZero promises [Build] that the target holds zeros, so that they need not be written.
	TargetIsZero bool
	// Progress is called by [Build] now and then, with bytes of the volume.
	Progress func(done, total int64)
}

// AnyKind as Kind of [BuildOptions] takes the smallest volume of any kind.
const AnyKind = -1

// Image is a planned volume. It is an [osmith.Source] that generates its bytes as they are read,
// and reports its holes, so it can be the content of a partition without being written to a file
// first. It holds the directories in memory, but no files.
type Image struct {
	geo      geometry
	segments []segment // by offset, without overlap; between them are zeros
	chains   []chain   // by first cluster
}

// segment is a range of bytes from one origin: bytes in memory, a FAT, or the content of a file.
type segment struct {
	off, size int64
	bytes     []byte
	file      osmith.Source
	path      string
}

// chain is a contiguous run of clusters.
type chain struct{ first, n uint32 }

const endOfChain = 0x0fffffff

// Size is the size of the volume in bytes.
func (im *Image) Size() int64 { return im.geo.total }

// Kind is 12, 16 or 32.
func (im *Image) Kind() int { return im.geo.kind }

// ClusterSize is the unit of allocation in bytes.
func (im *Image) ClusterSize() int64 { return im.geo.clusterSize }

// ReadAt implements [io.ReaderAt].
func (im *Image) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, prefix.Error("fat", fmt.Errorf("read at %d", off))
	}
	for n < len(p) && off < im.geo.total {
		q := p[n:min(int64(len(p)), int64(n)+im.geo.total-off)]
		i := im.find(off)
		if i == len(im.segments) || im.segments[i].off > off { // zeros up to the next segment
			if i < len(im.segments) {
				q = q[:min(int64(len(q)), im.segments[i].off-off)]
			}
			clear(q)
		} else {
			s := &im.segments[i]
			q = q[:min(int64(len(q)), s.off+s.size-off)]
			if err := im.readSegment(s, q, off-s.off); err != nil {
				return n, prefix.Error("fat", err)
			}
		}
		n += len(q)
		off += int64(len(q))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// find returns the first segment that ends after off.
func (im *Image) find(off int64) int {
	i, _ := slices.BinarySearchFunc(im.segments, off, func(s segment, off int64) int {
		if s.off+s.size <= off {
			return -1
		}
		return 1
	})
	return i
}

func (im *Image) readSegment(s *segment, p []byte, off int64) error {
	switch {
	case s.bytes != nil:
		copy(p, s.bytes[off:])
	case s.file != nil:
		if err := sparse.ReadFull(s.file, p, off); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
	default:
		im.readFAT(p, off)
	}
	return nil
}

// readFAT makes up a piece of a FAT32: every chain is contiguous.
func (im *Image) readFAT(p []byte, off int64) {
	var word [4]byte
	c := uint32(off / 4)
	i, _ := slices.BinarySearchFunc(im.chains, c, func(k chain, c uint32) int {
		if k.first+k.n <= c {
			return -1
		}
		return 1
	})
	for skip := off % 4; len(p) > 0; c++ {
		var v uint32
		switch {
		case c == 0:
			v = 0x0fffff00 | mediaFixed
		case c == 1:
			v = endOfChain // clean, no errors
		case i < len(im.chains) && c >= im.chains[i].first:
			v = c + 1
			if c+1 == im.chains[i].first+im.chains[i].n {
				v = endOfChain
				i++
			}
		}
		binary.LittleEndian.PutUint32(word[:], v)
		n := copy(p, word[skip:])
		p, skip = p[n:], 0
	}
}

// NextData returns the first range at or after off that may hold anything but zeros, or [io.EOF].
// Ranges begin and end at sector boundaries, except that a range which contains off begins at off.
func (im *Image) NextData(off int64) (start, end int64, err error) {
	sector := im.geo.sectorSize
	for i := im.find(off); i < len(im.segments); i++ {
		s := &im.segments[i]
		start, end := max(off, s.off), s.off+s.size
		if s.file != nil {
			if start, end, err = sparse.NextData(s.file, start-s.off); err != nil {
				return 0, 0, prefix.Error("fat", fmt.Errorf("%s: %w", s.path, err))
			}
			if start == end {
				continue
			}
			start, end = start+s.off, end+s.off
		}
		return max(off, start/sector*sector), (end + sector - 1) / sector * sector, nil
	}
	return 0, 0, io.EOF
}

// Build writes a volume with the given files to the start of w, in one pass and in ascending order.
func Build(w io.WriterAt, files []osmith.ESPFile, o BuildOptions) (err error) {
	defer prefix.Add("fat", &err)
	im, err := Plan(files, o)
	if err != nil {
		return err
	}
	var done int64
	to := sparse.Target{W: w, Zero: o.TargetIsZero, Progress: func(n int64) {
		done += n
		if o.Progress != nil {
			o.Progress(done, im.Size())
		}
	}}
	return to.Copy(0, im, im.Size())
}
