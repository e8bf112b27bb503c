package pcrbank_test

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

func TestBanks(t *testing.T) {
	require.Equal(t, []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}, pcrbank.Hashes())
	for _, a := range pcrbank.All {
		require.True(t, a.Hash.Available())
		require.NoError(t, pcrbank.Check(a.Hash))
		h, err := pcrbank.ByName(pcrbank.Name(a.Hash))
		require.NoError(t, err)
		require.Equal(t, a.Hash, h)
		b, ok := pcrbank.ByID(a.ID)
		require.True(t, ok)
		require.Equal(t, a, b)
	}
	h, err := pcrbank.ByName("SHA256")
	require.NoError(t, err)
	require.Equal(t, crypto.SHA256, h)
	_, err = pcrbank.ByName("md5")
	require.EqualError(t, err, `bank "md5": want sha1, sha256, sha384 or sha512`)
	require.Equal(t, "MD5", pcrbank.Name(crypto.MD5))
	require.ErrorIs(t, pcrbank.CheckAll([]crypto.Hash{crypto.SHA1, crypto.MD5}), pcrbank.ErrUnknown)
	require.EqualError(t, pcrbank.CheckAll([]crypto.Hash{crypto.SHA1, crypto.SHA1}), "bank sha1: named twice")
	_, ok := pcrbank.ByID(0x12)
	require.False(t, ok)
	for _, bad := range [][]int{{-1}, {24}, {4, 4}, {7, 4}} {
		require.ErrorContains(t, pcrbank.CheckPCRs(bad), "want ascending numbers from 0 to 23")
	}
	require.NoError(t, pcrbank.CheckPCRs([]int{0, 23}))
	require.Equal(t, []int{1, 5, 9}, pcrbank.PCRs(map[int]string{9: "", 1: "", 5: ""}))
	for _, h := range pcrbank.Hashes() {
		w := h.New()
		w.Write([]byte("ab"))
		require.Equal(t, w.Sum(nil), pcrbank.Sum(h, []byte("ab")))
		require.Equal(t, w.Sum(nil), pcrbank.Sum(h, []byte("a"), []byte("b")))
	}
}
