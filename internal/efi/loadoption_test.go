package efi_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// recordedOptions are the Boot#### variables in the event logs of machines, which have them as
// UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile 1.06, section 10.2.6): vendor,
// lengths of name and content, name, content.
func recordedOptions(t testing.TB) (found map[string][]byte) {
	t.Helper()
	found = map[string][]byte{}
	start := efi.AppendGUID(nil, efi.GlobalVariable)
	for _, pattern := range []string{"eventlogs", "machines"} {
		logs, err := filepath.Glob(filepath.Join("..", "..", "tpm", "testdata", pattern, "*.bin"))
		require.NoError(t, err)
		for _, name := range logs {
			log, err := os.ReadFile(name)
			require.NoError(t, err)
			for rest := log; ; {
				i := bytes.Index(rest, start)
				if i < 0 || len(rest) < i+32 {
					break
				}
				rest = rest[i+16:]
				chars, size := binary.LittleEndian.Uint64(rest), binary.LittleEndian.Uint64(rest[8:])
				if chars != 8 || size > 4096 || uint64(len(rest)) < 32+size {
					continue
				}
				if variable := efi.DecodeUTF16(rest[16:32]); regexp.MustCompile(`^Boot[0-9A-F]{4}$`).MatchString(variable) {
					found[filepath.Base(name)+" "+variable] = rest[32 : 32+size]
				}
			}
		}
	}
	require.Greater(t, len(found), 20)
	return found
}

// What firmware, bootctl, Windows and efibootmgr have written on machines is encoded to the same
// bytes.
func TestLoadOptionsOfMachines(t *testing.T) {
	drives := 0
	for name, b := range recordedOptions(t) {
		o, err := efi.ParseLoadOption(b)
		require.NoError(t, err, name)
		again, err := efi.AppendLoadOption(nil, o)
		require.NoError(t, err, name)
		require.Equal(t, b, again, name)

		h, ok := efi.PathHardDrive(o.Path)
		if !ok {
			continue
		}
		drives++
		var path []byte
		if i := bytes.Index(o.Path, []byte{4, 1, 42, 0}); i > 0 {
			path = append(path, o.Path[:i]...) // the way to the disk
		}
		path, err = efi.AppendFile(efi.AppendHardDrive(path, h), efi.PathFile(o.Path))
		require.NoError(t, err)
		require.Equal(t, o.Path, efi.AppendPathEnd(path), name)
	}
	require.Greater(t, drives, 10)
}

// Boot0001 of a Fedora 37, as its `bootctl install` has made it, from its parts.
func TestLoadOptionOfBootctl(t *testing.T) {
	path := efi.AppendHardDrive(nil, efi.HardDrive{Number: 1, FirstLBA: 0x800, SizeLBA: 0x100000, ID: osmith.MustParseGUID("3cb9643c-6c08-4fe5-852d-17e1ae701158")})
	path, err := efi.AppendFile(path, `\EFI\systemd\systemd-bootx64.efi`)
	require.NoError(t, err)
	b, err := efi.AppendLoadOption(nil, efi.LoadOption{Attributes: efi.LoadOptionActive, Description: "Linux Boot Manager", Path: efi.AppendPathEnd(path)})
	require.NoError(t, err)
	require.Equal(t, recordedOptions(t)["event-sd-boot-fedora37.bin Boot0001"], b)
}

func TestRelocate(t *testing.T) {
	old := efi.HardDrive{Number: 1, FirstLBA: 2048, SizeLBA: 4096, ID: osmith.MustParseGUID("3cb9643c-6c08-4fe5-852d-17e1ae701158")}
	path := func(h efi.HardDrive) []byte {
		b := efi.AppendHardDrive([]byte{2, 1, 12, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0}, h)
		b, err := efi.AppendFile(b, `\x`)
		require.NoError(t, err)
		return efi.AppendPathEnd(b)
	}
	moved := efi.HardDrive{Number: 3, FirstLBA: 1 << 40, SizeLBA: 1<<63 + 1, ID: osmith.MustParseGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")}
	b := path(old)
	require.True(t, efi.Relocate(b, moved))
	require.Equal(t, path(moved), b)
	h, ok := efi.PathHardDrive(b)
	require.True(t, ok)
	require.Equal(t, moved, h)

	mbr := path(old)
	mbr[12+4+36], mbr[12+4+37] = 1, 1
	cut := path(old)[:12+41]
	// another instance says nothing of what is started
	second := append([]byte{0x7f, 1, 4, 0}, path(old)...)
	for _, b := range [][]byte{nil, mbr, cut, second} {
		before := bytes.Clone(b)
		require.False(t, efi.Relocate(b, moved))
		require.Equal(t, before, b)
	}
}

func TestLoadOptionRefused(t *testing.T) {
	for want, o := range map[string]efi.LoadOption{
		"want text without NUL":   {Description: "a\x00b"},
		"text without NUL":        {Description: "a\xffb"},
		"longer than 65535 bytes": {Path: make([]byte, 65536)},
	} {
		b, err := efi.AppendLoadOption(nil, o)
		require.ErrorContains(t, err, want)
		require.Nil(t, b)
	}
	for _, file := range []string{"", "a\x00", "\xff", strings.Repeat("x", 32765)} {
		b, err := efi.AppendFile(nil, file)
		require.ErrorContains(t, err, "path of a file")
		require.Nil(t, b)
	}
	_, err := efi.AppendFile(nil, strings.Repeat("x", 32764))
	require.NoError(t, err)
}

// What is encoded is parsed to the same, and what is parsed is encoded to the same bytes unless the
// description was no UTF-16.
func FuzzLoadOption(f *testing.F) {
	for _, b := range recordedOptions(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := efi.ParseLoadOption(b)
		if err != nil {
			return
		}
		again, err := efi.AppendLoadOption(nil, o)
		require.NoError(t, err)
		back, err := efi.ParseLoadOption(again)
		require.NoError(t, err)
		require.Equal(t, o, back)
		if !strings.Contains(o.Description, "\ufffd") {
			require.Equal(t, b, again)
		}
		path := bytes.Clone(o.Path)
		h, ok := efi.PathHardDrive(path)
		require.Equal(t, ok, efi.Relocate(path, h))
		differ := 0
		for i := range path {
			if path[i] != o.Path[i] {
				differ++
			}
		}
		require.LessOrEqual(t, differ, 1, "the same place, and the byte of the table's format, which may have been another one")
	})
}
