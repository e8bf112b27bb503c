package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
)

func TestESPMenu(t *testing.T) {
	files(t)
	put := func(path, content string) {
		t.Helper()
		require.NoError(t, os.WriteFile("f", []byte(content), 0o600))
		disk(t, 0, "esp", "put", "d.img", "f", path)
	}
	disk(t, 0, "build", "-o", "d.img", "layout.json")
	_, stderr := disk(t, 1, "esp", "menu", "d.img")
	require.Contains(t, stderr, "EFI/BOOT/BOOTX64.EFI: bootloader: MS-DOS header at 0x0: not a systemd-boot binary")
	require.Contains(t, stderr, "-loader-as")
	out, _ := disk(t, 0, "esp", "menu", "d.img", "-loader-as", "262")
	require.Equal(t, "systemd-boot  (x64), by the rules of 262 (none)\ndefault: there is no entry\n", out)

	put("EFI/BOOT/BOOTX64.EFI", string(petest.Loader("257.13-1")))
	put("EFI/Linux/os_1.efi", string(petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".osrel", Content: []byte("NAME=x\nID=os\nVERSION_ID=1\n")}, {Name: ".linux", Content: []byte("k")}}}.Bytes()))
	put("k", "kernel")
	put("i", "initrd")
	put("loader/entries/a+3.conf", "title A\nlinux /k\ninitrd /i\nsort-key os\nversion 2\n")
	put("loader/loader.conf", "preferred os_1*\n")
	out, _ = disk(t, 0, "esp", "menu", "d.img")
	require.Equal(t, `systemd-boot 257.13-1 (x64), by the rules of 257.13 (booted)
* a.conf  "A"  loader/entries/a+3.conf -> loader/entries/a+2-1.conf
  os_1.efi  "x"  EFI/Linux/os_1.efi
default: first in the menu
loader/loader.conf: line 1: preferred os_1*: systemd-boot 257 does not read it, 260 and later do
`, out)

	put("EFI/BOOT/BOOTX64.EFI", string(petest.Loader("262-1")))
	put("loader/entries/b+0-3.conf", "linux /k\ninitrd /i /gone\nuname x\n")
	out, stderr = disk(t, 1, "esp", "menu", "d.img:esp")
	require.Contains(t, out, "* os_1.efi")
	require.Contains(t, out, "default: preferred in loader.conf\n")
	require.Contains(t, out, `  b.conf  ""  loader/entries/b+0-3.conf -> loader/entries/b+0-4.conf  no tries left`)
	require.Contains(t, out, "loader/entries/b+0-3.conf: line 2: initrd /i /gone: not on the file system of the entry: systemd-boot reads the whole line as one path")
	require.Contains(t, stderr, "entries that cannot boot: b.conf")
	out, _ = disk(t, 1, "esp", "menu", "-json", "d.img")
	var got menuJSON
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, []string{"262-1", "262", "booted", "x64", "preferred in loader.conf"}, []string{got.Loader, got.Rules, got.Evidence, got.Architecture, got.Reason})
	require.Len(t, got.Entries, 3)
	require.Equal(t, bootEntryJSON{ID: "a.conf", Path: "loader/entries/a+3.conf", Type: "type1 linux", Title: "A", Version: "2", Renamed: "loader/entries/a+2-1.conf"}, got.Entries[0])
	require.True(t, got.Entries[1].Default)
	require.True(t, got.Entries[2].Bad)
	require.True(t, strings.HasPrefix(got.Entries[2].Damage, "line 2: initrd"))
	require.Len(t, got.Findings, 2)
	require.Equal(t, []string{"b.conf"}, got.Broken)

	put("EFI/BOOT/BOOTX64.EFI", string(petest.Loader("263")))
	_, stderr = disk(t, 1, "esp", "menu", "d.img")
	require.Contains(t, stderr, "systemd-boot 263 is newer than 262")
	out, _ = disk(t, 1, "esp", "menu", "d.img", "-loader-as", "260")
	require.Contains(t, out, "systemd-boot 263 (x64), by the rules of 260 (none)")

	// What is not systemd-boot may be a shim, which starts the loader beside it.
	put("EFI/BOOT/BOOTX64.EFI", string(petest.Shim([]byte("vendor"), nil, nil, 0, ".vendor_cert\x00.sbatlevel\x00")))
	_, stderr = disk(t, 1, "esp", "menu", "d.img")
	require.Contains(t, stderr, "EFI/BOOT/BOOTX64.EFI: bootloader: ")
	put("EFI/BOOT/grubx64.efi", string(petest.Loader("261")))
	out, _ = disk(t, 1, "esp", "menu", "d.img")
	require.Contains(t, out, "systemd-boot 261 (x64), by the rules of 261")
	disk(t, 0, "esp", "rm", "d.img", "EFI/BOOT/grubx64.efi")

	disk(t, 0, "esp", "rm", "d.img", "EFI/BOOT/BOOTX64.EFI")
	_, stderr = disk(t, 1, "esp", "menu", "d.img")
	require.Contains(t, stderr, "there is no boot loader in EFI/BOOT")
}

// Entries on an extended boot loader partition are in the menu, too.
func TestESPMenuXBOOTLDR(t *testing.T) {
	files(t)
	require.NoError(t, os.MkdirAll("boot/loader/entries", 0o755))
	for name, content := range map[string]string{"esp/EFI/BOOT/BOOTX64.EFI": string(petest.Loader("262")), "boot/k": "k", "boot/loader/entries/x.conf": "linux /k\n",
		"repart.d/30-boot.conf": "[Partition]\nType=xbootldr\nFormat=vfat\nCopyFiles=../boot:/\nSizeMinBytes=40M\nSizeMaxBytes=40M\n"} {
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	}
	disk(t, 0, "build", "-o", "d.img", "-size", "335544320", "repart.d")
	out, _ := disk(t, 0, "esp", "menu", "d.img")
	require.Contains(t, out, `* x.conf  ""  XBOOTLDR: loader/entries/x.conf`)
}
