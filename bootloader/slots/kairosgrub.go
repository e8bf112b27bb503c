package slots

import (
	"fmt"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// The slots of KairosGRUB. Kairos calls the menu entry of the passive one "fallback".
const (
	KairosActive  = "active"
	KairosPassive = "passive"
)

// Variables of Kairos's boot assessment, by its cloud config 08_grub.yaml (kairos-init,
// Apache-2.0).
const (
	kairosEnabled   = "enable_boot_assessment"
	kairosAlways    = "enable_boot_assessment_always"
	kairosTentative = "boot_assessment_tentative"
	kairosSelected  = "selected_entry"
)

// KairosGRUB is the boot assessment of Kairos with GRUB: the environment block /boot_assessment of
// its state partition. An upgrade keeps the old image of the slot active as passive, writes the new
// image to active, and enables the assessment. GRUB then starts active once, with
// boot_assessment_tentative set to yes, and passive from the next start on, until a system that was
// started from active unsets both variables.
//
// Without assessment, GRUB always starts active: this store can only mark that slot, not passive.
// It does not show whether a person has selected an entry in GRUB's menu, or by next_entry and
// saved_entry in a different block.
type KairosGRUB struct{ env *GRUBEnvironment }

// NewKairosGRUB makes a store from the block /boot_assessment.
func NewKairosGRUB(env *GRUBEnvironment) *KairosGRUB { return &KairosGRUB{env} }

// Environment is the environment block with the state.
func (k *KairosGRUB) Environment() *GRUBEnvironment { return k.env }

// Properties are documented with [Reader].
func (k *KairosGRUB) Properties() Properties {
	return Properties{
		Name: "boot assessment of Kairos with GRUB", Evidence: EvidenceTool, MaxTries: 1,
		Counts: AnswerYes, FallsBack: AnswerYes, TellsGood: AnswerNo, TellsRunning: AnswerNo, KeepsValid: AnswerNo, Torn: AnswerNo,
	}
}

func (k *KairosGRUB) yes(name string) bool {
	text, _ := k.env.Get(name)
	return text == "yes"
}

func (k *KairosGRUB) assessed() bool { return k.yes(kairosEnabled) || k.yes(kairosAlways) }

// Slots are documented with [Reader].
func (k *KairosGRUB) Slots() []Slot {
	active := Slot{Name: KairosActive, Bootable: AnswerYes, Tries: -1, Priority: 2}
	if k.assessed() {
		active.Tries = 1
		if k.yes(kairosTentative) {
			active.Bootable, active.Good, active.Tries = AnswerNo, AnswerNo, 0
		}
	}
	return []Slot{active, {Name: KairosPassive, Bootable: AnswerYes, Tries: -1, Priority: 1}}
}

// Boot is documented with [Reader].
func (k *KairosGRUB) Boot() (Start, Reader) {
	if text, ok := k.env.Get(kairosSelected); ok && text != "" {
		return Start{Reason: fmt.Sprintf("%s is %q, which disables boot assessment", kairosSelected, text)}, nil
	}
	switch {
	case !k.assessed():
		return Start{Outcome: OutcomeSlot, Slot: KairosActive, Reason: "no assessment"}, k
	case k.yes(kairosTentative):
		return Start{Outcome: OutcomeSlot, Slot: KairosPassive, Reason: kairosTentative + " is yes"}, k
	}
	start := Start{Outcome: OutcomeSlot, Slot: KairosActive, Reason: "first start of the assessment"}
	env, _, _, err := k.env.Set(Variable{kairosTentative, "yes"})
	if err != nil {
		return start, nil // no room: whether save_env has saved anything is not known
	}
	return start, &KairosGRUB{env}
}

// Mark is documented with [Store]. AsBad and AsCancelled make GRUB start passive, as a failed
// assessment does.
func (k *KairosGRUB) Mark(m Mark) (change *Change, err error) {
	defer prefix.Add("slots", &err)
	if err := m.check(k); err != nil {
		return nil, err
	}
	if m.Slot != KairosActive {
		return nil, fmt.Errorf("slot %q: %w: Kairos swaps the images of its slots and always starts active", m.Slot, ErrMark)
	}
	if text, ok := k.env.Get(kairosSelected); ok && text != "" {
		return nil, fmt.Errorf("%w: %s is %q, which disables boot assessment: unset it", ErrMark, kairosSelected, text)
	}
	enabled, tentative := "yes", ""
	switch m.As {
	case AsGood:
		enabled = ""
	case AsCancelled, AsBad:
		tentative = "yes"
	}
	env, writes, needs, err := k.env.Set(Variable{kairosEnabled, enabled}, Variable{kairosTentative, tentative})
	if err != nil {
		return nil, prefix.Bare(err)
	}
	return m.done(&Change{Writes: writes, Needs: needs, After: &KairosGRUB{env}})
}
