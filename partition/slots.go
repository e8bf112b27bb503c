package partition

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
)

// SlotState says what a slot holds.
type SlotState string

// The states of a slot.
const (
	SlotEmpty     SlotState = "empty"     // labelled "_empty"
	SlotPartial   SlotState = "partial"   // a write began and did not end (PartialType)
	SlotPending   SlotState = "pending"   // complete, but not yet to be used (PendingType)
	SlotInstalled SlotState = "installed" // complete
)

// Slot is one place for a version of the system: the n-th root or usr partition of a table, in entry order, with the
// n-th hash tree and the n-th signature partition of the same kind.
type Slot struct {
	Index   int       // 0 is A
	State   SlotState // that of the least complete partition
	Label   string    // GPT name of the data partition
	Version string    // from the label; "" if the slot is empty or its label does not match

	Data, Tree, Signature             int         // indexes in Table.Partitions; -1: the slot has none
	DataType, TreeType, SignatureType osmith.GUID // what the types are when the slot is installed
}

// Name is "A", "B", "C" and so on; behind "Z" the index.
func (s *Slot) Name() string {
	if s.Index > 'Z'-'A' {
		return fmt.Sprint(s.Index)
	}
	return string(rune('A' + s.Index))
}

// Slots is the A/B view of a table. The indexes hold as long as the table's Partitions are not reordered.
type Slots struct {
	Table *Table
	Slots []*Slot

	match string
}

// ErrNoSlots: a table has no root or usr partitions, or the wrong number of hash trees for them.
var ErrNoSlots = errors.New("partition: no A/B slots")

// SlotOptions are the options of [FindSlots].
type SlotOptions struct {
	// Type is the type of the data partitions, for example [UsrX8664]. Zero: the one root or usr type that the table
	// has, of those with a hash tree first; with several such types, an error.
	Type osmith.GUID
	// Match is the pattern of labels, as MatchPattern= of sysupdate.d has it: @v is the version, at least one character;
	// the rest is literal. "": the version is what follows the last "_", or all of a label that has none.
	Match string
}

// slotFamilies are the types that can make slots: data, hash tree, signature.
func slotFamilies() [][3]osmith.GUID {
	var out [][3]osmith.GUID
	for _, a := range archTypes {
		for _, kind := range []string{"root-", "usr-"} {
			var family [3]osmith.GUID
			for k, suffix := range []string{"", "-verity", "-verity-sig"} {
				family[k], _ = TypeByName(kind + a.arch + suffix)
			}
			out = append(out, family)
		}
	}
	return out
}

// FindSlots pairs the partitions of a table into slots. Either every data partition has a hash tree, or none; the same
// holds for signatures. Otherwise, and when there are no data partitions, the error matches [ErrNoSlots].
func FindSlots(t *Table, o SlotOptions) (*Slots, error) {
	if o.Match != "" && strings.Count(o.Match, "@v") != 1 {
		return nil, fmt.Errorf("partition: pattern %q of slots: want one @v", o.Match)
	}
	order := make([]int, len(t.Partitions))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return t.Partitions[a].Number - t.Partitions[b].Number })
	list := func(id osmith.GUID) []int {
		var out []int
		for _, i := range order {
			if p := t.Partitions[i]; p.Type == id || p.Type == PartialType(id) || p.Type == PendingType(id) {
				out = append(out, i)
			}
		}
		return out
	}
	type found struct {
		types             [3]osmith.GUID
		data, trees, sigs []int
	}
	var all []found
	for _, types := range slotFamilies() {
		if !o.Type.IsZero() && o.Type != types[0] {
			continue
		}
		if data := list(types[0]); len(data) > 0 {
			all = append(all, found{types, data, list(types[1]), list(types[2])})
		}
	}
	if o.Type.IsZero() && slices.ContainsFunc(all, func(f found) bool { return len(f.trees) > 0 }) {
		all = slices.DeleteFunc(all, func(f found) bool { return len(f.trees) == 0 })
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("%w: no root or usr partitions", ErrNoSlots)
	case len(all) > 1:
		return nil, fmt.Errorf("%w: partitions of the types %s and %s: one of them must be named", ErrNoSlots,
			TypeName(all[0].types[0]), TypeName(all[1].types[0]))
	}
	f := all[0]
	for k, others := range [][]int{f.trees, f.sigs} {
		if len(others) != 0 && len(others) != len(f.data) {
			return nil, fmt.Errorf("%w: %d partitions of type %s, but %d of type %s", ErrNoSlots, len(f.data), TypeName(f.types[0]),
				len(others), TypeName(f.types[k+1]))
		}
	}
	s := &Slots{Table: t, match: o.Match}
	for n, data := range f.data {
		slot := &Slot{Index: n, Data: data, Tree: -1, Signature: -1, DataType: f.types[0], TreeType: f.types[1], SignatureType: f.types[2]}
		if len(f.trees) > 0 {
			slot.Tree = f.trees[n]
		}
		if len(f.sigs) > 0 {
			slot.Signature = f.sigs[n]
		}
		s.Slots = append(s.Slots, slot)
		s.refresh(slot)
	}
	return s, nil
}

// parts are the indexes of the slot's partitions and their types.
func (s *Slot) parts() (indexes []int, types []osmith.GUID) {
	for k, i := range []int{s.Data, s.Tree, s.Signature} {
		if i >= 0 {
			indexes, types = append(indexes, i), append(types, []osmith.GUID{s.DataType, s.TreeType, s.SignatureType}[k])
		}
	}
	return indexes, types
}

// refresh reads state, label and version from the table.
func (s *Slots) refresh(slot *Slot) {
	indexes, types := slot.parts()
	slot.State = SlotInstalled
	for k, i := range indexes {
		p := s.Table.Partitions[i]
		switch {
		case p.Type == PartialType(types[k]):
			slot.State = SlotPartial
		case slot.State == SlotPartial:
		case p.Type == types[k] && p.Name == EmptyName:
			slot.State = SlotEmpty
		case slot.State == SlotEmpty:
		case p.Type == PendingType(types[k]):
			slot.State = SlotPending
		}
	}
	slot.Label = s.Table.Partitions[slot.Data].Name
	slot.Version = ""
	if slot.State != SlotEmpty {
		slot.Version = s.version(slot.Label)
	}
}

func (s *Slots) version(label string) string {
	if s.match == "" {
		return label[strings.LastIndex(label, "_")+1:]
	}
	before, after, _ := strings.Cut(s.match, "@v")
	if len(label) > len(before)+len(after) && strings.HasPrefix(label, before) && strings.HasSuffix(label, after) {
		return label[len(before) : len(label)-len(after)]
	}
	return ""
}

// RootHash is what the partition IDs of an installed or pending slot with a hash tree say ([VerityIDs]): 32 bytes, the
// whole of a SHA-256 root hash; of a longer hash the first and the last 16 bytes. Otherwise it is nil.
func (s *Slots) RootHash(slot *Slot) []byte {
	if slot.Tree < 0 || (slot.State != SlotInstalled && slot.State != SlotPending) {
		return nil
	}
	data, tree := s.Table.Partitions[slot.Data].ID, s.Table.Partitions[slot.Tree].ID
	return append(data[:], tree[:]...)
}

// Running is the slot that a root hash is that of, or nil: the roothash= or usrhash= of the running kernel's command
// line. Two slots may hold the same version; the first is taken, as by the kernel command line.
func (s *Slots) Running(rootHash []byte) *Slot {
	data, tree, err := VerityIDs(rootHash)
	if err != nil {
		return nil
	}
	want := append(data[:], tree[:]...)
	for _, slot := range s.Slots {
		if bytes.Equal(s.RootHash(slot), want) {
			return slot
		}
	}
	return nil
}
