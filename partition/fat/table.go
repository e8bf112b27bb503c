package fat

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// window reads FAT entries of the active FAT through a small buffer. It is not shared between goroutines.
type window struct {
	r   io.ReaderAt
	g   *geometry
	off int64
	buf []byte
}

const windowSize = 4096

func newWindow(r io.ReaderAt, g *geometry) *window { return &window{r: r, g: g} }

// bytes returns n bytes of the FAT at off, valid until the next call.
func (w *window) bytes(off, n int64) ([]byte, error) {
	if w.buf == nil || off < w.off || off+n > w.off+int64(len(w.buf)) {
		start := off &^ (windowSize - 1)
		if off+n > start+windowSize { // a FAT12 entry across two windows
			start = off
		}
		if w.buf == nil {
			w.buf = make([]byte, windowSize)
		}
		w.buf = w.buf[:min(windowSize, w.g.fatSize-start)]
		w.off = start
		at := w.g.fatOff + int64(w.g.active)*w.g.fatSize + start
		if err := sparse.ReadFull(w.r, w.buf, at); err != nil {
			w.buf = nil
			return nil, fmt.Errorf("FAT at 0x%x: %w", at, err)
		}
	}
	return w.buf[off-w.off : off-w.off+n], nil
}

// Values of entry, whatever the width of the FAT.
const (
	clusterFree = 0
	clusterBad  = 0x0ffffff7
	clusterEnd  = 0x0fffffff
)

// entry returns what the FAT says about cluster c, which must be valid: free, bad, end, or the next cluster.
func (w *window) entry(c uint32) (uint32, error) {
	var v, bad uint32
	switch w.g.kind {
	case 12:
		b, err := w.bytes(int64(c)*3/2, 2)
		if err != nil {
			return 0, err
		}
		v, bad = uint32(binary.LittleEndian.Uint16(b)), 0xff7
		if c%2 == 0 {
			v &= 0xfff
		} else {
			v >>= 4
		}
	case 16:
		b, err := w.bytes(int64(c)*2, 2)
		if err != nil {
			return 0, err
		}
		v, bad = uint32(binary.LittleEndian.Uint16(b)), 0xfff7
	default:
		b, err := w.bytes(int64(c)*4, 4)
		if err != nil {
			return 0, err
		}
		v, bad = binary.LittleEndian.Uint32(b)&0x0fffffff, clusterBad
	}
	switch {
	case v > bad:
		return clusterEnd, nil
	case v == bad:
		return clusterBad, nil
	}
	return v, nil
}

// next follows a chain by one link; end is true at its end.
func (w *window) next(c uint32) (next uint32, end bool, err error) {
	v, err := w.entry(c)
	if err != nil {
		return 0, false, err
	}
	if v == clusterEnd {
		return 0, true, nil
	}
	if !w.g.valid(v) {
		off := w.g.fatOff + int64(w.g.active)*w.g.fatSize + int64(c)*int64(w.g.kind)/8
		return 0, false, badFormat(off, fmt.Sprintf("FAT entry of cluster %d", c), "value 0x%x is no cluster of the chain", v)
	}
	return v, false, nil
}

// run is a contiguous piece of a file.
type run struct{ first, n uint32 }

// runs follows the chain from first for exactly need clusters, or to its end if need is negative, then at most limit
// clusters. A chain that ends early, goes on past the limit, or bites its tail is a [*osmith.FormatError]. The work is
// bounded by need or limit.
func (w *window) runs(first uint32, need, limit int64, name string) ([]run, error) {
	fail := func(format string, args ...any) error {
		return badFormat(w.g.fatOff, "cluster chain of "+name, format, args...)
	}
	if need == 0 {
		return nil, nil
	}
	if !w.g.valid(first) {
		return nil, fail("first cluster %d of %d", first, w.g.clusters)
	}
	if need > int64(w.g.clusters) {
		return nil, fail("%d clusters in a volume of %d", need, w.g.clusters)
	}
	var out []run
	c := first
	// Brent's algorithm: remember a cluster, twice as far along each time; meeting it again is a cycle.
	mark, power, steps := c, int64(1), int64(0)
	for got := int64(1); ; got++ {
		if k := len(out) - 1; k >= 0 && out[k].first+out[k].n == c {
			out[k].n++
		} else {
			out = append(out, run{c, 1})
		}
		if got == need {
			return out, nil
		}
		if need < 0 && got > limit {
			return nil, fail("more than %d clusters", limit)
		}
		next, end, err := w.next(c)
		if err != nil {
			return nil, err
		}
		if end {
			if need >= 0 {
				return nil, fail("ends after %d clusters, the size needs %d", got, need)
			}
			return out, nil
		}
		c = next
		if c == mark {
			return nil, fail("comes back to cluster %d", c)
		}
		if steps++; steps == power {
			mark, power, steps = c, power*2, 0
		}
	}
}
