package upgrade_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// export publishes a version as sysupdate.Export makes it, in the directory that machines update from.
func (u *sysupdateMachine) export(set *acmeos.Set, o sysupdate.ExportOptions) {
	u.t.Helper()
	dir := filepath.Join(u.root, "releases")
	x, err := sysupdate.Export(set.Release(), o)
	require.NoError(u.t, err)
	m := &sysupdate.Manifest{}
	if f, err := os.Open(filepath.Join(dir, sysupdate.ManifestName)); err == nil {
		m, err = sysupdate.ReadManifest(f)
		require.NoError(u.t, err)
		require.NoError(u.t, f.Close())
	}
	for _, f := range x.Files {
		b := contentOf(u.t, f.Content)
		require.NoError(u.t, m.Set(f.Name, sha256.Sum256(b)))
		require.NoError(u.t, os.WriteFile(filepath.Join(dir, f.Name), b, 0o644))
	}
	name, err := m.SetBestBefore("2999-12-31")
	require.NoError(u.t, err)
	require.NoError(u.t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	f, err := os.Create(filepath.Join(dir, sysupdate.ManifestName))
	require.NoError(u.t, err)
	_, err = m.WriteTo(f)
	require.NoError(u.t, err)
	require.NoError(u.t, f.Close())

	definitions := filepath.Join(u.root, "usr/lib/sysupdate.d")
	require.NoError(u.t, os.RemoveAll(definitions))
	require.NoError(u.t, os.MkdirAll(definitions, 0o755))
	for _, d := range x.Transfers {
		require.NoError(u.t, os.WriteFile(filepath.Join(definitions, d.Name), []byte(d.Text), 0o644))
	}
}

// A release that was exported is installed by stock systemd-sysupdate from a directory and from a web server; package upgrade then finds the set whole, upgrades it, and leaves a
// machine that systemd-sysupdate upgrades again.
func TestSysupdateInstallsExport(t *testing.T) {
	for _, kind := range []sysupdate.ResourceType{sysupdate.RegularFile, sysupdate.URLFile} {
		t.Run(string(kind), func(t *testing.T) {
			s := newSystem(t, "262")
			u := newSysupdate(s)
			o := sysupdate.ExportOptions{SourceType: kind, Source: "/releases", Disk: "/disk.img", Unsigned: true}
			if kind == sysupdate.URLFile {
				u.tree.Part(t, "curl")
				server := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(u.root, "releases"))))
				defer server.Close()
				o.Source = server.URL
			}
			for i, version := range []string{"2", "3", "4"} {
				running := fmt.Sprint(i + 1)
				set := s.build(version)
				if version == "3" {
					require.NoError(t, s.plan(set, upgrade.PlanOptions{}).Apply(t.Context(), nil))
				} else {
					u.export(set, o)
					require.Contains(t, u.run(running, "check-new"), version)
					u.run(running, "update")
					u.requireReadOnly(set)
				}
				u.requireInstalled(running, version, running)
				u.requireState(running, version, running)
				require.Contains(t, s.ukis(), "acme_"+version+map[bool]string{true: "+3.efi", false: "+3-0.efi"}[version == "3"])
				b := s.boot()
				require.Equal(t, version, b.Version)
				require.NoError(t, s.commit(b))
				u.requireInstalled(version, version, running)
				u.requireState(version, version, running)
			}
		})
	}
}

// requireState says that package sysupdate finds these versions whole, newest first, and none else.
func (u *sysupdateMachine) requireState(running string, versions ...string) {
	u.t.Helper()
	d, err := sysupdate.ReadDefinitions(os.DirFS(u.root), sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': running}})
	require.NoError(u.t, err)
	require.Empty(u.t, d.Findings)
	state, err := sysupdate.ReadState(d, sysupdate.Places{Disk: u.disk, DiskPaths: []string{"/disk.img"}})
	require.NoError(u.t, err)
	var got []string
	for _, v := range state.Versions {
		require.True(u.t, v.Usable(), v.Version)
		require.Len(u.t, v.Instances, len(d.Transfers))
		require.Equal(u.t, v.Version == running, v.Protected)
		got = append(got, v.Version)
	}
	require.Equal(u.t, versions, got)
	for _, target := range state.Targets {
		if target.Transfer.Target.Type == sysupdate.Partition {
			require.Equal(u.t, 2, target.Slots)
		}
	}
}

// A UKI that is alone, and a signed root hash, have their transfers, too.
func TestExportedParts(t *testing.T) {
	s := newSystem(t, "262")
	set := s.build("2")
	x, err := sysupdate.Export(set.Release(), sysupdate.ExportOptions{Source: "https://acme.example/updates"})
	require.NoError(t, err)
	data, tree, err := partition.VerityIDs(set.RootHash)
	require.NoError(t, err)
	var names []string
	for _, f := range x.Files {
		names = append(names, f.Name)
	}
	require.Equal(t, []string{"acme_2_" + tree.String() + ".verity.raw", "acme_2_" + data.String() + ".root.raw", "acme_2.efi"}, names)
}
