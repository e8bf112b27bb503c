package fat

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// A file that is worth nothing goes with a repair, also one whose chain is not whole, which a
// repair alone leaves: its clusters are free, others keep theirs, and whatever a power cut leaves
// of that, a second repair ends it.
func TestRepairDiscards(t *testing.T) {
	const half = "EFI/Linux/a long name of two pieces.partial"
	discard := RepairOptions{Discard: func(name string) bool { return strings.HasSuffix(name, ".partial") }}
	for _, o := range threeKinds {
		d := build(t, smallESP(), o)
		before := look(t, d).Contents()
		f, err := Open(d)
		require.NoError(t, err)
		free := f.Free()
		require.NoError(t, f.WriteFile(half, bytes.NewReader(pattern(40_000, 5))))
		e := edit(t, d)
		c, _, _ := e.entry(half)
		e.set(c+2, 0) // a cut came before that was linked
		f, err = Open(d)
		require.NoError(t, err)
		_, err = f.Repair()
		require.ErrorContains(t, err, "has a cluster that is marked free")

		d.Record()
		done, err := f.RepairWith(discard)
		require.NoError(t, err)
		require.Equal(t, 1, done.Discarded)
		requireWhole(t, d)
		requireContents(t, before, d, nil)
		require.Equal(t, free, f.Free())

		faults, err := d.Faults(faultio.FaultOptions{Sector: 512, Limit: 64})
		require.NoError(t, err)
		for state := range faults.States() {
			f, err := Open(state.Disk)
			require.NoError(t, err)
			_, err = f.RepairWith(discard)
			require.NoError(t, err, "%v", state)
			requireWhole(t, state.Disk)
			requireContents(t, before, state.Disk, nil)
			require.Equal(t, free, f.Free(), "%v", state)
		}
	}
}
