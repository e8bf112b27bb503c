package sparse

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestZero(t *testing.T) {
	for _, b := range [][]byte{{1, 0}, {0, 1}, {0, 0, 1, 0}, {1}, {1, 1, 1}} {
		require.False(t, Zero(b), b)
	}
	for _, b := range [][]byte{{}, {0}, {0, 0}, make([]byte, 100)} {
		require.True(t, Zero(b), b)
	}
}
