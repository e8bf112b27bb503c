package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// disk runs the program as from a shell.
func disk(t testing.TB, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	got := program.Run(t.Context(), args, &out, &err)
	require.Equal(t, want, got, "disk %s\n%s%s", strings.Join(args, " "), out.String(), err.String())
	return out.String(), err.String()
}

const layoutText = `{"schema": "osmith.layout/1", "seed": "11111111-2222-3333-4444-555555555555", "size": 134217728, "partitions": [
 {"type": "esp", "name": "esp", "minSize": 41943040, "content": {"fat": {"label": "ESP", "files": [
  {"source": "esp", "target": "/"}, {"target": "/EFI/Linux"}]}}},
 {"type": "usr-x86-64", "name": "acme_1", "reserve": 1048576, "flags": ["read-only"], "content": {"file": "usr.raw"}},
 {"type": "usr-x86-64-verity", "name": "acme_1_verity", "size": 1048576},
 {"type": "usr-x86-64", "name": "_empty", "size": 8388608, "flags": ["no-auto"]},
 {"type": "usr-x86-64-verity", "name": "_empty", "size": 1048576},
 {"type": "var", "name": "var", "weight": 1000, "minSize": 4194304, "flags": ["grow-file-system"]}]}`

// files makes a layout file and what it names in a directory, and changes to it.
func files(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"layout.json": layoutText, "esp/EFI/BOOT/BOOTX64.EFI": "loader", "esp/loader/loader.conf": "timeout 3\n", "usr.raw": "usr",
		"repart.d/10-esp.conf":  "[Partition]\nType=esp\nFormat=vfat\nCopyFiles=../esp:/\nSizeMinBytes=40M\nSizeMaxBytes=40M\n",
		"repart.d/20-home.conf": "[Partition]\nType=home\nCopyBlocks=../usr.raw\n",
		"bad.d/10-esp.conf":     "[Partition]\nType=esp\nEncrypt=tpm2\n",
		"worse.d/10-esp.conf":   "[Partition]\nType=esp\nColour=red\n",
		"mkosi.d/00-esp.conf":   "[Partition]\nType=esp\nNoAuto=yes\nFormat=vfat\nCopyFiles=/efi:/\nExcludeFiles=/efi/secret\nSizeMinBytes=512M\nSizeMaxBytes=512M\n",
		"mkosi.d/10-boot.conf":  "[Partition]\nType=xbootldr\nSupplementFor=00-esp\nFormat=vfat\nCopyFiles=/boot:/\n",
		"mkosi.d/20-usr.conf":   "[Partition]\nType=usr\nLabel=%M_%A\nFormat=erofs\nCopyFiles=/usr:/\nVerity=data\nVerityMatchKey=usr\nSizeMinBytes=64M\nSizeMaxBytes=64M\n",
		"mkosi.d/30-tree.conf":  "[Partition]\nType=usr-verity\nVerity=hash\nVerityMatchKey=usr\n",
		"root/efi/EFI/A.EFI":    "loader", "root/efi/secret": "secret", "root/boot/B.EFI": "kernel", "root/usr/bin/tool": "tool",
		"os-release": "IMAGE_ID=acme\nIMAGE_VERSION=7\n",
	} {
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	var err error
	here, err = os.Getwd()
	require.NoError(t, err)
	t.Chdir(dir)
}

// here is the directory of this package.
var here string

func TestBuild(t *testing.T) {
	files(t)
	out, _ := disk(t, 0, "build", "layout.json", "--o", "a.img")
	require.Contains(t, out, "acme_1")
	disk(t, 0, "build", "-o=b.img", "layout.json", "-json")
	a, err := os.ReadFile("a.img")
	require.NoError(t, err)
	b, err := os.ReadFile("b.img")
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b), "the same layout gives the same bytes")
	_, progress := disk(t, 0, "build", "-o", "b.img", "-progress", "json", "layout.json")
	lines := strings.Split(strings.TrimSpace(progress), "\n")
	var last map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	require.Equal(t, map[string]any{"verb": "build", "done": 134217728.0, "total": 134217728.0}, last)
	disk(t, 0, "build", "-o", "c.img", "-size", "335544320", "-sector-size", "4096", "repart.d", "-seed", "11111111-2222-3333-4444-555555555556")
	_, stderr := disk(t, 1, "ls", "c.img", "home", "-json", "--", "-x")
	require.Contains(t, stderr, "no file system")
}

// Definitions of systemd-repart: planned and built as a layout, or with all that is made here.
func TestRepart(t *testing.T) {
	files(t)
	common := []string{"-os-release", "os-release", "-seed", "11111111-2222-3333-4444-555555555555", "-size", "1073741824", "mkosi.d"}
	out, stderr := disk(t, 0, append([]string{"plan", "-layout-only"}, common...)...)
	require.Contains(t, stderr, "warning: 00-esp.conf:3: NoAuto=yes is ignored")
	require.Contains(t, out, "acme_7")
	require.NotContains(t, out, "xbootldr", "it is merged into the ESP")
	require.Contains(t, out, "to be filled with the hash tree of usr")
	disk(t, 0, append([]string{"build", "-layout-only", "-o", "l.img"}, common...)...)
	planned, _ := disk(t, 0, append([]string{"plan", "-layout-only", "l.img", "-json"}, common...)...)
	require.NotContains(t, planned, `"op":"create"`)
	require.Contains(t, planned, `"warnings":["00-esp.conf:3: `)
	disk(t, 0, append([]string{"build", "-o", "m.img", "-copy-source", "root", "-fs-sector-size", "4096"}, common...)...)
	seen, _ := disk(t, 0, "ls", "m.img", "acme_7", "bin")
	require.Contains(t, seen, "tool")
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "osmith-disk-*"))
	require.NoError(t, err)
	require.Empty(t, left)

	// A signature and a volume need keys; other file systems are made by others.
	write := func(text string) {
		require.NoError(t, os.WriteFile("mkosi.d/40-more.conf", []byte("[Partition]\n"+text), 0o644))
	}
	write("Type=usr-verity-sig\nVerity=signature\nVerityMatchKey=usr\n")
	build := append([]string{"build", "-o", "m.img", "-copy-source", "root", "-fs-sector-size", "4096"}, common...)
	_, stderr = disk(t, 2, build...)
	require.Contains(t, stderr, "give a key (DiskOptions.Verity); as flags: -private-key and -certificate")
	key, cert := "../../verity/testdata/signature/key.pem", "../../verity/testdata/signature/cert.pem"
	disk(t, 0, append(build, "-private-key", filepath.Join(here, key), "-certificate", filepath.Join(here, cert))...)
	_, stderr = disk(t, 2, append(build, "-private-key", filepath.Join(here, key))...)
	require.Contains(t, stderr, "-private-key and -certificate go together")
	write("Type=home\nFormat=ext4\nCopyFiles=/usr/bin:/made\n")
	disk(t, 0, build...)
	seen, _ = disk(t, 0, "ls", "m.img", "home", "made")
	require.Contains(t, seen, "tool")
	write("Type=home\nFormat=btrfs\n")
	_, stderr = disk(t, 2, build...)
	require.Contains(t, stderr, "want FAT, EROFS, squashfs, ext4 or swap: no other file systems are made; -layout-only leaves out the rest")
	write("Type=home\nEncrypt=key-file\nFormat=swap\nSizeMaxBytes=64M\n")
	_, stderr = disk(t, 2, build...)
	require.Contains(t, stderr, "as flags: -key-file")
	disk(t, 0, append(build, "-key-file", "os-release")...)
	require.NoError(t, os.Remove("mkosi.d/40-more.conf"))

	require.NoError(t, os.Remove("mkosi.d/20-usr.conf"))
	require.NoError(t, os.Remove("mkosi.d/30-tree.conf"))
	disk(t, 0, append([]string{"build", "-o", "n.img", "-copy-source", "root", "-fs-sector-size", "4096"}, common...)...)
	all, _ := disk(t, 0, "esp", "ls", "n.img")
	require.Contains(t, all, "B.EFI", "the files of the supplement")
	require.NotContains(t, all, "secret")
	disk(t, 0, "esp", "cat", "n.img", "EFI/A.EFI")
}

func TestInspect(t *testing.T) {
	files(t)
	disk(t, 0, "build", "-o", "d.img", "layout.json")
	out, _ := disk(t, 0, "inspect", "d.img", "-svg", "d.svg")
	require.Contains(t, out, "slot A  installed  acme_1")
	svg, err := os.ReadFile("d.svg")
	require.NoError(t, err)
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
	}
	out, _ = disk(t, 0, "inspect", "-json", "d.img")
	var got inspectJSON
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, schema, got.Schema)
	require.Len(t, got.Partitions, 6)
	require.Equal(t, []string{"installed", "empty"}, []string{got.Slots[0].State, got.Slots[1].State})
	require.Len(t, got.Slots[0].RootHash, 64)

	f, err := os.OpenFile("d.img", os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("damage"), 512)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(256<<20))
	require.NoError(t, f.Close())
	_, stderr := disk(t, 1, "inspect", "d.img")
	require.Contains(t, stderr, "disk repair")
	out, _ = disk(t, 0, "repair", "d.img", "-json")
	require.Contains(t, out, `"changed":true`)
	disk(t, 0, "inspect", "d.img")
	out, _ = disk(t, 0, "plan", "d.img", "layout.json")
	require.Contains(t, out, "was ")
}

func TestESP(t *testing.T) {
	files(t)
	disk(t, 0, "build", "-o", "d.img", "layout.json")
	out, _ := disk(t, 0, "esp", "cat", "d.img", "loader/loader.conf")
	require.Equal(t, "timeout 3\n", out)
	disk(t, 0, "esp", "put", "d.img", "layout.json", "EFI/Linux/os_2+3.efi")
	disk(t, 0, "esp", "put", "d.img:esp", "usr.raw", "/EFI/Linux/os_2+3.efi")
	disk(t, 0, "esp", "put", "d.img:1", "usr.raw", "EFI/Linux/")
	disk(t, 0, "esp", "mv", "d.img", "EFI/Linux/os_2+3.efi", "EFI/Linux/os_2.efi")
	out, _ = disk(t, 0, "esp", "cat", "-json", "d.img", "EFI/Linux/os_2.efi")
	require.Contains(t, out, `"size":3,"sha256":"`)
	disk(t, 0, "esp", "rm", "d.img", "EFI/Linux/usr.raw")
	out, _ = disk(t, 0, "esp", "ls", "d.img", "EFI/Linux")
	require.Equal(t, "-            3  os_2.efi\n", out)
	out, _ = disk(t, 0, "ls", "d.img", "esp", "EFI/Linux")
	require.Equal(t, "-            3  os_2.efi\n", out)
	for _, args := range [][]string{
		{"mv", "d.img", "EFI/Linux/os_2.efi", "os_2.efi"}, // another directory
		{"mv", "d.img", "EFI/Linux/no.efi", "EFI/Linux/yes.efi"},
		{"rm", "d.img", "nothing"}, {"cat", "d.img", "EFI"}, {"ls", "d.img:var"}, {"ls", "d.img:9"}, {"ls", "d.img:_empty"},
	} {
		_, stderr := disk(t, 1, append([]string{"esp"}, args...)...)
		require.NotEmpty(t, stderr)
	}
	testtools.Require(t, "fsck.fat")
	img, err := os.ReadFile("d.img")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("esp.img", img[1<<20:41<<20], 0o644))
	testtools.Run(t, "fsck.fat", "-n", "esp.img")
}

// File systems made by their own tools, read inside of a partition.
func TestLs(t *testing.T) {
	files(t)
	require.NoError(t, os.Truncate("usr.raw", 0))
	for _, c := range []struct {
		kind string
		make func(t *testing.T) string
	}{
		{"squashfs", func(t *testing.T) string {
			return testtools.Run(t, "mksquashfs", "esp", "usr.raw", "-noappend", "-quiet", "-no-progress")
		}},
		{"erofs", func(t *testing.T) string { return testtools.Run(t, "mkfs.erofs", "usr.raw", "esp") }},
		{"iso9660", func(t *testing.T) string {
			return testtools.Run(t, "genisoimage", "-quiet", "-R", "-o", "usr.raw", "esp")
		}},
		{"ext4", func(t *testing.T) string {
			require.NoError(t, os.Remove("usr.raw"))
			return testtools.Run(t, "mkfs.ext4", "-q", "-d", "esp", "usr.raw", "8M")
		}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			c.make(t)
			disk(t, 0, "build", "-o", "d.img", "layout.json")
			out, _ := disk(t, 0, "ls", "-json", "d.img", "2", "/loader")
			var got listJSON
			require.NoError(t, json.Unmarshal([]byte(out), &got))
			require.Equal(t, c.kind, got.FileSystem)
			require.Equal(t, []entryJSON{{"loader.conf", false, 10, false}}, got.Entries)
			disk(t, 0, "ls", "d.img", "acme_1", "loader/loader.conf")
			disk(t, 1, "ls", "d.img", "2", "nothing")
		})
	}
}

// What others see otherwise is said, and is a negative answer; repair puts right what no person has
// to decide.
func TestFindings(t *testing.T) {
	files(t)
	disk(t, 0, "build", "-o", "whole.img", "layout.json")
	whole, err := os.ReadFile("whole.img")
	require.NoError(t, err)
	for _, c := range []struct {
		code   string
		change func(b []byte)
		repair []string // arguments
		status int      // of the repair
		after  int      // of inspect afterwards
	}{
		{"no-mbr", func(b []byte) { clear(b[:512]) }, nil, 0, 0},
		{"two-records", func(b []byte) { b[446+16+4] = 0xee }, nil, 0, 0},
		{"mbr-wins", func(b []byte) { b[446+4] = 0xef }, nil, 0, 0},
		{"mbr-wins", func(b []byte) { b[446+4] = 0x83 }, nil, 1, 1},
		{"hybrid-mbr", func(b []byte) { b[446+16+4] = 0x0c; b[len(b)-100] = 1 }, nil, 1, 1},
		{"hybrid-mbr", func(b []byte) { b[446+16+4] = 0x0c; b[len(b)-512] = 1 }, []string{"-keep-hybrid"}, 0, 1},
		{"backup", func(b []byte) { b[len(b)-512] = 1 }, []string{"-sector-size", "512"}, 0, 0},
		{"backup", func(b []byte) { b[len(b)-512] = 1 }, []string{"-sector-size=4096"}, 1, 1},
	} {
		b := bytes.Clone(whole)
		c.change(b)
		require.NoError(t, os.WriteFile("d.img", b, 0o644))
		out, stderr := disk(t, 1, "inspect", "d.img", "-json")
		require.Contains(t, stderr, "("+c.code+")")
		var got inspectJSON
		require.NoError(t, json.Unmarshal([]byte(out), &got))
		codes := []string{}
		for _, f := range got.Findings {
			codes = append(codes, f.Code)
		}
		require.Contains(t, codes, c.code)
		disk(t, c.status, append([]string{"repair", "d.img"}, c.repair...)...)
		disk(t, c.after, "inspect", "d.img")
	}
}

func TestRefuses(t *testing.T) {
	files(t)
	require.NoError(t, os.WriteFile("zero", make([]byte, 1<<20), 0o644))
	for _, c := range []struct {
		status int
		args   string
		text   string
	}{
		{2, "", "usage: disk build"},
		{0, "-h", "usage: disk esp mv"},
		{0, "build -h", "example: disk build"},
		{2, "burn", `no verb "burn"`},
		{2, "esp", "usage: disk esp ls"},
		{2, "build", "0 operands"},
		{2, "build layout.json", "-o is missing"},
		{2, "build -o x.img -colour layout.json", "-colour"},
		{2, "build -o x.img -progress loud layout.json", "-progress"},
		{2, "build -o x.img -seed 1 layout.json", "-seed"},
		{2, "build -o x.img none.json", "none.json"},
		{1, "build -o x.img usr.raw", "usr.raw: partition: layout"},
		{2, "build -o x.img bad.d", "-layout-only leaves out the rest"},
		{1, "build -o x.img -layout-only -size 1048576 bad.d", "bytes are missing"},
		{2, "plan -size 1073741824 worse.d", "worse.d: partition: 10-esp.conf:3: Colour=red: unsupported: no such key"},
		{2, "plan -size 1073741824 mkosi.d", "20-usr.conf:3: Label=%M_%A: the text for a specifier is not given: %M; give it by -specifier, or -os-release"},
		{2, "plan -specifier MM=x mkosi.d", "-specifier MM=x: want LETTER=TEXT"},
		{2, "plan -specifier z=x mkosi.d", "specifier"},
		{2, "plan -architecture vax mkosi.d", "vax"},
		{2, "plan -os-release none mkosi.d", "none"},
		{2, "plan -specifier M=a -specifier A=1 mkosi.d", "-copy-source says where the files are"},
		{2, "plan", "0 operands"},
		{2, "build -o x.img -size 1000 layout.json", "disk size 1000"},
		{1, "build -o x.img -size 33554432 layout.json", "bytes are missing"},
		{2, "build -o esp layout.json", "directory"},
		{2, "inspect none.img", "none.img"},
		{1, "inspect zero", "no GPT"},
		{1, "repair zero", "no GPT"},
		{1, "plan zero layout.json", "no GPT"},
		{2, "inspect esp", "directory"},
	} {
		_, stderr := disk(t, c.status, strings.Fields(c.args)...)
		require.Contains(t, stderr, c.text, c.args)
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, e.Name(), "x.img", "nothing is left behind")
	}
}
