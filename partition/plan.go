package partition

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Image is a planned disk: a table and the contents of its partitions.
type Image struct {
	Table *Table
	Size  int64 // bytes of the disk

	contents   []osmith.Source // by index in Table.Partitions
	fills      []*Fill         // likewise
	fresh      []bool          // likewise: the partition is new, its content is to be written
	base       *Table          // the table that was planned onto; nil: a new disk
	operations []Operation
}

// Plan lays out a new disk: the partitions in the order given, each at the first aligned sector
// after the one before, with free space shared out by weight as systemd-repart does it. Plan reads
// and writes no disk, and the same layout gives the same result. The table has 128 entries, or more
// if the layout needs them. A layout with neither DiskID nor Seed is refused. If a partition does
// not fit, the error is a [*SpaceError] that names the first such partition; a plan with faults
// that [Table.Check] finds is refused.
func Plan(l Layout) (im *Image, err error) {
	defer prefix.Add("partition", &err)
	ss, err := l.sectorSize()
	if err != nil {
		return nil, err
	}
	al := &allocator{}
	if al.align, err = l.align(ss); err != nil {
		return nil, err
	}
	if l.Size < 0 || l.Size%ss != 0 || l.Size > largest {
		return nil, fmt.Errorf("disk size %d: want a multiple of the sector size %d, at most 2^60", l.Size, ss)
	}
	if l.DiskID.IsZero() && l.Seed.IsZero() {
		return nil, errors.New("the layout has neither a DiskID nor a Seed: set one, or the disk has no identity")
	}
	l = *l.identified()
	l.name(func(int) string { return "" })
	nobody := make([]int, len(l.Partitions))
	for i := range nobody {
		nobody[i] = -1
	}
	if err := al.known(&l, nobody); err != nil {
		return nil, err
	}
	table := &Table{DiskID: l.DiskID, SectorSize: int(ss), Entries: l.entries(), AllowUnaligned: al.align%grain != 0}
	behind, tail, err := table.usable(l.Size)
	if err != nil {
		return nil, err
	}
	start, _ := roundUp(max(behind, l.Start), al.align)
	size, unit := l.Size, al.align
	if l.Repart {
		unit = ss
	}
	if size == 0 {
		end, err := al.least(start)
		if err != nil {
			return nil, err
		}
		size, _ = roundUp(end+tail, unit) // fits: least is bounded
	}
	small := l.Repart && size <= compactDisk
	if small {
		start, _ = roundUp(behind, al.align)
	}
	whole := &area{off: start, size: max(size-tail-start, 0) / grain * grain}
	al.areas = []*area{whole}
	if miss := al.allocate(); miss != nil {
		end, err := al.least(start)
		if err != nil {
			return nil, err
		}
		return nil, &SpaceError{Need: end + tail, Have: size, Partition: miss.slice.name}
	}
	al.grow()
	table.Size = size
	im = &Image{Table: table, Size: size}
	im.create(&l, al, numbers(&l, nil, cmp.Or(table.Entries, defaultCount)), func(i int) osmith.GUID { return l.Partitions[i].ID })
	if err := table.Check(); err != nil {
		return nil, err
	}
	p, _, err := table.geometry()
	if err != nil {
		return nil, err
	}
	table.FirstUsableLBA, table.LastUsableLBA = p.firstUsable, p.lastUsable
	if l.Start > 0 && !small { // partitions added later keep to it, too
		table.FirstUsableLBA = uint64(start / ss)
	}
	im.list(&l, al)
	return im, nil
}

// compactDisk is the largest disk, in bytes, on which systemd-repart lets the first partition begin
// right behind the table.
const compactDisk = 4 << 20

// entries is how many entries the table of a new disk needs; 0: the usual number.
func (l *Layout) entries() int {
	n := len(l.Partitions)
	for i := range l.Partitions {
		n = max(n, l.Partitions[i].Number)
	}
	if n <= defaultCount {
		return 0
	}
	return (n + defaultCount - 1) / defaultCount * defaultCount
}

// usable says where partitions may begin on a disk with a new table, and how many bytes at its end
// are not for them. size 0: the disk is as large as it needs to be.
func (t *Table) usable(size int64) (start, tail int64, err error) {
	probe := *t
	if probe.Size = size; size == 0 {
		probe.Size = largest
	}
	p, _, err := probe.geometry()
	if err != nil {
		return 0, 0, err
	}
	ss := int64(t.SectorSize)
	return int64(p.firstUsable) * ss, int64(probe.sectors()-1-p.lastUsable) * ss, nil
}

// PlanOnto plans what a disk needs in order to have the layout: missing partitions are made in free
// space; existing ones keep their place, ID, name, attributes and content, do not shrink, and grow
// into the free space after them as far as the layout allows. An existing partition without a name
// gets the name of the layout. Partitions that the layout does not mention stay as they are. A
// partition of the layout is found on the disk by its type and the ID that the layout gives, else
// by its type and number, else it is the first of its type that is not taken yet (in table order),
// as in systemd-repart; the partial or pending form of a type ([PartialType], [PendingType]) counts
// as the type itself.
//
// The table is not changed. Size and DiskID of the layout are not used, its SectorSize must be 0 or
// that of the table.
func PlanOnto(t *Table, l Layout) (im *Image, err error) {
	defer prefix.Add("partition", &err)
	if err := t.Check(); err != nil {
		return nil, err
	}
	if l.SectorSize != 0 && l.SectorSize != t.SectorSize {
		return nil, fmt.Errorf("the layout is for sectors of %d bytes, the disk has %d", l.SectorSize, t.SectorSize)
	}
	if t.Size > largest {
		return nil, fmt.Errorf("disk size %d: want at most 2^60", t.Size)
	}
	l.SectorSize = t.SectorSize
	al := &allocator{}
	if al.align, err = l.align(int64(t.SectorSize)); err != nil {
		return nil, err
	}
	match := l.match(t)
	given := l
	l = *l.identified()
	l.name(func(i int) string {
		if match[i] < 0 {
			return ""
		}
		return t.Partitions[match[i]].Name
	})
	if err := al.existing(t, &l, match); err != nil {
		return nil, err
	}
	if miss := al.allocate(); miss != nil {
		return nil, &SpaceError{Need: miss.need, Have: miss.have, Partition: miss.slice.name}
	}
	al.grow()
	next := *t
	next.Partitions = slices.Clone(t.Partitions)
	im = &Image{Table: &next, Size: t.Size, base: t, contents: make([]osmith.Source, len(t.Partitions)),
		fills: make([]*Fill, len(t.Partitions)), fresh: make([]bool, len(t.Partitions))}
	for _, p := range t.Partitions {
		if p.Number == 0 {
			return nil, &EntryError{Name: p.Name, Err: errors.New("has no entry number: plan onto a table that was read")}
		}
	}
	for _, s := range al.slices {
		if s.table >= 0 {
			p := &next.Partitions[s.table]
			p.LastLBA = max(p.LastLBA, p.FirstLBA+uint64(s.size/int64(t.SectorSize))-1)
			if s.spec >= 0 && p.Name == "" {
				p.Name = l.Partitions[s.spec].Name
			}
		}
	}
	h, _, err := t.geometry()
	if err != nil {
		return nil, err
	}
	im.create(&l, al, numbers(&l, t, int(h.count)), func(i int) osmith.GUID {
		if given.Partitions[i].ID.IsZero() {
			return next.unusedID(l.Seed, &l.Partitions[i])
		}
		return given.Partitions[i].ID
	})
	if err := next.Check(); err != nil {
		return nil, err
	}
	im.list(&l, al)
	return im, nil
}

// unusedID is the derived ID of a new partition. When partitions were left out earlier, the one
// with its number may be on the disk: then the next number that is free is taken, where
// systemd-repart takes a random ID.
func (t *Table) unusedID(seed osmith.GUID, spec *Spec) osmith.GUID {
	id := spec.ID
	for n := len(t.Partitions); t.Find(id) >= 0 && !seed.IsZero(); n++ {
		id = SeedPartitionID(seed, spec.Type, n)
	}
	return id
}

// numbers gives out entry numbers that neither the layout nor the table has: the first behind all
// partitions of the same type, so that these stay in the order in which a layout is matched, or
// else the first of all (systemd-repart(8), step 4).
func numbers(l *Layout, t *Table, count int) func(osmith.GUID) int {
	taken := map[int]bool{}
	last := map[osmith.GUID]int{} // by type
	for i := range l.Partitions {
		taken[l.Partitions[i].Number] = true
	}
	if t != nil {
		for _, p := range t.Partitions {
			taken[p.Number] = true
			last[p.Type] = max(last[p.Type], p.Number)
		}
	}
	lowest := 1 // all below are taken
	return func(kind osmith.GUID) int {
		for taken[lowest] {
			lowest++
		}
		n := max(lowest, last[kind]+1)
		for taken[n] {
			n++
		}
		if n > count {
			n = lowest // if that is too much, too, Table.Check refuses it
		}
		taken[n] = true
		last[kind] = max(last[kind], n)
		return n
	}
}

// known makes a slice of every partition of a layout. match says which of a table it is, or -1.
func (al *allocator) known(l *Layout, match []int) error {
	if n := l.FileSystemSectorSize; n != 0 && (n < 512 || n > 1<<20 || n&(n-1) != 0) {
		return fmt.Errorf("sector size of file systems %d: want a power of 2 from 512", n)
	}
	al.strict = l.Repart
	for i := range l.Partitions {
		s := &l.Partitions[i]
		b, err := l.bounds(s, match[i] >= 0)
		if err != nil {
			return err
		}
		al.slices = append(al.slices, &slice{spec: i, known: true, table: -1, name: s.title(),
			demand: demand{b, uint64(s.Weight), uint64(s.PaddingWeight)}, priority: s.Priority})
	}
	targets, bad, err := l.targets()
	if err != nil {
		return &EntryError{Name: l.Partitions[bad].title(), Err: err}
	}
	exists := func(i int) bool { return match[i] >= 0 }
	return al.supplements(l, targets, exists)
}

// least is where the layout ends when everything is as small as it may be.
func (al *allocator) least(start int64) (int64, error) {
	pos, end := start, start
	for _, s := range al.slices {
		if s.absent() {
			continue
		}
		if end = pos + s.needed(); end > largest {
			return 0, fmt.Errorf("%q: the disk would have more than 2^60 bytes", s.name)
		}
		pos = al.alignUp(end)
	}
	return end, nil
}

// existing makes slices of the partitions of a table and of a layout, and areas of the gaps.
func (al *allocator) existing(t *Table, l *Layout, match []int) error {
	byTable := make([]*slice, len(t.Partitions))
	if err := al.known(l, match); err != nil {
		return err
	}
	for i, k := range match {
		if k >= 0 {
			byTable[k] = al.slices[i]
		}
	}
	for k, p := range t.Partitions {
		if byTable[k] == nil {
			byTable[k] = &slice{name: p.Name}
			al.slices = append(al.slices, byTable[k])
		}
		s := byTable[k]
		s.table = k
		s.off, s.old = t.Extent(k)
		if !s.known {
			s.foreign()
		}
		s.demand = s.demand.keep(s.old)
	}
	for _, m := range al.mergers {
		m.own = m.own.keep(m.target.old)
		m.whole = m.whole.keep(m.target.old)
	}
	p, _, err := t.geometry()
	if err != nil {
		return err
	}
	ss := int64(t.SectorSize)
	slices.SortFunc(byTable, func(a, b *slice) int { return cmp.Compare(a.off, b.off) })
	pos := int64(p.firstUsable) * ss
	if !l.Repart { // systemd-repart has a start of its own on a new disk alone
		pos = max(pos, l.Start)
	}
	end := int64(p.lastUsable+1) * ss
	gap := func(after *slice, to int64) {
		off := al.alignUp(pos)
		if size := (to - off) / grain * grain; size > 0 {
			a := &area{off: off, size: size, after: after}
			al.areas = append(al.areas, a)
			if after != nil {
				after.before = a
			}
		}
	}
	var last *slice
	for _, s := range byTable {
		gap(last, s.off)
		pos, last = max(pos, s.off+s.old), s
	}
	gap(last, end)
	// Of areas with the same room, systemd-repart takes the one behind the partition with the
	// lowest number.
	number := func(a *area) int {
		if a.after == nil {
			return math.MaxInt
		}
		return t.Partitions[a.after.table].Number
	}
	slices.SortStableFunc(al.areas, func(a, b *area) int { return cmp.Compare(number(a), number(b)) })
	return nil
}

// match says for every partition of the layout which one of the table it is, or -1.
func (l *Layout) match(t *Table) []int {
	out := make([]int, len(l.Partitions))
	used := make([]bool, len(t.Partitions))
	find := func(i int, ok func(p Partition) bool) {
		for k, p := range t.Partitions {
			if !used[k] && ok(p) {
				out[i], used[k] = k, true
				return
			}
		}
	}
	for i := range out {
		out[i] = -1
		if s := l.Partitions[i]; !s.ID.IsZero() {
			find(i, func(p Partition) bool { return p.Type == s.Type && p.ID == s.ID })
		}
	}
	for _, numbered := range []bool{true, false} {
		for i := range out {
			s := l.Partitions[i]
			if out[i] >= 0 || numbered && s.Number == 0 {
				continue
			}
			partial, pending := PartialType(s.Type), PendingType(s.Type)
			find(i, func(p Partition) bool {
				return (p.Type == s.Type || p.Type == partial || p.Type == pending) && (!numbered || p.Number == s.Number)
			})
		}
	}
	return out
}

// create adds the new partitions of a plan to its table.
func (im *Image) create(l *Layout, al *allocator, next func(osmith.GUID) int, id func(i int) osmith.GUID) {
	t := im.Table
	ss := int64(t.SectorSize)
	for _, s := range al.place() {
		spec := &l.Partitions[s.spec]
		if other := al.supplementOf(s); other != nil {
			whole := spec.merge(&l.Partitions[other.spec])
			spec = &whole
		}
		number := spec.Number
		if number == 0 {
			number = next(spec.Type)
		}
		s.table = len(t.Partitions)
		t.Partitions = append(t.Partitions, Partition{
			Number: number, Type: spec.Type, ID: id(s.spec), Name: spec.Name, Attributes: spec.Attributes,
			FirstLBA: uint64(s.off / ss), LastLBA: uint64((s.off+s.size)/ss) - 1,
		})
		im.contents = append(im.contents, spec.Content)
		im.fills = append(im.fills, spec.Fill)
		im.fresh = append(im.fresh, true)
	}
}

// Fill is what partition i (index in Table.Partitions) is to be filled with; nil: not to be filled,
// or the partition exists already. It is the Fill of the layout, with the files of a supplement
// that was merged into the partition.
func (im *Image) Fill(i int) *Fill { return im.fills[i] }

// SetContent replaces the content of partition i (index in Table.Partitions), for content that
// depends on the plan: a file system that is as large as its partition. Only a partition that the
// plan makes can be filled.
func (im *Image) SetContent(i int, content osmith.Source) (err error) {
	defer prefix.Add("partition", &err)
	_, size := im.Table.Extent(i)
	name := im.Table.Partitions[i].Name
	if !im.fresh[i] {
		return &EntryError{Number: im.Table.Partitions[i].Number, Name: name, Err: errors.New("is already on the disk")}
	}
	if content.Size() > size {
		return &SpaceError{Need: content.Size(), Have: size, Partition: name}
	}
	im.contents[i] = content
	for k := range im.operations {
		if o := &im.operations[k]; o.Kind == OperationCreate && o.Number == im.Table.Partitions[i].Number {
			o.Content, o.Fill = content.Size(), nil
		}
	}
	return nil
}

// Content is the content for partition i (index in Table.Partitions); nil for zeros and for a
// partition that stays.
func (im *Image) Content(i int) osmith.Source { return im.contents[i] }

// OperationKind is what is done to a partition.
type OperationKind string

// The kinds of operations.
const (
	OperationKeep   OperationKind = "keep"   // it exists, and stays as it is
	OperationGrow   OperationKind = "grow"   // it grows into the free space after it
	OperationCreate OperationKind = "create" // it is made and its content is written
	OperationSkip   OperationKind = "skip"   // it is left out for lack of space: Priority
)

// Operation is what a plan does to one partition. Sizes and offsets are bytes.
type Operation struct {
	Kind    OperationKind `json:"op"`
	Number  int           `json:"number,omitempty"` // entry number
	Type    osmith.GUID   `json:"type"`
	ID      osmith.GUID   `json:"id"`
	Name    string        `json:"name"`
	Offset  int64         `json:"offset"`
	Size    int64         `json:"size"`
	OldSize int64         `json:"oldSize,omitempty"` // size before it grows
	Content int64         `json:"content,omitempty"` // bytes written into it, zeros not counted
	Known   bool          `json:"known"`             // the layout has this partition
	// it exists without a name, and gets this one
	Named bool `json:"named,omitempty"`
	// what it is to be filled with, if it is made without Content
	Fill *Fill `json:"fill,omitempty"`
}

// Operations is a plan as a list, in the order of the disk; skipped partitions come last.
type Operations []Operation

// Operations lists what the plan does.
func (im *Image) Operations() Operations { return slices.Clone(im.operations) }

// list fills in the operations, once the table is complete.
func (im *Image) list(l *Layout, al *allocator) {
	for _, s := range al.slices {
		o := Operation{Kind: OperationSkip, Known: s.known}
		if s.merged {
			continue // it is part of another
		}
		if s.dropped {
			spec := &l.Partitions[s.spec]
			o.Type, o.ID, o.Name, o.Size = spec.Type, spec.ID, spec.Name, s.min
			im.operations = append(im.operations, o)
			continue
		}
		p := im.Table.Partitions[s.table]
		o.Number, o.Type, o.ID, o.Name = p.Number, p.Type, p.ID, p.Name
		o.Offset, o.Size = im.Table.Extent(s.table)
		o.Named = !im.fresh[s.table] && p.Name != im.base.Partitions[s.table].Name
		switch {
		case im.fresh[s.table]:
			o.Kind = OperationCreate
			if c := im.contents[s.table]; c != nil {
				o.Content = c.Size()
			} else {
				o.Fill = im.fills[s.table]
			}
		case o.Size > s.old:
			o.Kind, o.OldSize = OperationGrow, s.old
		default:
			o.Kind = OperationKeep
		}
		im.operations = append(im.operations, o)
	}
	slices.SortStableFunc(im.operations, func(a, b Operation) int {
		if (a.Kind == OperationSkip) != (b.Kind == OperationSkip) {
			return cmp.Compare(boolInt(a.Kind == OperationSkip), boolInt(b.Kind == OperationSkip))
		}
		return cmp.Compare(a.Offset, b.Offset)
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

var marks = map[OperationKind]string{OperationKeep: " ", OperationGrow: "~", OperationCreate: "+", OperationSkip: "!"}

// String is one line for each partition, like a diff: "+": made, "~": grows, "!": left out, " ":
// stays.
func (ops Operations) String() string {
	nameWidth, kindWidth := 4, 4
	for _, o := range ops {
		nameWidth = max(nameWidth, utf8.RuneCountInString(printable(o.Name)))
		kindWidth = max(kindWidth, len(TypeName(o.Type)))
	}
	var out strings.Builder
	for _, o := range ops {
		number := "-"
		if o.Number > 0 {
			number = fmt.Sprint(o.Number)
		}
		line := fmt.Sprintf("%s %3s  %s  %s  ", marks[o.Kind], number, pad(printable(o.Name), nameWidth), pad(TypeName(o.Type), kindWidth))
		switch o.Kind {
		case OperationSkip:
			line += "left out: needs " + Bytes(o.Size)
		case OperationGrow:
			line += fmt.Sprintf("%s at %s, was %s", Bytes(o.Size), Bytes(o.Offset), Bytes(o.OldSize))
		default:
			line += fmt.Sprintf("%s at %s", Bytes(o.Size), Bytes(o.Offset))
		}
		if o.Content > 0 {
			line += fmt.Sprintf(", %s written, %s spare", Bytes(o.Content), Bytes(o.Size-o.Content))
		}
		if o.Fill != nil {
			line += ", to be filled with " + o.Fill.String()
		}
		if o.Named {
			line += ", gets its name"
		}
		if !o.Known {
			line += ", not in the layout"
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return out.String()
}

// MarshalJSON is the plan as an object with the schema "osmith.diskplan/1".
func (im *Image) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Schema     string      `json:"schema"`
		DiskID     osmith.GUID `json:"diskId"`
		SectorSize int         `json:"sectorSize"`
		Size       int64       `json:"size"`
		NewTable   bool        `json:"newTable"`
		Operations Operations  `json:"operations"`
	}{"osmith.diskplan/1", im.Table.DiskID, im.Table.SectorSize, im.Size, im.base == nil, im.operations})
}
