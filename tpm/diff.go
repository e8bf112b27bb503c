package tpm

// Difference is one event by which a boot differs from what was expected. Missing and extra events have one side only.
type Difference struct {
	PCR       int
	Want, Got *Event // nil if the other log alone has the event
	Subject   Subject

	repeated bool // a section of the UKI that its log has measured before
}

// Kind is "changed", "missing" or "extra".
func (d Difference) Kind() string {
	switch {
	case d.Got == nil:
		return "missing"
	case d.Want == nil:
		return "extra"
	}
	return "changed"
}

// Diff compares a boot with what was expected, event by event in each PCR, by the digests of the banks that both logs
// have, as far as both logs claim to hold all events: see [Compare], which also says what was not compared. Differences are in
// the order of PCRs, then of events; none means that the boot was the expected one as far as it was compared.
func Diff(want, got *Log) []Difference { return compare(want, got).Differences }

// covers reports whether the log has a value for a PCR.
func (l *Log) covers(pcr int) bool { return l.Coverage == nil || l.notClaimed(pcr) == "" }

// A subjectEvent is an event and its subject in its log.
type subjectEvent struct {
	*Event
	subject   Subject
	userspace bool // it was measured by userspace
	repeated  bool // a section of the UKI that was measured before
}

// byPCR lists the events that extend each PCR.
func (l *Log) byPCR() (out [PCRCount][]subjectEvent) {
	sections := make(map[Subject]bool)
	for i, s := range l.subjects() {
		if e := &l.Events[i]; e.extends() && e.PCR >= 0 && e.PCR < PCRCount {
			out[e.PCR] = append(out[e.PCR], subjectEvent{e, s, i >= len(l.Events)-l.userspace, sections[s]})
			if s.Kind.isSection() {
				sections[s] = true
			}
		}
	}
	return out
}

// maxAlign bounds the table of the alignment. Larger logs that differ are compared position by position, between the
// equal events at their start and end.
const maxAlign = 4 << 20

func diffPCR(pcr int, want, got []subjectEvent) []Difference {
	for len(want) > 0 && len(got) > 0 && want[0].sameDigests(got[0].Event) {
		want, got = want[1:], got[1:]
	}
	for len(want) > 0 && len(got) > 0 && want[len(want)-1].sameDigests(got[len(got)-1].Event) {
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
func align(want, got []subjectEvent) []gap {
	n, m := len(want), len(got)
	if n == 0 || m == 0 || n > maxAlign/m {
		return []gap{{0, n, 0, m}}
	}
	// length[i][j] is of the common subsequence of want[i:] and got[j:].
	length := make([]uint32, (n+1)*(m+1))
	at := func(i, j int) *uint32 { return &length[i*(m+1)+j] }
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if want[i].sameDigests(got[j].Event) {
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
		case want[i].sameDigests(got[j].Event):
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
func pairUp(pcr int, want, got []subjectEvent) []Difference {
	partner := make([]int, len(want)) // index into got, -1 for none
	used := make([]bool, len(got))
	small := len(got) == 0 || len(want) <= maxAlign/len(got)
	next := 0
	for i, w := range want {
		partner[i] = -1
		last := len(got)
		if !small { // only the event in the same place
			next, last = i, min(i+1, len(got))
		}
		for j := next; j < last; j++ {
			if w.Type == got[j].Type && w.subject.same(got[j].subject) {
				partner[i], used[j], next = j, true, j+1
				break
			}
		}
	}
	var out []Difference
	for i, w := range want {
		d := Difference{PCR: pcr, Want: w.Event, Subject: w.subject, repeated: w.repeated}
		if j := partner[i]; j >= 0 {
			d.Got, d.repeated = got[j].Event, w.repeated || got[j].repeated
			if w.subject.Kind == SubjectProgram { // the log ends before it tells
				d.Subject = got[j].subject
			}
		}
		out = append(out, d)
	}
	for j, g := range got {
		if !used[j] {
			out = append(out, Difference{PCR: pcr, Got: g.Event, Subject: g.subject, repeated: g.repeated})
		}
	}
	return out
}
