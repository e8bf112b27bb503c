package uki_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

func encodeFirmware(t testing.TB, id, payload string) []byte {
	src, err := uki.EncodeFirmware(uki.Firmware{ID: id, Payload: bytes.NewReader([]byte(payload))})
	require.NoError(t, err)
	b, err := io.ReadAll(io.NewSectionReader(src, 0, src.Size()))
	require.NoError(t, err)
	return b
}

func TestFirmware(t *testing.T) {
	b := encodeFirmware(t, "abcd", "123456789")
	require.Equal(t, "\xad\xde\xed\xfe\x10\x00\x00\x00\x05\x00\x00\x00\x09\x00\x00\x00abcd\x00123456789", string(b))

	longer := append(append([]byte(nil), b[:16]...), "later attributes"...)
	longer[4] = 32
	for _, section := range [][]byte{b, append(b[:len(b):len(b)], "behind"...), append(longer, b[16:]...)} {
		fw, err := uki.ParseFirmware(bytes.NewReader(section))
		require.NoError(t, err)
		require.Equal(t, "abcd", fw.ID)
		payload, err := io.ReadAll(io.NewSectionReader(fw.Payload, 0, fw.Payload.Size()))
		require.NoError(t, err)
		require.Equal(t, "123456789", string(payload))
	}
}

func TestFirmwareRefuses(t *testing.T) {
	for _, f := range []uki.Firmware{{ID: "x"}, {Payload: bytes.NewReader(nil)}, {ID: "a\x00b", Payload: bytes.NewReader(nil)}} {
		src, err := uki.EncodeFirmware(f)
		require.Nil(t, src)
		require.ErrorContains(t, err, "uki: Firmware: ")
	}
	good := encodeFirmware(t, "abcd", "123456789")
	for name, c := range map[string]struct {
		at     int
		to     byte
		offset int64
		text   string
	}{
		"magic":   {0, 0, 0, "0xfeedde00, want 0xfeeddead"},
		"header":  {4, 15, 4, "15, want 16 or more"},
		"no id":   {8, 0, 8, "0, want 1 to 4096"},
		"long id": {9, 0x11, 8, "4357, want 1 to 4096"},
		"payload": {12, 10, 12, "ends at 31, the section has 30 bytes"},
		"NUL":     {18, 0, 16, "the NUL byte is not the last byte"},
		"no NUL":  {20, 'e', 16, "the NUL byte is not the last byte"},
	} {
		b := append([]byte(nil), good...)
		b[c.at] = c.to
		fw, err := uki.ParseFirmware(bytes.NewReader(b))
		require.Nil(t, fw, name)
		var f *osmith.FormatError
		require.True(t, errors.As(err, &f), name)
		require.Equal(t, c.offset, f.Offset, name)
		require.ErrorContains(t, err, c.text, name)
	}
	_, err := uki.ParseFirmware(bytes.NewReader(good[:15]))
	require.ErrorContains(t, err, "15 bytes, want 16")
}

// ukify 262 writes one byte in place of the magic, so that its header has 13 bytes and no stub
// takes the section. When this fails, ukify has been repaired: say since when in EncodeFirmware and
// in ParseFirmware.
func TestFirmwareOfUkify(t *testing.T) {
	root := testtools.Forky(t)
	dir := filepath.Join(t.TempDir(), "abcd")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fw.bin"), []byte("123456789"), 0o644))
	b := ukifySection(t, root, filepath.Dir(dir), ".efifw", "--efifw="+dir)
	require.Equal(t, "\x00"+string(encodeFirmware(t, "abcd", "123456789")[4:]), string(b))
	_, err := uki.ParseFirmware(bytes.NewReader(b))
	require.ErrorContains(t, err, "uki: .efifw magic")
}

func FuzzFirmware(f *testing.F) {
	f.Add(encodeFirmware(f, "abcd", "123456789"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fw, err := uki.ParseFirmware(bytes.NewReader(b))
		require.Equal(t, err != nil, fw == nil)
		if err != nil || fw.ID == "" {
			return
		}
		payload, err := io.ReadAll(io.NewSectionReader(fw.Payload, 0, fw.Payload.Size()))
		require.NoError(t, err)
		again := encodeFirmware(t, fw.ID, string(payload))
		if b[4] == 16 && b[5]|b[6]|b[7] == 0 {
			require.Equal(t, b[:len(again)], again)
		}
	})
}
