package sdstub

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
)

func TestCmdlineLimit(t *testing.T) {
	le := binary.LittleEndian
	kernel := func(change func([]byte)) []byte {
		b := petest.Kernel("6.12.0")
		change(b)
		return b
	}
	same := func([]byte) {}
	for name, c := range map[string]struct {
		kernel  []byte
		machine uint16
		want    int
		known   bool
	}{
		"x86-64":          {kernel(same), 0x8664, 2047, true},
		"x86-64 for more": {kernel(func(b []byte) { le.PutUint32(b[0x238:], 4095) }), 0x8664, 4095, true},
		"x86-64 for all":  {kernel(func(b []byte) { le.PutUint32(b[0x238:], 1<<32-1) }), 0x8664, 1 << 30, true},
		"x86":             {kernel(func(b []byte) { le.PutUint32(b[0x238:], 1023) }), 0x14c, 1023, true},
		"old protocol":    {kernel(func(b []byte) { le.PutUint16(b[0x206:], 0x205) }), 0x8664, 255, true},
		"2.06":            {kernel(func(b []byte) { le.PutUint16(b[0x206:], 0x206) }), 0x8664, 2047, true},
		"does not say":    {kernel(func(b []byte) { le.PutUint32(b[0x238:], 0) }), 0x8664, 2047, true},
		"no header":       {kernel(func(b []byte) { b[0x202], b[0x239] = 0, 1 }), 0x8664, 2047, true},
		"short":           {kernel(func(b []byte) { le.PutUint32(b[0x238:], 100) })[:0x23b], 0x8664, 2047, true},
		"just enough":     {kernel(func(b []byte) { le.PutUint32(b[0x238:], 100) })[:0x23c], 0x8664, 100, true},
		"arm64":           {kernel(func(b []byte) { le.PutUint32(b[0x238:], 9) }), 0xaa64, 2047, true},
		"arm":             {nil, 0x1c2, 1023, true},
		"riscv64":         {nil, 0x5064, 1023, true},
		"loongarch64":     {nil, 0x6264, 4095, true},
		"another":         {nil, 0x200, 511, false},
	} {
		limit, known, err := CmdlineLimit(bytes.NewReader(c.kernel), int64(len(c.kernel)), c.machine)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, limit, name)
		assert.Equal(t, c.known, known, name)
	}
	_, known, err := CmdlineLimit(broken{}, 4096, 0x8664)
	require.ErrorIs(t, err, errBroken)
	assert.False(t, known)
	_, _, err = CmdlineLimit(bytes.NewReader(nil), 4096, 0x8664)
	require.Error(t, err)
}

func TestFirstLost(t *testing.T) {
	for _, c := range []struct {
		cmdline string
		limit   int
		want    string
	}{
		{"", 0, ""},
		{"ro", 2, ""},
		{"ro", 1, "ro"},
		{"ro quiet", 8, ""},
		{"ro quiet", 7, "quiet"},
		{"ro quiet", 3, "quiet"},
		{"ro quiet", 2, "quiet"},
		{"ro quiet", 1, "ro"},
		{"ro quiet   ", 8, ""},
		{"  ro", 2, "ro"},
		{`a "b c" d`, 7, "d"},
		{`a "b c" d`, 6, `"b c"`},
		{`a x="b c"d e`, 9, `x="b c"d`},
		{`a "b c d`, 7, `"b c d`},
		{"a\tbc\nd", 3, "bc"},
	} {
		assert.Equal(t, c.want, FirstLost(c.cmdline, c.limit), "%q, %d", c.cmdline, c.limit)
	}
}

// Whatever is lost, what is before it is within the limit, and it is not.
func FuzzFirstLost(f *testing.F) {
	f.Add(`ro x="a b" roothash=00`, 8)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		lost := FirstLost(s, limit)
		if lost == "" {
			require.True(t, len(strings.TrimRight(s, " \t\n")) <= max(limit, 0))
			return
		}
		require.True(t, strings.Contains(s, lost))
		require.Greater(t, len(s), limit)
	})
}
