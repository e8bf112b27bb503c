package upgrade

import (
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// plannedDisk is a disk as it will be: contents in their places, and zeros. What judges disks reads
// it as it reads one that exists. The contents are read when they are asked for.
type plannedDisk struct {
	size   int64
	pieces []plannedPiece // in no order; they do not overlap
}

type plannedPiece struct {
	off int64
	src osmith.Source
}

func (d *plannedDisk) put(off int64, src osmith.Source) {
	if src != nil {
		d.pieces = append(d.pieces, plannedPiece{off, src})
	}
}

// Size implements [osmith.Source].
func (d *plannedDisk) Size() int64 { return d.size }

// ReadAt implements [io.ReaderAt].
func (d *plannedDisk) ReadAt(b []byte, off int64) (int, error) {
	if off >= d.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), d.size-off))
	clear(b[:n])
	for _, p := range d.pieces {
		from, to := max(off, p.off), min(off+int64(n), p.off+p.src.Size())
		if from >= to {
			continue
		}
		if err := sparse.ReadFull(p.src, b[from-off:to-off], from-p.off); err != nil {
			return 0, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// extents are the ranges of a scratch that were written, in their order.
func (s *scratch) extents() (list []extent) {
	var offs []int64
	for off := range s.written {
		offs = append(offs, off)
	}
	slices.Sort(offs)
	for _, off := range offs {
		if n := len(list); n > 0 && list[n-1].end() == off {
			list[n-1].size += scratchSector
		} else {
			list = append(list, extent{off, scratchSector})
		}
	}
	return list
}
