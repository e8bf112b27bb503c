package slots

import (
	"errors"
	"fmt"
)

// A Reader says what the machine starts according to a store of slot state. All stores of this
// package are Readers; those that can be changed are [Store]s. A Reader is a value: its methods do
// not change it.
type Reader interface {
	// Properties say what this store can do, and how that is known.
	Properties() Properties

	// Slots are the slots of the store, in its own order.
	Slots() []Slot

	// Boot is one start of the machine: what firmware or the boot loader chooses, and the state of
	// the store while that runs, with one try less if tries are counted. After is nil if the start
	// is unknown, or if nothing was started. [Predict] continues from there.
	Boot() (start Start, after Reader)
}

// A Store is a Reader whose slots can be marked.
type Store interface {
	Reader

	// Mark computes the writes that mark a slot; it does not carry them out. It judges the result
	// by the boot rule of the store: if the machine would not return to the fallback or would not
	// start the marked slot first, the error is [ErrNoFallback] or [ErrNotChosen]; for a mark that
	// the store cannot express, it is [ErrMark].
	Mark(m Mark) (*Change, error)
}

// Answer is an answer to a question about a store. Its zero value is unknown.
type Answer uint8

// The answers.
const (
	AnswerUnknown Answer = iota
	AnswerYes
	AnswerNo
)

// String is "unknown", "yes" or "no".
func (a Answer) String() string { return name("Answer", int(a), 0, "unknown", "yes", "no") }

func answer(yes bool) Answer {
	if yes {
		return AnswerYes
	}
	return AnswerNo
}

// Evidence says how the rules of a store are known.
type Evidence uint8

// The kinds of evidence, the weakest first.
const (
	EvidenceNone Evidence = iota
	// format and boot rule are from published documents and sources, and were not tested with a
	// tool
	EvidenceSource
	// the usual tool of the store reads what this package writes, and this package reads what the
	// tool writes; the boot rule is from published documents and sources
	EvidenceTool
)

// String is "none", "source" or "tool".
func (e Evidence) String() string { return name("Evidence", int(e), 0, "none", "source", "tool") }

// Properties are the abilities of a store. A property that depends on something that the store does
// not show is [AnswerUnknown].
type Properties struct {
	Name     string // "gptprio of Flatcar"
	Evidence Evidence

	// MaxTries is the largest number of tries that a slot can have; 0: slots cannot be marked.
	MaxTries int

	// Counts: the program that starts a slot first subtracts a try, without help of the started
	// system.
	Counts Answer

	// FallsBack: when a slot has used up its tries, a different slot is started, without code of
	// either system.
	FallsBack Answer

	// TellsGood: a slot that was declared good can be told from one that is being tried.
	TellsGood Answer

	// TellsRunning: the store says which slot runs. If it does not, use the kernel command line of
	// the system.
	TellsRunning Answer

	// KeepsValid: a slot whose upgrade was cancelled can be told from an empty one.
	KeepsValid Answer

	// Torn: an interrupted write leaves the old or the new state, also if the medium has torn a
	// sector. If the answer is no, [Change].Needs says what the medium or the writer must
	// guarantee.
	Torn Answer
}

// Slot is the state of one slot in a store.
type Slot struct {
	Name     string // in the terms of the store: "3" for a partition, "Boot0001", "A"
	Bootable Answer // firmware or the loader may start it, if no other slot takes precedence
	Good     Answer // a system has declared it good
	Running  Answer
	Tries    int // tries left; -1: not counted, or unknown
	Priority int // higher ones are started first; -1: the store has no such number
}

// Outcome is the result of a start.
type Outcome uint8

// The outcomes.
const (
	// it depends on facts that the store does not show: [Start].Reason
	OutcomeUnknown Outcome = iota
	OutcomeSlot            // a slot is started
	OutcomeOther           // something other than a slot is started: [Start].Reason names it
	OutcomeNothing         // nothing can be started
)

// String is "unknown", "slot", "other" or "nothing".
func (o Outcome) String() string {
	return name("Outcome", int(o), 0, "unknown", "slot", "other", "nothing")
}

// Start is one start of the machine.
type Start struct {
	Outcome Outcome
	Slot    string // name of the slot for [OutcomeSlot], otherwise ""
	Reason  string // for a person
}

// As is what a slot is marked as.
type As uint8

// The marks, in the order of an upgrade. There is no default.
const (
	// AsTrying stages a slot: it is started first, Tries times; after that Fallback is started,
	// unless the slot was marked good.
	AsTrying As = iota + 1

	// AsGood commits a slot: it is started first from now on.
	AsGood

	// AsCancelled undoes AsTrying: Fallback is started first, and the slot not before it. If the
	// store records that the content of the slot is complete, that stays.
	AsCancelled

	// AsBad is AsCancelled for a slot whose content is not to be started again. Use it also before
	// a slot is written.
	AsBad
)

// String is "trying", "good", "cancelled" or "bad".
func (a As) String() string { return name("As", int(a), 1, "trying", "good", "cancelled", "bad") }

// Mark is a change of a slot's state.
type Mark struct {
	Slot string
	As   As

	Tries int // number of tries for AsTrying: from 1 to [Properties].MaxTries
	// the slot to return to, which the caller knows to be good, since it runs; required for all
	// marks except AsGood
	Fallback string
}

// Change is the set of writes for a mark.
type Change struct {
	// Writes must be made in their order, each followed by a flush. None: the store is already in
	// that state. After any number of them the machine starts the marked slot or the one to return
	// to.
	Writes []Write

	// Needs is what every single write must guarantee.
	Needs Needs

	// After is the store after all writes.
	After Store
}

// Write is one write of a change. Before and After are of the same length, unless the object is a
// variable.
type Write struct {
	// object that is written: "copy 2", "BootOrder", "attributes of partition 4", "environment
	// block"
	Object string
	// number of the object among those of its kind, from 1: of the copy, of the partition; 0 if
	// there is only one
	Number int
	Offset int64 // in bytes from the start of the object

	Before []byte // expected old content; nil: there is no such variable
	After  []byte // new content; nil: delete the variable
}

// Needs is what a write needs from the medium or the writer, so that a power cut leaves the
// old or the new state.
type Needs uint8

// The needs, the strongest first, so that a zero value asks for the most.
const (
	// NeedsWhole: the object changes as a whole or not at all. This holds for a new file that is
	// renamed over the old one on a journaling file system, for a variable of firmware, and for a
	// table that package partition writes.
	NeedsWhole Needs = iota

	// NeedsSector: a sector of 512 bytes is written as a whole or not at all.
	NeedsSector

	// NeedsNothing: a write may be interrupted anywhere.
	NeedsNothing
)

// String is "whole", "sector" or "nothing".
func (n Needs) String() string { return name("Needs", int(n), 0, "whole", "sector", "nothing") }

// Errors for callers to branch on.
var (
	ErrSlot       = errors.New("no such slot")
	ErrMark       = errors.New("this store cannot express the mark")
	ErrNoFallback = errors.New("the loader would not start the slot to return to")
	ErrNotChosen  = errors.New("the loader would not start the slot first")
	ErrChecksum   = errors.New("checksum mismatch")
	ErrNoSpace    = errors.New("no room for it")
)

// name is the text of a value of an enumeration, whose first one is first.
func name(kind string, i, first int, names ...string) string {
	if i < first || i-first >= len(names) {
		return fmt.Sprintf("%s(%d)", kind, i)
	}
	return names[i-first]
}

// slotNamed finds a slot.
func slotNamed(all []Slot, name string) (Slot, error) {
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return Slot{}, fmt.Errorf("slot %q: %w", name, ErrSlot)
}

// check refuses a mark that makes no sense for a store, whatever is in it.
func (m Mark) check(s Store) error {
	all, p := s.Slots(), s.Properties()
	if _, err := slotNamed(all, m.Slot); err != nil {
		return err
	}
	switch m.As {
	case AsTrying:
		if m.Tries < 1 || m.Tries > p.MaxTries {
			return fmt.Errorf("%w: %d tries, want 1 to %d in %s", ErrMark, m.Tries, p.MaxTries, p.Name)
		}
	case AsGood:
		return nil
	case AsCancelled, AsBad:
	default:
		return fmt.Errorf("%w: mark %v: want trying, good, cancelled or bad", ErrMark, m.As)
	}
	if m.Fallback == m.Slot {
		return fmt.Errorf("slot %q: %w: a slot cannot return to itself", m.Slot, ErrNoFallback)
	}
	fallback, err := slotNamed(all, m.Fallback)
	if err == nil && p.TellsGood == AnswerYes && fallback.Good != AnswerYes {
		err = fmt.Errorf("slot %q: %w: the store does not record it as good; mark it good if it is running", m.Fallback, ErrNoFallback)
	}
	return err
}

// judge checks the outcome of a mark against its purpose.
func (m Mark) judge(after Reader) error {
	first := func(reader Reader) (Start, Reader) {
		if reader == nil {
			return Start{Reason: "not known"}, nil
		}
		return reader.Boot()
	}
	start, next := first(after)
	if m.As == AsTrying || m.As == AsGood {
		if start.Outcome != OutcomeSlot || start.Slot != m.Slot {
			return fmt.Errorf("slot %q: %w, but %v", m.Slot, ErrNotChosen, start)
		}
	}
	if m.As == AsGood {
		return nil
	}
	if m.As == AsTrying {
		for range m.Tries - 1 {
			if start, next = first(next); start.Slot != m.Slot {
				return fmt.Errorf("slot %q: %w as often as asked for: %v comes too early", m.Slot, ErrNotChosen, start)
			}
		}
		start, _ = first(next)
	}
	if start.Outcome != OutcomeSlot || start.Slot != m.Fallback {
		return fmt.Errorf("slot %q: %w, but %v", m.Fallback, ErrNoFallback, start)
	}
	return nil
}

// done judges a change that is complete.
func (m Mark) done(c *Change) (*Change, error) {
	if err := m.judge(c.After); err != nil {
		return nil, err
	}
	return c, nil
}

// String is such as `slot "A"` or `nothing (all slots are bad)`.
func (s Start) String() string {
	text := s.Outcome.String()
	if s.Outcome == OutcomeSlot {
		text = fmt.Sprintf("slot %q", s.Slot)
	}
	if s.Reason != "" {
		text += " (" + s.Reason + ")"
	}
	return text
}
