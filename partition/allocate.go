package partition

import (
	"cmp"
	"math/bits"
	"slices"
)

// The algorithm of systemd-repart 262 (systemd-repart(8), repart.d(5), and what it does when it
// runs), so that the same definitions give the same disk: every gap between partitions is an area;
// new partitions go with their minimal sizes into the smallest area that fits; then each area,
// together with the partition before it, is shared out by weight.

// slice is a partition or a definition while space is allocated.
type slice struct {
	spec    int // index in Layout.Partitions; -1: a foreign partition
	table   int // index in Table.Partitions; -1: a new partition
	name    string
	known   bool // the layout has it, though it may have become foreign
	dropped bool
	merged  bool // a supplement that is part of another slice
	demand
	priority int32

	off, old int64 // where an existing partition is and its size
	in       *area // where it was allocated, for a new partition
	before   *area // the area behind an existing partition

	size, pad int64 // the outcome; undecided until then
}

const undecided = -1

// area is free space.
type area struct {
	off, size int64 // off is aligned
	allocated int64
	after     *slice // the partition before the area, or nil
}

type allocator struct {
	align   int64
	slices  []*slice // those of the layout first, in its order
	areas   []*area
	mergers []*merger
	// strict is systemd-repart's: an existing partition that the layout has must fit with its
	// padding, up to a multiple of the alignment, even if it stays as it is.
	strict bool
}

// absent says that the slice takes no place.
func (s *slice) absent() bool { return s.dropped || s.merged }

// alignUp rounds an amount up to the alignment: what is checked against overflow by the caller.
func (al *allocator) alignUp(n int64) int64 { return (n + al.align - 1) / al.align * al.align }

// needed is the least room for a slice and its padding.
func (s *slice) needed() int64 { return s.min + s.padMin }

// room is what new partitions can have of an area: the partition before it comes first.
func (al *allocator) room(a *area) int64 {
	end := a.off + a.size - a.allocated
	if a.after == nil {
		return end - a.off
	}
	return max(end-max(al.alignUp(a.after.off+a.after.needed()), a.off), 0)
}

// misfit is what does not fit: a slice, what it needs and the most that there is.
type misfit struct {
	slice      *slice
	need, have int64
}

// allocate gives every new partition an area. When there is none for one, supplements are taken
// apart, and partitions left out by priority.
func (al *allocator) allocate() *misfit {
	for {
		miss := al.fit()
		switch {
		case miss == nil:
			return nil
		case al.separate(miss):
		case al.drop():
			al.mergeAll()
		default:
			return miss
		}
	}
}

// fit gives every new partition an area, or says which one has none.
func (al *allocator) fit() *misfit {
	for _, a := range al.areas {
		a.allocated = 0
	}
	slices.SortStableFunc(al.areas, func(a, b *area) int { return cmp.Compare(al.room(a), al.room(b)) })
	for _, s := range al.slices {
		if s.table < 0 || s.spec < 0 || s.absent() {
			continue
		}
		have := s.old
		if s.before != nil {
			have = s.before.off + s.before.size - s.off
		}
		need := s.needed()
		if al.strict {
			need = al.alignUp(s.off+need) - s.off
		}
		if need > have && (al.strict || s.min > s.old) {
			return &misfit{s, need, have}
		}
	}
	for _, s := range al.slices {
		s.in = nil
		if s.absent() || s.table >= 0 {
			continue
		}
		most := int64(0)
		for _, a := range al.areas {
			room := al.room(a)
			if most = max(most, room); room >= s.needed() {
				s.in = a
				a.allocated = min(a.size, a.allocated+al.alignUp(s.needed()))
				break
			}
		}
		if s.in == nil {
			return &misfit{s, s.needed(), most}
		}
	}
	return nil
}

// drop leaves out the new partitions of the highest priority number above 0, and makes no demands
// for existing ones.
func (al *allocator) drop() bool {
	highest := int32(0)
	for _, s := range al.slices {
		if !s.dropped {
			highest = max(highest, s.priority)
		}
	}
	if highest == 0 {
		return false
	}
	for _, s := range al.slices {
		switch {
		case s.priority < highest:
		case s.table < 0:
			s.dropped, s.in = true, nil
		default:
			s.foreign()
		}
	}
	return true
}

// foreign makes an existing partition one that stays as it is.
func (s *slice) foreign() {
	s.spec, s.priority = -1, 0
	s.demand = demand{bounds: bounds{min: s.old, max: s.old, padMax: unbounded}}
}

// grow decides all sizes.
func (al *allocator) grow() {
	for _, s := range al.slices {
		s.size, s.pad = undecided, undecided
	}
	for _, a := range al.areas {
		al.growIn(a)
	}
	for _, s := range al.slices {
		if s.size == undecided {
			s.size, s.pad = s.old, 0
		}
	}
}

func (al *allocator) growIn(a *area) {
	var members []*slice
	span, weights := a.size, uint64(0)
	if a.after != nil {
		members = append(members, a.after)
		span += a.off - a.after.off
	}
	for _, s := range al.slices {
		if s.in == a && !s.absent() {
			members = append(members, s)
		}
	}
	for _, s := range members {
		weights += s.weight + s.padWeight
	}
	take := func(amount int64, weight uint64) {
		span = max(span-al.alignUp(amount), 0)
		weights -= weight
	}
	for _, s := range members { // foreign partitions stay as they are
		if s.spec < 0 {
			s.size = s.old
			take(s.size, s.weight)
		}
	}
	// First those who need more than their share get what they need, until no share is too small;
	// then those who may not have all of theirs; and the rest by weight.
	for al.charge(members, &span, &weights, func(share, low, _ int64) (int64, bool) { return low, low > share }) {
	}
	for al.charge(members, &span, &weights, func(share, _, high int64) (int64, bool) { return high, high < share }) {
	}
	al.charge(members, &span, &weights, func(share, low, high int64) (int64, bool) {
		return min(max(share/al.align*al.align, low), high), true
	})
	// Rounding and bounds may leave something: to the partition before the area, else to the first
	// that may have it.
	more := func(s *slice) {
		larger := min(max((s.size+span)/al.align*al.align, s.size), s.max)
		span = max(span-al.alignUp(larger-s.size), 0)
		s.size = larger
	}
	for _, s := range members {
		if s.spec >= 0 {
			more(s)
		}
	}
}

// charge decides sizes and paddings by a rule, and says whether it decided any. What is decided
// leaves the pool of space and weights at once.
func (al *allocator) charge(members []*slice, span *int64, weights *uint64, rule func(share, low, high int64) (int64, bool)) bool {
	any := false
	one := func(to *int64, weight uint64, low, high int64) {
		if *to != undecided {
			return
		}
		n, ok := rule(scale(*span, weight, *weights), low, high)
		if !ok {
			return
		}
		*to, any = n, true
		*span = max(*span-al.alignUp(n), 0)
		*weights -= weight
	}
	for _, s := range members {
		one(&s.size, s.weight, s.min, s.max)
		one(&s.pad, s.padWeight, s.padMin, s.padMax)
	}
	return any
}

// scale is span*weight/weights.
func scale(span int64, weight, weights uint64) int64 {
	if weight == 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(span), weight)
	q, _ := bits.Div64(hi, lo, weights) // weight <= weights, so that the quotient fits
	return int64(q)
}

// place gives every new partition its offset, in the order of the definitions within each area.
func (al *allocator) place() []*slice {
	var placed []*slice
	for _, a := range al.areas {
		pos := a.off
		if a.after != nil {
			pos = max(al.alignUp(a.after.off+a.after.size+a.after.pad), a.off)
		}
		for _, s := range al.slices {
			if s.in == a && !s.absent() {
				s.off = pos
				pos = al.alignUp(pos + s.size + s.pad)
				placed = append(placed, s)
			}
		}
	}
	return placed
}
