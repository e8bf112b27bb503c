package tpm

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// gap is a stretch of both logs between two events that are equal.
type gap struct{ want, wantEnd, got, gotEnd int }

// maxAlign bounds the bits of the table of an alignment, 32 MiB: two logs of 16,384 events that
// differ in their first and last one. Larger ones are aligned by events that are in the same order
// in both, which need not be as many as there could be.
const maxAlign = 1 << 28

// align finds the gaps around a longest common subsequence.
//
// The table of its lengths is kept as bits (H. Hyyrö, "Bit-parallel LCS-length computation
// revisited", 2004): a row is about the events of want from some place on, and a bit of it is 0
// where one more event of got, counted from the end, makes the subsequence longer.
func align(ids digestIDs) []gap {
	n, m := len(ids.want), len(ids.got)
	if n == 0 || m == 0 {
		return []gap{{0, n, 0, m}}
	}
	if n > maxAlign/m {
		return alignInOrder(ids)
	}
	rows := newAlignRows(ids, n, m)
	var gaps []gap
	open := gap{}
	i, j, left := 0, 0, rows.length(0, 0) // left is the length of what is still to be found
	for i < n && j < m {
		switch {
		case ids.want[i] == ids.got[j]:
			gaps = append(gaps, gap{open.want, i, open.got, j})
			i, j, left = i+1, j+1, left-1
			open = gap{want: i, got: j}
		case rows.without(i, j, left):
			i++
		default:
			j++
		}
	}
	return append(gaps, gap{open.want, n, open.got, m})
}

// alignInOrder finds the gaps around a common subsequence: it pairs the first of got that has a
// number with the first of want, and so on, and leaves out the fewest pairs so that the rest is in
// order (a longest increasing subsequence, by patience sorting).
func alignInOrder(ids digestIDs) []gap {
	places := make(map[int][]int)
	for j, id := range ids.got {
		places[id] = append(places[id], j)
	}
	// before is the index of the pair in front of it, -1 for none
	type pair struct{ want, got, before int }
	var pairs []pair
	// by length, the pair with the least place in got that ends an increasing sequence of that
	// length
	var tops []int
	for i, id := range ids.want {
		at := places[id]
		if len(at) == 0 {
			continue
		}
		j := at[0]
		places[id] = at[1:]
		k, _ := slices.BinarySearchFunc(tops, j, func(p, j int) int { return pairs[p].got - j })
		p := pair{i, j, -1}
		if k > 0 {
			p.before = tops[k-1]
		}
		pairs = append(pairs, p)
		if k == len(tops) {
			tops = append(tops, 0)
		}
		tops[k] = len(pairs) - 1
	}
	var gaps []gap
	wantEnd, gotEnd := len(ids.want), len(ids.got)
	if len(tops) > 0 {
		for p := tops[len(tops)-1]; p >= 0; p = pairs[p].before {
			gaps = append(gaps, gap{pairs[p].want + 1, wantEnd, pairs[p].got + 1, gotEnd})
			wantEnd, gotEnd = pairs[p].want, pairs[p].got
		}
	}
	gaps = append(gaps, gap{0, wantEnd, 0, gotEnd})
	slices.Reverse(gaps)
	return gaps
}

// digestIDs number the events of two logs from 1: those with the same digests have the same number.
type digestIDs struct{ want, got []int }

// numberDigests compares the digests of the algorithms that both logs have. Events are different if
// one lacks one that the other has, or both have none: logs that firmware wrote have no such
// events.
func numberDigests(want, got []subjectEvent) digestIDs {
	w, g := algorithmsOf(want), algorithmsOf(got)
	common := slices.DeleteFunc(w, func(id uint16) bool { return !slices.Contains(g, id) })
	numbers, last := make(map[string]int), 0
	number := func(es []subjectEvent) []int {
		out := make([]int, 0, len(es))
		var key []byte
		for _, e := range es {
			key = append(key[:0], byte(e.registers()))
			some := false
			for _, id := range common {
				digest, ok := e.digest(id)
				key = binary.LittleEndian.AppendUint16(key, uint16(len(digest)))
				key = append(key, digest...)
				some = some || ok
			}
			k, known := numbers[string(key)]
			if !known || !some {
				last++
				k = last
				numbers[string(key)] = k
			}
			out = append(out, k)
		}
		return out
	}
	return digestIDs{number(want), number(got)}
}

// algorithmsOf are those of which some event has a digest, in ascending order.
func algorithmsOf(es []subjectEvent) []uint16 {
	seen := make(map[uint16]bool)
	for _, e := range es {
		for h := range e.Digests {
			a, _ := pcrbank.ByHash(h)
			seen[a.ID] = true
		}
		for id := range e.foreign {
			seen[id] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// alignRows are the rows of the table, by the number of events of want from the end.
type alignRows struct {
	n, m int
	rows [][]uint64
}

func newAlignRows(ids digestIDs, n, m int) *alignRows {
	words := (m + 63) / 64
	r := &alignRows{n: n, m: m, rows: make([][]uint64, n+1)}
	places := make(map[int][]int) // bits of the events of got with a number
	for j, id := range ids.got {
		places[id] = append(places[id], m-1-j)
	}
	masks := make(map[int][]uint64) // of the numbers that are frequent
	scratch := make([]uint64, words)
	row := make([]uint64, words)
	for w := range row {
		row[w] = ^uint64(0)
	}
	r.rows[0] = row
	for k := 1; k <= n; k++ {
		id := ids.want[n-k]
		at := places[id]
		if len(at) == 0 {
			r.rows[k] = row // nothing that could make it longer
			continue
		}
		mask, frequent := masks[id]
		if !frequent {
			mask = scratch
			if len(at) > words {
				mask = make([]uint64, words)
				masks[id], frequent = mask, true
			}
			for _, b := range at {
				mask[b/64] |= 1 << (b % 64)
			}
		}
		before, carry := row, uint64(0)
		row = make([]uint64, words)
		for w, v := range before {
			u := v & mask[w]
			var sum uint64
			sum, carry = bits.Add64(v, u, carry)
			row[w] = sum | v&^u
		}
		r.rows[k] = row
		if !frequent {
			for _, b := range at {
				scratch[b/64] = 0
			}
		}
	}
	return r
}

// without reports whether want[i] is not needed: want[i+1:] and got[j:] have a common subsequence
// of that length, too. The two events differ.
func (r *alignRows) without(i, j, length int) bool {
	row, next, bit := r.rows[r.n-i], r.rows[r.n-i-1], r.m-j-1
	if &row[0] == &next[0] || row[bit/64]&(1<<(bit%64)) == 0 { // got[j] is needed
		return true
	}
	return r.length(i+1, j) == length
}

// length is that of the longest common subsequence of want[i:] and got[j:].
func (r *alignRows) length(i, j int) int {
	row, left := r.rows[r.n-i], r.m-j
	zeros := 0
	for _, w := range row[:left/64] {
		zeros += bits.OnesCount64(^w)
	}
	if left%64 != 0 {
		zeros += bits.OnesCount64(^row[left/64] & (1<<(left%64) - 1))
	}
	return zeros
}
