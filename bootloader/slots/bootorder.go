package slots

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// BootVariables are the variables of firmware that choose a boot option, as firmware has them,
// without attributes: numbers of two bytes, little-endian (UEFI Specification 2.10, section 3.3).
// Nil: there is no such variable.
type BootVariables struct {
	BootOrder   []byte
	BootNext    []byte
	BootCurrent []byte

	// Active says for a boot option whether its variable exists and is switched on. An option that
	// is missing from the map is unknown.
	Active map[uint16]bool
}

// BootOrder keeps the state of slots in UEFI's BootNext and BootOrder, as Azure Linux's Trident
// does: each slot has a boot option; the slot to try is in BootNext, which firmware deletes before
// it starts the option; and the good slot is the first in BootOrder. A slot is named by its option:
// "Boot0001".
//
// The [Write]s of a change are of whole variables, with the attributes non-volatile, boot service
// and runtime, and firmware has either the old or the new content. Firmware that loses or rewrites
// BootOrder may start any program: until the new slot is good, EFI/BOOT/BOOTX64.EFI must start the
// slot to return to.
type BootOrder struct {
	v     BootVariables
	slots []uint16
}

// maxBootOrder is the number of boot options that there can be.
const maxBootOrder = 1 << 16

// NewBootOrder makes a store from the variables and the numbers of the options that belong to
// slots.
func NewBootOrder(v BootVariables, slots ...uint16) (b *BootOrder, err error) {
	defer prefix.Add("slots", &err)
	bad := func(field string, err error) (*BootOrder, error) {
		return nil, &osmith.FormatError{Field: field, Err: err}
	}
	switch {
	case len(v.BootOrder)%2 != 0 || len(v.BootOrder) > 2*maxBootOrder:
		return bad("BootOrder", fmt.Errorf("%d bytes, want two per boot option", len(v.BootOrder)))
	case v.BootNext != nil && len(v.BootNext) != 2:
		return bad("BootNext", fmt.Errorf("%d bytes, want 2", len(v.BootNext)))
	case v.BootCurrent != nil && len(v.BootCurrent) != 2:
		return bad("BootCurrent", fmt.Errorf("%d bytes, want 2", len(v.BootCurrent)))
	}
	for i, n := range slots {
		if slices.Contains(slots[:i], n) {
			return nil, fmt.Errorf("boot option %s belongs to two slots: want one option per slot", optionName(n))
		}
	}
	if len(slots) == 0 {
		return nil, fmt.Errorf("no boot options of slots were given: %w", ErrSlot)
	}
	v.BootOrder, v.BootNext, v.BootCurrent = bytes.Clone(v.BootOrder), bytes.Clone(v.BootNext), bytes.Clone(v.BootCurrent)
	v.Active = maps.Clone(v.Active)
	return &BootOrder{v, slices.Clone(slots)}, nil
}

func optionName(n uint16) string { return fmt.Sprintf("Boot%04X", n) }

// Variables are the variables as they are in the store.
func (b *BootOrder) Variables() BootVariables {
	v := b.v
	v.BootOrder, v.BootNext, v.BootCurrent = bytes.Clone(v.BootOrder), bytes.Clone(v.BootNext), bytes.Clone(v.BootCurrent)
	v.Active = maps.Clone(v.Active)
	return v
}

// order is BootOrder as numbers.
func (b *BootOrder) order() (all []uint16) {
	for c := range slices.Chunk(b.v.BootOrder, 2) {
		all = append(all, binary.LittleEndian.Uint16(c))
	}
	return all
}

// Properties are documented with [Reader].
func (b *BootOrder) Properties() Properties {
	return Properties{
		Name: "BootNext and BootOrder of UEFI", Evidence: EvidenceTool, MaxTries: 1,
		Counts: AnswerYes, FallsBack: AnswerYes, TellsGood: AnswerNo, TellsRunning: answer(b.v.BootCurrent != nil),
		KeepsValid: AnswerNo, Torn: AnswerUnknown,
	}
}

// Slots are documented with [Reader].
func (b *BootOrder) Slots() (all []Slot) {
	order := b.order()
	for _, n := range b.slots {
		s := Slot{Name: optionName(n), Tries: -1, Priority: -1, Bootable: b.bootable(n)}
		if !slices.Contains(order, n) && !b.isNext(n) {
			s.Bootable = AnswerNo
		}
		if b.isNext(n) {
			s.Tries = 1
		}
		if i := slices.Index(order, n); i >= 0 {
			s.Priority = len(order) - i
		}
		if b.v.BootCurrent != nil {
			s.Running = answer(binary.LittleEndian.Uint16(b.v.BootCurrent) == n)
		}
		all = append(all, s)
	}
	return all
}

func (b *BootOrder) isNext(n uint16) bool {
	return b.v.BootNext != nil && binary.LittleEndian.Uint16(b.v.BootNext) == n
}

func (b *BootOrder) bootable(n uint16) Answer {
	active, known := b.v.Active[n]
	if !known {
		return AnswerUnknown
	}
	return answer(active)
}

// Boot is documented with [Reader]. An option of BootOrder that is missing or switched off is
// skipped. If a started system fails, firmware does not go on in BootOrder: it starts the same
// option again.
func (b *BootOrder) Boot() (Start, Reader) {
	after := b
	try := b.order()
	why := "first in BootOrder that is active"
	if b.v.BootNext != nil {
		n := binary.LittleEndian.Uint16(b.v.BootNext)
		if b.bootable(n) == AnswerNo {
			return Start{Reason: "BootNext is " + optionName(n) + ", which is missing or inactive: whether firmware starts that option or follows BootOrder is unknown"}, nil
		}
		after = b.with("BootNext", nil)
		try, why = []uint16{n}, "BootNext"
	}
	for _, n := range try {
		switch active := b.bootable(n); {
		case active == AnswerNo:
			continue
		case active == AnswerUnknown:
			return Start{Reason: optionName(n) + " is next, but whether it is active is unknown"}, nil
		case slices.Contains(b.slots, n):
			return Start{Outcome: OutcomeSlot, Slot: optionName(n), Reason: why}, after
		}
		return Start{Outcome: OutcomeOther, Reason: optionName(n) + " is next, but belongs to no slot"}, after
	}
	return Start{Reason: "no option of BootOrder is active: firmware looks for a program on removable media"}, nil
}

// with is the store with other content of a variable.
func (b *BootOrder) with(variable string, content []byte) *BootOrder {
	b = &BootOrder{b.v, b.slots}
	if variable == "BootNext" {
		b.v.BootNext = content
	} else {
		b.v.BootOrder = content
	}
	return b
}

// bootChange collects writes.
type bootChange struct {
	b      *BootOrder
	writes []Write
}

func (c *bootChange) set(variable string, before, after []byte) {
	if bytes.Equal(before, after) && (before == nil) == (after == nil) {
		return
	}
	c.b = c.b.with(variable, after)
	c.writes = append(c.writes, Write{Object: variable, Before: before, After: after})
}

// move gives an option its place in BootOrder by what it is marked as. All others stay in their
// order.
func (c *bootChange) move(n uint16, as As) error {
	was := c.b.order()
	order := slices.DeleteFunc(slices.Clone(was), func(o uint16) bool { return o == n })
	switch {
	case as == AsGood:
		order = slices.Insert(order, 0, n)
	case as == AsTrying || as == AsCancelled && slices.Contains(was, n):
		order = append(order, n)
	}
	if len(order) > maxBootOrder {
		return fmt.Errorf("BootOrder: %w: %d options", ErrNoSpace, len(order))
	}
	content := []byte{}
	for _, o := range order {
		content = binary.LittleEndian.AppendUint16(content, o)
	}
	c.set("BootOrder", c.b.v.BootOrder, content)
	return nil
}

// Mark is documented with [Store].
//
// A slot to be tried is moved to the end of BootOrder before BootNext is written, so that the slot
// to return to is started after the try. A bad slot is removed from BootOrder, and a cancelled slot
// is moved to its end. If BootNext names something other than a slot, a person or firmware's
// updater has set it: Mark returns an error and leaves BootNext as it is.
func (b *BootOrder) Mark(m Mark) (change *Change, err error) {
	defer prefix.Add("slots", &err)
	if err := m.check(b); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(b.slots, func(n uint16) bool { return optionName(n) == m.Slot })
	slot := b.slots[i]
	foreign := b.v.BootNext != nil && !slices.ContainsFunc(b.slots, b.isNext)
	if foreign {
		return nil, fmt.Errorf("%w: BootNext is %s, which belongs to no slot: reboot first, or delete BootNext", ErrMark,
			optionName(binary.LittleEndian.Uint16(b.v.BootNext)))
	}
	if b.bootable(slot) != AnswerYes && (m.As == AsTrying || m.As == AsGood) {
		return nil, fmt.Errorf("%w: boot option %s is missing, or whether it is active is unknown", ErrMark, m.Slot)
	}
	c := &bootChange{b: b}
	if m.As == AsTrying {
		if err := c.move(slot, m.As); err != nil {
			return nil, err
		}
		c.set("BootNext", b.v.BootNext, binary.LittleEndian.AppendUint16(nil, slot))
		return m.done(&Change{Writes: c.writes, After: c.b})
	}
	// BootNext goes first: if power fails between the two, a slot that is not wanted any more is
	// not started once more.
	c.set("BootNext", b.v.BootNext, nil)
	if err := c.move(slot, m.As); err != nil {
		return nil, err
	}
	return m.done(&Change{Writes: c.writes, After: c.b})
}
