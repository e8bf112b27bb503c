package oracle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// ProblemKind is a kind of inconsistency.
type ProblemKind int

// The kinds of problems. Those up to ProblemLabel make fsck.fat say something, too.
const (
	ProblemFATsDiffer   ProblemKind = iota // the copies of the FAT
	ProblemFATHead                         // the first entry is not the media byte
	ProblemFATEntry                        // an entry has a number that is no cluster
	ProblemDirty                           // the volume was not unmounted
	ProblemLostClusters                    // in use by no file
	ProblemShared                          // a cluster belongs to two files
	ProblemLoop                            // a chain or a directory contains itself
	// the first cluster of a file or directory does not exist
	ProblemStart
	ProblemChain      // a chain comes to a free or bad cluster
	ProblemSize       // the size of a file is not that of its chain
	ProblemDirectory  // a directory has a size
	ProblemDots       // . or .. is missing or wrong
	ProblemName       // an 8.3 name has characters that it must not have
	ProblemDuplicate  // two 8.3 names are equal
	ProblemLongName   // a long name, or a piece of one, belongs to no 8.3 name
	ProblemFSInfo     // the free count is wrong, or the sector is none
	ProblemBackupBoot // the backup of the boot sector differs
	// the boot sector and the root directory have different labels
	ProblemLabel

	// ProblemBehindEnd is an entry behind the end of its directory: fsck.fat takes it for a file,
	// drivers do not see it.
	ProblemBehindEnd
)

// String is the kind's name.
func (k ProblemKind) String() string {
	return [...]string{
		"FATs differ", "first FAT entry", "FAT entry", "dirty", "lost clusters", "shared cluster", "loop", "first cluster", "chain",
		"size", "directory", "dot entries", "short name", "duplicate name", "long name", "free count", "backup boot sector", "label",
		"behind the end",
	}[k]
}

// Problem is an inconsistency of a volume.
type Problem struct {
	Kind ProblemKind
	Path string // of the file or directory, if it is one's
	Text string
}

// String is the problem in one line.
func (p Problem) String() string {
	if p.Path == "" {
		return fmt.Sprintf("%s: %s", p.Kind, p.Text)
	}
	return fmt.Sprintf("%s: %s: %s", p.Kind, p.Path, p.Text)
}

// Beyond returns the problems that are of none of the allowed kinds.
func (v *Volume) Beyond(allowed ...ProblemKind) []Problem {
	return slices.DeleteFunc(slices.Clone(v.Problems), func(p Problem) bool { return slices.Contains(allowed, p.Kind) })
}

// maxProblems is how many problems are told.
const maxProblems = 10000

func (v *Volume) problem(kind ProblemKind, path, format string, args ...any) {
	if len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, Problem{kind, path, fmt.Sprintf(format, args...)})
	}
}

// checker looks for what fsck.fat would find, in the order in which that does: all entries of a
// directory, then one after the other the directories in it. What it would change is changed in a
// copy of the FAT.
type checker struct {
	*Volume
	fat    []byte
	owners []string
	owner  []uint32 // of each cluster, an index into owners plus one
	seen   int      // entries
}

func (c *checker) check() error {
	c.fat = bytes.Clone(c.Volume.fat)
	c.owner = make([]uint32, c.Clusters+2)
	c.checkFATs()
	clusters, table, err := c.rootTable(c.fat)
	if err != nil {
		return err
	}
	if c.Bits == 32 {
		_, end := c.chain(c.fat, c.root, -1)
		c.chainProblem("", c.root, len(clusters), end)
		c.owners = append(c.owners, "the root directory")
		for _, n := range clusters {
			c.owner[n] = 1
		}
	}
	if err := c.directory(&directory{start: c.root}, clusters, table); err != nil {
		return err
	}
	return c.checkRest()
}

// directory checks the entries of a directory and what is below it.
func (c *checker) directory(d *directory, clusters []uint32, table []byte) error {
	if d.parent != nil {
		c.checkDots(d, table)
		// Long names do not reach into the places of . and .. .
		table = bytes.Clone(table)
		for i := range 2 {
			if raw := table[i*32:]; raw[11] == attrLong && raw[0] != 0 && raw[0] != 0xe5 {
				if string(raw[:11]) != dotNames[i] {
					c.problem(ProblemLongName, d.path, "an entry of a long name is where %s should be", strings.TrimSpace(dotNames[i]))
				}
				raw[0] = 0xe5
			}
		}
	}
	c.parse(d, clusters, table, func(format string, args ...any) { c.problem(ProblemLongName, d.path, format, args...) })
	names := map[[11]byte]bool{}
	for i := range d.entries {
		e := &d.entries[i]
		if e.volume || d.dot(e) {
			continue
		}
		if names[e.raw] {
			c.problem(ProblemDuplicate, d.path, "two entries have the name %q", e.raw[:])
		}
		names[e.raw] = true
		if badShort(e.raw) {
			c.problem(ProblemName, d.path, "the name %q", e.raw[:])
		}
	}
	var below []*directory
	for i := range d.entries {
		e := &d.entries[i]
		if d.dot(e) {
			continue
		}
		if c.seen++; c.seen > maxEntries || c.left < 0 {
			return ErrTooMuch
		}
		e.Path = d.pathOf(c.Volume, e)
		if e.behind {
			c.problem(ProblemBehindEnd, e.Path, "the entry is behind the end of the directory")
		}
		if sub := (&directory{path: e.Path, start: e.Start, parent: d, depth: d.depth + 1}); c.file(sub, &e.File) && e.Dir {
			below = append(below, sub)
		}
	}
	for _, sub := range below {
		clusters, _ := c.chain(c.fat, sub.start, -1)
		table, err := c.readClusters(clusters, int64(len(clusters))*int64(c.ClusterSize))
		if err != nil {
			return fmt.Errorf("%s: %w", sub.path, err)
		}
		if err := c.directory(sub, clusters, table); err != nil {
			return err
		}
	}
	return nil
}

// dot says whether an entry is . or .. in its place.
func (d *directory) dot(e *dirEntry) bool {
	return d.parent != nil && e.index < 2 && string(e.raw[:]) == dotNames[e.index]
}

func (c *checker) checkDots(d *directory, table []byte) {
	parent := d.parent.start
	if d.parent.parent == nil {
		parent = 0
	}
	for i, want := range [2]uint32{d.start, parent} {
		raw := table[i*32:]
		name := strings.TrimSpace(dotNames[i])
		start := uint32(binary.LittleEndian.Uint16(raw[26:]))
		if c.Bits == 32 {
			start |= uint32(binary.LittleEndian.Uint16(raw[20:])) << 16
		}
		switch {
		case string(raw[:11]) != dotNames[i] || raw[11] == attrLong:
			c.problem(ProblemDots, d.path, "the entry %s is missing", name)
		case raw[11]&attrDir == 0:
			c.problem(ProblemDots, d.path, "the entry %s is no directory", name)
		case start != want:
			c.problem(ProblemDots, d.path, "the entry %s is cluster %d, want %d", name, start, want)
		}
	}
}

// file checks the chain of a file or directory, and says whether a directory can be read.
func (c *checker) file(d *directory, f *File) bool {
	need := int((f.Size + int64(c.ClusterSize) - 1) / int64(c.ClusterSize))
	switch {
	case f.Dir && f.Size != 0:
		c.problem(ProblemDirectory, f.Path, "it is a directory and has a size of %d bytes", f.Size)
		fallthrough
	case f.Dir:
		need = c.Clusters
	}
	switch {
	case f.Dir && f.Start == 0:
		c.problem(ProblemStart, f.Path, "it is a directory and has no cluster")
		return false
	case f.Dir && (f.Start == d.parent.start || d.parent.parent != nil && f.Start == d.parent.parent.start):
		c.problem(ProblemLoop, f.Path, "it is a directory in which it is")
		return false
	case f.Start == 0:
		if need > 0 {
			c.problem(ProblemSize, f.Path, "%d bytes and no clusters", f.Size)
		}
		return true
	}
	if chain, end := c.chain(c.fat, f.Start, -1); end == chainLoop {
		c.problem(ProblemLoop, f.Path, "its chain has no end: after %d clusters it comes back", len(chain))
		c.setEntry(chain[len(chain)-1], fatEnd)
	}
	c.owners = append(c.owners, f.Path)
	me := uint32(len(c.owners))
	got, end := 0, chainWhole
	for n, last := f.Start, uint32(0); ; {
		stop := true
		switch o := c.ownerOf(n); {
		case !c.valid(n):
			if end = chainRange; got == 0 {
				end = chainStart
			}
		case c.entry(c.fat, n) == fatFree:
			end = chainFree
		case c.entry(c.fat, n) == fatBad:
			end = chainBad
		case !f.Dir && got == need:
			c.problem(ProblemSize, f.Path, "%d bytes in more than %d clusters", f.Size, need)
			c.free(n, last)
			return true
		case o != 0:
			c.problem(ProblemShared, f.Path, "cluster %d belongs to %s", n, c.owners[o-1])
		default:
			c.owner[n] = me
			got++
			last, n = n, c.entry(c.fat, n)
			stop = n == fatEnd
		}
		if stop {
			if n != fatEnd && last != 0 {
				c.setEntry(last, fatEnd)
			}
			break
		}
	}
	c.chainProblem(f.Path, f.Start, got, end)
	if !f.Dir && got != need {
		c.problem(ProblemSize, f.Path, "%d bytes in %d clusters, want %d", f.Size, got, need)
	}
	return got > 0 && d.depth <= maxDepth
}

// ownerOf is the owner of a cluster, 0 if it has none or does not exist.
func (c *checker) ownerOf(n uint32) uint32 {
	if !c.valid(n) {
		return 0
	}
	return c.owner[n]
}

// free frees what a chain has beyond the size of its file: the clusters from n, which comes after
// last.
func (c *checker) free(n, last uint32) {
	if last != 0 {
		c.setEntry(last, fatEnd)
	}
	for c.valid(n) {
		next := c.entry(c.fat, n)
		if next == fatFree || next == fatBad {
			return
		}
		c.setEntry(n, fatFree)
		n = next
	}
}

// setEntry changes the copy of the FAT.
func (c *checker) setEntry(n, value uint32) {
	le := binary.LittleEndian
	switch c.Bits {
	case 12:
		at := int(n) * 3 / 2
		old := le.Uint16(c.fat[at:])
		if n%2 == 1 {
			le.PutUint16(c.fat[at:], old&0xf|uint16(value)<<4)
		} else {
			le.PutUint16(c.fat[at:], old&0xf000|uint16(value)&0xfff)
		}
	case 16:
		le.PutUint16(c.fat[2*n:], uint16(value))
	default:
		le.PutUint32(c.fat[4*n:], value)
	}
}

// chainProblem says what is wrong with the end of a chain. Numbers that are no cluster are told for
// the whole FAT.
func (c *checker) chainProblem(path string, start uint32, got int, end chainEnd) {
	switch end {
	case chainStart:
		c.problem(ProblemStart, path, "it starts at cluster %d of 2 to %d", start, c.Clusters+1)
	case chainFree, chainBad:
		c.problem(ProblemChain, path, "%s", (&chainError{start, got, got + 1, end}).Error())
	case chainLoop:
		c.problem(ProblemLoop, path, "its chain has no end: after %d clusters it comes back", got)
	}
}

// badShort says whether fsck.fat takes exception to an 8.3 name.
func badShort(raw [11]byte) bool {
	for i, b := range raw {
		if b < ' ' && !(i == 0 && b == 5) || bytes.IndexByte([]byte(`."*/:<>?\|`), b) >= 0 || b == 0x7f {
			return true
		}
	}
	return raw[0] == ' '
}

// checkFATs compares the FATs and looks at their first entries, and at all numbers.
func (c *checker) checkFATs() {
	// The part of a FAT that has entries.
	used := ((c.Clusters+2)*c.Bits + 7) / 8
	if c.other != nil && !bytes.Equal(c.fat[:used], c.other[:used]) {
		first := 0
		for c.fat[first] == c.other[first] {
			first++
		}
		c.problem(ProblemFATsDiffer, "", "from byte %d on", first)
	}
	if !c.headRight(c.fat) {
		c.problem(ProblemFATHead, "", "the first FAT starts with % x, want the media byte %#x", c.fat[:4], c.media)
	}
	if c.dirty() {
		c.problem(ProblemDirty, "", "the volume is marked as in use")
	}
	for n := uint32(2); c.valid(n); n++ {
		if e := c.entry(c.fat, n); e != fatFree && e != fatBad && e != fatEnd && !c.valid(e) {
			c.problem(ProblemFATEntry, "", "cluster %d is followed by %d, the last one is %d", n, e, c.Clusters+1)
			c.setEntry(n, fatEnd)
		}
	}
}

// checkRest looks for lost clusters, the free count, the label and the backup of the boot sector.
func (c *checker) checkRest() error {
	le := binary.LittleEndian
	free, lost := 0, 0
	for n := uint32(2); c.valid(n); n++ {
		switch e := c.entry(c.fat, n); {
		case c.owner[n] != 0 || e == fatBad:
		case e == fatFree:
			free++
		default:
			lost++
		}
	}
	if lost > 0 {
		c.problem(ProblemLostClusters, "", "%d clusters belong to no file", lost)
	}
	if label := c.bootLabel(); label != c.Label && !(label == "NO NAME" && c.Label == "") {
		c.problem(ProblemLabel, "", "the label of the boot sector is %q, that of the root directory %q", label, c.Label)
	}
	if c.Bits != 32 {
		return nil
	}
	if at := c.backupBoot * int64(c.SectorSize); c.backupBoot != 0 {
		if b, err := c.readAt(at, 512); err != nil || !bytes.Equal(b, c.boot) {
			c.problem(ProblemBackupBoot, "", "it is not the boot sector")
		}
	}
	if at := c.infoSector * int64(c.SectorSize); c.infoSector != 0 {
		b, err := c.readAt(at, 512)
		switch {
		case err != nil:
			return fmt.Errorf("FSInfo: %w", err)
		case le.Uint32(b) != 0x41615252 || le.Uint32(b[484:]) != 0x61417272 || le.Uint16(b[510:]) != 0xaa55:
			c.problem(ProblemFSInfo, "", "it has not the signatures of one")
		case le.Uint32(b[488:]) == 0xffffffff:
		case int64(le.Uint32(b[488:])) != int64(free+lost):
			c.problem(ProblemFSInfo, "", "%d free clusters, want %d with those that belong to no file", le.Uint32(b[488:]), free+lost)
		}
	}
	return nil
}

// headRight says whether a FAT starts with a media byte and ones, as that of a volume that nothing
// has damaged does.
func (v *Volume) headRight(fat []byte) bool {
	le := binary.LittleEndian
	switch v.Bits {
	case 12:
		return le.Uint16(fat)&0xff0 == 0xff0
	case 16:
		return le.Uint16(fat)&0xfff0 == 0xfff0
	}
	return le.Uint32(fat)&0x0ffffff0 == 0x0ffffff0
}

func (v *Volume) dirty() bool {
	switch v.Bits {
	case 16:
		return binary.LittleEndian.Uint16(v.fat[2:])&0x8000 == 0
	case 32:
		return binary.LittleEndian.Uint32(v.fat[4:])&0x08000000 == 0
	}
	return false
}

// bootLabel is the label of the boot sector, if it has one.
func (v *Volume) bootLabel() string {
	at := 38
	if v.Bits == 32 {
		at = 66
	}
	if v.boot[at] != 0x29 {
		return v.Label
	}
	return strings.TrimRight(string(v.boot[at+5:at+16]), " ")
}
