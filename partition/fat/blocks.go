package fat

// A disk whose physical sectors are larger than its logical ones (512e) rewrites one as a whole,
// and may lose all of it when its power is cut. The order of writes is no help then: what shares a
// physical sector with what is written is at stake. So what a change rewrites shares none with the
// files that the change does not concern, where there is room:
//
//   - the areas of a volume, its directories and its files begin at a multiple of 4 KiB;
//   - the FAT entries of a file have 4 KiB of the FAT for themselves (4 MiB of the volume, with
//     FAT32 and clusters of 4 KiB);
//   - behind the entries of a directory are 4 KiB for new ones;
//   - FSInfo, which every change rewrites, is alone.
//
// That is not all: a directory block that is lost, and holds zeros then, ends its directory, and
// what comes behind is not seen; and the FAT entries of directories and small files cannot all be
// kept apart in small volumes.

// blockSize is the physical sector size of a 512e disk.
const blockSize = 4096

// dataBlock is how many clusters share 4 KiB, at least one.
func (g *geometry) dataBlock() uint32 { return uint32(max(1, blockSize/g.clusterSize)) }

// fatBlocks is how many blocks a FAT has.
func (g *geometry) fatBlocks() uint32 {
	return uint32((fatBytes(g.kind, int64(g.clusters)) + blockSize - 1) / blockSize)
}

// blockStart is the first cluster whose FAT entry lies wholly in block b of the FAT or behind it,
// and which begins 4 KiB of data.
func (g *geometry) blockStart(b uint32) uint32 {
	c := (int64(b)*blockSize*8 + int64(g.kind) - 1) / int64(g.kind)
	return alignCluster(uint32(min(max(c, 2), int64(g.clusters)+2)), g.dataBlock())
}

// alignCluster is the first cluster at or after c that begins n clusters of data.
func alignCluster(c, n uint32) uint32 { return (c-2+n-1)/n*n + 2 }

// nextBlock is the first cluster at or after c whose FAT entry shares no block with that of the
// cluster before it, nor with the two reserved entries.
func (g *geometry) nextBlock(c uint32) uint32 {
	last := (int64(c)*int64(g.kind) - 1) / 8 // the last byte of the FAT that is in use
	return g.blockStart(uint32(last/blockSize) + 1)
}

// findApart finds n free clusters in a row whose FAT entries share no block with those of clusters
// in use. Files of a few clusters leave a quarter of the blocks to large ones.
func (f *FS) findApart(n uint32) (run, bool) {
	g := &f.geo
	blocks, end := g.fatBlocks(), g.clusters+2
	clean := make([]bool, blocks+1) // of the last, nothing
	left := uint32(0)
	for b := uint32(1); b < blocks; b++ {
		lo, hi := int64(b)*blockSize*8/int64(g.kind), (int64(b+1)*blockSize*8-1)/int64(g.kind)
		if clean[b] = !f.used.any(run{uint32(lo), uint32(min(hi+1, int64(end)) - lo)}); clean[b] {
			left++
		}
	}
	for b := uint32(1); b < blocks; {
		stop := b
		for clean[stop] {
			stop++
		}
		if stop == b {
			b++
			continue
		}
		start := g.blockStart(b)
		if room := min(g.blockStart(stop), end); start < room && room-start >= n {
			if few := n <= blockSize/uint32(g.kind); few && left <= blocks/4 {
				// an eighth of a block
				return run{}, false
			}
			return run{start, n}, true
		}
		b = stop
	}
	return run{}, false
}

// findAligned finds n free clusters in a row that share no 4 KiB of data with clusters in use.
func (f *FS) findAligned(n uint32) (run, bool) {
	g := &f.geo
	step := g.dataBlock()
	need := (n + step - 1) / step * step
	for c := uint32(2); c+need <= g.clusters+2; {
		k := c
		for k < c+need && !f.used.has(k) {
			k++
		}
		if k == c+need {
			return run{c, n}, true
		}
		c = alignCluster(k+1, step)
	}
	return run{}, false
}

// atRisk says how many entries of d share 4 KiB with what is written to put a set into the unit
// that begins with entry lo.
type atRisk struct {
	f    *FS
	d    *directory
	live map[int64]int // entries in use, by block of the volume
	all  int
	move int // entries at risk from moving the end marker as far as the unit asked for last
}

func (f *FS) atRisk(d *directory) *atRisk {
	r := &atRisk{f: f, d: d, live: map[int64]int{}}
	for lo, per := 0, f.perUnit(); lo < d.end; lo += per {
		b := r.block(lo)
		for i := lo; i < min(lo+per, d.end); i++ {
			if !d.vacant(i) {
				r.live[b]++
				r.all++
			}
		}
	}
	return r
}

func (r *atRisk) block(i int) int64 { return r.d.off(&r.f.geo, int64(i)*entrySize) / blockSize }

// unit is asked for ascending units.
func (r *atRisk) unit(lo int) int {
	b := r.block(lo)
	n := r.live[b]
	if r.d.cluster != 0 && b == r.block(0) {
		// without '.' and '..', Linux reads nothing of the directory
		n = r.all
	}
	if r.f.shared(r.d, b) {
		n++
	}
	at := n + r.move
	if lo+r.f.perUnit() > r.d.end && r.block(min(lo+r.f.perUnit(), len(r.d.buf)/entrySize-1)) != b {
		r.move += n
	}
	return at
}

// shared says whether a block of the volume holds clusters of others than d.
func (f *FS) shared(d *directory, block int64) bool {
	g := &f.geo
	if g.clusterSize >= blockSize || d.cluster == 0 {
		return false
	}
	first := uint32((block*blockSize-g.dataOff)/g.clusterSize) + 2
	for c := first; c < first+g.dataBlock(); c++ {
		mine := false
		for _, r := range d.runs {
			mine = mine || c >= r.first && c < r.first+r.n
		}
		if g.valid(c) && !mine && (f.used == nil || f.used.has(c)) {
			return true
		}
	}
	return false
}
