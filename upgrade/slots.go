package upgrade

import (
	"fmt"

	"github.com/osmith-dev/osmith/partition"
)

// Slot is one place for a root file system and its hash tree: the n-th root partition of the table together with the
// n-th root-verity partition of the same architecture ([partition.FindSlots]).
type Slot struct {
	*partition.Slot
	RootHash []byte // of an installed slot: both partition IDs, one behind the other

	rootSize, treeSize int64
}

// findSlots is the A/B view of a table: two slots or more, each with a hash tree.
func findSlots(t *partition.Table) (*partition.Slots, []*Slot, error) {
	found, err := partition.FindSlots(t, partition.SlotOptions{})
	if err != nil {
		return nil, nil, err
	}
	if len(found.Slots) < 2 {
		return nil, nil, fmt.Errorf("upgrade: %w: the table has one, an upgrade needs another", partition.ErrNoSlots)
	}
	var slots []*Slot
	for _, s := range found.Slots {
		if s.Tree < 0 {
			return nil, nil, fmt.Errorf("upgrade: slot %s has no hash tree partition: its content could not be verified", s.Name())
		}
		if s.Signature >= 0 {
			return nil, nil, fmt.Errorf("upgrade: slot %s has a signature partition, which a release cannot fill yet", s.Name())
		}
		slot := &Slot{Slot: s, RootHash: found.RootHash(s)}
		_, slot.rootSize = t.Extent(s.Data)
		_, slot.treeSize = t.Extent(s.Tree)
		slots = append(slots, slot)
	}
	return found, slots, nil
}
