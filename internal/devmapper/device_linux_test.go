package devmapper

import (
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// specNext is the offset of next in struct dm_target_spec.
const specNext = unsafe.Offsetof(unix.DmTargetSpec{}.Next)

func TestEncodeDecode(t *testing.T) {
	targets := []Target{
		{Start: 0, Sectors: 8, Type: "linear", Params: "/dev/sda 0"},
		{Start: 8, Sectors: 2400, Type: "verity", Params: "1 /dev/sda /dev/sdb 4096"},
	}
	b, err := encode(targets)
	require.NoError(t, err)
	require.Zero(t, len(b)%8)
	// In the answer, next counts from the first spec.
	second := binary.NativeEndian.Uint32(b[specNext:])
	binary.NativeEndian.PutUint32(b[uintptr(second)+specNext:], uint32(len(b)))
	got, err := decode(b, 2)
	require.NoError(t, err)
	assert.Equal(t, targets, got)

	_, err = encode([]Target{{Type: "sixteen-letters-"}})
	require.ErrorContains(t, err, "want 1 to 15")
	_, err = encode([]Target{{}})
	require.Error(t, err)
}

func TestDecodeBounds(t *testing.T) {
	b := make([]byte, specSize)
	for _, next := range []uint32{0, 1, 39, 40, 1 << 31, 1<<32 - 1} {
		binary.NativeEndian.PutUint32(b[specNext:], next)
		got, err := decode(b, 1)
		require.NoError(t, err)
		require.Len(t, got, 1)
		_, err = decode(b, 2)
		require.ErrorContains(t, err, "beyond the answer")
	}
	_, err := decode(b[:39], 1)
	require.ErrorContains(t, err, "target 0 of 1")
}

func TestNames(t *testing.T) {
	var field [4]byte
	require.NoError(t, setName(field[:], "abc", "name"))
	assert.Equal(t, "abc", text(field[:]))
	require.ErrorContains(t, setName(field[:], "abcd", "name"), "at most 3")
	require.ErrorContains(t, setName(field[:], "a\x00", "name"), "NUL")
}

// TestNoControl reports the absence of the device-mapper as what it is.
func TestNoControl(t *testing.T) {
	if _, err := os.Stat(control); err == nil {
		t.Skip("the device-mapper is here; booted systems test it")
	}
	_, err := Create("x", "", Target{Sectors: 8, Type: "verity"})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, control)
	_, err = Create("", "")
	require.ErrorContains(t, err, "needs a name")
}
