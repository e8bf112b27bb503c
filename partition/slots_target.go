package partition

import (
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// TargetOptions say what a new version needs and what must stay.
type TargetOptions struct {
	Running []byte   // root hash of the running version: its slot is never chosen
	Protect []string // versions whose slots are never chosen

	DataSize, TreeSize, SignatureSize int64 // bytes that must fit

	// InstancesMax is how many versions there may be at once, the new one included: 0, or more than there are slots: as
	// many as slots.
	InstancesMax int
	// Compare orders versions, for example bootloader.CompareVersions. It is asked when more than one slot could be given
	// up; nil is then an error.
	Compare func(a, b string) int
}

// Target is where a new version goes.
type Target struct {
	Slot   *Slot
	Vacate []*Slot // slots that are given up for it, oldest version first; Slot may be one of them
}

// ErrNoTarget: every slot that would fit is protected.
var ErrNoTarget = errors.New("partition: no slot may be overwritten")

// Target chooses the slot for a new version by the rules of systemd-sysupdate: there must be two slots; while there are
// InstancesMax versions or none of the slots is free, the oldest unprotected version is given up; the smallest free slot
// that fits is taken. A slot whose write did not end counts as free; one whose label does not match is left alone. A slot
// that is too small is a [*SpaceError].
func (s *Slots) Target(o TargetOptions) (*Target, error) {
	if len(s.Slots) < 2 {
		return nil, fmt.Errorf("%w: %d slot, an update needs two", ErrNoSlots, len(s.Slots))
	}
	running := s.Running(o.Running)
	if len(o.Running) > 0 && running == nil {
		return nil, fmt.Errorf("%w: the running version is in none of the %d slots of this disk", ErrNoTarget, len(s.Slots))
	}
	var free, old []*Slot
	kept := 0
	for _, slot := range s.Slots {
		switch {
		case slot.State == SlotEmpty || slot.State == SlotPartial && slot != running:
			free = append(free, slot)
		case slot == running || slices.Contains(o.Protect, slot.Version):
			kept++
		case slot.Version != "":
			old = append(old, slot)
		}
	}
	if len(old) > 1 {
		if o.Compare == nil {
			return nil, errors.New("partition: several versions could be given up: TargetOptions.Compare must say which is older")
		}
		slices.SortStableFunc(old, func(a, b *Slot) int { return o.Compare(a.Version, b.Version) })
	}
	limit := len(s.Slots)
	if o.InstancesMax > 0 {
		limit = min(limit, max(o.InstancesMax, 2))
	}
	target := &Target{}
	for len(old) > 0 && (kept+len(old) >= limit || s.smallest(free, o) == nil) {
		target.Vacate = append(target.Vacate, old[0])
		free, old = append(free, old[0]), old[1:]
	}
	if len(free) == 0 {
		return nil, fmt.Errorf("%w: %d of %d are protected", ErrNoTarget, kept, len(s.Slots))
	}
	if target.Slot = s.smallest(free, o); target.Slot == nil {
		return nil, s.tooSmall(free, o)
	}
	// What was given up in vain, because it was too small, stays; the limit on versions does not.
	if extra := limit - 1 - kept - len(old); extra > 0 {
		target.Vacate = slices.DeleteFunc(target.Vacate, func(slot *Slot) bool {
			if slot == target.Slot || extra == 0 {
				return false
			}
			extra--
			return true
		})
	}
	return target, nil
}

// sizes pairs what slot has with what is needed.
func (s *Slots) sizes(slot *Slot, o TargetOptions) (indexes []int, have, need []int64) {
	for k, i := range []int{slot.Data, slot.Tree, slot.Signature} {
		n := []int64{o.DataSize, o.TreeSize, o.SignatureSize}[k]
		if i < 0 && n == 0 {
			continue
		}
		size := int64(0)
		if i >= 0 {
			_, size = s.Table.Extent(i)
		}
		indexes, have, need = append(indexes, i), append(have, size), append(need, n)
	}
	return indexes, have, need
}

func (s *Slots) smallest(slots []*Slot, o TargetOptions) *Slot {
	var best *Slot
	size := func(slot *Slot) int64 { _, n := s.Table.Extent(slot.Data); return n }
	for _, slot := range slots {
		_, have, need := s.sizes(slot, o)
		fits := true
		for k := range need {
			fits = fits && need[k] <= have[k]
		}
		if !fits {
			continue
		}
		if best == nil || size(slot) < size(best) {
			best = slot
		}
	}
	return best
}

// tooSmall says what the largest of the slots lacks.
func (s *Slots) tooSmall(slots []*Slot, o TargetOptions) error {
	var worst *SpaceError
	for _, slot := range slots {
		var lacks *SpaceError
		indexes, have, need := s.sizes(slot, o)
		for k := range indexes {
			if need[k] > have[k] && (lacks == nil || need[k]-have[k] > lacks.Missing()) {
				name := "slot " + slot.Name()
				if i := indexes[k]; i >= 0 {
					name += fmt.Sprintf(", partition %d", s.Table.Partitions[i].Number)
				}
				lacks = &SpaceError{Need: need[k], Have: have[k], Partition: name}
			}
		}
		if lacks != nil && (worst == nil || lacks.Missing() < worst.Missing()) {
			worst = lacks
		}
	}
	return worst
}

// Begin marks a slot as being written: its types become [PartialType], so that nothing uses half of it. The label is set
// to that of the new version. Write the table before the first byte goes into the slot.
func (s *Slots) Begin(slot *Slot, label string) error {
	return s.mark(slot, label, PartialType)
}

// Pend marks a slot as complete but not yet to be used ([PendingType]).
func (s *Slots) Pend(slot *Slot, label string, rootHash []byte) error {
	return s.finish(slot, label, rootHash, PendingType)
}

// Install marks a slot as complete, under a label, with the IDs that the root hash gives ([VerityIDs]; without a hash
// tree rootHash is nil and the IDs stay). Write the table when the content of the slot has reached the disk.
func (s *Slots) Install(slot *Slot, label string, rootHash []byte) error {
	return s.finish(slot, label, rootHash, func(t osmith.GUID) osmith.GUID { return t })
}

// Vacate marks a slot as empty. Its content and IDs stay as they are.
func (s *Slots) Vacate(slot *Slot) {
	indexes, types := slot.parts()
	for k, i := range indexes {
		s.Table.Partitions[i].Type, s.Table.Partitions[i].Name = types[k], EmptyName
	}
	s.refresh(slot)
}

func (s *Slots) mark(slot *Slot, label string, state func(osmith.GUID) osmith.GUID) error {
	switch n := efi.UTF16Len(label); {
	case label == "" || label == EmptyName:
		return fmt.Errorf("partition: slot %s: %q is no label for a version", slot.Name(), label)
	case n > MaxName:
		return fmt.Errorf("partition: slot %s: the label has %d UTF-16 units, at most %d fit", slot.Name(), n, MaxName)
	case s.version(label) == "":
		return fmt.Errorf("partition: slot %s: the label %q does not match %q", slot.Name(), label, s.match)
	}
	indexes, types := slot.parts()
	for k, i := range indexes {
		s.Table.Partitions[i].Type, s.Table.Partitions[i].Name = state(types[k]), label
	}
	s.refresh(slot)
	return nil
}

func (s *Slots) finish(slot *Slot, label string, rootHash []byte, state func(osmith.GUID) osmith.GUID) error {
	if slot.Tree < 0 {
		if len(rootHash) > 0 {
			return fmt.Errorf("partition: slot %s has no hash tree: %w", slot.Name(), ErrRootHash)
		}
		return s.mark(slot, label, state)
	}
	data, tree, err := VerityIDs(rootHash)
	if err != nil {
		return err
	}
	for n, id := range []osmith.GUID{data, tree} {
		i := []int{slot.Data, slot.Tree}[n]
		if k := s.Table.Find(id); k >= 0 && k != i {
			p := s.Table.Partitions[i]
			return &EntryError{Number: p.Number, Name: p.Name, Err: fmt.Errorf("%w, number %d: %s", ErrDuplicateID, s.Table.Partitions[k].Number, id)}
		}
	}
	if err := s.mark(slot, label, state); err != nil {
		return err
	}
	s.Table.Partitions[slot.Data].ID, s.Table.Partitions[slot.Tree].ID = data, tree
	return nil
}
