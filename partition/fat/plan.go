package fat

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// node is a file or directory of a volume to be built.
type node struct {
	name     string
	path     string
	dir      bool
	content  osmith.Source
	size     int64
	children []*node
	byName   map[string]*node

	short      shortName
	dirBytes   int64 // directories: bytes of entries
	apartBytes int64 // and if they are kept apart
	first, n   uint32
}

// Plan lays out a volume: directories first, then the files in the order given, each in one run of
// clusters. If there is room, files are kept in separate blocks, so that a disk which loses 4 KiB
// in a power cut loses only the file that is being written; files whose FAT entries take 4 KiB may
// then come after smaller ones. An entry set never crosses 512 bytes, the smallest sector that a
// disk writes whole or not at all, so that a later rename is one sector write.
//
// The kind follows from the cluster count, as in firmware (Kind of [BuildOptions]). The cluster
// size is the largest up to 4 KiB (32 KiB above 8 GiB) with which the count gives that kind and the
// files fit; a FAT12 or FAT16 may have larger ones. If the size is too small, the error is a
// [*SpaceError]; for a name that FAT cannot hold, a [*NameError]; for a name given twice (in any
// case), it matches [fs.ErrExist].
func Plan(files []osmith.ESPFile, o BuildOptions) (im *Image, err error) {
	defer prefix.Add("fat", &err)
	root, p, err := plant(files, o)
	if err != nil {
		return nil, err
	}
	size := o.Size
	if size == 0 {
		if size, err = p.minSize(root, 0); err != nil {
			return nil, err
		}
	}
	if size < 0 || size%p.ss != 0 {
		return nil, fmt.Errorf("size %d is not a multiple of the sector size %d", size, p.ss)
	}
	if size/p.ss > math.MaxUint32 {
		return nil, fmt.Errorf("size %d is more than 2^32 sectors", size)
	}
	p.size = size
	kind := 0
	for _, kind = range p.kinds() {
		g, possible, fits := p.choose(root, kind, size)
		if fits {
			return lay(root, g, o), nil
		}
		if possible && p.kind != AnyKind {
			break
		}
	}
	need, err := p.minSize(root, size)
	if err != nil {
		return nil, err
	}
	return nil, &SpaceError{Need: need, Have: size, What: fmt.Sprintf("the volume is too small for its files as FAT%d", kind)}
}

// MinSize is the size in bytes of the smallest volume that holds the files: of the Kind in o, by
// default a FAT32, which has at least 33 MiB with 512-byte sectors and 257 MiB with 4096-byte ones,
// since a FAT32 has at least 65,525 clusters. Size in o is ignored.
func MinSize(files []osmith.ESPFile, o BuildOptions) (size int64, err error) {
	defer prefix.Add("fat", &err)
	o.Size = 0
	root, p, err := plant(files, o)
	if err != nil {
		return 0, err
	}
	return p.minSize(root, 0)
}

// clusters is what all files and directories take. Empty files take none.
func (n *node) clusters(cs int64) int64 {
	if !n.dir {
		return (n.size + cs - 1) / cs
	}
	sum := (n.dirBytes + cs - 1) / cs
	for _, c := range n.children {
		sum += c.clusters(cs)
	}
	return sum
}

// plant checks files and options and makes the tree.
func plant(files []osmith.ESPFile, o BuildOptions) (*node, *planner, error) {
	p, err := newPlanner(o)
	if err != nil {
		return nil, nil, err
	}
	if _, err := labelBytes(o.Label); err != nil {
		return nil, nil, err
	}
	root := &node{dir: true, byName: map[string]*node{}}
	for _, f := range files {
		if err := root.add(f); err != nil {
			return nil, nil, err
		}
	}
	return root, p, root.measure(o, true)
}

func (n *node) add(f osmith.ESPFile) error {
	path, isDir := strings.CutSuffix(f.Path, "/")
	if isDir != (f.Content == nil) {
		return &NameError{Name: f.Path, Why: "want a name with a slash at the end and no content for a directory, or a name and content for a file"}
	}
	at := n
	parts := strings.Split(path, "/")
	for i, name := range parts {
		if err := checkName(name); err != nil {
			return fmt.Errorf("%w (in %q)", err, f.Path)
		}
		last := i == len(parts)-1
		next := at.byName[fold(name)]
		switch {
		case next == nil:
			next = &node{name: name, path: strings.Join(parts[:i+1], "/"), dir: !last || isDir}
			if next.dir {
				next.byName = map[string]*node{}
			}
			at.byName[fold(name)] = next
			at.children = append(at.children, next)
		case last && isDir && next.dir: // a directory may be named again
			continue
		case last || !next.dir:
			return fmt.Errorf("%s: %w as %s", f.Path, fs.ErrExist, next.path)
		}
		at = next
	}
	if !isDir {
		at.content, at.size = f.Content, f.Content.Size()
		if at.size < 0 || at.size > math.MaxUint32 {
			return fmt.Errorf("%s: %d bytes: a file has at most 4 GiB - 1", f.Path, at.size)
		}
	}
	return nil
}

// measure chooses short names and finds the size of every directory.
func (n *node) measure(o BuildOptions, root bool) error {
	taken := newAliases(len(n.children))
	for _, c := range n.children {
		// names that are their own short name come first: no other name may take theirs
		if s, _, _, ok := exactShort(c.name); ok {
			c.short = s
			taken.used[s] = true
		}
	}
	for _, c := range n.children {
		if c.short == (shortName{}) {
			s, ok := taken.take(c.name)
			if !ok {
				return fmt.Errorf("%s: no short name is left", c.path)
			}
			c.short = s
		}
		if c.dir {
			if err := c.measure(o, false); err != nil {
				return err
			}
		}
	}
	n.dirBytes, n.apartBytes = n.bytes(o, root)
	if n.dirBytes > maxDirBytes {
		return fmt.Errorf("/%s: %d entries: a directory has at most 65,536", n.path, n.dirBytes/entrySize)
	}
	return nil
}

// bytes is the length of what entries returns, at least one entry, and its length apart.
func (n *node) bytes(o BuildOptions, root bool) (plain, apart int64) {
	const unit = smallestSector / entrySize
	at := 2 // '.' and '..'
	if root {
		at = 0
		if o.Label != "" {
			at = 1
		}
	}
	for _, c := range n.children {
		set := setLength(c.name, c.short, o.ShortCase)
		if set <= unit && set > unit-at%unit {
			at += unit - at%unit
		}
		at += set
	}
	plain = int64(max(at, 1)) * entrySize
	return plain, (int64(at)*entrySize+blockSize-1)/blockSize*blockSize + blockSize
}

// entries returns the contents of a directory whose parent starts at cluster parent (0: the root).
// Apart, there are 4 KiB for the entries that will be added.
func (n *node) entries(parent uint32, o BuildOptions, root, apart bool) []byte {
	const unit = smallestSector
	t := stampOf(o.Time)
	b := make([]byte, 0, n.apartBytes)
	fill := func(size int) {
		for len(b)%size != 0 {
			b = append(b, deletedEntry[:]...)
		}
	}
	if root {
		if label, err := labelBytes(o.Label); err == nil && o.Label != "" {
			b = appendShort(b, label, 0, attrVolume, 0, 0, t)
		}
	} else {
		b = appendShort(b, padShort(".", ""), 0, attrDirectory, n.first, 0, t)
		b = appendShort(b, padShort("..", ""), 0, attrDirectory, parent, 0, t)
	}
	for _, c := range n.children {
		attr, size := byte(attrArchive), uint32(c.size)
		if c.dir {
			attr = attrDirectory
		}
		set := entrySet(c.name, c.short, o.ShortCase, attr, c.first, size, t)
		if len(set) <= unit && len(set) > unit-len(b)%unit {
			// a set in one unit can be renamed by one write: skip the rest of this one
			fill(unit)
		}
		b = append(b, set...)
	}
	if apart {
		fill(blockSize)
		b = append(b, make([]byte, blockSize)...)
	}
	return b
}

// spread is how far files are kept apart ([blockSize]).
type spread int

const (
	spreadAll spread = iota // the FAT entries of each file share 4 KiB with those of no other
	// only files that have 4 KiB of FAT entries do so, the others come before them
	spreadBig
	spreadData // files share no 4 KiB of data
	spreadNone // one begins where the other ends
)

// assign gives clusters to directories and files. It returns the first cluster behind them, and how
// many they leave out.
func (im *Image) assign(dirs, files []*node, s spread) (next, gaps uint32) {
	g := &im.geo
	next, im.chains = 2, nil
	give := func(n *node, bytes int64) {
		n.first, n.n = next, uint32((bytes+g.clusterSize-1)/g.clusterSize)
		im.chains = append(im.chains, chain{n.first, n.n})
		next += n.n
	}
	skip := func(to uint32) {
		gaps += to - next
		next = to
	}
	for i, d := range dirs {
		if i > 0 || g.kind == 32 { // the root directory of the others has its own place
			if s < spreadNone {
				give(d, d.apartBytes)
			} else {
				give(d, d.dirBytes)
			}
		}
	}
	for _, f := range files {
		switch {
		case f.size == 0:
			continue
		case s == spreadAll || s == spreadBig && f.big(g):
			skip(max(next, g.nextBlock(next)))
		case s < spreadNone:
			skip(alignCluster(next, g.dataBlock()))
		}
		give(f, f.size)
	}
	return next, gaps
}

// big says whether the FAT entries of a file take 4 KiB.
func (n *node) big(g *geometry) bool {
	return (n.size+g.clusterSize-1)/g.clusterSize*int64(g.kind)/8 >= blockSize
}

// lay assigns clusters and makes the image.
func lay(root *node, g geometry, o BuildOptions) *Image {
	g.volumeID = o.VolumeID
	g.label, _ = labelBytes(o.Label) // checked by plant
	im := &Image{geo: g}
	var dirs, files []*node
	var walk func(*node)
	walk = func(n *node) {
		dirs = append(dirs, n)
		for _, c := range n.children {
			if c.dir {
				walk(c)
			} else {
				files = append(files, c)
			}
		}
	}
	walk(root)
	var next, gaps uint32
	how := spreadAll
	if slices.ContainsFunc(dirs, func(d *node) bool { return d.apartBytes > maxDirBytes }) {
		how = spreadNone
	}
	for ; how <= spreadNone; how++ {
		order := files
		if how == spreadBig {
			order = nil
			for _, big := range []bool{false, true} {
				for _, f := range files {
					if f.big(&g) == big {
						order = append(order, f)
					}
				}
			}
		}
		next, gaps = im.assign(dirs, order, how)
		// What is left out is free, but in pieces.
		if free := int64(g.clusters) - int64(next-2); free >= 0 && (how == spreadNone || int64(gaps) <= free/2) {
			files = order
			break
		}
	}
	used := next - 2 - gaps
	fat := segment{}
	if g.kind == 32 {
		boot := g.bootSectors(o.HiddenSectors, g.clusters-used, min(next, g.clusters+1))
		im.segments = append(im.segments, segment{size: int64(len(boot)), bytes: boot})
		fat.size = (int64(next)*4 + g.sectorSize - 1) / g.sectorSize * g.sectorSize
	} else {
		im.segments = append(im.segments, segment{size: g.sectorSize, bytes: g.bootSector16(o.HiddenSectors)})
		fat.bytes = g.fat16(im.chains)
		fat.size = int64(len(fat.bytes))
	}
	for k := range int64(g.fats) {
		fat.off = g.fatOff + k*g.fatSize
		im.segments = append(im.segments, fat)
	}
	parent := map[*node]uint32{}
	for _, d := range dirs {
		for _, c := range d.children {
			if c.dir && d != root {
				parent[c] = d.first
			}
		}
		b := d.entries(parent[d], o, d == root, how < spreadNone)
		if d == root && g.kind != 32 {
			b = b[:min(len(b), int(g.rootSize))]
		}
		if len(b) > 0 {
			off := g.rootOff
			if d.first != 0 {
				off = g.clusterOff(d.first)
			}
			im.segments = append(im.segments, segment{off: off, size: int64(len(b)), bytes: b})
		}
	}
	for _, f := range files {
		if f.size > 0 {
			im.segments = append(im.segments, segment{off: g.clusterOff(f.first), size: f.size, file: f.content, path: f.path})
		}
	}
	return im
}

// labelBytes checks a volume label: characters of short names and spaces.
func labelBytes(label string) (shortName, error) {
	if label == "" {
		return shortName([]byte("NO NAME    ")), nil
	}
	s := padShort("", "")
	if len(label) > len(s) {
		return s, &NameError{Name: label, Why: "a volume label has at most 11 characters"}
	}
	if label[0] == ' ' {
		return s, &NameError{Name: label, Why: "a volume label does not start with a space"}
	}
	for i := range len(label) {
		if c := label[i]; c != ' ' && !shortChar(c) {
			return s, &NameError{Name: label, Why: "a volume label has only letters, digits, spaces and $%'-_@~`!(){}^#&"}
		}
	}
	copy(s[:], strings.ToUpper(label))
	return s, nil
}

// enoughClusters keeps away from the limit by the 16 clusters that fatgen103 section 3.5 advises.
const enoughClusters = minClusters32 + 16

// planner chooses kind and cluster size.
type planner struct {
	ss, cs int64 // sector size; cluster size, 0: to be chosen
	kind   int   // of Options
	size   int64 // 0: the smallest
}

func newPlanner(o BuildOptions) (*planner, error) {
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
	return plan16(kind, size, p.ss, cs, root.rootEntries())
}

// choose returns a layout of the kind that the files fit. possible says that the size can be one of
// the kind at all.
func (p *planner) choose(root *node, kind int, size int64) (g geometry, possible, fits bool) {
	lo, hi := limits(kind)
	if kind != 32 && root.rootEntries() > maxRootEntries {
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

// pick is the kind that a volume of size bytes will be if none is asked for.
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
		if kind != 32 && root.rootEntries() > maxRootEntries {
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
			if p.kind == 0 && p.pick(root, size) != kind {
				// it would be a FAT32, say, and those need more
				continue
			}
			best = size
		}
	}
	if best == math.MaxInt64 {
		return 0, errors.New("the files are too large for the requested volume")
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
		sectors += 1 + root.rootEntries()*entrySize/p.ss
	}
	for int64(p.geometry(root, kind, sectors*p.ss, cs).clusters) < clusters {
		// a few rounds: alignment
		sectors++
	}
	if sectors > math.MaxUint32 || (p.cs == 0 && kind == 32 && cs > maxCluster(sectors*p.ss, p.ss)) {
		return 0, false
	}
	return sectors * p.ss, true
}

// maxRootEntries is the most that BPB_RootEntCnt can say in whole sectors of any size.
const maxRootEntries = 65536 - 128

// rootEntries is the size of the fixed root directory of a FAT12 or FAT16: 512, or as many as there
// are.
func (n *node) rootEntries() int64 {
	const per = blockSize / entrySize
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
