package upgrade

import (
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/partition"
)

// SlotState says what a slot holds.
type SlotState string

// The states of a slot.
const (
	SlotEmpty     SlotState = "empty"     // labelled "_empty"
	SlotPartial   SlotState = "partial"   // a write began and did not end
	SlotInstalled SlotState = "installed" // a whole set, verified when it was written
)

// Slot is one place for a root file system and its hash tree: the n-th root partition of the table together with the
// n-th root-verity partition of the same architecture.
type Slot struct {
	Index    int       `json:"index"`           // 0 is A
	State    SlotState `json:"state"`           //
	Label    string    `json:"label,omitempty"` // GPT name, "<id>_<version>" when installed
	RootHash []byte    `json:"-"`               // of an installed slot: both partition IDs, one behind the other

	root, tree         int            // indexes into Table.Partitions
	rootType, treeType partition.GUID // types when installed, also while partial
	rootSize, treeSize int64
}

// Name is "A", "B", "C" and so on.
func (s *Slot) Name() string { return string(rune('A' + s.Index)) }

// slotTypes are the pairs of types that make a slot (UAPI.2 Discoverable Partitions Specification).
var slotTypes = [][2]partition.GUID{
	{partition.RootX8664, partition.RootX8664Verity},
	{partition.RootARM64, partition.RootARM64Verity},
	{partition.UsrX8664, partition.UsrX8664Verity},
	{partition.UsrARM64, partition.UsrARM64Verity},
}

// ErrNoSlots is returned for a disk that holds no pair of root and root-verity partitions, or only one.
var ErrNoSlots = errors.New("no A/B slots")

// findSlots pairs the root and verity partitions of the table. A partition being written carries a type derived from
// its own (systemd-sysupdate's "partial" type), so that nothing mounts it; it still counts as a slot.
func findSlots(t *partition.Table) ([]*Slot, error) {
	var found []*Slot
	for _, types := range slotTypes {
		var roots, trees []int
		for i, p := range t.Partitions {
			switch p.Type {
			case types[0], partition.PartialType(types[0]):
				roots = append(roots, i)
			case types[1], partition.PartialType(types[1]):
				trees = append(trees, i)
			}
		}
		if len(roots) == 0 {
			continue
		}
		if len(found) > 0 {
			return nil, fmt.Errorf("upgrade: the table has root partitions of two kinds (%s and %s): name one disk per system",
				partition.TypeName(found[0].rootType), partition.TypeName(types[0]))
		}
		if len(roots) != len(trees) {
			return nil, fmt.Errorf("upgrade: %d partitions of type %s, but %d of type %s",
				len(roots), partition.TypeName(types[0]), len(trees), partition.TypeName(types[1]))
		}
		for n := range roots {
			found = append(found, newSlot(t, n, roots[n], trees[n], types))
		}
	}
	if len(found) < 2 {
		return nil, fmt.Errorf("upgrade: %w: the table has %d pairs of root and verity partitions, an upgrade needs two", ErrNoSlots, len(found))
	}
	return found, nil
}

func newSlot(t *partition.Table, index, root, tree int, types [2]partition.GUID) *Slot {
	r, v := t.Partitions[root], t.Partitions[tree]
	s := &Slot{Index: index, Label: r.Name, State: SlotInstalled, root: root, tree: tree, rootType: types[0], treeType: types[1]}
	_, s.rootSize = t.Extent(root)
	_, s.treeSize = t.Extent(tree)
	switch {
	case r.Type != types[0] || v.Type != types[1]:
		s.State = SlotPartial
	case r.Name == partition.EmptyName || v.Name == partition.EmptyName:
		s.State = SlotEmpty
	default:
		s.RootHash = slices.Concat(r.ID[:], v.ID[:])
	}
	return s
}
