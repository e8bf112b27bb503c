package partition_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
)

// A partition of a dm-verity volume has no least size of 10 MiB, as others have that systemd-repart
// lays out: seen of 262, for the data as for the tree.
func TestVerityHasNoLeastSize(t *testing.T) {
	content := bytes.NewReader(make([]byte, 1<<20))
	verity := func(role partition.VerityRole) *partition.Fill {
		return &partition.Fill{Verity: &partition.VerityFill{Role: role, MatchKey: "root"}}
	}
	im, err := partition.Plan(partition.Layout{Seed: osmith.GUID{1}, Repart: true, Partitions: []partition.Spec{
		{Type: partition.RootX8664, DefaultName: true, Content: content, Fill: verity(partition.VerityData)},
		{Type: partition.RootX8664Verity, DefaultName: true, Content: bytes.NewReader(make([]byte, 12<<10)), Fill: verity(partition.VerityHash)},
		{Type: partition.Home, DefaultName: true, Content: content},
	}})
	require.NoError(t, err)
	for i, want := range []int64{1 << 20, 12 << 10, 10 << 20} {
		_, size := im.Table.Extent(i)
		require.Equal(t, want, size, i)
	}
}
