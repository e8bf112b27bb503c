package faultio

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
)

// Lost says what a physical sector holds after a power cut destroyed it.
type Lost int

// The contents of a lost physical sector.
const (
	LostZero       Lost = iota // zeros
	LostGarbage                // bytes that mean nothing
	LostUnreadable             // reading it fails with [ErrUnreadable]
)

// FaultOptions says which states [Disk.Faults] makes.
type FaultOptions struct {
	// Sector is the unit that the device writes whole or not at all: 512 (also if it is 0) or 4096.
	// Writes of several sectors may be torn between any two.
	Sector int
	// Physical, if it is not 0, is the size of the device's physical sectors in bytes, a multiple
	// of 4096: a 512e disk has
	// 4096. A power cut while the device rewrites one sector of a physical sector may lose all of
	//       it; these states have the
	// kind [FaultLost] and come after the others of their epoch.
	Physical int
	// Lost is what a lost physical sector holds.
	Lost Lost
	// Limit is how many states of a kind are made for the writes between two syncs, 2^14 if it is
	// 0. If there are more, they are sampled.
	Limit int
	// Seed changes the samples. The same seed gives the same states.
	Seed uint64
}

// DefaultFaultLimit is the limit of [FaultOptions] that is 0.
const DefaultFaultLimit = 1 << 14

// FaultKind says how a state comes about.
type FaultKind int

// The kinds of states. A state that comes about in several ways has the first of these.
const (
	FaultPrefix FaultKind = iota // the first writes are on the medium, the others are not
	// some of the writes since the last sync are on the medium, some are not
	FaultSubset
	FaultTorn // and of some, a part of their sectors
	FaultLost // and a physical sector was lost while it was rewritten
	faultKinds
)

// String is the kind's name.
func (k FaultKind) String() string {
	return [...]string{"prefix", "subset", "torn", "lost physical sector"}[k]
}

// FaultCounts is what a run of [Faults.States] made.
type FaultCounts struct {
	// States is the number of states of each kind. All differ in at least one byte.
	States [faultKinds]int
	// Epochs is the number of sequences of writes between two syncs, Sampled that of those whose
	// states were too many to make all.
	Epochs, Sampled int
}

// Total is the number of all states.
func (c FaultCounts) Total() int {
	n := 0
	for _, k := range c.States {
		n += k
	}
	return n
}

// State is the disk after one power cut.
type State struct {
	// Disk is the disk with its power back: it can be changed without an effect on other states.
	Disk *Disk
	Kind FaultKind
	// Epoch is the number of syncs before the cut.
	Epoch int

	epoch  *epoch
	assign []uint16
	lost   int64 // number of the lost physical sector, or -1
}

// Faults makes the states that a power cut may leave.
type Faults struct {
	options FaultOptions
	disk    *Disk // as it was at Record
	writes  []Write
	counts  FaultCounts
}

// Faults returns what may be on the medium if power fails during or after the writes recorded since
// [Disk.Record]: every prefix of the writes, every subset of the writes between two syncs, and
// these with writes torn between their sectors.
//
// What is on the medium is decided for each sector by itself: it holds what it held at the last
// sync, or what any of the writes since then made of it. Where the sectors of an epoch have at most
// [FaultOptions.Limit] combinations, all are made. Else all subsets of its writes are made if they
// are not more than that, and each write is torn after each of its sectors, and at any of its
// sectors if they are few, while the other writes are there, or not, or only the earlier ones are;
// the rest is sampled.
//
// It is an error if a write is not of whole sectors of 4096 bytes where these are wanted. A part of
// a sector of 512 bytes is written by a driver that reads the rest: such a write is one of the
// whole sector.
func (d *Disk) Faults(o FaultOptions) (*Faults, error) {
	if o.Sector == 0 {
		o.Sector = 512
	}
	if o.Limit == 0 {
		o.Limit = DefaultFaultLimit
	}
	switch {
	case o.Sector != 512 && o.Sector != 4096:
		return nil, fmt.Errorf("faultio: sectors of %d bytes, want 512 or 4096", o.Sector)
	case o.Physical%pageSize != 0 || o.Physical < 0:
		return nil, fmt.Errorf("faultio: physical sectors of %d bytes, want a multiple of %d", o.Physical, pageSize)
	case o.Limit < 0:
		return nil, fmt.Errorf("faultio: a limit of %d states", o.Limit)
	}
	before := d.Prefix(0)
	writes := d.Writes()
	for i, w := range writes {
		if o.Sector == 4096 && (w.Offset%4096 != 0 || len(w.Data)%4096 != 0) {
			return nil, fmt.Errorf("faultio: write %d, %d bytes at %d, is not of whole sectors of 4096 bytes", i, len(w.Data), w.Offset)
		}
	}
	return &Faults{options: o, disk: before, writes: writes}, nil
}

// Counts is what the last run of [Faults.States] has made so far.
func (f *Faults) Counts() FaultCounts { return f.counts }

// digest identifies contents. Those of a disk are the sum of its sectors' digests.
type digest [2]uint64

func (a digest) add(b digest) digest { return digest{a[0] ^ b[0], a[1] ^ b[1]} }

// version is what a write made of a sector.
type version struct {
	data []byte
	sum  digest
}

// unit is a sector that is written to in an epoch.
type unit struct {
	number   int64
	versions []version // [0] is what it held at the sync
}

// unitVersion says that a write made a version of a unit.
type unitVersion struct{ unit, version int }

// epoch is the writes between two syncs.
type epoch struct {
	number int
	first  int // index of its first write in the record
	under  map[int64][]byte
	sum    digest // of all sectors that the record writes to, at the sync
	size   int64
	units  []unit
	writes []Write
	made   [][]unitVersion // for each write, the sectors that it changed
	// changing are the indexes of the writes that change anything.
	changing []int
}

func sumOf(number int64, data []byte) digest {
	h := sha256.New()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(number))
	h.Write(b[:])
	h.Write(data)
	s := h.Sum(nil)
	return digest{binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])}
}

// epochs yields the epochs of the record in order.
func (f *Faults) epochs() iter.Seq[*epoch] {
	return func(yield func(*epoch) bool) {
		sector := int64(f.options.Sector)
		now := f.disk.Clone()
		read := func(number int64) []byte {
			b := make([]byte, sector)
			n := min(sector, now.size-number*sector)
			if _, err := now.ReadAt(b[:n], number*sector); err != nil {
				panic("faultio: " + err.Error())
			}
			return b
		}
		var sum digest // of sectors that are no longer what they were at Record
		for at := 0; at < len(f.writes) || at == 0; {
			e := &epoch{first: at, under: now.freeze(), size: now.size, sum: sum}
			end := at
			for end < len(f.writes) && f.writes[end].Epoch == f.writes[at].Epoch {
				end++
			}
			e.writes = f.writes[at:end]
			if end > at {
				e.number = e.writes[0].Epoch
			}
			index := map[int64]int{}
			for i, w := range e.writes {
				first, last := w.Offset/sector, (w.Offset+int64(len(w.Data))-1)/sector
				var made []unitVersion
				for n := first; n <= last && len(w.Data) > 0; n++ {
					u, known := index[n]
					if !known {
						u = len(e.units)
						index[n] = u
						data := read(n)
						e.units = append(e.units, unit{n, []version{{data, sumOf(n, data)}}})
					}
					old := e.units[u].versions[len(e.units[u].versions)-1]
					// A write of whole sectors is not copied.
					from := n*sector - w.Offset
					var data []byte
					if from >= 0 && from+sector <= int64(len(w.Data)) {
						data = w.Data[from : from+sector : from+sector]
					} else {
						data = bytes.Clone(old.data)
						if from < 0 {
							copy(data[-from:], w.Data)
						} else {
							copy(data, w.Data[from:])
						}
					}
					if !bytes.Equal(data, old.data) {
						made = append(made, unitVersion{u, len(e.units[u].versions)})
						e.units[u].versions = append(e.units[u].versions, version{data, sumOf(n, data)})
					}
				}
				e.made = append(e.made, made)
				if len(made) > 0 {
					e.changing = append(e.changing, i)
				}
				now.replayWrite(w.Data, w.Offset)
			}
			// Sectors that no write changed do not matter.
			for _, u := range e.units {
				if n := len(u.versions); n > 1 {
					sum = sum.add(u.versions[0].sum).add(u.versions[n-1].sum)
				}
			}
			if !yield(e) || end == at {
				return
			}
			at = end
		}
	}
}

// combinations is the number of ways to give each sector one of its versions, or more than limit.
func (e *epoch) combinations(limit int) int {
	n := 1
	for _, u := range e.units {
		if n *= len(u.versions); n > limit {
			return limit + 1
		}
	}
	return n
}

// disk makes the disk on which each sector has its assigned version.
func (e *epoch) disk(sector int64, assign []uint16) *Disk {
	d := &Disk{size: e.size, under: e.under, pages: map[int64][]byte{}}
	fresh := map[int64][]byte{} // pages of this disk alone, while it is made
	for i, v := range assign {
		if v == 0 {
			continue
		}
		u := &e.units[i]
		off := u.number * sector
		number, in := off/pageSize, off%pageSize
		if sector == pageSize {
			d.set(number, u.versions[v].data)
			continue
		}
		page := fresh[number]
		if page == nil {
			page = make([]byte, pageSize)
			copy(page, e.under[number])
			fresh[number] = page
		}
		copy(page[in:], u.versions[v].data)
	}
	for number, page := range fresh {
		d.set(number, page)
	}
	return d
}

func (e *epoch) sumOf(assign []uint16) digest {
	s := e.sum
	for i, v := range assign {
		if v != 0 {
			s = s.add(e.units[i].versions[0].sum).add(e.units[i].versions[v].sum)
		}
	}
	return s
}

// apply gives the sectors of a write its versions, where no later write has come already.
func (e *epoch) apply(assign []uint16, write int, keep func(i int) bool) {
	for i, m := range e.made[write] {
		if keep == nil || keep(i) {
			assign[m.unit] = max(assign[m.unit], uint16(m.version))
		}
	}
}

// States yields the states, each once. Each may be used after the next was yielded.
func (f *Faults) States() iter.Seq[State] {
	return func(yield func(State) bool) {
		f.counts = FaultCounts{}
		seen := map[digest]bool{}
		for e := range f.epochs() {
			g := &generator{faults: f, e: e, seen: seen, yield: yield, rng: rand.New(rand.NewPCG(f.options.Seed, uint64(e.first)))}
			f.counts.Epochs++
			g.prefixes()
			g.subsets()
			g.torn()
			if g.sampled {
				f.counts.Sampled++
			}
			g.lost()
			if g.stopped {
				return
			}
		}
	}
}

// generator makes the states of one epoch.
type generator struct {
	faults  *Faults
	e       *epoch
	seen    map[digest]bool
	yield   func(State) bool
	rng     *rand.Rand
	sampled bool
	stopped bool
}

func (g *generator) emit(kind FaultKind, assign []uint16) {
	if g.stopped {
		return
	}
	sum := g.e.sumOf(assign)
	if g.seen[sum] {
		return
	}
	g.seen[sum] = true
	g.send(State{Disk: g.e.disk(int64(g.faults.options.Sector), assign), Kind: kind, assign: slices.Clone(assign), lost: -1})
}

func (g *generator) send(s State) {
	g.faults.counts.States[s.Kind]++
	s.Epoch, s.epoch = g.e.number, g.e
	g.stopped = !g.yield(s)
}

func (g *generator) blank() []uint16 { return make([]uint16, len(g.e.units)) }

func (g *generator) prefixes() {
	assign := g.blank()
	g.emit(FaultPrefix, assign)
	for w := range g.e.writes {
		g.e.apply(assign, w, nil)
		g.emit(FaultPrefix, assign)
	}
}

// with is the assignment of the changing writes for which keep says so.
func (g *generator) with(keep func(i int) bool) []uint16 {
	assign := g.blank()
	for i, w := range g.e.changing {
		if keep(i) {
			g.e.apply(assign, w, nil)
		}
	}
	return assign
}

func (g *generator) subsets() {
	n, limit := len(g.e.changing), g.faults.options.Limit
	if n < 31 && 1<<n <= limit {
		for mask := range 1 << n {
			if g.stopped {
				return
			}
			g.emit(FaultSubset, g.with(func(i int) bool { return mask>>i&1 == 1 }))
		}
		return
	}
	g.sampled = true
	for one := range n {
		g.emit(FaultSubset, g.with(func(i int) bool { return i == one }))
		g.emit(FaultSubset, g.with(func(i int) bool { return i != one }))
	}
	for range limit - 2*n {
		if g.stopped {
			return
		}
		// Both sets of a few writes and sets that lack a few are wanted.
		share := 1 + g.rng.IntN(7)
		g.emit(FaultSubset, g.with(func(int) bool { return g.rng.IntN(8) < share }))
	}
}

// Where not all combinations of sectors are made, a write of at most this many is torn in all ways.
const tornSectors = 8

func (g *generator) torn() {
	limit := g.faults.options.Limit
	if g.e.combinations(limit) <= limit {
		assign := g.blank()
		for !g.stopped {
			g.emit(FaultTorn, assign)
			i := 0
			for ; i < len(assign); i++ {
				if assign[i]++; int(assign[i]) < len(g.e.units[i].versions) {
					break
				}
				assign[i] = 0
			}
			if i == len(assign) {
				return
			}
		}
		return
	}
	g.sampled = true
	// The others of the epoch, and which sectors of one write are there.
	type tear struct {
		write int // index in changing
		keep  func(i int) bool
	}
	var tears []tear
	for i, w := range g.e.changing {
		n := len(g.e.made[w])
		for k := 1; k < n; k++ {
			tears = append(tears, tear{i, func(s int) bool { return s < k }})
		}
		if n <= tornSectors {
			for mask := 1; mask < 1<<n-1; mask++ {
				tears = append(tears, tear{i, func(s int) bool { return mask>>s&1 == 1 }})
			}
		} else {
			for range 4 * tornSectors {
				bits := make([]bool, n)
				for s := range bits {
					bits[s] = g.rng.IntN(2) == 1
				}
				tears = append(tears, tear{i, func(s int) bool { return bits[s] }})
			}
		}
	}
	if most := max(1, limit/4); len(tears) > most {
		g.rng.Shuffle(len(tears), func(i, j int) { tears[i], tears[j] = tears[j], tears[i] })
		tears = tears[:most]
	}
	for _, t := range tears {
		random := g.rng.Uint64()
		for _, others := range []func(i int) bool{
			func(i int) bool { return i < t.write },
			func(int) bool { return false },
			func(i int) bool { return i != t.write },
			func(i int) bool { return i != t.write && random>>(i%64)&1 == 1 },
		} {
			if g.stopped {
				return
			}
			assign := g.with(others)
			g.e.apply(assign, g.e.changing[t.write], t.keep)
			g.emit(FaultTorn, assign)
		}
	}
	for range limit / 4 {
		if g.stopped {
			return
		}
		assign := g.blank()
		for i, u := range g.e.units {
			assign[i] = uint16(g.rng.IntN(len(u.versions)))
		}
		g.emit(FaultTorn, assign)
	}
}

// Where an epoch has at most this many writes, a physical sector is lost in all of their subsets.
const lostWrites = 6

func (g *generator) lost() {
	o := g.faults.options
	if o.Physical == 0 {
		return
	}
	perSector := int64(o.Physical / o.Sector)
	rewritten := map[int64][]int{} // physical sector -> changing writes
	for i, w := range g.e.changing {
		for _, m := range g.e.made[w] {
			p := g.e.units[m.unit].number / perSector
			if l := rewritten[p]; len(l) == 0 || l[len(l)-1] != i {
				rewritten[p] = append(l, i)
			}
		}
	}
	n := len(g.e.changing)
	for _, p := range slices.Sorted(maps.Keys(rewritten)) {
		var others []func(i int) bool
		if n <= lostWrites {
			for mask := range 1 << n {
				others = append(others, func(i int) bool { return mask>>i&1 == 1 })
			}
		} else {
			for _, w := range rewritten[p] {
				others = append(others, func(i int) bool { return i < w })
			}
			others = append(others, func(int) bool { return false }, func(int) bool { return true })
			for range lostWrites {
				random := g.rng.Uint64()
				others = append(others, func(i int) bool { return random>>(i%64)&1 == 1 })
			}
		}
		// Other writes than those to the lost sector decide.
		for _, keep := range others {
			assign := g.with(keep)
			for i, u := range g.e.units {
				if u.number/perSector == p {
					assign[i] = 0
				}
			}
			mark := digest{uint64(p) + 1, ^uint64(o.Lost)}
			sum := sumOf(p, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, mark[0]), mark[1])).add(g.e.sumOf(assign))
			if g.stopped {
				return
			}
			if g.seen[sum] {
				continue
			}
			g.seen[sum] = true
			d := g.e.disk(int64(o.Sector), assign)
			for at := p * int64(o.Physical); at < min((p+1)*int64(o.Physical), d.size); at += pageSize {
				switch o.Lost {
				case LostZero:
					d.set(at/pageSize, zeroPage[:])
				case LostGarbage:
					d.set(at/pageSize, garbage(o.Seed, at))
				case LostUnreadable:
					d.pages[at/pageSize] = unreadable
				}
			}
			g.send(State{Disk: d, Kind: FaultLost, assign: assign, lost: p * int64(o.Physical)})
		}
	}
}

// garbage is a page of bytes that depend on its place.
func garbage(seed uint64, at int64) []byte {
	page := make([]byte, 0, pageSize)
	for rng := rand.New(rand.NewPCG(seed, uint64(at))); len(page) < pageSize; {
		page = binary.LittleEndian.AppendUint64(page, rng.Uint64())
	}
	return page
}

// String says which writes are on the medium and which are not.
func (s State) String() string {
	e := s.epoch
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: power cut after sync %d, %d writes before that are on the medium", s.Kind, s.Epoch, e.first)
	var there []int
	var parts []string
	for i, w := range e.writes {
		n, older, newer := len(e.made[i]), 0, 0
		var sectors []bool
		for _, m := range e.made[i] {
			v := int(s.assign[m.unit])
			sectors = append(sectors, v == m.version)
			switch {
			case v < m.version:
				older++
			case v > m.version:
				newer++
			}
		}
		name := fmt.Sprintf("write %d (%d bytes at %d)", e.first+i, len(w.Data), w.Offset)
		switch {
		case n == 0:
		case older == 0 && newer == n:
			parts = append(parts, name+" is overwritten")
		case older == 0:
			there = append(there, e.first+i)
		case older == n:
			parts = append(parts, name+" is missing")
		default:
			parts = append(parts, fmt.Sprintf("%s is torn, of its changed sectors %s are there", name, ranges(sectors)))
		}
	}
	fmt.Fprintf(&b, "; of writes %d to %d", e.first, e.first+len(e.writes)-1)
	if len(there) > 0 {
		fmt.Fprintf(&b, " there are %v", there)
	} else {
		b.WriteString(" none is there whole")
	}
	const most = 12
	for i, p := range parts {
		if i == most {
			fmt.Fprintf(&b, "; and %d more are not there", len(parts)-most)
			break
		}
		b.WriteString("; " + p)
	}
	if s.lost >= 0 {
		fmt.Fprintf(&b, "; the physical sector at %d is lost", s.lost)
	}
	return b.String()
}

// ranges names the true ones of a list.
func ranges(list []bool) string {
	var b bytes.Buffer
	for i := 0; i < len(list); i++ {
		if !list[i] {
			continue
		}
		j := i
		for j+1 < len(list) && list[j+1] {
			j++
		}
		if b.Len() > 0 {
			b.WriteString(",")
		}
		if fmt.Fprint(&b, i); j > i {
			fmt.Fprintf(&b, "-%d", j)
		}
		i = j
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}
