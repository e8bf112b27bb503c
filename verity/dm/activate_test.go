package dm

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity"
)

// What a kernel does with it is tested in booted systems: e2e/guest.
func TestActivateRefuses(t *testing.T) {
	table, err := ParseTable(goodTables["plain"])
	require.NoError(t, err)
	table.DataBlocks = 0
	_, err = Activate("name", "", table)
	require.ErrorContains(t, err, "dm: table: number of data blocks")

	table.DataBlocks = 300
	_, err = Activate("", "", table)
	require.ErrorContains(t, err, "dm: activate: ")
	if runtime.GOOS != "linux" {
		require.ErrorIs(t, err, verity.ErrNotSupported)
		require.ErrorIs(t, Deactivate("name"), verity.ErrNotSupported)
		_, err = Active("name")
		require.ErrorIs(t, err, verity.ErrNotSupported)
	}
}
