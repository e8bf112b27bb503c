package upgrade_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// export publishes a version as sysupdate.Export makes it, in the directory that machines update
// from.
func (u *sysupdateMachine) export(set *acmeos.Set, o sysupdate.ExportOptions) {
	u.t.Helper()
	u.exportRelease(set.Release(), o)
}

func (u *sysupdateMachine) exportRelease(r *release.Release, o sysupdate.ExportOptions) {
	u.t.Helper()
	dir := filepath.Join(u.root, "releases")
	x, err := sysupdate.Export(r, o)
	require.NoError(u.t, err)
	m := u.manifest()
	for _, f := range x.Files {
		b := contentOf(u.t, f.Content)
		require.NoError(u.t, m.Set(f.Name, sha256.Sum256(b)))
		require.NoError(u.t, os.WriteFile(filepath.Join(dir, f.Name), b, 0o644))
	}
	u.writeManifest(m)
	u.bestBefore("2999-12-31")

	definitions := filepath.Join(u.root, "usr/lib/sysupdate.d")
	require.NoError(u.t, os.RemoveAll(definitions))
	require.NoError(u.t, os.MkdirAll(definitions, 0o755))
	for _, d := range x.Transfers {
		require.NoError(u.t, os.WriteFile(filepath.Join(definitions, d.Name), []byte(d.Text), 0o644))
	}
}

// manifest is that of the directory.
func (u *sysupdateMachine) manifest() *sysupdate.Manifest {
	u.t.Helper()
	f, err := os.Open(filepath.Join(u.root, "releases", sysupdate.ManifestName))
	if err != nil {
		return &sysupdate.Manifest{}
	}
	m, err := sysupdate.ReadManifest(f)
	require.NoError(u.t, err)
	require.NoError(u.t, f.Close())
	return m
}

func (u *sysupdateMachine) writeManifest(m *sysupdate.Manifest) {
	u.t.Helper()
	f, err := os.Create(filepath.Join(u.root, "releases", sysupdate.ManifestName))
	require.NoError(u.t, err)
	_, err = m.WriteTo(f)
	require.NoError(u.t, err)
	require.NoError(u.t, f.Close())
}

// bestBefore says until when the manifest is good.
func (u *sysupdateMachine) bestBefore(date string) {
	u.t.Helper()
	m := u.manifest()
	name, err := m.SetBestBefore(date)
	require.NoError(u.t, err)
	require.NoError(u.t, os.WriteFile(filepath.Join(u.root, "releases", name), nil, 0o644))
	u.writeManifest(m)
}

// A release that was exported is installed by stock systemd-sysupdate from a directory and from a
// web server; package upgrade then finds the set whole, upgrades it, and leaves a machine that
// systemd-sysupdate upgrades again.
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
			if kind == sysupdate.URLFile { // what is out of date is not taken
				u.export(s.build("5"), o)
				require.Contains(t, u.run("4", "check-new"), "5")
				u.bestBefore("2020-01-01")
				require.Contains(t, u.fail("4", "check-new"), "out-of-date file list, refusing")
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

// mountAll makes files of all that is on the ESP, as a machine has it mounted.
func (u *sysupdateMachine) mountAll(running string) (names []string) {
	u.t.Helper()
	u.store(running)
	esp := u.esp()
	require.NoError(u.t, os.RemoveAll(filepath.Join(u.root, "efi")))
	require.NoError(u.t, fs.WalkDir(esp, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		names = append(names, name)
		to := filepath.Join(u.root, "efi", name)
		if e.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		b, err := esp.ReadFile(name)
		if err != nil {
			return err
		}
		require.NoError(u.t, os.MkdirAll(filepath.Dir(to), 0o755))
		return os.WriteFile(to, b, 0o644)
	}))
	return names
}

// mounted are the files that are there now.
func (u *sysupdateMachine) mounted() (names []string) {
	u.t.Helper()
	require.NoError(u.t, fs.WalkDir(os.DirFS(filepath.Join(u.root, "efi")), ".", func(name string, _ fs.DirEntry, err error) error {
		if name != "." {
			names = append(names, name)
		}
		return err
	}))
	return names
}

// orphans is what package sysupdate says that cleanup removes.
func (u *sysupdateMachine) orphans() (names []string) {
	u.t.Helper()
	root := os.DirFS(u.root)
	d, err := sysupdate.ReadDefinitions(root, sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': "1"}})
	require.NoError(u.t, err)
	records, findings, err := sysupdate.ReadRecords(os.DirFS(filepath.Join(u.root, sysupdate.InstallDatabase)), "")
	require.NoError(u.t, err)
	require.Empty(u.t, findings)
	require.NotEmpty(u.t, records)
	c, err := sysupdate.FindOrphans(d, records, sysupdate.Places{Disk: u.disk, Root: root, ESPMount: "/efi"})
	require.NoError(u.t, err)
	require.Empty(u.t, c.Unknown)
	for _, o := range c.Orphans {
		names = append(names, strings.TrimPrefix(o.Path, "/efi/"))
	}
	return names
}

// "systemd-sysupdate cleanup" leaves what osmith has put on the ESP, as long as the definitions are
// there. Without them it removes every UKI whose name one of its records matches, also the one that
// runs, and nothing else: that is said before.
func TestSysupdateCleanup(t *testing.T) {
	s := newSystem(t, "262")
	u := newSysupdate(s)
	o := sysupdate.ExportOptions{SourceType: sysupdate.RegularFile, Source: "/releases", Disk: "/disk.img", Unsigned: true}
	extended := s.build("2").Release()
	extended.Extensions = []extension.File{{Name: "tools.sysext.raw", Content: source([]byte("tools"))}}
	u.exportRelease(extended, o)
	u.run("1", "update")
	require.NoError(t, s.commit(s.boot()))

	r := s.build("3").Release()
	r.Addons = []release.Addon{{Name: "debug.addon.efi", Content: source(s.addon("debug", s.builder.Keys.SecureBoot.DB))}}
	require.NoError(t, s.planOf(r, upgrade.PlanOptions{}).Apply(t.Context(), nil))
	require.Equal(t, "3", s.boot().Version)
	esp := s.esp()
	for _, dir := range []string{"EFI/osmith", "loader/entries"} {
		require.NoError(t, esp.MkdirAll(dir))
	}
	for _, name := range []string{"EFI/osmith/failed.json", "EFI/Linux/acme_4+3.efi.osmith-staged", "EFI/Linux/other_1.efi", "loader/random-seed", "loader/entries/acme_1.conf", "loader/acme_1.efi"} {
		require.NoError(t, esp.WriteFile(name, source([]byte("x"))))
	}

	names := u.mountAll("2")
	require.Contains(t, names, "EFI/Linux/acme_3.efi.extra.d/debug.addon.efi")
	require.Contains(t, names, "EFI/Linux/acme_2.efi.extra.d/tools.sysext.raw")
	require.Empty(t, u.orphans())
	_, err := u.tree.Try(t, u.root, "env", u.command([]string{"cleanup"})...)
	require.NoError(t, err)
	require.ElementsMatch(t, names, u.mounted())

	require.NoError(t, os.RemoveAll(filepath.Join(u.root, "usr/lib/sysupdate.d")))
	orphans := u.orphans()
	require.Len(t, orphans, 3)
	require.Contains(t, orphans, "EFI/Linux/acme_2.efi")
	require.Contains(t, orphans, "EFI/Linux/acme_2.efi.extra.d/tools.sysext.raw")
	_, err = u.tree.Try(t, u.root, "env", u.command([]string{"cleanup"})...)
	require.NoError(t, err)
	left := u.mounted()
	require.ElementsMatch(t, names, append(left, orphans...))
}
