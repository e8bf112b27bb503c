package vfat_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/internal/vfat"
	"github.com/osmith-dev/osmith/partition/fat"
)

// kind is a kind of volume.
type kind struct {
	fat, sector int
	cluster     int64
	size        int64
}

func (k kind) String() string {
	return fmt.Sprintf("FAT%d sectors of %d clusters of %d", k.fat, k.sector, k.cluster)
}

var kinds = []kind{
	{12, 512, 512, 200 << 10},
	{12, 512, 2048, 1 << 20},
	{12, 4096, 4096, 2 << 20},
	{16, 512, 512, 4 << 20},
	{16, 512, 4096, 20 << 20},
	{16, 4096, 4096, 20 << 20},
	{32, 512, 512, 36 << 20},
	{32, 4096, 4096, 272 << 20},
}

// wholeSectors is a disk that takes whole sectors only, and counts.
type wholeSectors struct {
	*faultio.Disk
	t             *testing.T
	sector        int
	writes, syncs int
}

func (d *wholeSectors) SectorSize() int { return d.sector }

func (d *wholeSectors) WriteAt(b []byte, off int64) (int, error) {
	d.writes++
	if off%int64(d.sector) != 0 || len(b)%d.sector != 0 || len(b) == 0 || off == 0 {
		d.t.Errorf("a write of %d bytes at %d", len(b), off)
	}
	return d.Disk.WriteAt(b, off)
}

func (d *wholeSectors) Sync() error {
	d.syncs++
	return d.Disk.Sync()
}

// contents are files by their paths; directories have a slash at their end and nothing.
type contents map[string][]byte

func (c contents) clone() contents { return maps.Clone(c) }

// files are those that a volume is built with.
var files = contents{
	"EFI/": nil, "EFI/BOOT/": nil, "EFI/Linux/": nil, "loader/": nil, "loader/entries/": nil,
	"EFI/BOOT/BOOTX64.EFI":     bytes.Repeat([]byte("loader"), 300),
	"EFI/Linux/os_1.0+3-0.efi": bytes.Repeat([]byte("uki"), 3000),
	"loader/loader.conf":       []byte("timeout 3\n"),
	"loader/entries.srel":      []byte("type1\n"),
	"empty":                    {},
}

// build makes a volume.
func build(t *testing.T, k kind) *wholeSectors {
	t.Helper()
	d := &wholeSectors{faultio.NewDisk(k.size), t, k.sector, 0, 0}
	var list []osmith.ESPFile
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if path == "loader/entries/" || !strings.HasSuffix(path, "/") {
			f := osmith.ESPFile{Path: strings.TrimSuffix(path, "/"), Content: bytes.NewReader(files[path])}
			if path != f.Path {
				f.Path, f.Content = path+"x", bytes.NewReader(nil)
			}
			list = append(list, f)
		}
	}
	require.NoError(t, fat.Build(d.Disk, list, fat.BuildOptions{
		Size: k.size, Kind: k.fat, ClusterSize: k.cluster, SectorSize: k.sector, VolumeID: 1, Label: "ESP", ShortCase: k.cluster > 512,
	}))
	v := mount(t, d)
	require.NoError(t, v.Unlink("loader/entries/x"))
	return d
}

func mount(t *testing.T, d osmith.Disk) *vfat.Volume {
	t.Helper()
	v, err := vfat.Mount(d)
	require.NoError(t, err)
	return v
}

// sums are the contents as the oracle tells them.
func (c contents) sums() map[string]string {
	all := map[string]string{}
	for path, b := range c {
		all[path] = ""
		if !strings.HasSuffix(path, "/") {
			all[path] = fmt.Sprintf("%x", sha256.Sum256(b))
		}
	}
	return all
}

// requireContents has every reader judge a volume: it has these files, and nothing is wrong with
// it.
func requireContents(t *testing.T, d osmith.Disk, k kind, want contents, what string) {
	t.Helper()
	for _, o := range []oracle.FATOptions{
		{Reader: oracle.FATReaderLinux}, {Reader: oracle.FATReaderEDK2}, {Reader: oracle.FATReaderLinux, Second: true},
	} {
		o.SectorSize = k.sector
		v, err := oracle.ReadFAT(d, d.Size(), o)
		require.NoError(t, err, what)
		require.Equal(t, want.sums(), v.Contents(), "%s: %v", what, o)
		require.Empty(t, v.Problems, "%s: %v", what, o)
	}
	f, err := fat.OpenReader(d)
	require.NoError(t, err, what)
	for path, b := range want {
		if dir, ok := strings.CutSuffix(path, "/"); ok {
			info, err := f.Stat(dir)
			require.NoError(t, err, what)
			require.True(t, info.IsDir(), what)
			continue
		}
		got, err := f.ReadFile(path)
		require.NoError(t, err, what)
		require.True(t, bytes.Equal(b, got), "%s: the content of %s", what, path)
	}
	found, err := f.Check()
	require.NoError(t, err, what)
	require.True(t, found.Clean(), "%s: %v", what, found)
}

// fsck has fsck.fat judge a volume.
func fsck(t *testing.T, d *faultio.Disk) {
	t.Helper()
	tool := testtools.Require(t, "fsck.fat")
	name := filepath.Join(t.TempDir(), "fat.img")
	require.NoError(t, d.Save(name))
	out, err := exec.Command(tool, "-n", name).CombinedOutput()
	require.NoError(t, err, string(out))
}
