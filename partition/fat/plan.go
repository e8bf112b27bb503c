package fat

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
)

// node is a file or directory of a volume to be built.
type node struct {
	name     string
	path     string
	dir      bool
	content  Source
	size     int64
	children []*node
	byName   map[string]*node

	short    shortName
	dirBytes int64 // directories: bytes of entries
	first, n uint32
}

// Plan lays out a FAT32 volume: directories first, then the files in the order given, each in one run of clusters. An
// entry set never crosses a sector, so that a later rename is one sector write.
//
// The cluster size is the largest up to 4 KiB (32 KiB above 8 GiB) with which there are enough clusters for a FAT32
// and the files fit. A size that is too small is a [*SpaceError], a name that FAT cannot hold a [*NameError], a name
// given twice (in any case) matches [fs.ErrExist].
func Plan(files []File, o Options) (*Image, error) {
	root, ss, err := plant(files, o)
	if err != nil {
		return nil, err
	}
	size := o.Size
	if size == 0 {
		if size, err = minSize(root, ss); err != nil {
			return nil, err
		}
	}
	if size < 0 || size%ss != 0 {
		return nil, fmt.Errorf("fat: size %d is not a multiple of the sector size %d", size, ss)
	}
	if size/ss > math.MaxUint32 {
		return nil, fmt.Errorf("fat: size %d is more than 2^32 sectors", size)
	}
	for cs := maxCluster(size, ss); cs >= ss; cs /= 2 {
		g := plan32(size, ss, cs)
		if g.clusters >= enoughClusters && int64(g.clusters) >= root.clusters(cs) && g.clusters <= maxClusters32 {
			return lay(root, g, o), nil
		}
	}
	need, err := minSize(root, ss)
	if err != nil {
		return nil, err
	}
	return nil, &SpaceError{Need: need, Have: size, What: "the volume is too small for its files as FAT32"}
}

// MinSize is the size in bytes of the smallest FAT32 volume that holds the files. With 512-byte sectors it is at least
// 33 MiB, with 4096-byte sectors 257 MiB: fewer than 65,525 clusters are not a FAT32. Size in o is ignored.
func MinSize(files []File, o Options) (int64, error) {
	root, ss, err := plant(files, o)
	if err != nil {
		return 0, err
	}
	return minSize(root, ss)
}

// enoughClusters keeps away from the limit by the 16 clusters that fatgen103 section 3.5 advises.
const enoughClusters = minClusters32 + 16

func maxCluster(size, ss int64) int64 {
	if size > 8<<30 {
		return max(32<<10, ss)
	}
	return max(4<<10, ss)
}

func minSize(root *node, ss int64) (int64, error) {
	best := int64(math.MaxInt64)
	for cs := ss; cs <= 32<<10; cs *= 2 {
		clusters := max(root.clusters(cs), enoughClusters)
		if clusters > maxClusters32 {
			continue
		}
		fat := ((clusters+2)*4 + ss - 1) / ss
		sectors := 32 + 2*fat + clusters*(cs/ss)
		for plan32(sectors*ss, ss, cs).clusters < uint32(clusters) { // a few rounds: alignment
			sectors++
		}
		if sectors <= math.MaxUint32 && cs <= maxCluster(sectors*ss, ss) {
			best = min(best, sectors*ss)
		}
	}
	if best == math.MaxInt64 {
		return 0, errors.New("fat: the files are too large for any FAT32")
	}
	return best, nil
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
func plant(files []File, o Options) (*node, int64, error) {
	ss := int64(o.SectorSize)
	switch ss {
	case 0:
		ss = 512
	case 512, 1024, 2048, 4096:
	default:
		return nil, 0, fmt.Errorf("fat: sector size %d: want 512, 1024, 2048 or 4096", ss)
	}
	if _, err := labelBytes(o.Label); err != nil {
		return nil, 0, err
	}
	root := &node{dir: true, byName: map[string]*node{}}
	for _, f := range files {
		if err := root.add(f); err != nil {
			return nil, 0, err
		}
	}
	return root, ss, root.measure(ss, o, true)
}

func (n *node) add(f File) error {
	path, isDir := strings.CutSuffix(f.Path, "/")
	if isDir != (f.Content == nil) {
		return &NameError{Name: f.Path, Why: "a directory ends with a slash and has no content, a file has content"}
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
			next = &node{name: name, path: strings.Join(parts[:i+1], "/"), dir: !last || isDir, byName: map[string]*node{}}
			at.byName[fold(name)] = next
			at.children = append(at.children, next)
		case last && isDir && next.dir: // a directory may be named again
			continue
		case last || !next.dir:
			return fmt.Errorf("fat: %s: %w as %s", f.Path, fs.ErrExist, next.path)
		}
		at = next
	}
	if !isDir {
		at.content, at.size = f.Content, f.Content.Size()
		if at.size < 0 || at.size > math.MaxUint32 {
			return fmt.Errorf("fat: %s: %d bytes: a file has at most 4 GiB - 1", f.Path, at.size)
		}
	}
	return nil
}

// measure chooses short names and finds the size of every directory.
func (n *node) measure(ss int64, o Options, root bool) error {
	taken := newAliases()
	for _, c := range n.children { // names that are their own short name come first: nobody else may have it
		if s, _, _, ok := exactShort(c.name); ok {
			c.short = s
			taken.used[s] = true
		}
	}
	for _, c := range n.children {
		if c.short == (shortName{}) {
			s, ok := taken.take(c.name)
			if !ok {
				return fmt.Errorf("fat: %s: no short name is left", c.path)
			}
			c.short = s
		}
		if c.dir {
			if err := c.measure(ss, o, false); err != nil {
				return err
			}
		}
	}
	n.dirBytes = max(int64(len(n.entries(0, ss, o, root))), entrySize)
	if n.dirBytes > maxDirBytes {
		return fmt.Errorf("fat: /%s: %d entries: a directory has at most 65,536", n.path, n.dirBytes/entrySize)
	}
	return nil
}

// entries returns the contents of a directory whose parent starts at cluster parent (0: the root).
func (n *node) entries(parent uint32, ss int64, o Options, root bool) []byte {
	t := stampOf(o.Time)
	var b []byte
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
		if room := ss - int64(len(b))%ss; int64(len(set)) <= ss && int64(len(set)) > room {
			for ; room > 0; room -= entrySize { // a set in one sector can be renamed by one write: skip the rest of this one
				b = append(b, entryDeleted)
				b = append(b, make([]byte, entrySize-1)...)
			}
		}
		b = append(b, set...)
	}
	return b
}

// lay assigns clusters and makes the image.
func lay(root *node, g geometry, o Options) *Image {
	g.volumeID = o.VolumeID
	g.label, _ = labelBytes(o.Label) // checked by plant
	im := &Image{geo: g}
	next := uint32(2)
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
	assign := func(n *node, bytes int64) {
		if bytes == 0 {
			return
		}
		n.first, n.n = next, uint32((bytes+g.clusterSize-1)/g.clusterSize)
		im.chains = append(im.chains, chain{n.first, n.n})
		next += n.n
	}
	for _, d := range dirs {
		assign(d, d.dirBytes)
	}
	for _, f := range files {
		assign(f, f.size)
	}
	used := next - 2
	boot := g.bootSectors(o.HiddenSectors, g.clusters-used, min(next, g.clusters+1))
	im.segments = append(im.segments, segment{size: int64(len(boot)), bytes: boot})
	fatUsed := (int64(next)*4 + g.sectorSize - 1) / g.sectorSize * g.sectorSize
	for k := range int64(g.fats) {
		im.segments = append(im.segments, segment{off: g.fatOff + k*g.fatSize, size: fatUsed})
	}
	parent := map[*node]uint32{}
	for _, d := range dirs {
		for _, c := range d.children {
			if c.dir && d != root {
				parent[c] = d.first
			}
		}
		b := d.entries(parent[d], g.sectorSize, o, d == root)
		if len(b) > 0 {
			im.segments = append(im.segments, segment{off: g.clusterOff(d.first), size: int64(len(b)), bytes: b})
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
