package upgrade_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// The new version is labelled as the slot of what runs is, or as it is asked for.
func TestLabels(t *testing.T) {
	for name, c := range map[string]struct {
		before   partition.Labels // of the slot of version 1
		patterns partition.Labels
		want     partition.Labels
		err      string
	}{
		"as definitions of sysupdate":                {partition.Labels{Data: "acme_1", Tree: "acme_1_verity"}, partition.Labels{}, partition.Labels{Data: "acme_2", Tree: "acme_2_verity"}, ""},
		"one label for all":                          {partition.Labels{Data: "acme_1", Tree: "acme_1"}, partition.Labels{}, partition.Labels{Data: "acme_2", Tree: "acme_2"}, ""},
		"other names":                                {partition.Labels{Data: "root-1", Tree: "hashes-1"}, partition.Labels{}, partition.Labels{Data: "root-2", Tree: "hashes-2"}, ""},
		"version in front":                           {partition.Labels{Data: "1_acme", Tree: "1_acme-verity"}, partition.Labels{}, partition.Labels{Data: "2_acme", Tree: "2_acme-verity"}, ""},
		"without a version":                          {partition.Labels{Data: "root-a", Tree: "verity-a"}, partition.Labels{}, partition.Labels{Data: "acme_2", Tree: "acme_2_verity"}, ""},
		"hash tree without a version":                {partition.Labels{Data: "acme_1", Tree: "hashes"}, partition.Labels{}, partition.Labels{Data: "acme_2", Tree: "acme_2_verity"}, ""},
		"asked for":                                  {partition.Labels{Data: "acme_1", Tree: "acme_1_verity"}, partition.Labels{Data: "%M_@v", Tree: "hash-@v%%"}, partition.Labels{Data: "acme_2", Tree: "hash-2%"}, ""},
		"asked for the file system's":                {partition.Labels{Data: "acme_1", Tree: "acme_1"}, partition.Labels{Data: "a_@v"}, partition.Labels{Data: "a_2", Tree: "a_2_verity"}, ""},
		"asked for without a version":                {partition.Labels{Data: "acme_1"}, partition.Labels{Data: "acme"}, partition.Labels{}, `pattern "acme" of labels: want one @v`},
		"asked for with two":                         {partition.Labels{Data: "acme_1"}, partition.Labels{Tree: "@v@v"}, partition.Labels{}, `pattern "@v@v" of labels: want one @v`},
		"asked for by a specifier that is not known": {partition.Labels{Data: "acme_1"}, partition.Labels{Data: "%A_@v"}, partition.Labels{}, "of specifiers only %M, for IMAGE_ID, and %% are known"},
		"asked for, too long":                        {partition.Labels{Data: "acme_1"}, partition.Labels{Data: "@v-23456789-123456789-123456789-"}, partition.Labels{}, "38 UTF-16 units, at most 36 fit"},
		"asked for what looks like none":             {partition.Labels{Data: "acme_1"}, partition.Labels{Data: "@v", Tree: "_empty@v"}, partition.Labels{Data: "2", Tree: "_empty2"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, "")
			s.withTable(func(t *partition.Table) {
				t.Partitions[1].Name, t.Partitions[2].Name = c.before.Data, c.before.Tree
				for i := range t.Partitions[1:] {
					t.Partitions[1+i].Attributes = partition.AttrNoAuto | partition.AttrGrowFileSystem
				}
			})
			s.bootAndRun()
			p, err := upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{Labels: c.patterns})
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, p.Apply(t.Context(), nil))
			require.Equal(t, "2", s.boot().Version)
			table, err := partition.Read(s.disk, partition.ReadOptions{})
			require.NoError(t, err)
			require.Equal(t, []string{c.want.Data, c.want.Tree}, []string{table.Partitions[3].Name, table.Partitions[4].Name})
			require.Equal(t, []uint64{partition.AttrReadOnly, partition.AttrReadOnly}, []uint64{table.Partitions[3].Attributes, table.Partitions[4].Attributes})
			require.Equal(t, partition.AttrNoAuto|partition.AttrGrowFileSystem, table.Partitions[1].Attributes, "those of the other slot are its own")
		})
	}
}

// A disk on which one version has a label for each part and the other one for all, as an earlier
// release of this module left it, goes on with a label for each.
func TestLabelsOfAnEarlierUpgrade(t *testing.T) {
	s := newSystem(t, "")
	s.install(s.build("2"))
	s.withTable(func(t *partition.Table) { t.Partitions[4].Name = "acme_2" })
	s.bootAndRun()
	s.apply("3")
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, "acme_3_verity", table.Partitions[2].Name)
}
