package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// A slot goes from _empty over partial and pending to its version, one table write each. After a
// cut in any of them the slot is in the state before or after, never between; and no other entry
// changes.
func TestCutRelabel(t *testing.T) {
	data, tree, err := VerityIDs([]byte("another hash of 32 bytes, say v2"))
	require.NoError(t, err)
	states := []func(root, hash *Partition){
		func(root, hash *Partition) {
			root.Type, root.ID, root.Name, root.Attributes = PartialType(RootX8664), data, "root_2.0", AttrReadOnly|AttrNoAuto
			hash.Type, hash.ID, hash.Name = PartialType(RootX8664Verity), tree, "root_2.0"
		},
		func(root, hash *Partition) {
			root.Type, hash.Type = PendingType(RootX8664), PendingType(RootX8664Verity)
		},
		func(root, hash *Partition) {
			root.Type, hash.Type = RootX8664, RootX8664Verity
			root.Attributes = AttrReadOnly
		},
		func(root, hash *Partition) { // and vacated again
			root.Name, root.ID, hash.Name, hash.ID = EmptyName, idN(4), EmptyName, idN(5)
		},
	}
	_, d := image(t, abLayout())
	for i, state := range states {
		next := d
		for _, damage := range []string{"", "primary", "backup"} {
			cut := d.Clone()
			switch damage {
			case "primary":
				wipe(cut, 1, 512)
			case "backup":
				wipe(cut, last(cut), 512)
			}
			table, err := Read(cut, ReadOptions{})
			require.NoError(t, err)
			before := append([]Partition(nil), table.Partitions...)
			state(&table.Partitions[3], &table.Partitions[4])
			cut.Record()
			require.NoError(t, table.Write(cut))
			requireEitherTable(t, cut, before, table.Partitions, fmt.Sprintf("state %d, %s damaged", i, damage))
			if damage == "" {
				requireVerified(t, cut)
				next = cut.Clone()
			}
		}
		d = next
	}
}

// requireEitherTable looks at every cut of the recorded writes.
func requireEitherTable(t *testing.T, d *faultio.Disk, before, after []Partition, what string) {
	t.Helper()
	plain := func(in []Partition) []Partition { // without how it was read
		out := append([]Partition(nil), in...)
		for i := range out {
			out[i].rawName, out[i].read = [nameBytes]byte{}, nil
		}
		return out
	}
	before, after = plain(before), plain(after)
	old, new := 0, 0
	check := func(cut *faultio.Disk, at string) {
		got, err := Read(cut, ReadOptions{})
		require.NoError(t, err, "%s, %s", what, at)
		if p := plain(got.Partitions); fmt.Sprint(p) == fmt.Sprint(before) {
			old++
		} else {
			require.Equal(t, after, p, "%s, %s", what, at)
			new++
		}
	}
	rng := rand.New(rand.NewPCG(8, 9))
	for k, w := range d.Writes() {
		check(d.Prefix(k), fmt.Sprint("before write ", k))
		for n := 512; n < len(w.Data); n += 512 {
			check(d.Torn(k, n), fmt.Sprint("torn write ", k))
		}
		for range 8 {
			check(d.Lossy(k+1, func(int) bool { return rng.IntN(2) == 0 }), fmt.Sprint("lossy ", k))
		}
	}
	check(d, "at the end")
	require.NotZero(t, old, what)
	require.NotZero(t, new, what)
}
