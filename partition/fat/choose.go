package fat

import (
	"errors"
	"fmt"
	"math"
)

// enoughClusters keeps away from the limit by the 16 clusters that fatgen103 section 3.5 advises.
const enoughClusters = minClusters32 + 16

// planner chooses kind and cluster size.
type planner struct {
	ss, cs int64 // sector size; cluster size, 0: to be chosen
	kind   int   // of Options
	size   int64 // 0: the smallest
}

func newPlanner(o Options) (*planner, error) {
	p := &planner{ss: int64(o.SectorSize), cs: o.ClusterSize, kind: o.Kind, size: o.Size}
	switch p.ss {
	case 0:
		p.ss = 512
	case 512, 1024, 2048, 4096:
	default:
		return nil, fmt.Errorf("sector size %d: want 512, 1024, 2048 or 4096", p.ss)
	}
	if n := p.cs / p.ss; p.cs != 0 && (p.cs < p.ss || p.cs%p.ss != 0 || n > 128 || n&(n-1) != 0) {
		return nil, fmt.Errorf("cluster size %d: want 1 to 128 sectors of %d bytes, a power of two", p.cs, p.ss)
	}
	switch p.kind {
	case AnyKind, 0, 12, 16, 32:
	default:
		return nil, fmt.Errorf("kind %d: want 12, 16 or 32", p.kind)
	}
	return p, nil
}

// kinds lists what may be made, best first.
func (p *planner) kinds() []int {
	switch {
	case p.kind > 0:
		return []int{p.kind}
	case p.size == 0 && p.kind == 0:
		return []int{32}
	}
	return []int{32, 16, 12}
}

// limits are the cluster counts that everybody takes for the kind.
func limits(kind int) (lo, hi int64) {
	switch kind {
	case 12:
		return 1, maxFirm12
	case 16:
		return minClusters16 + 16, maxFirm16
	}
	return enoughClusters, maxClusters32
}

// sizes lists the cluster sizes to try for a volume of size bytes, best first.
func (p *planner) sizes(kind int, size int64) []int64 {
	if p.cs != 0 {
		return []int64{p.cs}
	}
	var out []int64
	top := maxCluster(size, p.ss)
	for cs := top; cs >= p.ss; cs /= 2 {
		out = append(out, cs)
	}
	for cs := top * 2; kind != 32 && cs <= 32<<10; cs *= 2 {
		out = append(out, cs)
	}
	return out
}

func maxCluster(size, ss int64) int64 {
	if size > 8<<30 {
		return max(32<<10, ss)
	}
	return max(4<<10, ss)
}

func (p *planner) geometry(root *node, kind int, size, cs int64) geometry {
	if kind == 32 {
		return plan32(size, p.ss, cs)
	}
	return plan16(kind, size, p.ss, cs, root.rootEntries(p.ss))
}

// choose returns a layout of the kind that the files fit. possible says that the size can be one of the kind at all.
func (p *planner) choose(root *node, kind int, size int64) (g geometry, possible, fits bool) {
	lo, hi := limits(kind)
	if kind != 32 && root.rootEntries(p.ss) > maxRootEntries {
		return g, false, false
	}
	for _, cs := range p.sizes(kind, size) {
		g = p.geometry(root, kind, size, cs)
		if n := int64(g.clusters); n >= lo && n <= hi {
			if possible = true; n >= root.needed(kind, cs) {
				return g, true, true
			}
		}
	}
	return g, possible, false
}

// pick is the kind that a volume of size bytes will be if nobody asks for one.
func (p *planner) pick(root *node, size int64) int {
	for _, kind := range p.kinds() {
		if _, possible, _ := p.choose(root, kind, size); possible {
			return kind
		}
	}
	return 0
}

// minSize is the smallest size above a given one that Plan takes.
func (p *planner) minSize(root *node, above int64) (int64, error) {
	best := int64(math.MaxInt64)
	for _, kind := range p.kinds() {
		if kind != 32 && root.rootEntries(p.ss) > maxRootEntries {
			continue
		}
		for cs := p.ss; cs <= max(32<<10, p.cs); cs *= 2 {
			if p.cs != 0 && cs != p.cs {
				continue
			}
			size, ok := p.smallest(root, kind, cs)
			if !ok || size >= best || size <= above {
				continue
			}
			if p.kind == 0 && p.pick(root, size) != kind { // it would be a FAT32, say, and those need more
				continue
			}
			best = size
		}
	}
	if best == math.MaxInt64 {
		return 0, errors.New("the files are too large for the volume that was asked for")
	}
	return best, nil
}

// smallest is the smallest size with one kind and cluster size.
func (p *planner) smallest(root *node, kind int, cs int64) (int64, bool) {
	lo, hi := limits(kind)
	clusters := max(root.needed(kind, cs), lo)
	if clusters > hi {
		return 0, false
	}
	fat := (fatBytes(kind, clusters) + p.ss - 1) / p.ss
	sectors := 2*fat + clusters*(cs/p.ss)
	if kind == 32 {
		sectors += 32
	} else {
		sectors += 1 + root.rootEntries(p.ss)*entrySize/p.ss
	}
	for int64(p.geometry(root, kind, sectors*p.ss, cs).clusters) < clusters { // a few rounds: alignment
		sectors++
	}
	if sectors > math.MaxUint32 || (p.cs == 0 && kind == 32 && cs > maxCluster(sectors*p.ss, p.ss)) {
		return 0, false
	}
	return sectors * p.ss, true
}

// maxRootEntries is the most that BPB_RootEntCnt can say in whole sectors of any size.
const maxRootEntries = 65536 - 128

// rootEntries is the size of the fixed root directory of a FAT12 or FAT16: 512, or as many as there are.
func (n *node) rootEntries(ss int64) int64 {
	per := ss / entrySize
	return (max(512, n.dirBytes/entrySize) + per - 1) / per * per
}

// needed is how many clusters the tree takes in a volume of the kind.
func (n *node) needed(kind int, cs int64) int64 {
	sum := n.clusters(cs)
	if kind != 32 {
		sum -= (n.dirBytes + cs - 1) / cs
	}
	return sum
}
