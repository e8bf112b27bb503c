package smbios

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// The digest of the event EV_EFI_HANDOFF_TABLES that OVMF 2026.08 left in the log of the boot that
// this table is of (tpm/testdata/boot).
func TestMeasuredByOVMF(t *testing.T) {
	table, err := os.ReadFile("../../tpm/testdata/boot/a-sb-sdboot-262/DMI")
	require.NoError(t, err)
	before := bytes.Clone(table)
	got, err := Measured(table)
	require.NoError(t, err)
	sum := sha256.Sum256(got)
	require.Equal(t, "0f303e01be0d9c1f", hex.EncodeToString(sum[:8]))
	require.Equal(t, before, table)
	require.Equal(t, got, must(t, append(before, "what lies behind the end"...)))
}

func must(t *testing.T, table []byte) []byte {
	t.Helper()
	got, err := Measured(table)
	require.NoError(t, err)
	return got
}

// Each field that is left out makes no difference, and each other one does.
func TestMeasuredFields(t *testing.T) {
	const area = 64
	for kind := range 256 {
		if kind == endOfTable {
			continue
		}
		structure := func(change int) []byte {
			b := bytes.Repeat([]byte{1}, area)
			copy(b, []byte{byte(kind), area, 0, 0})
			if change >= 0 {
				b[change]++
			}
			return append(b, "one\x00two\x00\x00\x7f\x04\x00\x00\x00\x00"...)
		}
		same := must(t, structure(-1))
		require.Len(t, same, len(structure(-1)))
		left := map[int]bool{}
		fields, some := volatile[byte(kind)]
		for _, f := range fields {
			for i := range f.size {
				left[f.offset+i] = true
			}
		}
		for i := headerSize; i < area; i++ {
			text := false
			for _, f := range fields {
				text = text || f.text && f.offset == i
			}
			if text {
				continue // the other string is blanked then
			}
			require.Equal(t, left[i] || kind >= oem || some && fields == nil, bytes.Equal(same, must(t, structure(i))), "type %d, offset %d", kind, i)
		}
	}
}

func TestMeasuredStrings(t *testing.T) {
	chassis := func(serial, tag byte, strings string) []byte {
		b := make([]byte, 22)
		copy(b, []byte{3, 22, 0, 0, 1, 1, 2, serial, tag})
		return append(b, strings...)
	}
	for _, c := range []struct {
		serial, tag   byte
		strings, want string
	}{
		{0, 0, "Acme\x00v1\x00S1\x00\x00", "Acme\x00v1\x00S1\x00\x00"},
		{3, 0, "Acme\x00v1\x00S1\x00\x00", "Acme\x00v1\x00  \x00\x00"},
		{3, 1, "Acme\x00v1\x00S1\x00\x00", "    \x00v1\x00  \x00\x00"},
		{9, 0, "Acme\x00v1\x00S1\x00\x00", "Acme\x00v1\x00  \x00\x00"}, // no such string
		{1, 0, "\x00\x00", "\x00\x00"},
	} {
		got := must(t, chassis(c.serial, c.tag, c.strings))
		require.Equal(t, c.want, string(got[22:]))
		require.Equal(t, []byte{0, 0}, got[7:9])
	}
	for _, end := range []string{"", "\x7f", "\x7f\x04\x00\x00", "\x7f\x09\x00\x00\x00\x00", "\x7f\x04\x00\x00\x00\x00"} {
		b := append(chassis(0, 0, "\x00\x00"), end...)
		want := 24
		if len(end) == 6 && end[1] == 4 {
			want += 6
		}
		require.Len(t, must(t, b), want, "%q", end)
	}
	_, err := Measured([]byte{1, 3, 0, 0})
	require.Error(t, err)
}

func FuzzMeasured(f *testing.F) {
	f.Add([]byte("\x03\x09\x00\x00\x01\x01\x02\x03\x04Acme\x00One\x00\x00\x7f\x04\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Measured(b)
		if err == nil {
			require.LessOrEqual(t, len(got), len(b))
		}
	})
}
