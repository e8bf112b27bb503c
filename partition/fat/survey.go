package fat

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"slices"
)

// survey is what a walk over the whole tree finds under one copy of the FAT. A cluster is followed
// once and a directory read once, so that it ends on any volume; what it remembers is a bit for
// each cluster, and the directories still to be read.
type survey struct {
	f       *FS
	table   *tableReader
	reached bitmap // clusters that a file or directory has
	// where a chain comes to a cluster of another: from here on they are one; nil: nowhere
	joins bitmap

	problems []Problem
	untold   bool    // there are more problems with chains
	torn     []place // directories with pieces of long names
	dots     []place // directories whose '.' or '..' is wrong
	// entries whose first cluster another has too, or has in its chain, and that cluster
	second map[spot]uint32
	tree   [sha256.Size]byte // the sum of all files
	digest hash.Hash
	walk   walk

	todo  []place
	later []uint32 // chains of entries that are not listed
	runs  []run    // of the chain that is being followed
}

// walk says how a survey is made.
type walk struct {
	each func(*entry, place) // called for everything that is listed
	skip map[spot]bool       // entries that are left out, as if they were not there
}

// place is a directory that is yet to be read, or to be repaired.
type place struct {
	cluster, up uint32 // its own first cluster and that of its parent; 0: the fixed root
	runs        []run  // as far as its chain is whole and its own
	path        string
	depth       int // 0: the root
}

// spot is where an entry is: the first cluster of its directory and its position there.
type spot struct {
	dir uint32
	pos int
}

// maxProblems is how many problems of a tree are told.
const maxProblems = 1000

func (s *survey) problem(kind ProblemKind, path, format string, args ...any) {
	switch {
	case len(s.problems) >= 2*maxProblems || len(s.problems) >= maxProblems && !kind.chains():
		s.untold = s.untold || kind.chains()
	default:
		s.problems = append(s.problems, Problem{Kind: kind, Path: path, Text: fmt.Sprintf(format, args...)})
	}
}

// survey walks over the tree. The error is one of reading: what is wrong with the tree is in the
// result.
func (f *FS) survey(how walk) (*survey, error) {
	g := &f.geo
	s := &survey{f: f, table: newTableReader(f.r, g), reached: newBitmap(g), second: map[spot]uint32{}, digest: sha256.New(), walk: how}
	root := place{}
	if g.kind == 32 {
		end, err := s.follow(g.rootCluster)
		if err != nil {
			return nil, err
		}
		s.chainProblem("", end)
		root.cluster, root.runs = g.rootCluster, s.dirRuns()
	}
	if err := s.directory(root); err != nil {
		return nil, err
	}
	for len(s.todo) > 0 {
		next := s.todo[len(s.todo)-1]
		s.todo = s.todo[:len(s.todo)-1]
		if err := s.directory(next); err != nil {
			return nil, err
		}
	}
	for _, c := range s.later {
		// no driver shows these, but their clusters are not ours to give away
		if g.valid(c) && !s.reached.has(c) {
			if _, err := s.follow(c); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// dirRuns returns the clusters of the directory whose chain was followed, as many as a directory
// can have.
func (s *survey) dirRuns() []run {
	var out []run
	left := s.f.geo.dirClusters()
	for _, r := range s.runs {
		if n := min(left, int64(r.n)); n > 0 {
			out = append(out, run{r.first, uint32(n)})
			left -= n
		}
	}
	return out
}

// ending is how a chain that was followed ends.
type ending int

const (
	endWhole   ending = iota
	endNoStart        // there is no such first cluster
	endFree           // a cluster of it is marked free
	endBad            // or bad
	endBeyond         // its last cluster is followed by a number that is none
	endLoop           // it comes back to itself
	endJoins          // it comes to a cluster that was reached before
	endTooLong        // a directory of more than 2 MiB
)

var endings = [...]string{"", "has no first cluster", "has a cluster that is marked free", "has a cluster that is marked bad",
	"leads to a number that is no cluster", "comes back to itself", "comes to a cluster that another has", "has more than 65,536 entries"}

// follow marks the chain from first and leaves its runs in s.runs: as far as it is its own.
func (s *survey) follow(first uint32) (ending, error) {
	s.runs = s.runs[:0]
	if !s.f.geo.valid(first) {
		return endNoStart, nil
	}
	for c := first; ; {
		if s.reached.has(c) {
			if slices.ContainsFunc(s.runs, func(r run) bool { return c-r.first < r.n }) {
				return endLoop, nil
			}
			if s.joins == nil {
				s.joins = newBitmap(&s.f.geo)
			}
			s.joins.set(c)
			return endJoins, nil
		}
		s.reached.set(c)
		if k := len(s.runs) - 1; k >= 0 && s.runs[k].first+s.runs[k].n == c {
			s.runs[k].n++
		} else {
			s.runs = append(s.runs, run{c, 1})
		}
		v, err := s.table.entry(c)
		if err != nil {
			return 0, err
		}
		if !s.f.geo.valid(v) {
			return endOf(v), nil
		}
		c = v
	}
}

// endOf says how a chain ends whose last entry is v.
func endOf(v uint32) ending {
	switch v {
	case clusterEnd:
		return endWhole
	case clusterFree:
		return endFree
	case clusterBad:
		return endBad
	}
	return endBeyond
}

func count(runs []run) (n int64) {
	for _, r := range runs {
		n += int64(r.n)
	}
	return n
}

// chainProblem reports whether the chain that was followed is whole, and notes it if not.
func (s *survey) chainProblem(path string, end ending) bool {
	switch {
	case end == endWhole:
		return true
	case end == endJoins && len(s.runs) == 0:
		s.problem(ProblemTwin, path, "its first cluster also belongs to another file")
	case end == endJoins:
		s.problem(ProblemShared, path, "its chain of clusters %[2]s after %[1]d clusters", count(s.runs), endings[end])
	default:
		s.problem(ProblemChain, path, "its chain of clusters %[2]s after %[1]d clusters", count(s.runs), endings[end])
	}
	return false
}

// sign adds the chain that was followed to the sum of all chains. Neither names nor the order of
// entries nor where the directories are count: during a rename of ours a directory may be in
// another place under each copy of the FAT, but what it holds is the same.
func (s *survey) sign() {
	s.digest.Reset()
	b := append(make([]byte, 0, 512), "chain"...)
	for _, r := range s.runs {
		b = binary.LittleEndian.AppendUint32(b, r.first)
		if b = binary.LittleEndian.AppendUint32(b, r.n); len(b) > 500 {
			s.digest.Write(b)
			b = b[:0]
		}
	}
	s.digest.Write(b)
	var sum [sha256.Size]byte
	s.digest.Sum(sum[:0])
	for i := 0; i < len(sum); i += 8 {
		v := binary.LittleEndian.Uint64(s.tree[i:]) + binary.LittleEndian.Uint64(sum[i:])
		binary.LittleEndian.PutUint64(s.tree[i:], v)
	}
}

// directory reads one directory and follows the chains of all that is in it. A chain that is not
// whole is read as far as it goes: its files are not to be written over.
func (s *survey) directory(p place) error {
	d, err := s.f.loadDir(p.cluster, p.runs, p.path)
	if err != nil {
		return err
	}
	if len(d.orphans()) > 0 {
		s.problem(ProblemLongName, p.path, "pieces of long names without their short entry")
		s.torn = append(s.torn, p)
	}
	if p.depth > 0 {
		s.checkDots(d, p)
	}
	for i := range d.kept {
		e := &d.kept[i]
		if p.depth > 0 && e.dots() != "" && e.pos < 2 {
			continue
		}
		s.later = append(s.later, e.cluster)
	}
	for i := range d.entries {
		if err := s.entry(d, &d.entries[i], p); err != nil {
			return err
		}
	}
	return nil
}

func (s *survey) entry(d *directory, e *entry, p place) error {
	g := &s.f.geo
	if s.walk.skip[spot{p.cluster, e.pos}] {
		return nil
	}
	if s.walk.each != nil {
		s.walk.each(e, p)
	}
	if e.cluster == 0 && !e.isDir() {
		s.runs = s.runs[:0]
		s.sign()
		if e.size != 0 {
			s.problem(ProblemSize, d.pathOf(e), "%d bytes and no clusters", e.size)
		}
		return nil
	}
	end, err := s.follow(e.cluster)
	if err != nil {
		return err
	}
	have := count(s.runs)
	if end == endJoins && have == 0 && len(s.second) < maxProblems {
		s.second[spot{p.cluster, e.pos}] = e.cluster
	}
	if e.isDir() {
		dir, path := s.dirRuns(), d.pathOf(e)
		s.chainProblem(path, end)
		s.runs = s.runs[:0]
		s.sign()
		switch {
		case have > g.dirClusters():
			s.problem(ProblemChain, path, "its chain %s", endings[endTooLong])
		case p.depth+1 >= maxDepth:
			s.problem(ProblemChain, path, "nested in %d directories, want fewer", p.depth+1)
			return nil
		}
		if have > 0 {
			s.todo = append(s.todo, place{cluster: e.cluster, up: p.cluster, runs: dir, path: path, depth: p.depth + 1})
		}
		return nil
	}
	s.sign()
	need := (int64(e.size) + g.clusterSize - 1) / g.clusterSize
	if end == endWhole && have == need {
		return nil
	}
	if path := d.pathOf(e); s.chainProblem(path, end) {
		s.problem(ProblemSize, path, "%d bytes in %d clusters, want %d", e.size, have, need)
	}
	return nil
}

// pathOf is the path of an entry.
func (d *directory) pathOf(e *entry) string {
	if d.path == "" {
		return e.name
	}
	return d.path + "/" + e.name
}

// checkDots compares the first two entries of d with what they have to be.
func (s *survey) checkDots(d *directory, p place) {
	up := p.up
	if p.depth == 1 {
		up = 0
	}
	for i, want := range [2]struct {
		name    string
		cluster uint32
	}{{".", p.cluster}, {"..", up}} {
		raw := d.buf[i*entrySize : (i+1)*entrySize]
		e := shortEntry(raw, s.f.geo.kind)
		switch {
		case e.dots() != want.name || !e.isDir() || e.attr&attrVolume != 0:
			s.problem(ProblemDots, d.path, "%q is missing", want.name)
		case e.cluster == want.cluster:
			continue
		default:
			s.problem(ProblemDots, d.path, "%q is cluster %d, want %d", want.name, e.cluster, want.cluster)
		}
		if k := len(s.dots); k == 0 || s.dots[k-1].cluster != p.cluster {
			s.dots = append(s.dots, p)
		}
	}
}

// worse are the problems that are about chains, as keys: those by which copies of the FAT are
// compared.
func (s *survey) worse() map[string]bool {
	out := map[string]bool{}
	for _, p := range s.problems {
		if p.Kind.chains() {
			out[fmt.Sprintf("%d/%s", p.Kind, p.Path)] = true
		}
	}
	return out
}

// fits reports whether the tree contradicts a copy of the FAT nowhere.
func (s *survey) fits() bool { return len(s.worse()) == 0 }

// beats reports whether all that is wrong with the tree under s is wrong under o too, and more.
func (s *survey) beats(o *survey) bool {
	a, b := s.worse(), o.worse()
	if len(a) >= len(b) || s.untold || o.untold {
		return false
	}
	for key := range maps.Keys(a) {
		if !b[key] {
			return false
		}
	}
	return true
}

// equal reports whether the tree is the same under s and o: they differ in clusters that it does
// not have.
func (s *survey) equal(o *survey) bool {
	return s.tree == o.tree && maps.Equal(s.worse(), o.worse()) && !s.untold && !o.untold
}

// damage is the first problem that is no case for a repair, as an error.
func (s *survey) damage() error {
	for _, p := range s.problems {
		if p.Kind.chains() && p.Kind != ProblemSize {
			return badFormat(s.f.geo.fatOff, "/"+p.Path, "%s", p.Text)
		}
	}
	if s.untold {
		return badFormat(s.f.geo.fatOff, "FAT", "more than %d chains are damaged", maxProblems)
	}
	return nil
}
