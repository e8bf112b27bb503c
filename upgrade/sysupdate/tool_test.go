package sysupdate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// specifiers are those of the system of a root.
var specifiers = map[byte]string{'A': "1", 'M': "acme", 'B': ""}

// root is the root file system of a machine, with its disk as a file in it.
type root struct {
	t    testing.TB
	tree testtools.Root
	dir  string
}

func newRoot(t testing.TB) *root {
	t.Helper()
	r := &root{t: t, tree: testtools.Forky(t), dir: t.TempDir()}
	r.write("usr/lib/os-release", "ID=acme\nIMAGE_ID=acme\nIMAGE_VERSION=1\n")
	for _, dir := range []string{"usr/lib/sysupdate.d", "src", "efi/EFI/Linux", "efi/loader"} {
		require.NoError(t, os.MkdirAll(r.path(dir), 0o755))
	}
	return r
}

func (r *root) path(name string) string { return filepath.Join(r.dir, name) }
func (r *root) fs() fs.FS               { return os.DirFS(r.dir) }

func (r *root) write(name, text string) {
	r.t.Helper()
	require.NoError(r.t, os.MkdirAll(filepath.Dir(r.path(name)), 0o755))
	require.NoError(r.t, os.WriteFile(r.path(name), []byte(text), 0o644))
}

func (r *root) link(target, name string) {
	r.t.Helper()
	require.NoError(r.t, os.MkdirAll(filepath.Dir(r.path(name)), 0o755))
	require.NoError(r.t, os.Symlink(target, r.path(name)))
}

// try runs systemd-sysupdate and returns what it prints.
func (r *root) try(args ...string) (string, error) {
	r.t.Helper()
	return r.tree.Try(r.t, r.dir, "env", append([]string{"SYSTEMD_RELAX_ESP_CHECKS=1", "SYSTEMD_LOG_TARGET=console", "systemd-sysupdate", "--root=" + r.dir}, args...)...)
}

// script runs a line of a shell in which $S is the program, and returns standard output.
func (r *root) script(line string, args ...string) string {
	r.t.Helper()
	return r.tree.Output(r.t, r.dir, "env", append([]string{"SYSTEMD_RELAX_ESP_CHECKS=1", "S=systemd-sysupdate --root=" + r.dir, "sh", "-c", line, "sh"}, args...)...)
}

// listed is what the program says of one version.
type listed struct {
	Version                                                              string
	Newest, Installed, Partial, Pending, Incomplete, Obsolete, Protected bool
	Contents                                                             []struct{ Type, Path string }
}

// list asks for all versions on the disk, and then for each of them.
func (r *root) list() (all []listed) {
	r.t.Helper()
	var list struct{ All []string }
	require.NoError(r.t, json.Unmarshal([]byte(r.script(`$S list --offline --json=short`)), &list))
	if len(list.All) == 0 {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(r.script(`for v do $S list "$v" --offline --json=short || exit 1; done`, list.All...)))
	for range list.All {
		var l listed
		require.NoError(r.t, dec.Decode(&l))
		all = append(all, l)
	}
	return all
}

// read is what this package says.
func (r *root) read(p sysupdate.Places) *sysupdate.State {
	r.t.Helper()
	d, err := sysupdate.ReadDefinitions(r.fs(), sysupdate.DefinitionOptions{Specifiers: specifiers})
	require.NoError(r.t, err)
	s, err := sysupdate.ReadState(d, p)
	require.NoError(r.t, err)
	return s
}

// part is a partition of a random disk.
type part struct {
	kind  osmith.GUID
	label string
}

// disk writes a disk, whose ESP holds the files of efi.
func (r *root) disk(parts []part) *faultio.Disk {
	r.t.Helper()
	var files []osmith.ESPFile
	require.NoError(r.t, filepath.WalkDir(r.path("efi"), func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			rel, _ := filepath.Rel(r.path("efi"), name)
			files = append(files, osmith.ESPFile{Path: rel, Content: bytes.NewReader([]byte("x"))})
		}
		return err
	}))
	esp := faultio.NewDisk(2 << 20)
	require.NoError(r.t, fat.Build(esp, files, fat.BuildOptions{Size: esp.Size(), Kind: fat.AnyKind, VolumeID: 1}))
	disk := diskOf(r.t, esp, parts...)
	require.NoError(r.t, disk.Save(r.path("disk.img")))
	return disk
}

// diskWith is a disk without boot partitions.
func diskWith(t testing.TB, parts ...part) *faultio.Disk {
	t.Helper()
	return diskOf(t, nil, parts...)
}

func diskOf(t testing.TB, esp osmith.Source, parts ...part) *faultio.Disk {
	t.Helper()
	layout := partition.Layout{Seed: osmith.MustParseGUID("00000000-0000-4000-8000-000000000001"), Align: 4096}
	if esp != nil {
		layout.Partitions = append(layout.Partitions, partition.Spec{Type: partition.ESP, Name: "esp", Content: esp})
	}
	for _, p := range parts {
		layout.Partitions = append(layout.Partitions, partition.Spec{Type: p.kind, Name: p.label, Size: 64 << 10})
	}
	im, err := partition.Plan(layout)
	require.NoError(t, err)
	disk := faultio.NewDisk(im.Size)
	require.NoError(t, partition.WriteImage(disk, im, partition.WriteOptions{TargetIsZero: true}))
	return disk
}

// requireSame compares what both say.
func (r *root) requireSame(want []listed, s *sysupdate.State, table *partition.Table) {
	r.t.Helper()
	var names, got []string
	for _, l := range want {
		names = append(names, l.Version)
	}
	for _, v := range s.Versions {
		got = append(got, v.Version)
	}
	require.Len(r.t, got, len(names), "%v, want %v", got, names)
	for i, l := range want {
		v := s.Versions[i]
		if v.Ambiguous {
			continue // it says that it does not know, either
		}
		require.Equal(r.t, l.Version, v.Version)
		require.Equal(r.t, listed{Version: l.Version, Newest: l.Newest, Installed: true, Partial: l.Partial, Pending: l.Pending, Incomplete: l.Incomplete, Obsolete: l.Obsolete,
			Protected: l.Protected, Contents: l.Contents},
			listed{Version: v.Version, Newest: v == s.Newest(), Installed: true, Partial: v.Partial, Pending: v.Pending, Incomplete: v.Wholeness == sysupdate.WholenessIncomplete && !v.Partial && !v.Pending,
				Obsolete: v.Obsolete, Protected: v.Protected, Contents: l.Contents}, "version %s", v.Version)
		require.NotEmpty(r.t, v.Wholeness)
		require.Equal(r.t, v.Wholeness == sysupdate.WholenessIncomplete, len(v.Missing) > 0)
		var paths, ours []string
		for _, c := range l.Contents {
			paths = append(paths, c.Path[strings.LastIndex(c.Path, "/")+1:])
		}
		for _, n := range v.Instances {
			name := n.Path[strings.LastIndex(n.Path, "/")+1:]
			if n.Partition >= 0 {
				// as the disk is called there
				name = fmt.Sprintf("3p%d", table.Partitions[n.Partition].Number)
			}
			ours = append(ours, name)
		}
		slices.Sort(paths)
		slices.Sort(ours)
		require.Equal(r.t, paths, ours, "version %s", v.Version)
	}
}
