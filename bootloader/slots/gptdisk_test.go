package slots_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/slots"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/partition"
)

// From a mark to the sectors of the disk: whatever a power cut leaves of the partition table that
// has new attributes, each reader of tables finds attributes by which a right slot is started. All
// writes of a change go into one update of the table, or each into one of its own.
func TestCutsOfGPTOnDisk(t *testing.T) {
	states := 0
	for _, profile := range []slots.GPTProfile{slots.GPTFlatcar, slots.GPTChromeOS} {
		for _, together := range []bool{true, false} {
			usr := profile.SlotType()
			im, err := partition.Plan(partition.Layout{Seed: [16]byte{1}, Size: 8 << 20, Partitions: []partition.Spec{
				{Type: partition.ESP, Name: "esp", Size: 1 << 20},
				{Type: usr, Name: "a", Size: 1 << 20, Attributes: 1<<56 | 15<<48 | partition.AttrReadOnly}, {Type: usr, Name: "b", Size: 1 << 20, Attributes: 1<<56 | 14<<48}}})
			require.NoError(t, err)
			d := faultio.NewDisk(im.Size)
			require.NoError(t, partition.WriteImage(d, im, partition.WriteOptions{}))
			running, other := "2", "3"
			for _, as := range []slots.As{slots.AsBad, slots.AsTrying, slots.AsCancelled, slots.AsTrying, slots.AsGood} {
				c, err := storeOf(t, d, profile).Mark(slots.Mark{Slot: other, As: as, Tries: 2, Fallback: running})
				require.NoError(t, err)
				d.Record()
				for i := range c.Writes {
					if together {
						writeAttributes(t, d, c.Writes)
						break
					}
					writeAttributes(t, d, c.Writes[i:i+1])
				}
				faults, err := d.Faults(faultio.FaultOptions{Sector: 512})
				require.NoError(t, err)
				for state := range faults.States() {
					states++
					for _, reader := range oracle.Readers() {
						found, err := oracle.ReadGPT(reader, state.Disk, state.Disk.Size(), 512)
						require.NoError(t, err)
						m := gptMachine{grub: profile == slots.GPTFlatcar}
						for _, p := range found.Partitions {
							if p.Name == "a" || p.Name == "b" {
								m.names = append(m.names, strconv.Itoa(p.Number))
								m.bits = append(m.bits, p.Attributes)
							}
						}
						chain := starts(m, 5)
						require.NotContains(t, chain, "", "%v, %v, %v: %v starts nothing", profile, as, state, reader)
						if as != slots.AsGood {
							require.Contains(t, chain, running, "%v, %v, %v: %v never returns", profile, as, state, reader)
						}
					}
				}
				require.Equal(t, c.After, slots.Store(storeOf(t, d, profile)))
			}
		}
	}
	require.Greater(t, states, 100)
	t.Logf("%d states", states)
}

func storeOf(t *testing.T, d osmith.Source, profile slots.GPTProfile) *slots.GPTPrio {
	t.Helper()
	table, err := partition.Read(d, partition.ReadOptions{SectorSize: 512})
	require.NoError(t, err)
	var all []slots.GPTPartition
	for _, p := range table.Partitions {
		all = append(all, slots.GPTPartition{Number: p.Number, Type: p.Type, Attributes: slots.GPTAttributes(p.Attributes)})
	}
	g, err := slots.NewGPTPrio(profile, all)
	require.NoError(t, err)
	return g
}
