package acmeos

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade"
)

// A demo has one version installed and another to go to, and leaves nothing behind.
func TestDemo(t *testing.T) {
	d, err := NewDemo(t.Context())
	require.NoError(t, err)
	state, err := upgrade.Inspect(d.Disk, d.Machine)
	require.NoError(t, err)
	require.Equal(t, "1", state.Next.Version)
	require.NotEqual(t, d.Old.RootHash, d.New.RootHash)

	empty, err := d.EmptyDisk(1 << 20)
	require.NoError(t, err)
	contents, err := upgrade.ReadContents(empty)
	require.NoError(t, err)
	require.True(t, contents.Empty())
	require.NoError(t, empty.Close())

	require.DirExists(t, d.dir)
	require.NoError(t, d.Close())
	require.NoDirExists(t, d.dir)
}
