package tpm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Comparison is how a boot compares with what was expected, and how far it could be compared.
type Comparison struct {
	Differences []Difference // as [Diff] returns them
	PCRs        []int        // that were compared, ascending
	NotCompared []Uncompared // what at least one log does not claim to hold, in the order of PCRs
}

// Uncompared is a part of two logs that was not compared, because one of the logs does not claim to
// hold it.
type Uncompared struct {
	PCR       int
	Userspace bool   // only what userspace measured; the firmware's part was compared
	Reason    string // which log does not claim it, and why
	Want, Got int    // number of events of this part that the logs nevertheless hold
}

// String is a line for people: "PCR 10: the kernel's IMA".
func (u Uncompared) String() string {
	part := ""
	if u.Userspace {
		part = " of userspace"
	}
	s := fmt.Sprintf("PCR %d%s: %s", u.PCR, part, u.Reason)
	if u.Want+u.Got > 0 {
		s += fmt.Sprintf(" (events in the expected log: %d, in the boot's: %d)", u.Want, u.Got)
	}
	return s
}

// Compare compares a boot with what was expected, as [Diff] does, and says what was not compared.
// Compared is what both logs claim:
//
//   - the log of a machine's firmware claims, for every PCR but 10, all events up to
//     ExitBootServices; later events are claimed only after [Log.WithUserspace]. If a machine's log
//     nevertheless has events of PCR 10, they are compared with those of another machine's log;
//   - a predicted log claims, for each PCR to which its Coverage gives one value, all events up to
//     the moment that was asked for, also where it predicts that the PCR stays zero. For a PCR that
//     has one value only up to the start of userspace, the log claims that part.
//
// PCRs 16 to 23 that are not claimed and that no log extends are not mentioned. Logs without a
// common bank are an [ErrBank], logs of PCRs and of RTMRs an [ErrRegisters].
func Compare(want, got *Log) (_ *Comparison, err error) {
	defer prefix.Add(pkg, &err)
	if want.Registers != got.Registers {
		return nil, fmt.Errorf("comparing event logs: the expected log is of %v, the boot's of %v: %w", want.Registers, got.Registers, ErrRegisters)
	}
	if w, g, ok := commonBank(want, got); !ok {
		return nil, fmt.Errorf("comparing event logs: no common bank: the expected log has %s, the boot's has %s: %w", bankNames(w), bankNames(g), ErrBank)
	}
	return compare(want, got), nil
}

// Causes are the differences that do not follow from other differences: see [Causes].
func (c *Comparison) Causes() []Difference { return Causes(c.Differences) }

func compare(want, got *Log) *Comparison {
	c := &Comparison{}
	wanted, found := want.byPCR(), got.byPCR()
	userspace := want.claimsUserspace() && got.claimsUserspace()
	for pcr := range PCRCount {
		if !want.Registers.extended(pcr) {
			continue
		}
		w, g := wanted[pcr], found[pcr]
		reason := notClaimed(want, got, pcr, len(w)+len(g) > 0)
		if reason != "" && !(want.claimsBeforeUserspace(pcr) && got.claimsBeforeUserspace(pcr)) {
			if pcr < 16 || len(w)+len(g) > 0 {
				c.NotCompared = append(c.NotCompared, Uncompared{PCR: pcr, Reason: reason, Want: len(w), Got: len(g)})
			}
			continue
		}
		if !userspace || reason != "" {
			later := Uncompared{PCR: pcr, Userspace: true, Reason: cmp.Or(reason, "its log is not given")}
			w, later.Want = withoutUserspace(w)
			g, later.Got = withoutUserspace(g)
			if later.Want+later.Got > 0 || reason != "" {
				c.NotCompared = append(c.NotCompared, later)
			}
		}
		c.PCRs = append(c.PCRs, pcr)
		c.Differences = append(c.Differences, diffPCR(pcr, w, g)...)
	}
	noteUKI(c.Differences, wanted, found)
	return c
}

// notClaimed says why a PCR cannot be compared, "" if it can.
func notClaimed(want, got *Log, pcr int, events bool) string {
	if want.Coverage == nil && got.Coverage == nil {
		// Only the firmware's own events stand in such logs: one in PCR 10 is not the kernel's.
		if want.Registers == RegistersPCR && pcr == PCRIMA && !events {
			return noteIMA
		}
		return ""
	}
	for _, l := range []*Log{want, got} {
		if reason := l.notClaimed(pcr); reason != "" {
			return reason
		}
	}
	return ""
}

const noteIMA = "the kernel's IMA"

// notClaimed says why the log does not claim to hold all events of a PCR, "" if it does.
func (l *Log) notClaimed(pcr int) string {
	if l.Coverage == nil {
		if pcr == PCRIMA {
			return noteIMA
		}
		return ""
	}
	i := slices.IndexFunc(l.Coverage, func(c Coverage) bool { return c.PCR == pcr })
	switch {
	case i < 0:
		return PredictionNone.String()
	case l.Coverage[i].Prediction.known():
		return ""
	}
	return fmt.Sprintf("%v: %s", l.Coverage[i].Prediction, l.Coverage[i].Note)
}

// claimsBeforeUserspace reports whether the log claims what was measured into a PCR before
// userspace began.
func (l *Log) claimsBeforeUserspace(pcr int) bool {
	return l.notClaimed(pcr) == "" || slices.ContainsFunc(l.Coverage, func(c Coverage) bool { return c.PCR == pcr && c.BeforeUserspace.known() })
}

// claimsUserspace reports whether the log claims to hold what userspace measured, up to its moment.
func (l *Log) claimsUserspace() bool { return l.Coverage != nil || l.hasUserspace }

// withoutUserspace are the events before those that userspace measured, and the number of the
// latter.
func withoutUserspace(es []subjectEvent) ([]subjectEvent, int) {
	i := slices.IndexFunc(es, func(e subjectEvent) bool { return e.userspace })
	if i < 0 {
		return es, 0
	}
	return es[:i], len(es) - i
}

// commonBank reports whether some event that extends a PCR has, in both logs, a digest of one
// algorithm, and which ones there are. A log that extends nothing compares with any.
func commonBank(want, got *Log) (w, g []uint16, ok bool) {
	w, wantExtends := want.algorithms()
	g, gotExtends := got.algorithms()
	return w, g, !wantExtends || !gotExtends || slices.ContainsFunc(w, func(id uint16) bool { return slices.Contains(g, id) })
}

// algorithms are those that some event which extends a PCR has a digest of, and whether there is
// such an event.
func (l *Log) algorithms() (ids []uint16, extends bool) {
	var events []subjectEvent
	for i := range l.Events {
		if e := &l.Events[i]; e.extends() {
			events = append(events, subjectEvent{Event: e})
		}
	}
	return algorithmsOf(events), len(events) > 0
}

func bankNames(ids []uint16) string {
	if len(ids) == 0 {
		return "none"
	}
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, Algorithm{ID: id}.String())
	}
	return strings.Join(names, ", ")
}
