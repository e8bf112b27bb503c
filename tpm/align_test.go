package tpm

import (
	"crypto"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tableAlign finds the gaps by a table of all lengths: in time and memory that no large log could
// have.
func tableAlign(want, got []int) []gap {
	n, m := len(want), len(got)
	length := make([][]int, n+1)
	for i := range length {
		length[i] = make([]int, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			length[i][j] = max(length[i+1][j], length[i][j+1])
			if want[i] == got[j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	var gaps []gap
	open := gap{}
	i, j := 0, 0
	for i < n && j < m {
		switch {
		case want[i] == got[j]:
			gaps = append(gaps, gap{open.want, i, open.got, j})
			i, j = i+1, j+1
			open = gap{want: i, got: j}
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return append(gaps, gap{open.want, n, open.got, m})
}

// extending are the events of a log that numbered made.
func extending(l *Log) []subjectEvent { return l.byPCR()[8] }

func TestAlignIsALongestSubsequence(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 5, 63, 64, 65, 130, 200} {
		for _, m := range []int{0, 1, 3, 63, 64, 65, 128, 190} {
			for _, values := range []int{1, 2, 5, 1000} {
				want, got := make([]int, n), make([]int, m)
				for i := range want {
					want[i] = r.IntN(values)
				}
				for i := range got {
					got[i] = r.IntN(values)
				}
				a, b := extending(numbered(n, func(i int) int { return want[i] })), extending(numbered(m, func(i int) int { return got[i] }))
				require.Equal(t, tableAlign(want, got), align(numberDigests(a, b)), "%v\n%v", want, got)
			}
		}
	}
}

// Logs of 10,000 events are aligned in every shape, not compared by place.
func TestDiffOfManyEvents(t *testing.T) {
	const n = 10_000
	count := numbered(n, func(i int) int { return i })
	for name, want := range map[string]int{"equal": 0, "reversed": n - 1, "other": n, "each second": n / 2, "rotated": n / 2, "half moved": n / 2} {
		t.Run(name, func(t *testing.T) {
			ds := Diff(count, numbered(n, diffShapes(n)[name]))
			assert.Len(t, ds, want)
		})
	}
	moved := numbered(n, func(i int) int { return (i + n - 1) % n })
	ds := Diff(count, moved)
	require.Len(t, ds, 1, "the last event is the first")
	assert.Equal(t, fmt.Sprintf("PCR 8: EV_EFI_ACTION '14 bytes, 6576656e74200f27000000000000' was measured earlier than expected: event 1 of PCR 8, expected as event %d", n), ds[0].String())
}

// Larger logs than fit into the table are aligned by events that are in order, and what moved is
// told there, too.
func TestAlignLimit(t *testing.T) {
	n := 1<<14 + 1
	ids := func(n int, of func(i int) int) []int {
		out := make([]int, n)
		for i := range out {
			out[i] = of(i) + 1
		}
		return out
	}
	same := func(i int) int { return i }
	for name, c := range map[string]struct {
		got  []int
		gaps int // that are not empty
		left int // events of want in them
	}{
		"equal":                   {ids(n, same), 0, 0},
		"one moved":               {ids(n, func(i int) int { return (i + 1) % n }), 2, 1},
		"each 500th is not there": {ids(n, func(i int) int { return i + i/500 }), 33, 32},
		"reversed":                {ids(n, func(i int) int { return n - 1 - i }), 2, n - 1},
		"others":                  {ids(n, func(i int) int { return n + i }), 1, n},
		"one value":               {ids(n, func(int) int { return 0 }), 1, n - 1},
		"none":                    {nil, 1, n},
	} {
		gaps, left := 0, 0
		last := gap{}
		for _, g := range align(digestIDs{ids(n, same), c.got}) {
			require.LessOrEqual(t, last.wantEnd, g.want, name)
			require.LessOrEqual(t, last.gotEnd, g.got, name)
			require.Equal(t, g.want-last.wantEnd, g.got-last.gotEnd, name)
			for k := last.wantEnd; k < g.want; k++ {
				require.Equal(t, k+1, c.got[last.gotEnd+k-last.wantEnd], name)
			}
			left += g.wantEnd - g.want
			if g.wantEnd > g.want || g.gotEnd > g.got {
				gaps++
			}
			last = g
		}
		require.Equal(t, n, last.wantEnd, name)
		require.Equal(t, len(c.got), last.gotEnd, name)
		assert.Equal(t, c.gaps, gaps, name)
		assert.Equal(t, c.left, left, name)
	}
	twice := ids(n, func(i int) int { return i / 2 })
	for _, g := range align(digestIDs{twice, twice}) {
		require.Equal(t, [2]int{g.want, g.got}, [2]int{g.wantEnd, g.gotEnd}, "each of two equal events has its own partner")
	}
	// Above it the table, whose size has no bound, is not: it would find a subsequence twice as
	// long.
	alternating := func(first int) []int { return ids(n, func(i int) int { return (i + first) % 2 }) }
	require.Len(t, align(digestIDs{alternating(0), alternating(1)}), n/2+1)
	// Below the limit the table is used: it finds the longest subsequence, and in order there is a
	// shorter one.
	values := func(k int) []int { return ids(k, func(i int) int { return i % 2 }) }
	longest := align(digestIDs{values(6), []int{2, 1, 2, 1, 2, 1}})
	assert.Equal(t, []gap{{0, 1, 0, 0}, {2, 2, 1, 1}, {3, 3, 2, 2}, {4, 4, 3, 3}, {5, 5, 4, 4}, {6, 6, 5, 6}}, longest)
}

// Events are equal by the digests of the banks that both logs have, all of them.
func TestNumberDigests(t *testing.T) {
	event := func(sha1, sha256 byte) subjectEvent {
		e := &Event{Digests: map[crypto.Hash][]byte{}}
		if sha1 > 0 {
			e.Digests[crypto.SHA1] = slices.Repeat([]byte{sha1}, 20)
		}
		if sha256 > 0 {
			e.Digests[crypto.SHA256] = slices.Repeat([]byte{sha256}, 32)
		}
		return subjectEvent{Event: e}
	}
	for _, c := range []struct {
		want, got [][2]byte
		same      []bool
	}{
		{[][2]byte{{1, 1}, {1, 2}, {2, 1}}, [][2]byte{{1, 1}, {1, 1}, {1, 1}}, []bool{true, false, false}},
		{[][2]byte{{1, 0}, {2, 0}}, [][2]byte{{1, 1}, {1, 1}}, []bool{true, false}},
		{[][2]byte{{1, 0}}, [][2]byte{{0, 1}}, []bool{false}},
		{[][2]byte{{0, 0}}, [][2]byte{{0, 0}}, []bool{false}},
		{[][2]byte{{1, 0}, {1, 1}}, [][2]byte{{1, 1}, {1, 0}}, []bool{false, false}},
		{[][2]byte{{1, 1}, {0, 0}}, [][2]byte{{1, 1}, {0, 0}}, []bool{true, false}},
	} {
		var want, got []subjectEvent
		for _, e := range c.want {
			want = append(want, event(e[0], e[1]))
		}
		for _, e := range c.got {
			got = append(got, event(e[0], e[1]))
		}
		ids := numberDigests(want, got)
		for i, same := range c.same {
			assert.Equal(t, same, ids.want[i] == ids.got[i], fmt.Sprint(c.want, c.got, i))
		}
	}
}

// The same digest in a PCR and in an RTMR are two events.
func TestNumberDigestsOfRegisters(t *testing.T) {
	event := func(cc bool) []subjectEvent {
		return []subjectEvent{{Event: &Event{PCR: 1, cc: cc, Digests: map[crypto.Hash][]byte{crypto.SHA256: make([]byte, 32)}}}}
	}
	for _, c := range []struct{ want, got, same bool }{{true, true, true}, {false, false, true}, {true, false, false}, {false, true, false}} {
		ids := numberDigests(event(c.want), event(c.got))
		require.Equal(t, c.same, ids.want[0] == ids.got[0])
		require.Equal(t, c.same, len(diffPCR(1, event(c.want), event(c.got))) == 0)
	}
}

// Pairs are of events of one type and of two versions of one thing, in order.
func TestPairUp(t *testing.T) {
	event := func(kind SubjectKind, name string) subjectEvent {
		e := &Event{Type: EventIPL, Data: []byte(name)}
		if kind == SubjectVariable {
			e.Type = EventEFIVariableDriverConfig
		}
		return subjectEvent{Event: e, subject: Subject{Kind: kind, Name: name}}
	}
	for _, c := range []struct {
		name      string
		want, got []subjectEvent
		pairs     string
	}{
		{"by subject", []subjectEvent{event(SubjectSection, "a"), event(SubjectSection, "b")}, []subjectEvent{event(SubjectSection, "b"), event(SubjectSection, "c")}, "a:- b:b -:c "},
		{"in order", []subjectEvent{event(SubjectSection, "a"), event(SubjectSection, "b")}, []subjectEvent{event(SubjectSection, "b"), event(SubjectSection, "a")}, "a:a b:- -:b "},
		{"another path", []subjectEvent{event(SubjectUKI, "a")}, []subjectEvent{event(SubjectUKI, "b")}, "a:b "},
		{"another part", []subjectEvent{event(SubjectUKI, "a")}, []subjectEvent{event(SubjectLoader, "a"), event(SubjectUKI, "b")}, "a:b -:a "},
		{"a part that is not known", []subjectEvent{event(SubjectProgram, "a"), event(SubjectProgram, "b")}, []subjectEvent{event(SubjectLoader, "c"), event(SubjectUKI, "d")}, "a:c b:d "},
		{"nor here", []subjectEvent{event(SubjectLoader, "a"), event(SubjectUKI, "b")}, []subjectEvent{event(SubjectProgram, "c"), event(SubjectProgram, "d")}, "a:c b:d "},
		{"lines of one origin", []subjectEvent{event(SubjectPassed, "a")}, []subjectEvent{event(SubjectCommandLine, "b"), event(SubjectPassed, "c")}, "a:c -:b "},
		{"another type", []subjectEvent{event(SubjectVariable, "a")}, []subjectEvent{{Event: &Event{Type: EventIPL, Data: []byte("a")}, subject: Subject{Kind: SubjectVariable, Name: "a"}}}, "a:- -:a "},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := func(e *Event) string {
				if e == nil {
					return "-"
				}
				return string(e.Data)
			}
			got := ""
			for _, d := range diffPCR(1, c.want, c.got) {
				got += text(d.Want) + ":" + text(d.Got) + " "
			}
			assert.Equal(t, c.pairs, got)
		})
	}
}
