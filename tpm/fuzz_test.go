package tpm

import (
	"bytes"
	"crypto"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzParseLog: no panic, nil exactly with an error, and what is parsed is written back as it was.
func FuzzParseLog(f *testing.F) {
	for _, raw := range foreignLogs(f) {
		f.Add(raw)
	}
	f.Add(read(f, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements"))
	f.Add([]byte(header(0x12, 32, 0xb, 32).u32(4, 5, 1).u16(0xb).bytes(make([]byte, 32)...).u32(0)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		log, err := ParseLog(raw)
		if err != nil {
			require.Nil(t, log)
			return
		}
		require.NotNil(t, log)
		again, err := log.MarshalBinary()
		require.NoError(t, err)
		require.True(t, bytes.Equal(raw, again), "written back")
		text := log.String()
		require.True(t, utf8.ValidString(text))
		banks, err := log.Replay()
		require.NoError(t, err)
		for h, b := range banks {
			require.NoError(t, log.Verify(h, b.Values()))
		}
		require.Empty(t, Diff(log, log))
	})
}

// FuzzDiff: comparing any two logs ends, without panic.
func FuzzDiff(f *testing.F) {
	f.Add(read(f, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements"), read(f, "testdata/boot/f-profile1-262/binary_bios_measurements"))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, err := ParseLog(x)
		if err != nil {
			return
		}
		b, err := ParseLog(y)
		if err != nil {
			return
		}
		for _, d := range Diff(a, b) {
			require.NotEmpty(t, d.String())
			require.NotEmpty(t, d.Kind())
		}
		_, _ = a.Replay(crypto.SHA256)
	})
}
