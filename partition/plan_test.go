package partition

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

// A disk without an identity is not planned: it would have a DiskGUID of zeros.
func TestPlanNeedsIdentity(t *testing.T) {
	esp := []Spec{{Type: ESP, ID: idN(1), Name: "esp", Size: 1 << 20}}
	im, err := Plan(Layout{Partitions: esp})
	require.EqualError(t, err, "partition: the layout has neither a DiskID nor a Seed: set one, or the disk has no identity")
	require.Nil(t, im)
	im, err = Plan(Layout{Partitions: esp, Seed: repartSeed})
	require.NoError(t, err)
	require.Equal(t, SeedDiskID(repartSeed), im.Table.DiskID)
	im, err = Plan(Layout{Partitions: esp, DiskID: diskID, Seed: repartSeed})
	require.NoError(t, err)
	require.Equal(t, diskID, im.Table.DiskID)
	esp[0].ID = osmith.GUID{}
	_, err = Plan(Layout{Partitions: esp, DiskID: diskID})
	require.ErrorContains(t, err, "ID is all zero")
}

// A table has room for what the layout needs, as every reader finds it.
func TestPlanManyPartitions(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		for _, n := range []int{127, 128, 129, 300, 2000} {
			l := Layout{Seed: repartSeed, SectorSize: ss}
			for i := range n {
				l.Partitions = append(l.Partitions, Spec{Type: LinuxGeneric, Name: fmt.Sprint(i), Size: 4096})
			}
			l.Align = 4096
			im, err := Plan(l)
			require.NoError(t, err)
			d := faultio.NewDisk(im.Size)
			require.NoError(t, WriteImage(d, im, WriteOptions{TargetIsZero: true}))
			got, err := Read(d, ReadOptions{})
			require.NoError(t, err)
			require.Equal(t, show(im.Table), show(got))
			require.Equal(t, max((n+127)/128*128, 128), got.Entries)
			for _, reader := range oracle.Readers() {
				seen, err := oracle.ReadGPT(reader, d, im.Size, ss)
				require.NoError(t, err, reader)
				want := n
				if !reader.Firmware() {
					want = min(n, 255) // a kernel numbers no more
				}
				require.Equal(t, want, len(seen.Partitions), reader)
			}
			again, err := PlanOnto(got, l)
			require.NoError(t, err)
			require.Equal(t, show(got), show(again.Table))
			l.Partitions = append(l.Partitions, Spec{Type: Home, Size: 4096})
			_, err = PlanOnto(got, l)
			require.Error(t, err)
		}
	}
	im, err := Plan(Layout{Seed: repartSeed, Partitions: []Spec{{Type: ESP, Size: 4096, Number: 200}}})
	require.NoError(t, err)
	require.Equal(t, 256, im.Table.Entries)
	_, err = Plan(Layout{Seed: repartSeed, Partitions: []Spec{{Type: ESP, Size: 4096, Number: 1 << 30}}})
	require.ErrorContains(t, err, "entries: want 1 to")
}

// A partition that is on the disk without a name gets that of the layout, and the plan says so.
func TestPlanNames(t *testing.T) {
	before, err := Plan(Layout{Seed: repartSeed, Size: 64 << 20, Partitions: []Spec{{Type: Home, Size: 1 << 20}, {Type: Home, Name: "home", Size: 1 << 20}, {Type: Srv, Size: 1 << 20}}})
	require.NoError(t, err)
	im, err := PlanOnto(before.Table, Layout{Seed: repartSeed, Partitions: []Spec{{Type: Home, DefaultName: true, Size: 1 << 20}, {Type: Home, DefaultName: true, Size: 1 << 20},
		{Type: Home, DefaultName: true, Size: 1 << 20}, {Type: osmith.GUID{1}, DefaultName: true, Size: 1 << 20}, {Type: osmith.GUID{2}, DefaultName: true, Size: 1 << 20}}})
	require.NoError(t, err)
	var names []string
	for _, p := range im.Table.Partitions {
		names = append(names, p.Name)
	}
	require.Equal(t, []string{"home", "home", "", "home-2", "linux", "linux-2"}, names)
	require.True(t, im.Operations()[0].Named)
	require.False(t, im.Operations()[1].Named)
	require.Contains(t, im.Operations().String(), "gets its name")
	require.Empty(t, before.Table.Partitions[0].Name, "the table is not changed")
}

// By the rules of systemd-repart the least size wins over the largest, unless both are given.
func TestPlanMaximumGivesWay(t *testing.T) {
	l := Layout{Seed: repartSeed, Repart: true, Size: 1 << 30, Partitions: []Spec{{Type: Home, MaxSize: 1}, {Type: Srv, MaxSize: 1, MinSize: 1}}}
	_, err := Plan(l)
	require.ErrorContains(t, err, `"srv": maximum size 1 is less than the minimum 4096`)
	l.Partitions = l.Partitions[:1]
	im, err := Plan(l)
	require.NoError(t, err)
	_, size := im.Table.Extent(0)
	require.Equal(t, int64(defaultLeast), size)
	l.Repart = false
	_, err = Plan(l)
	require.ErrorContains(t, err, `"home": maximum size 1 is less than the minimum 4096`)
}

// New partitions have numbers behind those of their type, so that a layout is matched in the same
// way the next time.
func TestPlanNumbers(t *testing.T) {
	base := func(number int) *Table {
		return &Table{DiskID: diskID, SectorSize: 512, Size: 64 << 20, Partitions: []Partition{
			{Number: 2, Type: Swap, ID: idN(1), Name: "swap", FirstLBA: 2048, LastLBA: 4095},
			{Number: number, Type: Srv, ID: idN(2), Name: "srv", FirstLBA: 4096, LastLBA: 6143},
		}}
	}
	spec := func(t osmith.GUID) Spec { return Spec{Type: t, Size: 1 << 20} }
	for _, c := range []struct {
		number int
		want   []int
	}{{5, []int{2, 5, 6, 1, 7, 3}}, {1, []int{2, 1, 3, 4, 5, 6}}, {128, []int{2, 128, 1, 3, 4, 5}}} {
		im, err := PlanOnto(base(c.number), Layout{Seed: repartSeed, Partitions: []Spec{spec(Srv), spec(Srv), spec(Home), spec(Srv), spec(Home)}})
		require.NoError(t, err)
		var got []int
		for _, p := range im.Table.Partitions {
			got = append(got, p.Number)
		}
		require.Equal(t, c.want, got)
	}
}
