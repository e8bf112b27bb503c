package partition

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
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

// Slot is one place for a version of the system: the n-th root or usr partition of a table, in
// entry order, with the n-th hash tree and the n-th signature partition of the same kind.
type Slot struct {
	Index   int       // 0 is A
	State   SlotState // state of the least complete partition
	Label   string    // GPT name of the data partition
	Version string    // from the label; "" if the slot is empty or its label does not match

	// indexes in Table.Partitions; -1: the slot has none
	Data, Tree, Signature int
	// types of the partitions once the slot is installed
	DataType, TreeType, SignatureType osmith.GUID
}

// Name is "A", "B", "C" and so on; after "Z" the index.
func (s *Slot) Name() string {
	if s.Index > 'Z'-'A' {
		return fmt.Sprint(s.Index)
	}
	return string(rune('A' + s.Index))
}

// Slots is the A/B view of a table. The indexes hold as long as the table's Partitions are not
// reordered.
type Slots struct {
	Table *Table
	Slots []*Slot

	match string
}

// ErrNoSlots: a table has no root or usr partitions, or the wrong number of hash trees for them.
var ErrNoSlots = errors.New("no A/B slots")

// SlotOptions are the options of [FindSlots].
type SlotOptions struct {
	// Type is the type of the data partitions, for example [UsrX8664]. Zero: the only root or usr
	// type of the table, preferring types with a hash tree; with several such types, an error.
	Type osmith.GUID
	// Match is the pattern of labels, as MatchPattern= of sysupdate.d has it: @v is the version, at
	// least one character; the rest is literal. "": the version is what follows the last "_", or
	// all of a label that has none.
	Match string
}

// FindSlots pairs the partitions of a table into slots. Either every data partition has a hash
// tree, or none; the same holds for signatures. Otherwise, and when there are no data partitions,
// the error matches [ErrNoSlots].
func FindSlots(t *Table, o SlotOptions) (s *Slots, err error) {
	defer prefix.Add("partition", &err)
	if o.Match != "" && strings.Count(o.Match, "@v") != 1 {
		return nil, fmt.Errorf("pattern %q of slots: want one @v", o.Match)
	}
	order := make([]int, len(t.Partitions))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return t.Partitions[a].Number - t.Partitions[b].Number })
	type found struct {
		types             [3]osmith.GUID // data, hash tree, signature
		data, trees, sigs []int
	}
	kinds := make([]found, slotKindCount)
	for _, i := range order {
		if p, ok := slotTypes()[t.Partitions[i].Type]; ok {
			f := &kinds[p.kind]
			f.types = p.types
			list := []*[]int{&f.data, &f.trees, &f.sigs}[p.part]
			*list = append(*list, i)
		}
	}
	var all []found
	for _, f := range kinds {
		if len(f.data) > 0 && (o.Type.IsZero() || o.Type == f.types[0]) {
			all = append(all, f)
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
	s = &Slots{Table: t, match: o.Match}
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

// slotType says what a partition of a slot is by its type.
type slotType struct {
	kind  int            // which of root and usr, of which architecture
	types [3]osmith.GUID // of the kind when it is installed: data, hash tree, signature
	part  int            // which of the three it is
	state SlotState      // SlotInstalled, SlotPartial or SlotPending
}

// slotKindCount is how many kinds there are: root and usr of every architecture.
var slotKindCount = 2 * len(arch.Table)

// slotTypes has the types of all partitions of slots. The derived ones are HMACs: made for every
// look at a table, they took longer than all the rest.
var slotTypes = sync.OnceValue(func() map[osmith.GUID]slotType {
	out := map[osmith.GUID]slotType{}
	for i := range arch.Table {
		for k, role := range []arch.Role{arch.Root, arch.Usr} {
			types := [3]osmith.GUID(arch.Table[i].Types[role:])
			if types[0].IsZero() {
				continue
			}
			for part, id := range types {
				if id.IsZero() {
					continue
				}
				s := slotType{kind: 2*i + k, types: types, part: part}
				for state, derived := range map[SlotState]osmith.GUID{SlotInstalled: id, SlotPartial: PartialType(id), SlotPending: PendingType(id)} {
					s.state = state
					out[derived] = s
				}
			}
		}
	}
	return out
})

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
		is := slotTypes()[p.Type]
		switch {
		case is.types[is.part] != types[k]: // another type, which says nothing
		case is.state == SlotPartial:
			slot.State = SlotPartial
		case slot.State == SlotPartial:
		case is.state == SlotInstalled && p.Name == EmptyName:
			slot.State = SlotEmpty
		case slot.State == SlotEmpty:
		case is.state == SlotPending:
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

// RootHash is the root hash in the partition IDs of an installed or pending slot with a hash tree
// ([VerityIDs]): 32 bytes, which is a whole SHA-256 root hash, or the first and the last 16 bytes
// of a longer hash. Otherwise it is nil.
func (s *Slots) RootHash(slot *Slot) []byte {
	if slot.Tree < 0 || (slot.State != SlotInstalled && slot.State != SlotPending) {
		return nil
	}
	data, tree := s.Table.Partitions[slot.Data].ID, s.Table.Partitions[slot.Tree].ID
	return append(data[:], tree[:]...)
}

// Running is the slot with the given root hash, or nil. The root hash is roothash= or usrhash= of
// the running kernel's command line. Two slots may hold the same version; the first is taken, as by
// the kernel command line.
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

// TargetOptions say what a new version needs and what must stay.
type TargetOptions struct {
	Running []byte   // root hash of the running version: its slot is never chosen
	Protect []string // versions whose slots are never chosen

	DataSize, TreeSize, SignatureSize int64 // bytes that must fit

	// InstancesMax is how many versions there may be at once, including the new one; 0, or more
	// than the number of slots, means the number of slots.
	InstancesMax int
	// Compare orders slots: negative if a is to be given up before b. It is required if there is a
	// choice of slots to give up; nil is then an error. By version, as systemd-sysupdate does it:
	//
	//	func(a, b *partition.Slot) int { return bootloader.CompareVersions(a.Version, b.Version) }
	Compare func(a, b *Slot) int
}

// Target is where a new version goes.
type Target struct {
	Slot *Slot
	// slots that are given up for the new version, in the order of Compare; Slot may be one of them
	Vacate []*Slot
}

// ErrNoTarget: every slot that would fit is protected.
var ErrNoTarget = errors.New("no slot may be overwritten")

// Target chooses the slot for a new version by the rules of systemd-sysupdate: there must be two
// slots; while there are InstancesMax versions or no free slot fits, the first unprotected one in
// the order of Compare is given up; the smallest free slot that fits is taken. A slot whose write
// did not finish counts as free; a slot whose label does not match the pattern of [SlotOptions] is
// never chosen. When all slots are too small, the error is a [*SpaceError].
func (s *Slots) Target(o TargetOptions) (target *Target, err error) {
	defer prefix.Add("partition", &err)
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
		case slot.Version != "" || s.match == "":
			old = append(old, slot)
		}
	}
	if len(old) > 1 {
		if o.Compare == nil {
			return nil, fmt.Errorf("slots %s and %s could both be overwritten: TargetOptions.Compare must say which comes first",
				old[0].Name(), old[1].Name())
		}
		slices.SortStableFunc(old, o.Compare)
	}
	limit := len(s.Slots)
	if o.InstancesMax > 0 {
		limit = min(limit, max(o.InstancesMax, 2))
	}
	target = &Target{}
	for len(old) > 0 && (kept+len(old) >= limit || s.smallest(free, o) == nil) {
		target.Vacate = append(target.Vacate, old[0])
		free, old = append(free, old[0]), old[1:]
	}
	if len(free) == 0 {
		return nil, fmt.Errorf("%w: %d of %d slots are protected", ErrNoTarget, kept, len(s.Slots))
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

// Labels are the GPT names of a slot's partitions. The zero value of Tree and Signature is Data
// followed by "_verity" or "_verity_sig", as in definitions of systemd-sysupdate ("%M_@v",
// "%M_@v_verity", "%M_@v_verity_sig"): with one label for all partitions, sysupdate takes every
// version for incomplete.
type Labels struct {
	Data, Tree, Signature string
}

// whole is the labels without the zero values.
func (l Labels) whole() Labels {
	return Labels{l.Data, cmp.Or(l.Tree, l.Data+"_verity"), cmp.Or(l.Signature, l.Data+"_verity_sig")}
}

// Labels are the present labels of a slot.
func (s *Slots) Labels(slot *Slot) (l Labels) {
	for k, i := range []int{slot.Data, slot.Tree, slot.Signature} {
		if i >= 0 {
			*[]*string{&l.Data, &l.Tree, &l.Signature}[k] = s.Table.Partitions[i].Name
		}
	}
	return l
}

// CheckLabels is the error that [Slots.Begin], [Slots.Pend] and [Slots.Install] return for labels
// that the slot cannot have.
func (s *Slots) CheckLabels(slot *Slot, labels Labels) error {
	return prefix.Error("partition", s.checkLabels(slot, labels))
}

// Begin marks a slot as being written: its types become [PartialType], so that the incomplete slot
// is not used. The labels are set to those of the new version. Write the table before the first
// byte of the slot.
func (s *Slots) Begin(slot *Slot, labels Labels) error {
	return prefix.Error("partition", s.mark(slot, labels, PartialType))
}

// Pend marks a slot as complete but not yet to be used ([PendingType]).
func (s *Slots) Pend(slot *Slot, labels Labels, rootHash []byte) error {
	return prefix.Error("partition", s.finish(slot, labels, rootHash, PendingType))
}

// Install marks a slot as complete, under its labels, with the IDs that the root hash gives
// ([VerityIDs]; without a hash tree rootHash is nil and the IDs stay). Write the table when the
// content of the slot has reached the disk.
//
// The attributes become those of a version that is discovered automatically and protected by its
// hash tree (UAPI.2, "Partition Flags"): [AttrReadOnly] is set, [AttrGrowFileSystem] and
// [AttrNoAuto] are not. The attributes of a slot without a hash tree stay.
func (s *Slots) Install(slot *Slot, labels Labels, rootHash []byte) error {
	if err := s.finish(slot, labels, rootHash, func(t osmith.GUID) osmith.GUID { return t }); err != nil {
		return prefix.Error("partition", err)
	}
	if slot.Tree >= 0 {
		indexes, _ := slot.parts()
		for _, i := range indexes {
			a := &s.Table.Partitions[i].Attributes
			*a = *a&^(AttrGrowFileSystem|AttrNoAuto) | AttrReadOnly
		}
	}
	return nil
}

// Vacate marks a slot as empty. Its content and IDs stay as they are.
func (s *Slots) Vacate(slot *Slot) {
	indexes, types := slot.parts()
	for k, i := range indexes {
		s.Table.Partitions[i].Type, s.Table.Partitions[i].Name = types[k], EmptyName
	}
	s.refresh(slot)
}

func (s *Slots) checkLabels(slot *Slot, labels Labels) error {
	l := labels.whole()
	for k, i := range []int{slot.Data, slot.Tree, slot.Signature} {
		label := []string{l.Data, l.Tree, l.Signature}[k]
		switch n := efi.UTF16Len(label); {
		case i < 0:
		case label == "" || label == EmptyName:
			return fmt.Errorf("slot %s: label %q has no version", slot.Name(), label)
		case n > MaxName:
			return fmt.Errorf("slot %s: the label %q has %d UTF-16 units, at most %d fit", slot.Name(), label, n, MaxName)
		}
	}
	if s.version(l.Data) == "" {
		return fmt.Errorf("slot %s: the label %q does not match %q", slot.Name(), l.Data, s.match)
	}
	return nil
}

func (s *Slots) mark(slot *Slot, labels Labels, state func(osmith.GUID) osmith.GUID) error {
	if err := s.checkLabels(slot, labels); err != nil {
		return err
	}
	l := labels.whole()
	for k, i := range []int{slot.Data, slot.Tree, slot.Signature} {
		if i >= 0 {
			p := &s.Table.Partitions[i]
			p.Type, p.Name = state([]osmith.GUID{slot.DataType, slot.TreeType, slot.SignatureType}[k]), []string{l.Data, l.Tree, l.Signature}[k]
		}
	}
	s.refresh(slot)
	return nil
}

func (s *Slots) finish(slot *Slot, labels Labels, rootHash []byte, state func(osmith.GUID) osmith.GUID) error {
	if slot.Tree < 0 {
		if len(rootHash) > 0 {
			return fmt.Errorf("slot %s has no hash tree: %w", slot.Name(), ErrRootHash)
		}
		return s.mark(slot, labels, state)
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
	if err := s.mark(slot, labels, state); err != nil {
		return err
	}
	s.Table.Partitions[slot.Data].ID, s.Table.Partitions[slot.Tree].ID = data, tree
	return nil
}
