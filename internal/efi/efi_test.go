package efi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

func TestGUID(t *testing.T) {
	g := osmith.MustParseGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	// The ESP type in a GPT entry.
	mixed := []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	require.Equal(t, mixed, efi.AppendGUID(nil, g))
	require.Equal(t, g, efi.GUID(mixed))
}

func TestUTF16(t *testing.T) {
	require.Equal(t, []byte{'P', 0, 'K', 0}, efi.AppendUTF16(nil, "PK"))
	require.Equal(t, 3, efi.UTF16Len("a😀"))
	require.Len(t, efi.AppendUTF16(nil, "a😀"), 6)
	require.Equal(t, "a😀", efi.DecodeUTF16(efi.AppendUTF16(nil, "a😀")))
	require.Equal(t, "PK", efi.DecodeUTF16([]byte{'P', 0, 'K', 0, 0, 0, 'x', 0, 9}))
}
