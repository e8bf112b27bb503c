package tpm

import (
	"bytes"
	"slices"
)

// Difference is one event in which a boot differs from the expected boot. Missing and extra events
// have one side only.
type Difference struct {
	PCR       int    // or the number of another register, see [Registers]
	Want, Got *Event // nil if the other log alone has the event
	Subject   Subject

	// Parts are the differences in the sections of the UKI, if this difference is a cause about the
	// UKI: see [Causes].
	Parts []Difference

	wantPlace, gotPlace int  // of the events among those of the PCR, from 1
	repeated            bool // a section of the UKI that its log has measured before
	// a UKI in one of the logs, or its loader; the other one has no section of it: its boot started
	// none
	noUKI    bool
	ukiIsGot bool // with noUKI: it is in the log of Got
}

// The kinds of differences.
const (
	kindChanged    = "changed"
	kindMissing    = "missing"
	kindExtra      = "extra"
	kindMoved      = "moved"
	kindRenumbered = "renumbered"
)

// Kind is "changed", "missing", "extra", "moved" for an event whose place among the events of its
// PCR changed, or "renumbered" for a boot option of which only the number changed.
func (d Difference) Kind() string {
	switch {
	case d.Got == nil:
		return kindMissing
	case d.Want == nil:
		return kindExtra
	case d.Want.sameDigests(d.Got):
		return kindMoved
	case renumbered(d.Want, d.Got):
		return kindRenumbered
	}
	return kindChanged
}

// renumbered reports whether two events are about one boot option under different numbers.
func renumbered(want, got *Event) bool {
	w, g := bootOption(want), bootOption(got)
	return w.Name != g.Name && len(w.Data) > 0 && bytes.Equal(w.Data, g.Data)
}

// bootOption is the variable Boot#### that an event measured, with its contents as far as they are
// attested; none for other events.
func bootOption(e *Event) Variable {
	if e.Type != EventEFIVariableBoot && e.Type != EventEFIVariableBoot2 {
		return Variable{}
	}
	v, err := readVariable(e.Data)
	if err != nil || v.Vendor != globalVariable || v.Name == "BootOrder" || !bootVariableName.MatchString(v.Name) || !e.Attested() {
		return Variable{}
	}
	return v
}

// Diff compares a boot with what was expected, event by event in each PCR, by the digests of the
// banks that both logs have, as far as both logs claim to hold all events: see [Compare], which
// also says what was not compared. Differences are in the order of PCRs, then of events; no
// difference means that the boot was the expected one as far as it was compared.
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

// noteUKI notes of differences in the UKI and its loaders that one of the boots started none: no
// stub measured anything in it.
func noteUKI(ds []Difference, want, got [PCRCount][]subjectEvent) {
	started := func(all [PCRCount][]subjectEvent) bool {
		for _, es := range all {
			if slices.ContainsFunc(es, func(e subjectEvent) bool { return e.subject.Kind.isSection() }) {
				return true
			}
		}
		return false
	}
	inWant, inGot := started(want), started(got)
	for i := range ds {
		if k := ds[i].Subject.Kind; k == SubjectUKI || k == SubjectLoader {
			ds[i].noUKI, ds[i].ukiIsGot = inWant != inGot, inGot
		}
	}
}

// diffPCR compares the events of one PCR.
func diffPCR(pcr int, want, got []subjectEvent) []Difference {
	d := pcrDiff{pcr: pcr, want: want, got: got}
	start := 0
	for start < len(want) && start < len(got) && want[start].sameDigests(got[start].Event) {
		start++
	}
	wantEnd, gotEnd := len(want), len(got)
	for wantEnd > start && gotEnd > start && want[wantEnd-1].sameDigests(got[gotEnd-1].Event) {
		wantEnd, gotEnd = wantEnd-1, gotEnd-1
	}
	if wantEnd == start && gotEnd == start {
		return nil
	}
	d.ids = numberDigests(want[start:wantEnd], got[start:gotEnd])
	d.gaps = align(d.ids)
	for i := range d.gaps {
		g := &d.gaps[i]
		g.want, g.wantEnd, g.got, g.gotEnd = g.want+start, g.wantEnd+start, g.got+start, g.gotEnd+start
	}
	d.start = start
	d.partner = slices.Repeat([]int{-1}, len(want))
	d.used = make([]bool, len(got))
	d.moved()
	d.renumbered()
	var out []Difference
	for _, g := range d.gaps {
		d.pairUp(g)
		out = d.appendGap(out, g)
	}
	return out
}

// pcrDiff is the comparison of the events of one PCR.
type pcrDiff struct {
	pcr       int
	want, got []subjectEvent
	start     int       // events at the start that are equal
	ids       digestIDs // of the events behind those
	gaps      []gap
	partner   []int  // by the event of want: the one of got that it is paired with, -1 for none
	used      []bool // by the event of got: it has a partner
}

// inGaps calls a function for each event in a gap that has no partner yet.
func (d *pcrDiff) inGaps(ofWant, ofGot func(i int)) {
	for _, g := range d.gaps {
		for i := g.want; i < g.wantEnd; i++ {
			if d.partner[i] < 0 {
				ofWant(i)
			}
		}
		for j := g.got; j < g.gotEnd; j++ {
			if !d.used[j] {
				ofGot(j)
			}
		}
	}
}

func (d *pcrDiff) pair(i, j int) { d.partner[i], d.used[j] = j, true }

// pairEqual pairs the events in gaps that have the same key, in order. The empty key is none.
func pairEqual[K comparable](d *pcrDiff, keyOfWant, keyOfGot func(i int) K) {
	var none K
	places := make(map[K][]int)
	var wanted []int
	d.inGaps(func(i int) { wanted = append(wanted, i) }, func(j int) {
		if k := keyOfGot(j); k != none {
			places[k] = append(places[k], j)
		}
	})
	for _, i := range wanted {
		if k := keyOfWant(i); k != none && len(places[k]) > 0 {
			d.pair(i, places[k][0])
			places[k] = places[k][1:]
		}
	}
}

// moved pairs events with the same digests, which are in another order.
func (d *pcrDiff) moved() {
	pairEqual(d, func(i int) int { return d.ids.want[i-d.start] }, func(j int) int { return d.ids.got[j-d.start] })
}

// renumbered pairs boot options with the same contents and other numbers.
func (d *pcrDiff) renumbered() {
	key := func(e subjectEvent) string { // none of BootOrder and of variables that have no contents
		if e.subject.Kind != SubjectBootVariable {
			return ""
		}
		return string(bootOption(e.Event).Data)
	}
	named := make(map[string]map[string]bool) // the numbers of got's options, by contents
	for _, e := range d.got {
		if k := key(e); k != "" {
			if named[k] == nil {
				named[k] = make(map[string]bool)
			}
			named[k][e.subject.Name] = true
		}
	}
	pairEqual(d, func(i int) string {
		k := key(d.want[i])
		if named[k][d.want[i].subject.Name] { // the number has not changed: something else has
			return ""
		}
		return k
	}, func(j int) string { return key(d.got[j]) })
}

// pairUp makes changes of the events in a gap that one log has in place of the other's: in order,
// the next of the same type and subject. What is left is missing or extra.
func (d *pcrDiff) pairUp(g gap) {
	places := make(map[pairKey][]int)
	for j := g.got; j < g.gotEnd; j++ {
		if e := d.got[j]; !d.used[j] {
			k := pairKey{e.Type, e.subject.thing()}
			places[k] = append(places[k], j)
		}
	}
	next := g.got
	for i := g.want; i < g.wantEnd; i++ {
		if d.partner[i] >= 0 {
			continue
		}
		w, best := d.want[i], -1
		for _, s := range w.subject.things() {
			k := pairKey{w.Type, s}
			at, _ := slices.BinarySearch(places[k], next)
			places[k] = places[k][at:]
			if len(places[k]) > 0 && (best < 0 || places[k][0] < best) {
				best = places[k][0]
			}
		}
		if best >= 0 {
			d.pair(i, best)
			next = best + 1
		}
	}
}

// pairKey is what the events of a pair have in common.
type pairKey struct {
	typ   EventType
	thing Subject
}

// appendGap appends the differences of a gap: in the order of the expected events, then those that
// were not expected.
func (d *pcrDiff) appendGap(out []Difference, g gap) []Difference {
	for i := g.want; i < g.wantEnd; i++ {
		w := d.want[i]
		x := Difference{PCR: d.pcr, Want: w.Event, Subject: w.subject, repeated: w.repeated, wantPlace: i + 1}
		if j := d.partner[i]; j >= 0 {
			other := d.got[j]
			x.Got, x.gotPlace, x.repeated = other.Event, j+1, w.repeated || other.repeated
			if w.subject.Kind == SubjectProgram { // the log ends before it tells
				x.Subject = other.subject
			}
		}
		out = append(out, x)
	}
	for j := g.got; j < g.gotEnd; j++ {
		if e := d.got[j]; !d.used[j] {
			out = append(out, Difference{PCR: d.pcr, Got: e.Event, Subject: e.subject, repeated: e.repeated, gotPlace: j + 1})
		}
	}
	return out
}
