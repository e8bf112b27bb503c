package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// acmeDisk writes a disk with version 1 of an imaginary system, and on its ESP a UKI whose root
// file system is not there, and what an upgrade has left.
func (b *bench) acmeDisk() {
	b.Helper()
	when := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys, err := acmeos.GenerateKeys(when)
	require.NoError(b, err)
	builder := &acmeos.Builder{Keys: keys, Parts: acmeos.StandIns(), Seed: osmith.GUID{0xac}, Time: when}
	var sets []*acmeos.Set
	for _, version := range []string{"1", "0"} {
		root := filepath.Join(b.dir, version)
		require.NoError(b, acmeos.WriteRoot(root, version, nil))
		set, err := builder.Build(b.Context(), b.dir, version, root)
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, set.Close()) })
		sets = append(sets, set)
	}
	im, err := builder.Disk(sets[0], acmeos.DiskOptions{})
	require.NoError(b, err)
	disk, err := acmeos.CreateImage(filepath.Join(b.dir, "acme.img"), im.Size)
	require.NoError(b, err)
	require.NoError(b, partition.WriteImage(disk, im, partition.WriteOptions{TargetIsZero: true}))
	require.NoError(b, disk.Close())
	p := &espvolume.Place{ESP: filepath.Join(b.dir, "acme.img")}
	c := callOf(b.T)
	defer c.Close()
	v, err := p.Open(c, true)
	require.NoError(b, err)
	require.NoError(b, v.ESP.Put("EFI/Linux/acme_0.efi", sets[1].UKI))
	require.NoError(b, v.ESP.Put("EFI/Linux/acme_7.efi.extra.d/x.addon.efi", strings.NewReader("an add-on")))
	require.NoError(b, v.ESP.Put("EFI/Linux/notes.txt", strings.NewReader("of a person")))
}

func TestGarbage(t *testing.T) {
	b := newBench(t)
	b.acmeDisk()
	const off = " -no-secure-boot -no-shim -vars none -esp @acme.img"
	b.refused(2, "-vars is missing", "gc -esp @acme.img")
	dry := object[gcResult](b, 0, "gc -dry-run -esp @acme.img:1")
	require.Equal(t, []any{"osmith.boot/1", "gc", true}, []any{dry.Schema, dry.Verb, dry.DryRun})
	require.Len(t, dry.Garbage, 2)
	require.True(t, b.has("@acme.img", "EFI/Linux/acme_0.efi"))
	kept := object[gcResult](b, 0, "gc -dry-run -keep acme_0.efi"+off)
	require.Len(t, kept.Garbage, 1)
	require.Contains(t, b.ok("gc -dry-run"+off), "EFI/Linux/acme_7.efi.extra.d/x.addon.efi  9 bytes  (its UKI is not there)\n")

	// Firmware with another vendor's keys starts nothing of this.
	when := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	others, err := acmeos.GenerateKeys(when)
	require.NoError(t, err)
	m, err := (&acmeos.Builder{Keys: others, Parts: acmeos.StandIns(), Time: when}).Machine()
	require.NoError(t, err)
	store, err := secureboot.WriteStore(emptyStore(64<<10), *m.Firmware, when)
	require.NoError(t, err)
	b.file("others.fd", store)
	b.refused(1, "no other entry to fall back to", "gc -no-shim -vars @others.fd -esp @acme.img")
	require.True(t, b.has("@acme.img", "EFI/Linux/acme_0.efi"))

	out := object[gcResult](b, 0, "gc"+off)
	require.Equal(t, dry.Garbage, out.Garbage)
	require.Equal(t, dry.Size, out.Size)
	for name, there := range map[string]bool{"EFI/Linux/acme_0.efi": false, "EFI/Linux/acme_7.efi.extra.d/x.addon.efi": false, "EFI/Linux/acme_1.efi": true, "EFI/Linux/notes.txt": true} {
		require.Equal(t, there, b.has("@acme.img", name), name)
	}
	require.Equal(t, "no garbage\n", b.ok("gc"+off))

	b.directory("efi", nil)
	b.image("no.img", b.fat(partition.LinuxGeneric, "a", nil))
	b.refused(1, "no EFI system partition", "gc -dry-run -esp @no.img")
	b.refused(2, "-offline: the ESP of a machine that is off", "gc -offline -esp @efi")
	b.refused(2, "-vars is for a machine that is off", "gc -vars none -esp @efi")
	b.refused(2, "missing", "gc -esp @missing")
}
