package petest

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pe"
)

func TestPartsAreValid(t *testing.T) {
	for name, b := range map[string][]byte{"stub": Stub("262-1"), "loader": Loader("262-1"), "kernel": Kernel("6.12.0-test")} {
		t.Run(name, func(t *testing.T) {
			f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
			require.NoError(t, err)
			require.EqualValues(t, pe.SubsystemEFIApplication, f.Subsystem)
			require.EqualValues(t, len(b), f.DataEnd())
			require.Zero(t, len(b)%512)
		})
	}
	require.Equal(t, Stub("262-1"), Stub("262-1"))
	require.NotEqual(t, Stub("262-1"), Stub("257.9"))
}
