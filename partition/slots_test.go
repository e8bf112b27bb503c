package partition

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// hashN is a root hash like no other.
func hashN(n byte) []byte {
	return append(bytes.Repeat([]byte{n}, 16), bytes.Repeat([]byte{0x80 | n}, 16)...)
}

// threeSlots is a disk with usr slots A to C of growing size, labels as given.
func threeSlots(t testing.TB, labels ...string) *Slots {
	t.Helper()
	l := Layout{Seed: repartSeed}
	for n, label := range labels {
		specs := []Spec{
			{Type: UsrX8664, Name: label, Size: int64(4+n) << 20},
			{Type: UsrX8664Verity, Name: label, Size: 1 << 20},
			{Type: UsrX8664VeritySig, Name: label, Size: 16 << 10},
		}
		if label != EmptyName {
			specs[0].ID, specs[1].ID, _ = VerityIDs(hashN(byte(n + 1)))
		}
		l.Partitions = append(l.Partitions, specs...)
	}
	im, err := Plan(l)
	require.NoError(t, err)
	s, err := FindSlots(im.Table, SlotOptions{Match: "acme_@v"})
	require.NoError(t, err)
	return s
}

func TestFindSlots(t *testing.T) {
	s := threeSlots(t, "acme_1", EmptyName, "other")
	require.Len(t, s.Slots, 3)
	a, b, c := s.Slots[0], s.Slots[1], s.Slots[2]
	require.Equal(t, []string{"A", "B", "C"}, []string{a.Name(), b.Name(), c.Name()})
	require.Equal(t, []SlotState{SlotInstalled, SlotEmpty, SlotInstalled}, []SlotState{a.State, b.State, c.State})
	require.Equal(t, []string{"1", "", ""}, []string{a.Version, b.Version, c.Version})
	require.Equal(t, hashN(1), s.RootHash(a))
	require.Nil(t, s.RootHash(b))
	require.Equal(t, c, s.Running(hashN(3)))
	require.Nil(t, s.Running(hashN(9)))
	require.Nil(t, s.Running(nil))
	require.Equal(t, []int{3, 4, 5}, []int{b.Data, b.Tree, b.Signature})

	for label, want := range map[string]string{"acme_1.0": "1.0", "1.0": "1.0", "a_b_2~rc1": "2~rc1"} {
		require.Equal(t, want, (&Slots{}).version(label), label)
	}
	_, err := FindSlots(&Table{}, SlotOptions{})
	require.ErrorIs(t, err, ErrNoSlots)
	_, err = FindSlots(s.Table, SlotOptions{Match: "acme"})
	require.ErrorContains(t, err, "@v")
	s.Table.Partitions = s.Table.Partitions[:8]
	_, err = FindSlots(s.Table, SlotOptions{})
	require.ErrorIs(t, err, ErrNoSlots)
	require.ErrorContains(t, err, "3 partitions of type usr-x86-64, but 2 of type usr-x86-64-verity-sig")
	s.Table.Partitions = append(s.Table.Partitions[:6], Partition{Type: RootX8664}, Partition{Type: RootX8664Verity})
	_, err = FindSlots(s.Table, SlotOptions{})
	require.ErrorContains(t, err, "root-x86-64 and usr-x86-64")
	_, err = FindSlots(s.Table, SlotOptions{Type: UsrX8664})
	require.NoError(t, err)
	// a plain root beside usr with hash trees is not a slot
	s.Table.Partitions = s.Table.Partitions[:7]
	_, err = FindSlots(s.Table, SlotOptions{})
	require.NoError(t, err)
}

func TestTarget(t *testing.T) {
	const e = EmptyName
	for _, c := range []struct {
		name   string
		labels []string
		o      TargetOptions
		slot   string
		vacate string
	}{
		{"the smallest free one", []string{"acme_1", e, e}, TargetOptions{Running: hashN(1)}, "B", ""},
		{"that fits", []string{"acme_1", e, e}, TargetOptions{Running: hashN(1), DataSize: 6 << 20}, "C", ""},
		{"the oldest", []string{"acme_3", "acme_1", "acme_2"}, TargetOptions{Running: hashN(1)}, "B", "B"},
		{"never the running one", []string{"acme_1", "acme_2", "acme_3"}, TargetOptions{Running: hashN(1)}, "B", "B"},
		{"nor a protected one", []string{"acme_1", "acme_2", "acme_3"}, TargetOptions{Running: hashN(1), Protect: []string{"2"}}, "C", "C"},
		{"two instances", []string{"acme_1", "acme_2", e}, TargetOptions{Running: hashN(1), InstancesMax: 2}, "B", "B"},
		{"the old one fits", []string{"acme_2", e, "acme_1"}, TargetOptions{Running: hashN(1), DataSize: 6 << 20}, "C", "C"},
		{"not what has another label", []string{"acme_1", "other", "acme_2"}, TargetOptions{Running: hashN(1)}, "C", "C"},
		{"not given up in vain", []string{"acme_9", "acme_1", "acme_2"}, TargetOptions{Running: hashN(1), DataSize: 6 << 20}, "C", "C"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Compare = func(a, b *Slot) int { return strings.Compare(a.Version, b.Version) }
			got, err := threeSlots(t, c.labels...).Target(c.o)
			require.NoError(t, err)
			var vacate string
			for _, s := range got.Vacate {
				vacate += s.Name()
			}
			require.Equal(t, []string{c.slot, c.vacate}, []string{got.Slot.Name(), vacate})
		})
	}
	_, err := threeSlots(t, "acme_1", "acme_2").Target(TargetOptions{Running: hashN(1), Protect: []string{"2"}})
	require.ErrorIs(t, err, ErrNoTarget)
	_, err = threeSlots(t, "acme_1", "acme_2").Target(TargetOptions{Running: hashN(7)})
	require.ErrorIs(t, err, ErrNoTarget)
	_, err = threeSlots(t, "acme_1").Target(TargetOptions{})
	require.ErrorIs(t, err, ErrNoSlots)
	_, err = threeSlots(t, "acme_1", "acme_2", "acme_3").Target(TargetOptions{Running: hashN(1)})
	require.ErrorContains(t, err, "Compare")
	_, err = threeSlots(t, "acme_1", e, e).Target(TargetOptions{Running: hashN(1), DataSize: 7 << 20})
	var space *SpaceError
	require.ErrorAs(t, err, &space)
	require.Equal(t, SpaceError{Need: 7 << 20, Have: 6 << 20, Partition: "slot C, partition 7"}, *space)
	_, err = threeSlots(t, "acme_1", e).Target(TargetOptions{Running: hashN(1), SignatureSize: 20 << 10})
	require.ErrorAs(t, err, &space)
	require.Equal(t, int64(4<<10), space.Missing())
}

// The life of a slot, as systemd-sysupdate writes it.
func TestSlotMarks(t *testing.T) {
	s := threeSlots(t, "acme_1", EmptyName)
	b := s.Slots[1]
	require.NoError(t, s.Begin(b, Labels{Data: "acme_2"}))
	require.Equal(t, SlotPartial, b.State)
	require.Equal(t, PartialType(UsrX8664Verity), s.Table.Partitions[b.Tree].Type)
	again, err := FindSlots(s.Table, SlotOptions{Match: "acme_@v"})
	require.NoError(t, err)
	require.Equal(t, s.Slots, again.Slots)
	target, err := again.Target(TargetOptions{Running: hashN(1)})
	require.NoError(t, err)
	require.Equal(t, "B", target.Slot.Name())

	require.NoError(t, s.Pend(b, Labels{Data: "acme_2"}, hashN(2)))
	require.Equal(t, SlotPending, b.State)
	require.Equal(t, hashN(2), s.RootHash(b))
	attributes := func(slot *Slot) (list []uint64) {
		for _, i := range []int{slot.Data, slot.Tree, slot.Signature} {
			list = append(list, s.Table.Partitions[i].Attributes)
		}
		return list
	}
	for _, i := range []int{b.Data, b.Tree, b.Signature} {
		s.Table.Partitions[i].Attributes = AttrGrowFileSystem | AttrNoAuto | 1<<48
	}
	require.NoError(t, s.Install(b, Labels{Data: "acme_2"}, hashN(2)))
	require.Equal(t, SlotInstalled, b.State)
	require.Equal(t, []uint64{AttrReadOnly | 1<<48, AttrReadOnly | 1<<48, AttrReadOnly | 1<<48}, attributes(b))
	require.Equal(t, []uint64{0, 0, 0}, attributes(s.Slots[0]))
	require.Equal(t, Labels{"acme_2", "acme_2_verity", "acme_2_verity_sig"}, s.Labels(b), "as definitions of systemd-sysupdate have them")
	require.NoError(t, s.Begin(b, Labels{"acme_2", "acme-tree_2", "acme-sig_2"}))
	require.Equal(t, Labels{"acme_2", "acme-tree_2", "acme-sig_2"}, s.Labels(b))
	require.NoError(t, s.Install(b, Labels{Data: "acme_2"}, hashN(2)))
	require.Equal(t, b, s.Running(hashN(2)))
	require.NoError(t, s.Table.Check())
	s.Vacate(b)
	require.Equal(t, SlotEmpty, b.State)
	require.Equal(t, EmptyName, s.Table.Partitions[b.Signature].Name)

	before := show(s.Table)
	require.ErrorIs(t, s.Install(b, Labels{Data: "acme_2"}, hashN(1)), ErrDuplicateID)
	require.ErrorIs(t, s.Install(b, Labels{Data: "acme_2"}, []byte{1}), ErrRootHash)
	require.ErrorContains(t, s.Install(b, Labels{Data: "acme_" + strings.Repeat("9", 32)}, hashN(5)), "37 UTF-16 units")
	require.ErrorContains(t, s.Install(b, Labels{Data: "acne_2"}, hashN(5)), "does not match")
	require.ErrorContains(t, s.Begin(b, Labels{Data: EmptyName}), "has no version")
	require.ErrorContains(t, s.Begin(b, Labels{Tree: "acme_2"}), "has no version")
	require.ErrorContains(t, s.Install(b, Labels{Data: "acme_2", Tree: EmptyName}, hashN(5)), "has no version")
	require.ErrorContains(t, s.CheckLabels(b, Labels{Data: "acme_" + strings.Repeat("9", 22)}), "38 UTF-16 units", "of the signature")
	require.Equal(t, before, show(s.Table), "refused before anything was changed")
}

// fullTable has 128 partitions: 42 slots with hash tree and signature, and an ESP and a state
// partition.
func fullTable() *Table {
	t := &Table{DiskID: diskID, SectorSize: 512, Size: 1 << 40}
	for i := range 128 {
		p := Partition{Number: i + 1, Type: []osmith.GUID{UsrX8664, UsrX8664Verity, UsrX8664VeritySig}[i%3], ID: idN(byte(i)),
			Name: fmt.Sprintf("acme_%d", i/3), FirstLBA: uint64(2048 * (i + 1)), LastLBA: uint64(2048*(i+1)) + 7}
		switch {
		case i == 126:
			p.Type = ESP
		case i == 127:
			p.Type = Var
		case i/3%3 == 1:
			p.Type = PartialType(p.Type)
		case i/3%3 == 2:
			p.Type = PendingType(p.Type)
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t
}

// Looking at a table costs what its length says: the derived types, which are HMACs, are made once,
// and not for each type of each architecture with each partition.
func TestFindSlotsIsLinear(t *testing.T) {
	table := fullTable()
	s, err := FindSlots(table, SlotOptions{})
	require.NoError(t, err)
	require.Len(t, s.Slots, 42)
	for i, slot := range s.Slots {
		require.Equal(t, []SlotState{SlotInstalled, SlotPartial, SlotPending}[i%3], slot.State)
	}
	hashes := testing.AllocsPerRun(1, func() { PartialType(UsrX8664) })
	allocs := testing.AllocsPerRun(5, func() { _, _ = FindSlots(table, SlotOptions{}) })
	require.Less(t, allocs, 8*42+100+hashes, "nothing is hashed")
}

func BenchmarkFindSlots(b *testing.B) {
	table := fullTable()
	for b.Loop() {
		if _, err := FindSlots(table, SlotOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
