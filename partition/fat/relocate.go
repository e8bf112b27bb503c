package fat

// relocation is a cluster of a directory that is written anew elsewhere, and what switches to it:
// one FAT entry, or, for the first cluster, the entry of the directory in its parent.
type relocation struct {
	d      *directory
	index  int // of the cluster in the chain of d
	old    uint32
	before uint32 // the cluster that links to it; 0: up and at do
	up     *directory
	at     *entry
	table  []byte // the new contents
	rest   int    // entries of the set in the cluster before, which belong to nothing afterwards
}

// relocate puts set in place of the set of e where the unit of e has no room: the cluster of the
// directory is written anew to free clusters, with room, and one write switches to them. ok is
// false, and nothing is changed, if that is impossible: the root directory has its place, the first
// cluster of a directory is what its subdirectories know it by, and there must be free clusters.
func (f *FS) relocate(d *directory, dir string, e *entry, set []byte) (ok bool, err error) {
	m, err := f.relocatable(d, dir, e)
	if m == nil || err != nil {
		return false, err
	}
	g := &f.geo
	f.rearrange(m, e, set)
	count := int64(len(m.table)) / g.clusterSize
	if int64(len(d.buf))+(count-1)*g.clusterSize > maxDirBytes {
		return false, nil
	}
	runs, ok := f.alloc(uint32(count))
	if !ok {
		return false, nil
	}
	if m.before == 0 {
		setCluster(m.table, runs[0].first, 0) // '.'
	}
	done := int64(0)
	for _, r := range runs {
		n := int64(r.n) * g.clusterSize
		if err := f.write(m.table[done:done+n], g.clusterOff(r.first)); err != nil {
			return false, err
		}
		done += n
	}
	chain := runs
	if at := int64(m.index+1) * g.clusterSize; at < int64(len(d.buf)) {
		chain = append(runs[:len(runs):len(runs)], run{d.clusterAt(m.index + 1), 0})
	}
	if err := f.linkWritten(chain); err != nil {
		return false, err
	}
	if m.before != 0 {
		err = f.link([]run{{m.before, 1}, {runs[0].first, 0}})
	} else {
		i := m.at.pos + m.at.n - 1
		setCluster(m.up.buf[i*entrySize:(i+1)*entrySize], runs[0].first, 0)
		err = f.writeSector(m.up, i)
	}
	if err != nil {
		return false, err
	}
	if err := f.dropRest(d, e, m.rest); err != nil {
		return false, err
	}
	return true, f.discard([]run{{m.old, 1}})
}

// relocatable finds what links to the cluster with e's short entry. It returns nil if the cluster
// cannot be replaced.
func (f *FS) relocatable(d *directory, dir string, e *entry) (*relocation, error) {
	g := &f.geo
	if d.cluster == 0 {
		return nil, nil
	}
	m := &relocation{d: d, index: int(int64(e.pos+e.n-1) * entrySize / g.clusterSize)}
	m.old = d.clusterAt(m.index)
	if m.index > 0 {
		m.before = d.clusterAt(m.index - 1)
		if f.torn(m.before) {
			return nil, nil
		}
		return m, nil
	}
	if dir == "." {
		return nil, nil
	}
	for i := range d.entries {
		if d.entries[i].isDir() { // its '..' has the number of the cluster
			return nil, nil
		}
	}
	var err error
	if m.up, m.at, err = f.target(dir); err != nil {
		return nil, err
	}
	if m.at == nil || m.at.cluster != d.cluster || string(d.buf[:11]) != ".          " {
		return nil, nil
	}
	return m, nil
}

// clusterAt is the number of a cluster by its place in the chain.
func (d *directory) clusterAt(index int) uint32 {
	for _, r := range d.runs {
		if index < int(r.n) {
			return r.first + uint32(index)
		}
		index -= int(r.n)
	}
	panic("fat: cluster outside of the directory") // callers stay inside of buf
}

// rearrange makes the new contents: the sets of the cluster, each inside one unit if it fits one,
// with set for the one of e.
func (f *FS) rearrange(m *relocation, e *entry, set []byte) {
	d, per := m.d, f.perUnit()
	size := int(f.geo.clusterSize / entrySize)
	lo, hi := m.index*size, (m.index+1)*size
	owner := d.owners(lo, hi)
	var b, tail []byte
	add := func(p []byte) {
		for room := per - len(b)/entrySize%per; len(p) <= per*entrySize && len(p) > room*entrySize; room = per - len(b)/entrySize%per {
			b = append(b, deletedEntry[:]...)
		}
		b = append(b, p...)
	}
	if e.pos < lo {
		m.rest = lo - e.pos
		add(set)
	}
	for i := lo; i < hi && i < d.end; i++ {
		raw := d.buf[i*entrySize : (i+1)*entrySize]
		switch k := owner[i]; {
		case k == nil: // deleted, or a long entry without owner
		case k == e:
			if i == e.pos {
				add(set)
			}
		case k.pos < lo:
			// has begun in the cluster before, so that it must go on at the start of this one
			b = append(b, raw...)
		case k.pos+k.n > hi: // goes on in the next cluster
			tail = append(tail, raw...)
		case i == k.pos:
			add(d.buf[i*entrySize : (i+k.n)*entrySize])
		}
	}
	total := (len(b) + len(tail) + size*entrySize - 1) / (size * entrySize) * size * entrySize
	if d.end >= hi { // the end marker is not here
		for len(b) < total-len(tail) {
			b = append(b, deletedEntry[:]...)
		}
		b = append(b, tail...)
	}
	m.table = append(b, make([]byte, total-len(b))...)
}

// deletedEntry is one that nothing is left of.
var deletedEntry = [entrySize]byte{entryDeleted}

// owners maps the entries from lo up to hi to the sets that they belong to.
func (d *directory) owners(lo, hi int) map[int]*entry {
	owner := map[int]*entry{}
	for _, list := range [][]entry{d.entries, d.kept} {
		for i := range list {
			k := &list[i]
			for j := max(k.pos, lo); j < min(k.pos+k.n, hi); j++ {
				owner[j] = k
			}
		}
	}
	return owner
}
