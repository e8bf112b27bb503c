package tpm

import "slices"

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

// pairUp makes changes of the events that one log has in place of the other's: in order, the next of the same type and
// subject. What is left is missing or extra.
func pairUp(pcr int, want, got []subjectEvent) []Difference {
	partner := make([]int, len(want)) // index into got, -1 for none
	used := make([]bool, len(got))
	places := make(map[pairKey][]int)
	for j, g := range got {
		k := pairKey{g.Type, g.subject.thing()}
		places[k] = append(places[k], j)
	}
	next := 0
	for i, w := range want {
		partner[i] = -1
		for _, s := range w.subject.things() {
			k := pairKey{w.Type, s}
			at, _ := slices.BinarySearch(places[k], next)
			places[k] = places[k][at:]
			if len(places[k]) > 0 && (partner[i] < 0 || places[k][0] < partner[i]) {
				partner[i] = places[k][0]
			}
		}
		if j := partner[i]; j >= 0 {
			used[j], next = true, j+1
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

// pairKey is what the events of a pair have in common.
type pairKey struct {
	typ   EventType
	thing Subject
}
