package partition_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/tpm"
)

// A table, planned or read from a disk, yields what the firmware of real boots measured of it.
func TestMeasuredTable(t *testing.T) {
	logs, err := filepath.Glob("../tpm/testdata/boot/*/binary_bios_measurements")
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	for _, name := range logs {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		log, err := tpm.ParseLog(raw)
		require.NoError(t, err)
		at := slices.IndexFunc(log.Events, func(e tpm.Event) bool { return e.Type == tpm.EventEFIGPT })
		require.Positive(t, at, name)
		event := log.Events[at]
		payload, err := event.Payload()
		require.NoError(t, err)
		measured := payload.(tpm.GPT)

		planned := &partition.Table{DiskID: measured.Disk, SectorSize: 512, Size: 256 << 20}
		for _, p := range measured.Partitions {
			planned.Partitions = append(planned.Partitions, partition.Partition{
				Type: p.Type, ID: p.ID, Name: p.Name, FirstLBA: p.FirstLBA, LastLBA: p.LastLBA, Attributes: p.Attributes,
			})
		}
		disk := faultio.NewDisk(planned.Size)
		require.NoError(t, planned.Write(disk))
		read, err := partition.Read(disk, partition.ReadOptions{})
		require.NoError(t, err)
		for _, table := range []*partition.Table{planned, read} {
			var gpt tpm.PartitionTable
			gpt.Header, gpt.Entries, err = table.MarshalPrimary()
			require.NoError(t, err)
			require.Equal(t, measured.Header, gpt.Header, name)
			want := binary.LittleEndian.AppendUint64(slices.Clone(gpt.Header), uint64(len(measured.Partitions)))
			require.Equal(t, event.Data, append(want, gpt.Entries[:128*len(measured.Partitions)]...), name)
			require.Len(t, gpt.Entries, 128*128)
		}
	}
}
