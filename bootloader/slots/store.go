package slots

import (
	"errors"
	"fmt"
)

// A Reader says what a store of slot state makes the machine start. All stores of this package are
// Readers; those that can be changed are [Store]s. A Reader is a value: none of its methods changes
// it.
type Reader interface {
	// Properties say what this store can do, and how that is known.
	Properties() Properties

	// Slots are the slots of the store, in its own order.
	Slots() []Slot

	// Boot is one start of the machine: what firmware or the boot loader chooses, and the store as
	// it is while that runs, with one try less where tries are counted. After is nil if it is not
	// known, or if nothing was started. [Predict] goes on from there.
	Boot() (start Start, after Reader)
}

// A Store is a Reader whose slots can be marked.
type Store interface {
	Reader

	// Mark works out the writes that mark a slot. Nothing is written. The result was judged by the
	// boot rule of the store: what does not start what it has to start afterwards is an error
	// ([ErrNoFallback], [ErrNotChosen]), and so is a mark that the store cannot express
	// ([ErrMark]).
	Mark(m Mark) (*Change, error)
}

// Answer is an answer to a question about a store. Its zero value is that it is not known.
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
	// format and boot rule are those of published documents and sources; no tool has judged them
	// here
	EvidenceSource
	// the usual tool of the store reads what is written here, and is read; the boot rule is that of
	// published documents and sources
	EvidenceTool
)

// String is "none", "source" or "tool".
func (e Evidence) String() string { return name("Evidence", int(e), 0, "none", "source", "tool") }

// Properties are what a store can do. What depends on something that the store does not show is
// [AnswerUnknown].
type Properties struct {
	Name     string // "gptprio of Flatcar"
	Evidence Evidence

	// MaxTries is the largest number of tries that a slot can have; 0: slots cannot be marked.
	MaxTries int

	// Counts: whatever starts a slot takes one of its tries first, without the system that is
	// started.
	Counts Answer

	// FallsBack: when a slot has used its tries up, another slot is started without code of either
	// system.
	FallsBack Answer

	// TellsGood: a slot that was declared good can be told from one that is being tried.
	TellsGood Answer

	// TellsRunning: the store says which slot runs. Where it does not, the kernel command line of
	// the system has to.
	TellsRunning Answer

	// KeepsValid: a slot whose upgrade was cancelled can be told from an empty one.
	KeepsValid Answer

	// Torn: a write that was cut off leaves the old or the new state, also if the medium has torn a
	// sector. Where the answer is no, [Change].Needs says what the medium, or the writer, has to
	// ensure.
	Torn Answer
}

// Slot is what a store says of one slot.
type Slot struct {
	Name     string // in the terms of the store: "3" for a partition, "Boot0001", "A"
	Bootable Answer // firmware or the loader starts it if no other comes before it
	Good     Answer // a system has declared it good
	Running  Answer
	Tries    int // that are left; -1: they are not counted, or not known
	Priority int // higher ones are started first; -1: the store has no such number
}

// Outcome is what comes of a start.
type Outcome uint8

// The outcomes.
const (
	OutcomeUnknown Outcome = iota // it depends on what the store does not say: [Start].Reason
	OutcomeSlot                   // a slot is started
	OutcomeOther                  // something other than a slot is started: [Start].Reason names it
	OutcomeNothing                // nothing can be started
)

// String is "unknown", "slot", "other" or "nothing".
func (o Outcome) String() string {
	return name("Outcome", int(o), 0, "unknown", "slot", "other", "nothing")
}

// Start is one start of the machine.
type Start struct {
	Outcome Outcome
	Slot    string // of [OutcomeSlot], otherwise ""
	Reason  string // for a person
}

// As is what a slot is marked as.
type As uint8

// The marks, in the order of an upgrade. There is no mark that is meant by default.
const (
	// AsTrying is what staging does: the slot is started first, Tries times, and after that
	// Fallback is, unless it was marked good.
	AsTrying As = iota + 1

	// AsGood is what a commit does: the slot is started first from now on.
	AsGood

	// AsCancelled takes AsTrying back: Fallback is started first, and the slot is not started
	// before it. Where a store can say that the content of the slot is whole, it goes on saying so.
	AsCancelled

	// AsBad is AsCancelled for a slot whose content is not to be started again. It is also what a
	// slot is marked as before it is written to.
	AsBad
)

// String is "trying", "good", "cancelled" or "bad".
func (a As) String() string { return name("As", int(a), 1, "trying", "good", "cancelled", "bad") }

// Mark is an order to a store.
type Mark struct {
	Slot string
	As   As

	Tries int // of AsTrying: from 1 to [Properties].MaxTries
	// the slot to return to, which the caller knows to be good, since it runs; needed for all marks
	// but AsGood
	Fallback string
}

// Change is what a mark asks to be written.
type Change struct {
	// Writes are to be made in their order, each with a flush behind it. None: the store has all
	// that already. After any number of them the machine starts the slot that is marked or the one
	// to return to.
	Writes []Write

	// Needs is what has to hold of every single write.
	Needs Needs

	// After is the store as it is when all is written.
	After Store
}

// Write is one write of a change. Before and After are of the same length, unless the object is a
// variable.
type Write struct {
	// what is written to: "copy 2", "BootOrder", "attributes of partition 4", "environment block"
	Object string
	// of the object among those of its kind, from 1: the copy, the partition; 0 if there is one of
	// it
	Number int
	Offset int64 // in bytes from the start of the object

	Before []byte // what has to be there; nil: there is no such variable
	After  []byte // nil: the variable is to be deleted
}

// Needs is what a write needs from the medium or the writer, so that a power cut leaves the
// old or the new state.
type Needs uint8

// The needs, the strongest first, so that a zero value asks for the most.
const (
	// NeedsWhole: the object changes as a whole or not at all. A file that is written beside and
	// renamed on a journaling file system does, a variable of firmware does, and so does a table
	// that package partition has written.
	NeedsWhole Needs = iota

	// NeedsSector: a sector of 512 bytes is written as a whole or not at all.
	NeedsSector

	// NeedsNothing: a write may be cut off anywhere.
	NeedsNothing
)

// String is "whole", "sector" or "nothing".
func (n Needs) String() string { return name("Needs", int(n), 0, "whole", "sector", "nothing") }

// What a caller may want to branch on.
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
