package fat

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// tableReader reads FAT entries of the active FAT through a small buffer. It is not shared between
// goroutines.
type tableReader struct {
	r   io.ReaderAt
	g   *geometry
	off int64
	buf []byte
}

const tableBuffer = 4096

func newTableReader(r io.ReaderAt, g *geometry) *tableReader { return &tableReader{r: r, g: g} }

// bytes returns n bytes of the FAT at off, valid until the next call.
func (w *tableReader) bytes(off, n int64) ([]byte, error) {
	if w.buf == nil || off < w.off || off+n > w.off+int64(len(w.buf)) {
		start := off &^ (tableBuffer - 1)
		if off+n > start+tableBuffer { // a FAT12 entry across two buffers
			start = off
		}
		if w.buf == nil {
			w.buf = make([]byte, tableBuffer)
		}
		w.buf = w.buf[:min(tableBuffer, w.g.fatSize-start)]
		w.off = start
		at := w.g.fatOff + int64(w.g.active)*w.g.fatSize + start
		if err := sparse.ReadFull(w.r, w.buf, at); err != nil {
			w.buf = nil
			return nil, fmt.Errorf("FAT at 0x%x: %w", at, err)
		}
	}
	return w.buf[off-w.off : off-w.off+n], nil
}

// Values of entry, for any width of the FAT.
const (
	clusterFree = 0
	clusterBad  = 0x0ffffff7
	clusterEnd  = 0x0fffffff
)

// entry returns what the FAT says about cluster c, which must be valid: free, bad, end, or the next
// cluster.
func (w *tableReader) entry(c uint32) (uint32, error) {
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
func (w *tableReader) next(c uint32) (next uint32, end bool, err error) {
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

// runs follows the chain from first for exactly need clusters, or to its end if need is negative,
// then at most limit clusters. A chain that ends early, goes on past the limit, or bites its tail
// is a [*osmith.FormatError]. The work is bounded by need or limit.
func (w *tableReader) runs(first uint32, need, limit int64, name string) ([]run, error) {
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
	// Brent's algorithm: remember a cluster, twice as far along each time; meeting it again is a
	// cycle.
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

// bitmap has one bit for each cluster number.
type bitmap []uint64

func (b bitmap) has(c uint32) bool { return b[c/64]>>(c%64)&1 != 0 }
func (b bitmap) set(c uint32)      { b[c/64] |= 1 << (c % 64) }
func (b bitmap) clear(c uint32)    { b[c/64] &^= 1 << (c % 64) }

// any reports whether a cluster of r is in b.
func (b bitmap) any(r run) bool {
	for c := r.first; c-r.first < r.n; {
		if c%64 == 0 && b[c/64] == 0 {
			c += 64
			continue
		}
		if b.has(c) {
			return true
		}
		c++
	}
	return false
}

// without returns the clusters of runs that are not in b.
func (b bitmap) without(runs []run) (out []run) {
	for _, r := range runs {
		for c := r.first; c-r.first < r.n; c++ {
			if b.has(c) {
				continue
			}
			if k := len(out) - 1; k >= 0 && out[k].first+out[k].n == c {
				out[k].n++
			} else {
				out = append(out, run{c, 1})
			}
		}
	}
	return out
}

func newBitmap(g *geometry) bitmap { return make(bitmap, (uint64(g.clusters)+2+63)/64) }

// load reads the FAT once to learn which clusters are free.
func (f *FS) load() error {
	if f.used != nil {
		return nil
	}
	used, free := newBitmap(&f.geo), uint32(0)
	w := newTableReader(f.r, &f.geo)
	for c := uint32(2); c < f.geo.clusters+2; c++ {
		v, err := w.entry(c)
		if err != nil {
			return err
		}
		if v == clusterFree {
			free++
		} else {
			used.set(c)
		}
	}
	f.used, f.free = used, free
	return nil
}

const fatChunk = 64 << 10

// alloc takes n clusters, in one run if there is one, and marks them in memory only.
func (f *FS) alloc(n uint32) ([]run, bool) {
	if n > f.free {
		return nil, false
	}
	end := f.geo.clusters + 2
	// find returns the first run of free clusters of at least want, between from and to.
	find := func(from, to, want uint32) (run, bool) {
		for c := from; c < to; {
			if f.used[c/64] == ^uint64(0) {
				c = (c/64 + 1) * 64
				continue
			}
			if f.used.has(c) {
				c++
				continue
			}
			start := c
			for c < end && c-start < want && !f.used.has(c) {
				c++
			}
			if c-start == want {
				return run{start, want}, true
			}
		}
		return run{}, false
	}
	r, ok := f.findApart(n)
	if !ok {
		r, ok = f.findAligned(n)
	}
	if !ok {
		r, ok = find(f.hint, end, n)
	}
	if !ok {
		r, ok = find(2, min(f.hint, end), n)
	}
	var out []run
	if ok {
		out = []run{r}
	} else {
		for c, left := uint32(2), n; left > 0 && c < end; c++ {
			if f.used.has(c) {
				continue
			}
			if k := len(out) - 1; k >= 0 && out[k].first+out[k].n == c {
				out[k].n++
			} else {
				out = append(out, run{c, 1})
			}
			left--
		}
	}
	for _, r := range out {
		f.mark(r, true)
	}
	last := out[len(out)-1]
	if f.hint = last.first + last.n; f.hint >= end {
		f.hint = 2
	}
	return out, true
}

func (f *FS) mark(r run, used bool) {
	for c := r.first; c < r.first+r.n; c++ {
		if used == f.used.has(c) {
			continue
		}
		if used {
			f.used.set(c)
			f.free--
		} else {
			f.used.clear(c)
			f.free++
		}
	}
}

// release gives clusters back in memory.
func (f *FS) release(runs []run) {
	for _, r := range runs {
		f.mark(r, false)
	}
	if len(runs) > 0 {
		f.hint = min(f.hint, runs[0].first)
	}
}

// link writes the chain that runs make, to all FATs.
func (f *FS) link(runs []run) error {
	return f.patch(runs, func(i int, c uint32) uint32 {
		switch {
		case c+1 < runs[i].first+runs[i].n:
			return c + 1
		case i+1 < len(runs):
			return runs[i+1].first
		}
		return endOfChain
	})
}

// linkWritten is link and a sync: the chain and what its clusters hold are on the medium before
// anything refers to them. Which of the two comes first does not matter.
func (f *FS) linkWritten(runs []run) error {
	if err := f.link(runs); err != nil {
		return err
	}
	return f.sync()
}

// unlink writes the clusters of runs as free, to all FATs.
func (f *FS) unlink(runs []run) error {
	return f.patch(runs, func(int, uint32) uint32 { return clusterFree })
}

// patch sets the FAT entries of runs, first in the active FAT, then in its mirrors.
func (f *FS) patch(runs []run, value func(i int, c uint32) uint32) error {
	g := &f.geo
	copies := []int{g.active}
	for k := range g.fats {
		if g.mirror && k != g.active {
			copies = append(copies, k)
		}
	}
	begin := func(c uint32) int64 { return int64(c) * int64(g.kind) / 8 }
	// of the last byte that c has a part in
	end := func(c uint32) int64 { return (int64(c+1)*int64(g.kind) + 7) / 8 }
	for _, k := range copies {
		for i, r := range runs {
			for c, stop := r.first, r.first+r.n; c < stop; {
				start := begin(c) / g.sectorSize * g.sectorSize
				size := min((end(stop-1)+g.sectorSize-1)/g.sectorSize*g.sectorSize-start, fatChunk, g.fatSize-start)
				b := make([]byte, size)
				if err := sparse.ReadFull(f.r, b, g.fatOff+int64(g.active)*g.fatSize+start); err != nil {
					return f.fail(fmt.Errorf("FAT: %w", err))
				}
				for ; c < stop && end(c) <= start+size; c++ {
					g.putEntry(b, begin(c)-start, c, value(i, c))
				}
				if err := f.write(b, g.fatOff+int64(k)*g.fatSize+start); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// writeInfo keeps the free count and the hint of FSInfo up to date. They are advice: after a power
// cut they may be old, which Linux, firmware and this package do not mind since they count for
// themselves.
func (f *FS) writeInfo() error {
	if f.geo.fsInfo == 0 {
		return nil
	}
	b := make([]byte, f.geo.sectorSize)
	if err := sparse.ReadFull(f.r, b, f.geo.fsInfo); err != nil {
		return f.fail(fmt.Errorf("FSInfo: %w", err))
	}
	le := binary.LittleEndian
	if le.Uint32(b) != fsInfoLead || le.Uint32(b[484:]) != fsInfoStruct {
		return nil // not an FSInfo: leave it alone, as Linux does
	}
	if le.Uint32(b[488:]) == 0xffffffff {
		// its maker did not count (fatgen103 section 5), and fsck.fat counts otherwise where a file
		// has too many clusters
		return nil
	}
	// A hint of 2 says that nothing was taken yet: what is there is as good, and a rename stays one
	// write.
	if le.Uint32(b[488:]) == f.free && (le.Uint32(b[492:]) == f.hint || f.hint == 2) {
		return nil
	}
	le.PutUint32(b[488:], f.free)
	le.PutUint32(b[492:], f.hint)
	return f.write(b, f.geo.fsInfo)
}

// Free is the size of all free clusters in bytes; zero if the FAT cannot be read. A new file also
// needs room in its directory.
func (f *FS) Free() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.load() != nil {
		return 0
	}
	return int64(f.free) * f.geo.clusterSize
}

func (f *FS) write(b []byte, off int64) error {
	f.unsynced = true
	if _, err := f.w.WriteAt(b, off); err != nil {
		return f.fail(fmt.Errorf("write at 0x%x: %w", off, err))
	}
	return nil
}

// sync returns when all that was written is on the medium.
func (f *FS) sync() error {
	if !f.unsynced {
		return nil
	}
	f.unsynced = false
	if s, ok := f.w.(interface{ Sync() error }); ok {
		if err := s.Sync(); err != nil {
			return f.fail(fmt.Errorf("sync: %w", err))
		}
	}
	return nil
}
