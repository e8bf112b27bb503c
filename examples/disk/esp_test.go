package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// editESP changes the bytes of the ESP of d.img.
func editESP(t *testing.T, do func(esp []byte)) {
	t.Helper()
	img, err := os.ReadFile("d.img")
	require.NoError(t, err)
	do(img[1<<20 : 41<<20])
	require.NoError(t, os.WriteFile("d.img", img, 0o644))
}

// A file system that is not clean: what inspect and repair say of it.
func TestESPRepair(t *testing.T) {
	files(t)
	disk(t, 0, "build", "-o", "d.img", "layout.json")
	out, _ := disk(t, 0, "esp", "inspect", "d.img")
	require.Contains(t, out, `FAT32`)
	require.Contains(t, out, `"ESP"  clusters of 512 bytes`)
	start, size := 32*512, 0
	editESP(t, func(esp []byte) {
		start, size = int(esp[14])*512, int(uint32(esp[36])|uint32(esp[37])<<8)*512
		clear(esp[start : start+512]) // the first sector of the first FAT
		esp[65] = 1                   // in use
	})
	out, stderr := disk(t, 1, "esp", "inspect", "d.img")
	require.Contains(t, out, "a driver had the volume in use and did not finish")
	require.Contains(t, out, "FAT 0 does not begin with the media byte")
	require.Contains(t, out, "FAT 0 differs from FAT 1 in 1 sectors")
	require.Contains(t, stderr, "disk esp repair")
	out, _ = disk(t, 0, "esp", "cat", "d.img", "loader/loader.conf")
	require.Equal(t, "timeout 3\n", out)
	out, _ = disk(t, 1, "esp", "inspect", "-json", "d.img:esp")
	var got volumeJSON
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, []fatJSON{{1, true, 0, 0}, {0, false, 1, got.FATs[1].Damaged}}, got.FATs)
	require.Equal(t, []bool{false, true, false}, []bool{got.Clean, got.InUse, got.IOErrors})
	out, _ = disk(t, 0, "esp", "repair", "d.img")
	require.Equal(t, "1 FAT sectors, 0 lost clusters, 0 pieces of names\n", out)
	editESP(t, func(esp []byte) {
		require.True(t, bytes.Equal(esp[start:start+size], esp[start+size:start+2*size]))
		esp[65] = 0
	})
	disk(t, 0, "esp", "inspect", "d.img")
	out, _ = disk(t, 0, "esp", "repair", "d.img", "-json")
	require.Contains(t, out, `"changed":false`)

	editESP(t, func(esp []byte) { clear(esp[start : start+512]); clear(esp[start+size : start+size+512]) })
	_, stderr = disk(t, 1, "esp", "repair", "d.img")
	require.Contains(t, stderr, "run fsck.fat on the volume")
	editESP(t, func(esp []byte) { clear(esp[:512]); copy(esp[3:], "EXFAT   "); esp[510], esp[511] = 0x55, 0xaa })
	for _, args := range [][]string{{"esp", "ls", "d.img"}, {"ls", "d.img", "esp"}, {"esp", "inspect", "d.img"}} {
		_, stderr = disk(t, 1, args...)
		require.Contains(t, stderr, "found an exFAT volume, want FAT")
	}
}

// One rule for names, in all verbs: the exact one is meant, and what is ambiguous is not changed.
func TestESPNames(t *testing.T) {
	files(t)
	disk(t, 0, "build", "-o", "d.img", "layout.json")
	require.NoError(t, os.WriteFile("a", []byte("AAA"), 0o644))
	require.NoError(t, os.WriteFile("b", []byte("bbb"), 0o644))
	disk(t, 0, "esp", "put", "d.img", "a", "Config Upper.efi")
	disk(t, 0, "esp", "put", "d.img", "b", "config+upper.efi")
	disk(t, 0, "esp", "put", "d.img", "b", "a path.efi")
	editESP(t, func(esp []byte) {
		// becomes a name that another driver would not tell from the first
		i := bytes.Index(esp, []byte("g\x00+\x00"))
		require.Positive(t, i)
		esp[i+2] = ' '
		i = bytes.Index(esp, []byte("p\x00a\x00t\x00"))
		esp[i] = '/' // and this one no path at all
	})
	for name, content := range map[string]string{"Config Upper.efi": "AAA", "config upper.efi": "bbb", "CONFIG UPPER.EFI": "AAA"} {
		out, _ := disk(t, 0, "esp", "cat", "d.img", name)
		require.Equal(t, content, out)
		for _, args := range [][]string{{"esp", "ls", "d.img", name}, {"ls", "d.img", "esp", name}} {
			out, _ = disk(t, 0, args...)
			want := name
			if name == "CONFIG UPPER.EFI" {
				want = "Config Upper.efi"
			}
			require.Equal(t, "-            3  "+want+"\n", out)
		}
	}
	for _, args := range [][]string{{"rm", "d.img", "CONFIG UPPER.EFI"}, {"mv", "d.img", "CONFIG UPPER.EFI", "x"}} {
		_, stderr := disk(t, 1, append([]string{"esp"}, args...)...)
		require.Contains(t, stderr, `name is ambiguous: "CONFIG UPPER.EFI" can be "Config Upper.efi" (8.3 alias CONFIG~1.EFI) or "config upper.efi" (CONFIG~2.EFI): give the name in its exact case`)
	}
	out, _ := disk(t, 0, "esp", "ls", "d.img")
	require.Contains(t, out, "APATH~1.EFI  (8.3 name: the long one cannot be a path)\n")
	out, _ = disk(t, 0, "ls", "-json", "d.img", "esp", "apath~1.efi")
	require.Contains(t, out, `"byAlias":true`)
	disk(t, 0, "esp", "repair", "d.img")
	disk(t, 0, "esp", "rm", "d.img", "config upper.efi")
	disk(t, 1, "esp", "cat", "d.img", "config upper.ef")
	out, _ = disk(t, 0, "esp", "cat", "d.img", "config upper.efi")
	require.Equal(t, "AAA", out, "the other one is what is left")
	disk(t, 0, "esp", "mv", "d.img", "apath~1.efi", "a path.efi")
	out, _ = disk(t, 0, "esp", "cat", "d.img", "a path.efi")
	require.Equal(t, "bbb", out)
}

// An image that is a FAT volume itself needs no partition.
func TestESPAlone(t *testing.T) {
	files(t)
	disk(t, 0, "build", "-o", "d.img", "layout.json")
	img, err := os.ReadFile("d.img")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("esp.img", img[1<<20:41<<20], 0o644))
	whole, _ := disk(t, 0, "esp", "ls", "d.img", "EFI")
	alone, _ := disk(t, 0, "esp", "ls", "esp.img", "EFI")
	require.Equal(t, whole, alone)
	disk(t, 0, "esp", "rm", "esp.img", "loader/loader.conf")
	_, stderr := disk(t, 1, "esp", "cat", "esp.img", "loader/loader.conf")
	require.Contains(t, stderr, "loader.conf")
	_, stderr = disk(t, 1, "esp", "ls", "esp.img:1")
	require.Contains(t, stderr, "GPT")
}
