package efi

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGUID(t *testing.T) {
	const text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	g, err := ParseGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	require.NoError(t, err)
	require.Equal(t, text, g.String())
	require.False(t, g.IsZero())
	require.True(t, GUID{}.IsZero())
	// The ESP type as it stands in a GPT entry.
	mixed := []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	require.Equal(t, mixed, g.AppendMixed(nil))
	require.Equal(t, g, GUIDFromMixed(mixed))
	b, err := json.Marshal(map[string]GUID{"id": g})
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"`+text+`"}`, string(b))
	var back map[string]GUID
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, g, back["id"])
	for _, s := range []string{"", text[1:], "{" + text[1:], "c12a7328+f81f-11d2-ba4b-00a0c93ec93b", "x12a7328-f81f-11d2-ba4b-00a0c93ec93b"} {
		_, err := ParseGUID(s)
		require.ErrorContains(t, err, "efi: GUID", s)
	}
}

func TestUTF16(t *testing.T) {
	require.Equal(t, []byte{'P', 0, 'K', 0}, AppendUTF16(nil, "PK"))
	require.Equal(t, 3, UTF16Len("a😀"))
	require.Len(t, AppendUTF16(nil, "a😀"), 6)
	require.Equal(t, "a😀", DecodeUTF16(AppendUTF16(nil, "a😀")))
	require.Equal(t, "PK", DecodeUTF16([]byte{'P', 0, 'K', 0, 0, 0, 'x', 0, 9}))
}
