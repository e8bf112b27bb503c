package partition

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVerityIDs(t *testing.T) {
	hash := []byte("0123456789abcdefFEDCBA9876543210")
	data, tree, err := VerityIDs(hash)
	require.NoError(t, err)
	require.Equal(t, "30313233-3435-3637-3839-616263646566", data.String())
	require.Equal(t, "46454443-4241-3938-3736-353433323130", tree.String())
	long := append(hash[:16:16], make([]byte, 32)...)
	_, tree, err = VerityIDs(long)
	require.NoError(t, err)
	require.True(t, tree.IsZero())
	for _, n := range []int{0, 16, 20, 31, 65} {
		_, _, err := VerityIDs(make([]byte, n))
		require.ErrorIs(t, err, ErrRootHash)
		require.ErrorContains(t, err, "32 to 64")
	}
}

// The two IDs were computed from the source of systemd 262 for usr-x86-64.
func TestSysupdateTypes(t *testing.T) {
	require.Equal(t, "fbea3c22-a186-403e-bb33-6d9f74d351ee", PartialType(UsrX8664).String())
	require.Equal(t, "ac8558b5-455e-4869-8c5e-d8272455c06a", PendingType(UsrX8664).String())
}
