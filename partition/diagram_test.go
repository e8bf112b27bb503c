package partition

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestDiagram(t *testing.T) {
	var many []Spec
	for i := range 20 {
		many = append(many, Spec{Type: LinuxGeneric, ID: idN(byte(i + 1)), Name: fmt.Sprintf("partition number %d", i), Size: 1 << (12 + i)})
	}
	for _, l := range []Layout{
		{},
		{Size: 1 << 40},
		abLayout(),
		{Partitions: many},
		{Partitions: many, Size: 1 << 33},
	} {
		l.DiskID = diskID
		im, err := Plan(l)
		require.NoError(t, err)
		for _, width := range []int{0, 10, 60, 100, 200} {
			lines := strings.Split(Diagram(im.Table, im.Size, width), "\n")
			columns := max(width, 60)
			if width == 0 {
				columns = 80
			}
			for _, line := range lines[1:6] {
				if n := len(im.Table.Partitions); n < 15 || width >= 100 {
					require.Equal(t, columns, utf8.RuneCountInString(line), line)
				}
			}
		}
	}
	table := &Table{SectorSize: 512, Size: 1 << 30, UsedBackup: true, Partitions: []Partition{{Name: "\x1b[2J\u202e", LastLBA: 9}}}
	require.NotContains(t, Diagram(table, table.Size, 80), "\x1b")
	require.Contains(t, Diagram(table, table.Size, 80), "read from its backup")
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB", 1 << 62: "4 EiB"} {
		require.Equal(t, want, Bytes(n))
	}
}
