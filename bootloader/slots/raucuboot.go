package slots

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// RAUCOptions describe the boot script of a system, which the store does not show.
type RAUCOptions struct {
	// Script says whether the script follows the rule of RAUC's documentation: it counts a try
	// before it starts a slot, and goes on to the next slot by itself. If Script is unknown, so are
	// the [Properties] that depend on it, and the predicted starts assume that the script follows
	// the rule.
	Script Answer

	// Attempts is how many starts a good slot has left; 0: 3, which is RAUC's own default
	// (boot-attempts). Of U-Boot only.
	Attempts int
}

// RAUCUBoot keeps the state of slots in U-Boot's environment as RAUC does with bootloader=uboot
// (RAUC's documentation, "Integration", section U-Boot): BOOT_ORDER are the names of the slots,
// separated by spaces, BOOT_A_LEFT the starts that slot A has left. The boot script starts the
// first slot of BOOT_ORDER that has starts left, and subtracts one before. Starts of a good slot
// are counted too: the system that it starts must mark it good at each boot. If no slot has starts
// left, the script gives three to each slot and begins again.
type RAUCUBoot struct {
	env   *UBootEnvironment
	slots []string
	o     RAUCOptions
}

// maxLeft is the largest number that U-Boot's test, which reads decimals, and setexpr, which reads
// hexadecimals, agree on.
const maxLeft = 9

// NewRAUCUBoot makes a store from an environment and the boot names of the slots ("A" and "B";
// bootname= in RAUC's system.conf).
func NewRAUCUBoot(env *UBootEnvironment, slots []string, o RAUCOptions) (r *RAUCUBoot, err error) {
	defer prefix.Add("slots", &err)
	if err := checkBootNames(slots); err != nil {
		return nil, err
	}
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	if o.Attempts < 1 || o.Attempts > maxLeft {
		return nil, fmt.Errorf("%d attempts, want 1 to %d", o.Attempts, maxLeft)
	}
	return &RAUCUBoot{env, slices.Clone(slots), o}, nil
}

// checkBootNames takes what a name in BOOT_ORDER and of a variable can be.
func checkBootNames(slots []string) error {
	for i, s := range slots {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`=#\"'$`, r) }) {
			return fmt.Errorf("boot name %q: want letters and digits", s)
		}
		if slices.Contains(slots[:i], s) {
			return fmt.Errorf("boot name %q is listed twice", s)
		}
	}
	if len(slots) < 2 {
		return fmt.Errorf("%d boot names, want at least two: %w", len(slots), ErrSlot)
	}
	return nil
}

// Environment is the environment of U-Boot with the state.
func (r *RAUCUBoot) Environment() *UBootEnvironment { return r.env }

// Properties are documented with [Reader].
func (r *RAUCUBoot) Properties() Properties {
	evidence := EvidenceTool
	if r.env.o.Scheme == UBootActive {
		evidence = EvidenceSource // fw_printenv reads it; that fw_setenv writes it so was not seen
	}
	return Properties{
		Name: "RAUC with U-Boot, " + r.env.o.Scheme.String(), Evidence: evidence, MaxTries: maxLeft,
		Counts: r.o.Script, FallsBack: r.o.Script, TellsGood: AnswerNo, TellsRunning: AnswerNo, KeepsValid: AnswerNo,
		Torn: answer(r.env.o.Scheme != UBootSingle),
	}
}

func leftName(slot string) string { return "BOOT_" + slot + "_LEFT" }

// order is BOOT_ORDER, or why it is unknown.
func (r *RAUCUBoot) order() (order []string, unknown string) {
	text, ok := r.env.Get("BOOT_ORDER")
	return splitOrder("BOOT_ORDER", text, ok)
}

// splitOrder takes a variable with the names of slots apart. If there is none each script has its
// own default. Of what is neither a space nor printable, U-Boot separates names at line feeds, GRUB
// at tabs too, and RAUC at none.
func splitOrder(variable, text string, ok bool) (order []string, unknown string) {
	switch {
	case !ok:
		return nil, variable + " is not set, and the script's default order is unknown"
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }):
		return nil, fmt.Sprintf("%s is %q: scripts and RAUC separate its names differently", variable, text)
	}
	return strings.Fields(text), ""
}

// left is -1 for what is not a number of one digit.
func (r *RAUCUBoot) left(slot string) int {
	text, ok := r.env.Get(leftName(slot))
	if n, err := strconv.Atoi(text); ok && err == nil && len(text) == 1 {
		return n
	}
	return -1
}

// others are the slots of the order without one of them; without an order, those that were named.
func others(r interface{ order() ([]string, string) }, slots []string, slot string) []string {
	order, unknown := r.order()
	if unknown != "" {
		order = slices.Clone(slots)
	}
	return slices.DeleteFunc(order, func(s string) bool { return s == slot })
}

// Slots are documented with [Reader].
func (r *RAUCUBoot) Slots() (all []Slot) {
	order, unknown := r.order()
	known := unknown == ""
	for _, name := range r.slots {
		s := Slot{Name: name, Tries: r.left(name), Priority: -1}
		i := slices.Index(order, name)
		switch {
		case known && i < 0, s.Tries == 0:
			s.Bootable, s.Good = AnswerNo, AnswerNo
		case known && s.Tries > 0:
			s.Bootable = AnswerYes
		}
		if i >= 0 {
			s.Priority = len(order) - i
		}
		all = append(all, s)
	}
	return all
}

// Boot is documented with [Reader].
func (r *RAUCUBoot) Boot() (Start, Reader) {
	order, unknown := r.order()
	if unknown != "" {
		return Start{Reason: unknown}, nil
	}
	if len(order) == 0 {
		return Start{Outcome: OutcomeNothing, Reason: "BOOT_ORDER is empty"}, nil
	}
	for again := range 2 {
		for _, name := range order {
			n := r.left(name)
			switch {
			case !slices.Contains(r.slots, name):
				return Start{Reason: fmt.Sprintf("BOOT_ORDER has %q, which is not one of the given slots", name)}, nil
			case n < 0:
				return Start{Reason: leftName(name) + " is missing, or not a number of one digit"}, nil
			case n > 0:
				start := Start{Outcome: OutcomeSlot, Slot: name, Reason: fmt.Sprintf("%s is %d", leftName(name), n)}
				if again > 0 {
					start.Reason = "no slot had attempts left, so the script gave each slot three"
				}
				after, err := r.with(Variable{leftName(name), strconv.Itoa(n - 1)})
				if err != nil {
					return start, nil
				}
				return start, after
			}
		}
		var all []Variable
		for _, name := range r.slots {
			all = append(all, Variable{leftName(name), "3"})
		}
		after, err := r.with(all...)
		if err != nil {
			break // saveenv fails: one script starts a slot nevertheless, another begins again for ever
		}
		r = after
	}
	return Start{Reason: "no slot has attempts left, and the environment has no room for new ones"}, nil
}

// with is the store with other variables.
func (r *RAUCUBoot) with(variables ...Variable) (*RAUCUBoot, error) {
	env, _, _, err := r.env.Set(variables...)
	if err != nil {
		return nil, err
	}
	return &RAUCUBoot{env, r.slots, r.o}, nil
}

// Mark is documented with [Store]. All variables of a mark are in one write of the environment.
//
// AsGood is `rauc status mark-good` and mark-active together. AsBad is mark-bad: the slot has no
// starts left and is removed from BOOT_ORDER, so that the script does not give it new ones.
func (r *RAUCUBoot) Mark(m Mark) (change *Change, err error) {
	defer prefix.Add("slots", &err)
	if err := m.check(r); err != nil {
		return nil, err
	}
	order := others(r, r.slots, m.Slot)
	left := 0
	switch m.As {
	case AsTrying:
		left = m.Tries
	case AsGood:
		left = r.o.Attempts
	}
	if left > 0 {
		order = slices.Insert(order, 0, m.Slot)
	}
	env, writes, needs, err := r.env.Set(Variable{"BOOT_ORDER", strings.Join(order, " ")}, Variable{leftName(m.Slot), strconv.Itoa(left)})
	if err != nil {
		return nil, prefix.Bare(err)
	}
	return m.done(&Change{Writes: writes, Needs: needs, After: &RAUCUBoot{env, r.slots, r.o}})
}
