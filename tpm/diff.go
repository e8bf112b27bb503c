package tpm

import (
	"slices"
)

// Difference is one event by which a boot differs from what was expected. Missing and extra events have one side only.
type Difference struct {
	PCR              int
	Expected, Actual *Event // nil if the other log alone has the event

	role string // what the event's program is in its boot, "" if it is none
}

// Kind is "changed", "missing" or "extra".
func (d Difference) Kind() string {
	switch {
	case d.Actual == nil:
		return "missing"
	case d.Expected == nil:
		return "extra"
	}
	return "changed"
}

// Diff compares a boot with what was expected, event by event in each PCR, by the digests of the banks that both logs
// have. Of a predicted log only the PCRs that its Coverage gives one value are compared. Differences are in the order of
// PCRs, then of events; none means that the boot was the expected one as far as the expectation goes. The log of a
// machine's firmware ends when the kernel starts: predict without phases to compare with it.
func Diff(expected, actual *Log) []Difference {
	var out []Difference
	roles := make(map[*Event]string)
	expected.roles(roles)
	actual.roles(roles)
	for pcr := range PCRCount {
		if !expected.covers(pcr) || !actual.covers(pcr) {
			continue
		}
		for _, d := range diffPCR(pcr, expected.of(pcr), actual.of(pcr)) {
			if d.Expected != nil {
				d.role = roles[d.Expected]
			}
			if d.Actual != nil && d.role == "" {
				d.role = roles[d.Actual]
			}
			out = append(out, d)
		}
	}
	return out
}

// covers reports whether the log claims to hold all events of a PCR.
func (l *Log) covers(pcr int) bool {
	if l.Coverage == nil {
		return true
	}
	return slices.ContainsFunc(l.Coverage, func(c Coverage) bool { return c.PCR == pcr && c.State.known() })
}

// of lists the events that extend a PCR.
func (l *Log) of(pcr int) []*Event {
	var es []*Event
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR == pcr && e.extends() {
			es = append(es, e)
		}
	}
	return es
}

// maxAlign bounds the table of the alignment. Larger logs that differ are compared position by position, between the
// equal events at their start and end.
const maxAlign = 4 << 20

func diffPCR(pcr int, want, got []*Event) []Difference {
	for len(want) > 0 && len(got) > 0 && want[0].sameDigests(got[0]) {
		want, got = want[1:], got[1:]
	}
	for len(want) > 0 && len(got) > 0 && want[len(want)-1].sameDigests(got[len(got)-1]) {
		want, got = want[:len(want)-1], got[:len(got)-1]
	}
	var out []Difference
	for _, p := range align(want, got) {
		out = append(out, pairUp(pcr, want[p.want:p.wantEnd], got[p.got:p.gotEnd])...)
	}
	return out
}

// gap is a stretch of both logs between two events that are equal.
type gap struct{ want, wantEnd, got, gotEnd int }

// align finds the gaps around a longest common subsequence.
func align(want, got []*Event) []gap {
	n, m := len(want), len(got)
	if n == 0 || m == 0 || n > maxAlign/m {
		return []gap{{0, n, 0, m}}
	}
	// length[i][j] is of the common subsequence of want[i:] and got[j:].
	length := make([]uint32, (n+1)*(m+1))
	at := func(i, j int) *uint32 { return &length[i*(m+1)+j] }
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if want[i].sameDigests(got[j]) {
				*at(i, j) = *at(i+1, j+1) + 1
			} else {
				*at(i, j) = max(*at(i+1, j), *at(i, j+1))
			}
		}
	}
	var gaps []gap
	open := gap{}
	i, j := 0, 0
	for i < n && j < m {
		switch {
		case want[i].sameDigests(got[j]):
			gaps = append(gaps, gap{open.want, i, open.got, j})
			i, j = i+1, j+1
			open = gap{want: i, got: j}
		case *at(i+1, j) >= *at(i, j+1):
			i++
		default:
			j++
		}
	}
	return append(gaps, gap{open.want, n, open.got, m})
}

// pairUp makes changes of the events that one log has in place of the other's: in order, the next of the same type and
// subject. What is left is missing or extra.
func pairUp(pcr int, want, got []*Event) []Difference {
	partner := make([]*Event, len(want))
	used := make([]bool, len(got))
	small := len(got) == 0 || len(want) <= maxAlign/len(got)
	keys := make([]string, len(got))
	for j, g := range got {
		keys[j] = subject(g)
	}
	next := 0
	for i, w := range want {
		last := len(got)
		if !small { // only the event in the same place
			next, last = i, min(i+1, len(got))
		}
		key := subject(w)
		for j := next; j < last; j++ {
			if w.Type == got[j].Type && key == keys[j] {
				partner[i], used[j], next = got[j], true, j+1
				break
			}
		}
	}
	var out []Difference
	for i, w := range want {
		out = append(out, Difference{PCR: pcr, Expected: w, Actual: partner[i]})
	}
	for j, g := range got {
		if !used[j] {
			out = append(out, Difference{PCR: pcr, Actual: g})
		}
	}
	return out
}

// subject is what an event is about, if its kind has one: events about different variables or sections are not two
// versions of one thing. Programs have none, since the path of a UKI changes with its boot counter.
func subject(e *Event) string {
	switch e.Type {
	case EventEFIVariableDriverConfig, EventEFIVariableBoot, EventEFIVariableBoot2, EventEFIVariableAuthority:
		if vendor, name, _, ok := splitVariable(e.Data); ok {
			return vendor.String() + name
		}
	case EventIPL:
		if e.PCR == PCRKernel {
			return e.Describe()
		}
	case EventTag:
		if len(e.Data) >= 4 {
			return string(e.Data[:4])
		}
	}
	return ""
}
