package fec

import (
	"cmp"
	"slices"

	"github.com/osmith-dev/osmith/verity"
)

// state is what the tree says about a block.
type state uint8

const (
	good     state = iota // proven by the root hash
	bad                   // proven to be damaged
	suspect               // differs from its digest, in a hash block that itself is not proven
	unproven              // has its digest, in a hash block that itself is not proven
)

// A run is blocks next to each other in the same state.
type run struct {
	first, count int64
	state        state
}

// damage is all runs that are not good, in order. It grows with the number of runs,
// not of blocks.
type damage []run

// at returns the state of a block.
func (d damage) at(block int64) state {
	i, found := slices.BinarySearchFunc(d, block, func(r run, block int64) int {
		switch {
		case block < r.first:
			return 1
		case block >= r.first+r.count:
			return -1
		}
		return 0
	})
	if !found {
		return good
	}
	return d[i].state
}

// add appends a run, as part of the last one if it continues it. It does not start in
// front of the last one.
func (d *damage) add(r run) {
	if n := len(*d); n > 0 {
		if last := &(*d)[n-1]; last.state == r.state && r.first <= last.first+last.count {
			last.count = max(last.count, r.first+r.count-last.first)
			return
		}
	}
	*d = append(*d, r)
}

// split returns the runs, or parts of runs, from a block on and those in front of it.
func (d damage) split(at int64) (from, before damage) {
	for _, r := range d {
		if n := min(at-r.first, r.count); n > 0 {
			before = append(before, run{r.first, n, r.state})
			r.first, r.count = r.first+n, r.count-n
		}
		if r.count > 0 {
			from = append(from, r)
		}
	}
	return from, before
}

// sorted puts runs in order that were found in any order.
func (d damage) sorted() damage {
	slices.SortFunc(d, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	var merged damage
	for _, r := range d {
		merged.add(r)
	}
	return merged
}

// A Report says what Repair found and did. Ranges are in order of level, then block, at most
// verity.MaxRanges for each level and kind; the totals count all blocks.
type Report struct {
	Repaired       []verity.Range // damaged blocks that were repaired
	RepairedBlocks int64

	// Unrepaired are blocks that are damaged, or differ from their digest in a hash
	// block that is damaged.
	Unrepaired       []verity.Range
	UnrepairedBlocks int64

	// Unproven are blocks that cannot be verified only because a hash block above them is damaged:
	// they match their digest in that hash block.
	Unproven       []verity.Range
	UnprovenBlocks int64
}

// list adds runs of blocks, in order, to one kind of a report.
func (t *tree) list(runs damage, ranges *[]verity.Range, total *int64) {
	for level, start := range t.start {
		listed := 0
		for _, r := range runs {
			first := max(r.first, start)
			count := min(r.first+r.count, start+t.Blocks[level]) - first
			if count <= 0 {
				continue
			}
			*total += count
			n := len(*ranges)
			switch {
			case listed > 0 && (*ranges)[n-1].First+(*ranges)[n-1].Count == first-start:
				(*ranges)[n-1].Count += count
			case listed < verity.MaxRanges:
				*ranges = append(*ranges, verity.Range{Level: level, First: first - start, Count: count})
				listed++
			}
		}
	}
}
