package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// bitmap has one bit for each cluster number.
type bitmap []uint64

func (b bitmap) has(c uint32) bool { return b[c/64]>>(c%64)&1 != 0 }
func (b bitmap) set(c uint32)      { b[c/64] |= 1 << (c % 64) }
func (b bitmap) clear(c uint32)    { b[c/64] &^= 1 << (c % 64) }

func newBitmap(g *geometry) bitmap { return make(bitmap, (uint64(g.clusters)+2+63)/64) }

// load reads the FAT once to learn which clusters are free.
func (f *FS) load() error {
	if f.used != nil {
		return nil
	}
	used, free := newBitmap(&f.geo), uint32(0)
	w := newWindow(f.r, &f.geo)
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

// reconcile makes the other FATs the same as the active one. Every update writes the active FAT first, so that after
// a power cut the others are the ones that lag. It returns how many sectors were different.
func (f *FS) reconcile() (sectors int, err error) {
	g := &f.geo
	if !g.mirror {
		return 0, nil
	}
	a, b := make([]byte, min(fatChunk, g.fatSize)), make([]byte, min(fatChunk, g.fatSize))
	for k := range g.fats {
		if k == g.active {
			continue
		}
		for pos := int64(0); pos < g.fatSize; pos += fatChunk {
			n := min(fatChunk, g.fatSize-pos)
			at := g.fatOff + int64(k)*g.fatSize + pos
			if err := sparse.ReadFull(f.r, a[:n], g.fatOff+int64(g.active)*g.fatSize+pos); err != nil {
				return sectors, fmt.Errorf("FAT %d: %w", g.active, err)
			}
			if err := sparse.ReadFull(f.r, b[:n], at); err != nil {
				return sectors, fmt.Errorf("FAT %d: %w", k, err)
			}
			for i := int64(0); i < n; i += g.sectorSize {
				if bytes.Equal(a[i:i+g.sectorSize], b[i:i+g.sectorSize]) {
					continue
				}
				sectors++
				if err := f.write(a[i:i+g.sectorSize], at+i); err != nil {
					return sectors, err
				}
			}
		}
	}
	if sectors > 0 {
		return sectors, f.sync()
	}
	return 0, nil
}

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
	r, ok := find(f.hint, end, n)
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
	end := func(c uint32) int64 { return (int64(c+1)*int64(g.kind) + 7) / 8 } // of the last byte that c has a part in
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

// writeInfo keeps the free count and the hint of FSInfo up to date. They are advice: after a power cut they may be
// old, which Linux, firmware and this package do not mind since they count for themselves.
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
	if le.Uint32(b[488:]) == f.free && le.Uint32(b[492:]) == f.hint {
		return nil
	}
	le.PutUint32(b[488:], f.free)
	le.PutUint32(b[492:], f.hint)
	return f.write(b, f.geo.fsInfo)
}

// Free is how many bytes the free clusters hold; zero if the FAT cannot be read. A new file also needs room in its
// directory.
func (f *FS) Free() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.load() != nil {
		return 0
	}
	return int64(f.free) * f.geo.clusterSize
}

func (f *FS) write(b []byte, off int64) error {
	if _, err := f.w.WriteAt(b, off); err != nil {
		return f.fail(fmt.Errorf("write at 0x%x: %w", off, err))
	}
	return nil
}

func (f *FS) sync() error {
	if s, ok := f.w.(interface{ Sync() error }); ok {
		if err := s.Sync(); err != nil {
			return f.fail(fmt.Errorf("sync: %w", err))
		}
	}
	return nil
}
