//go:build linux

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
)

// installLayout is that of the second disk, whose partitions are larger than those of the first.
const installLayout = `{"schema": "osmith.layout/1", "partitions": [
	{"type": "esp", "name": "esp", "size": 268435456},
	{"type": "root-x86-64", "name": "_empty", "size": 67108864}, {"type": "root-x86-64-verity", "name": "_empty", "size": 2097152},
	{"type": "root-x86-64", "name": "_empty", "size": 67108864}, {"type": "root-x86-64-verity", "name": "_empty", "size": 2097152},
	{"type": "var", "name": "state", "minSize": 1048576, "weight": 1000}]}`

// TestInstallDisk installs version 2 from a machine that runs version 1 onto a second disk, which
// is empty, by the program, under Linux; and boots that disk, measured as predicted. It is for
// OSMITH_LONG=1: what is written is proved elsewhere, at every cut.
func TestInstallDisk(t *testing.T) {
	requireVM(t)
	if os.Getenv("OSMITH_LONG") != "1" {
		t.Skip("two more boots, with OSMITH_LONG=1 alone")
	}
	t.Parallel()
	root := testtools.Forky(t)
	s := newSystem(t, root)
	s.Machine.Code, s.Machine.Vars = root.Part(t, "ovmf-code"), root.Part(t, "ovmf-vars")
	require.NoError(t, s.Machine.SetVariables(*s.Facts.Firmware))
	own := s.Builder.Cmdline
	s.Builder.Cmdline = own + " osmith.run=install"
	v1 := buildVersion(t, s, "1")
	s.Builder.Cmdline = own
	v2 := buildVersion(t, s, "2")
	loader, err := s.Builder.SignedLoader()
	require.NoError(t, err)

	call := "upgrade install -disk /dev/vdb -layout /run/programs/layout.json -release /run/programs/v2:v2 -key /run/programs/release.pem -loader /run/programs/loader.efi -conf timeout=0" +
		" -random-seed -boot-option -vars efivarfs -nothing-sealed -no-shim"
	steps := []guestStep{
		{Name: "install", Args: strings.Fields(call), Static: true},
		{Name: "again", Args: strings.Fields(call), Static: true},
	}
	files := append(s.layout(t, v2, "v2"), s.agentFiles(t, "upgrade")...)
	files = append(files, osmith.ESPFile{Path: "layout.json", Content: bytes.NewReader([]byte(installLayout))}, osmith.ESPFile{Path: "loader.efi", Content: loader})
	image, err := s.Builder.Disk(v1, acmeos.DiskOptions{Files: inDirectory(t, "install", steps, files), ESPSize: 384 << 20})
	require.NoError(t, err)
	disk, err := acmeos.CreateImage(s.Machine.Disk, image.Size)
	require.NoError(t, err)
	require.NoError(t, partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}))
	require.NoError(t, disk.Close())
	s.Machine.SecondDisk = filepath.Join(s.Machine.Dir, "second.img")
	second, err := os.Create(s.Machine.SecondDisk)
	require.NoError(t, err)
	require.NoError(t, second.Truncate(512<<20))
	require.NoError(t, second.Close())
	s.Machine.Memory = 1024

	one := bootGood(t, s, "1-installs", v1)
	installed, ok := one.Run("install")
	require.True(t, ok)
	require.Empty(t, installed.Error, installed.Output)
	t.Log(installed.Output)
	again, _ := one.Run("again")
	require.NotEmpty(t, again.Error, "with another seed it is a disk that is occupied: %s", again.Output)
	require.Contains(t, again.Output, "-erase-for-ever")

	s.Machine.Disk, s.Machine.SecondDisk = s.Machine.SecondDisk, ""
	bootGood(t, s, "2-installed", v2)
}
