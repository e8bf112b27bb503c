package main

import (
	"encoding/binary"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// installed is the object of install, as a program reads it.
type installed struct {
	head
	Release    releaseObject  `json:"release"`
	Seed       string         `json:"seed"`
	Plan       map[string]any `json:"plan"` // docs/schema/install.json
	Applied    bool           `json:"applied"`
	BootOption string         `json:"bootOption"`
}

const layoutJSON = `{"schema": "osmith.layout/1", "partitions": [
	{"type": "esp", "name": "esp", "size": 37748736},
	{"type": "root-x86-64", "name": "_empty", "size": 2097152}, {"type": "root-x86-64-verity", "name": "_empty", "size": 1048576},
	{"type": "root-x86-64", "name": "_empty", "size": 2097152}, {"type": "root-x86-64-verity", "name": "_empty", "size": 1048576},
	{"type": "var", "name": "state", "minSize": 1048576, "weight": 1000}]}`

// An empty image becomes a disk that boots, is upgraded and reset; one that has something on it is
// left alone until a person says what may be lost.
func TestInstall(t *testing.T) {
	b := newBench(t)
	b.release(b.build("2"))
	b.file("layout.json", layoutJSON)
	loader, err := b.builder.SignedLoader()
	require.NoError(t, err)
	text := make([]byte, loader.Size())
	_, err = loader.ReadAt(text, 0)
	require.NoError(t, err)
	b.file("loader.efi", string(text))
	b.file("new.img", "")
	require.NoError(t, os.Truncate(b.path("new.img"), 80<<20))
	// no firmware keeps an empty one
	b.file("vars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\x07\x00\x00\x00\x05\x00")
	const install = "install -disk @new.img -layout @layout.json -loader @loader.efi -conf timeout=0 -seed 11111111-2222-4333-8444-555555555555 -vars @vars -pcr-key @pcr.pub -no-shim"

	p := object[installed](t, b.ok(install+two+" -dry-run -json"))
	require.Equal(t, []any{"osmith.upgrade/1", "install", true, false}, []any{p.Schema, p.Verb, p.Offline, p.Applied})
	require.Equal(t, []any{upgrade.InstallSchema, "2", "EFI/Linux/acme_2.efi", false}, []any{p.Plan["schema"], p.Plan["version"], p.Plan["entry"], p.Plan["refused"]})
	require.Equal(t, "claim-disk", p.Plan["steps"].([]any)[0].(map[string]any)["kind"])
	empty, err := os.ReadFile(b.path("new.img"))
	require.NoError(t, err)
	require.Equal(t, make([]byte, 80<<20), empty, "nothing was written")

	out := b.ok(install + two + " -boot-option")
	require.Contains(t, out, "install version 2\n")
	require.Contains(t, out, "firmware starts the loader by Boot0000")
	require.Contains(t, out, "installed: EFI/Linux/acme_2.efi, with the seed 11111111-2222-4333-8444-555555555555")
	require.FileExists(t, b.path("vars/Boot0000-8be4df61-93ca-11d2-aa0d-00e098032b8c"))
	require.Contains(t, b.ok(install+two+" -boot-option"), "nothing to do")
	require.NoError(t, os.Rename(b.path("new.img"), b.path("disk.img")))
	require.Equal(t, "2", b.boot("two").Version)
	require.NoError(t, os.Rename(b.path("disk.img"), b.path("new.img")))
	require.Contains(t, b.ok("inspect -disk @new.img"), "EFI/Linux/acme_2.efi")

	// With another seed it is a disk that has something on it.
	const other = "install -disk @new.img -layout @layout.json -loader @loader.efi -vars @vars -pcr-key @pcr.pub -no-shim"
	status, _, stderr := b.call(other + two)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, `partition 2 ("acme_2", 2.0 MiB)`[:21])
	digest := regexp.MustCompile(`[0-9a-f]{64}`).FindString(stderr)
	require.Contains(t, stderr, "as flags, InstallOptions.EraseForEverTheDiskWithThisDigest: -erase-for-ever")
	b.refused(1, "the disk changed since erasing it was agreed to", other+two+" -erase-for-ever 00")
	p = object[installed](t, b.ok(other+two+" -json -erase-for-ever "+digest))
	require.True(t, p.Applied)
	require.NotEmpty(t, p.Plan["erases"])
	require.Regexp(t, "^[0-9a-f-]{36}$", p.Seed)

	r := object[resetResult](t, b.ok("factory-reset -json -disk @new.img -state var/state"))
	require.Len(t, r.Reset, 1)
	require.Equal(t, "reset: partition 6 (state)\n", b.ok("factory-reset -disk @new.img -state "+r.Reset[0].ID))
	b.refused(1, "from which a system boots", "factory-reset -disk @new.img -state esp/esp")
	b.refused(2, "-state is missing", "factory-reset -disk @new.img")
	b.refused(2, "want a PARTUUID, or TYPE/LABEL", "factory-reset -disk @new.img -state x")
	b.refused(2, "-layout is missing", "install -disk @new.img"+two)
	b.refused(2, "-conf, -keys and -shim go with -loader", "install -disk @new.img -layout @layout.json -conf timeout=3"+two)
	b.refused(2, "-vars is missing: -boot-option is written there", "install -disk @new.img -layout @layout.json -boot-option"+two)
	b.refused(2, "no boot loader given", "install -disk @new.img -layout @layout.json"+two)

	// Shim comes in front of the loader, and what goes into loader.conf may have a "=".
	b.file("shim.efi", string(petest.Shim(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(make([]byte, 8), 16), 16), nil, []byte("sbat,1,x,x,1,x\nshim,4,x,x,1,x\n"), 0, ".vendor_cert\x00.sbatlevel\x00")))
	b.file("shim.img", "")
	require.NoError(t, os.Truncate(b.path("shim.img"), 80<<20))
	shim := strings.ReplaceAll(install, "new.img", "shim.img") + two + " -shim @shim.efi"
	b.refused(2, "-conf editor=: the loader.conf of a new disk has no such key to remove", shim+" -conf editor=")
	b.refused(1, "firmware will not start shim", shim)
	b.ok(strings.ReplaceAll(shim, "-vars @vars", "-no-secure-boot") + " -conf default=a=b.efi")
	disk, err := acmeos.OpenImage(b.path("shim.img"))
	require.NoError(t, err)
	defer disk.Close()
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	esp, err := fat.OpenReader(table.Window(disk, 0))
	require.NoError(t, err)
	config, err := esp.ReadFile("loader/loader.conf")
	require.NoError(t, err)
	require.Equal(t, "timeout 0\ndefault a=b.efi\n", string(config))
	for _, name := range []string{"EFI/BOOT/grubx64.efi", "EFI/systemd/grubx64.efi"} {
		got, err := esp.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, text, got)
	}
}
