package slots

import "reflect"

// Chain is the sequence of starts that follows if every started system fails before it marks a
// slot.
type Chain struct {
	Starts []Start

	// Loop is the index in Starts of the start that follows the last one, so that the chain repeats
	// from there for ever. -1: the chain ends with Starts, because the last start starts nothing,
	// is unknown, or is number [MaxStarts].
	Loop int
}

// MaxStarts is how many starts [Predict] follows.
const MaxStarts = 512

// Predict follows the boot rule of a store. The first start is the next one of the machine.
func Predict(r Reader) Chain {
	c := Chain{Loop: -1}
	var seen []Reader
	for r != nil && len(seen) < MaxStarts {
		for i, s := range seen {
			if reflect.DeepEqual(s, r) {
				c.Loop = i
				return c
			}
		}
		seen = append(seen, r)
		start, after := r.Boot()
		c.Starts = append(c.Starts, start)
		if start.Outcome != OutcomeSlot {
			return c
		}
		if after == nil {
			c.Starts = append(c.Starts, Start{Reason: "the store does not record how often a slot is tried"})
		}
		r = after
	}
	return c
}

// Reaches reports whether the chain starts a slot. It is [AnswerUnknown] if the chain ends in an
// unknown start before it reaches the slot.
func (c Chain) Reaches(slot string) Answer {
	for _, s := range c.Starts {
		if s.Outcome == OutcomeSlot && s.Slot == slot {
			return AnswerYes
		}
	}
	if last := len(c.Starts) - 1; c.Loop < 0 && (last < 0 || c.Starts[last].Outcome != OutcomeNothing) {
		return AnswerUnknown
	}
	return AnswerNo
}
