package osmith

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBlockSize(t *testing.T) {
	r := strings.NewReader("a device")
	_, err := r.Seek(2, 0)
	require.NoError(t, err)
	size, err := blockSize(r)
	require.NoError(t, err)
	require.Equal(t, int64(8), size)
	require.Equal(t, 6, r.Len(), "the position is what it was")
	_, err = blockSize(strings.NewReader(""))
	require.ErrorContains(t, err, "the system reports no size for this device: nothing may be attached to it")
}
