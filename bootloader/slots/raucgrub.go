package slots

import (
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// RAUCGRUB keeps the state of slots in GRUB's environment block as RAUC does with bootloader=grub
// (RAUC's documentation, "Integration", section GRUB): ORDER are the names of the slots, separated
// by spaces, A_OK is 1 if slot A may be started, A_TRY is 1 if it was and has not been marked good
// since. The script in grub.cfg starts the first slot of ORDER with OK=1 and TRY=0, and sets TRY of
// each slot that it reaches. A good slot has only one try, too: the system that it starts must mark
// it good at each boot.
//
// If there is no such slot, the script starts the default entry of grub.cfg, which this package
// does not know. If that entry has the number of a slot, grub.cfg clears TRY of this slot at each
// start and never falls back from it: set RAUCOptions.Script to no for such a grub.cfg.
type RAUCGRUB struct {
	env   *GRUBEnvironment
	slots []string
	o     RAUCOptions
}

// NewRAUCGRUB makes a store from an environment block and the boot names of the slots ("A" and "B";
// bootname= in RAUC's system.conf).
func NewRAUCGRUB(env *GRUBEnvironment, slots []string, o RAUCOptions) (r *RAUCGRUB, err error) {
	defer prefix.Add("slots", &err)
	if err := checkBootNames(slots); err != nil {
		return nil, err
	}
	return &RAUCGRUB{env, slices.Clone(slots), o}, nil
}

// Environment is the environment block with the state.
func (r *RAUCGRUB) Environment() *GRUBEnvironment { return r.env }

// Properties are documented with [Reader].
func (r *RAUCGRUB) Properties() Properties {
	return Properties{
		Name: "RAUC with GRUB", Evidence: EvidenceTool, MaxTries: 1,
		Counts: r.o.Script, FallsBack: r.o.Script, TellsGood: AnswerNo, TellsRunning: AnswerNo, KeepsValid: AnswerNo, Torn: AnswerNo,
	}
}

// flag is 1 or 0; unknown for what is neither. A variable that is not there is 0, which is what
// RAUC's script sets first.
func (r *RAUCGRUB) flag(name string) Answer {
	switch text, ok := r.env.Get(name); {
	case !ok || text == "0":
		return AnswerNo
	case text == "1":
		return AnswerYes
	}
	return AnswerUnknown
}

func (r *RAUCGRUB) order() (order []string, unknown string) {
	text, ok := r.env.Get("ORDER")
	return splitOrder("ORDER", text, ok)
}

// Slots are documented with [Reader].
func (r *RAUCGRUB) Slots() (all []Slot) {
	order, unknown := r.order()
	known := unknown == ""
	for _, name := range r.slots {
		ok, try := r.flag(name+"_OK"), r.flag(name+"_TRY")
		s := Slot{Name: name, Tries: -1, Priority: -1}
		i := slices.Index(order, name)
		if i >= 0 {
			s.Priority = len(order) - i
		}
		switch {
		case ok == AnswerNo:
			s.Bootable, s.Good, s.Tries = AnswerNo, AnswerNo, 0
		case try == AnswerYes || known && i < 0:
			s.Bootable, s.Tries = AnswerNo, 0
		case known && ok == AnswerYes && try == AnswerNo:
			s.Bootable, s.Tries = AnswerYes, 1
		}
		all = append(all, s)
	}
	return all
}

// Boot is documented with [Reader].
func (r *RAUCGRUB) Boot() (Start, Reader) {
	order, unknown := r.order()
	if unknown != "" {
		return Start{Reason: unknown}, nil
	}
	var tried []Variable
	for _, name := range order {
		ok, try := r.flag(name+"_OK"), r.flag(name+"_TRY")
		switch {
		case !slices.Contains(r.slots, name):
			return Start{Reason: fmt.Sprintf("ORDER has %q, which is not one of the given slots", name)}, nil
		case ok == AnswerUnknown || try == AnswerUnknown:
			return Start{Reason: fmt.Sprintf("%s_OK or %s_TRY is neither 0 nor 1", name, name)}, nil
		}
		tried = append(tried, Variable{name + "_TRY", "1"})
		if ok == AnswerYes && try == AnswerNo {
			env, _, _, err := r.env.Set(tried...)
			start := Start{Outcome: OutcomeSlot, Slot: name, Reason: name + "_OK is 1 and " + name + "_TRY is 0"}
			if err != nil {
				// no room for a variable that is missing: save_env fails, and so what it saves is
				// not known
				return start, nil
			}
			return start, &RAUCGRUB{env, r.slots, r.o}
		}
	}
	return Start{Reason: "no slot has OK=1 and TRY=0: the script starts the default entry of grub.cfg"}, nil
}

// Mark is documented with [Store].
//
// AsGood is `rauc status mark-good` and mark-active together, AsBad is mark-bad.
func (r *RAUCGRUB) Mark(m Mark) (change *Change, err error) {
	defer prefix.Add("slots", &err)
	if err := m.check(r); err != nil {
		return nil, err
	}
	order := others(r, r.slots, m.Slot)
	ok := "0"
	if m.As == AsTrying || m.As == AsGood {
		ok = "1"
		order = slices.Insert(order, 0, m.Slot)
	} else {
		order = append(order, m.Slot)
	}
	env, writes, needs, err := r.env.Set(Variable{"ORDER", strings.Join(order, " ")}, Variable{m.Slot + "_OK", ok}, Variable{m.Slot + "_TRY", "0"})
	if err != nil {
		return nil, prefix.Bare(err)
	}
	return m.done(&Change{Writes: writes, Needs: needs, After: &RAUCGRUB{env, r.slots, r.o}})
}
