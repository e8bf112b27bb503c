package upgrade_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// What the vendor of Acme OS would put into /usr/lib/sysupdate.d. The UKI is last: it is what boots the rest.
var sysupdateDefinitions = map[string]string{
	"10-tree.transfer": `[Transfer]
ProtectVersion=%A
Verify=no

[Source]
Type=regular-file
Path=/releases
MatchPattern=acme_@v_@u.verity.raw

[Target]
Type=partition
Path=/disk.img
MatchPartitionType=root-x86-64-verity
MatchPattern=acme_@v_verity
ReadOnly=yes
`,
	"20-root.transfer": `[Transfer]
ProtectVersion=%A
Verify=no

[Source]
Type=regular-file
Path=/releases
MatchPattern=acme_@v_@u.root.raw

[Target]
Type=partition
Path=/disk.img
MatchPartitionType=root-x86-64
MatchPattern=acme_@v
ReadOnly=yes
`,
	"30-uki.transfer": `[Transfer]
ProtectVersion=%A
Verify=no

[Source]
Type=regular-file
Path=/releases
MatchPattern=acme_@v.efi

[Target]
Type=regular-file
PathRelativeTo=esp
Path=/EFI/Linux
MatchPattern=acme_@v+@l-@d.efi acme_@v+@l.efi acme_@v.efi
Mode=0444
TriesLeft=3
TriesDone=0
InstancesMax=2
`,
}

// sysupdate is systemd-sysupdate on the disk of a system. It wants files: of the disk, beside the files of the ESP, which a machine has mounted.
type sysupdate struct {
	*system
	tree testtools.Root
	root string
}

func newSysupdate(s *system) *sysupdate {
	u := &sysupdate{system: s, tree: testtools.Forky(s.t), root: s.t.TempDir()}
	for _, dir := range []string{"usr/lib/sysupdate.d", "releases", "efi/EFI/Linux", "efi/loader"} {
		require.NoError(s.t, os.MkdirAll(filepath.Join(u.root, dir), 0o755))
	}
	for name, text := range sysupdateDefinitions {
		require.NoError(s.t, os.WriteFile(filepath.Join(u.root, "usr/lib/sysupdate.d", name), []byte(text), 0o644))
	}
	return u
}

// publish makes a version available, under names that say the IDs of its partitions.
func (u *sysupdate) publish(set *acmeos.Set) {
	u.t.Helper()
	data, tree, err := partition.VerityIDs(set.RootHash)
	require.NoError(u.t, err)
	for name, src := range map[string]osmith.Source{
		fmt.Sprintf("acme_%s_%s.root.raw", set.Version, data):   set.Root,
		fmt.Sprintf("acme_%s_%s.verity.raw", set.Version, tree): set.Tree,
		fmt.Sprintf("acme_%s.efi", set.Version):                 set.UKI,
	} {
		require.NoError(u.t, os.WriteFile(filepath.Join(u.root, "releases", name), contentOf(u.t, src), 0o644))
	}
}

// run runs it while a version runs.
func (u *sysupdate) run(running string, args ...string) string {
	u.t.Helper()
	u.store(running)
	out := u.tree.Output(u.t, u.root, "env", append([]string{"SYSTEMD_RELAX_ESP_CHECKS=1", "systemd-sysupdate", "--root=" + u.root}, args...)...)
	u.load()
	return out
}

func (u *sysupdate) image() string    { return filepath.Join(u.root, "disk.img") }
func (u *sysupdate) linuxDir() string { return filepath.Join(u.root, "efi/EFI/Linux") }

// store makes files of the disk.
func (u *sysupdate) store(running string) {
	u.t.Helper()
	require.NoError(u.t, os.WriteFile(filepath.Join(u.root, "usr/lib/os-release"), acmeos.OSRelease(running), 0o644))
	f, err := os.Create(u.image())
	require.NoError(u.t, err)
	_, err = u.disk.WriteTo(f)
	require.NoError(u.t, err)
	require.NoError(u.t, f.Close())
	require.NoError(u.t, os.RemoveAll(u.linuxDir()))
	require.NoError(u.t, os.Mkdir(u.linuxDir(), 0o755))
	esp := u.esp()
	for _, name := range u.ukis() {
		b, err := esp.ReadFile(path.Join("EFI/Linux", name))
		require.NoError(u.t, err)
		require.NoError(u.t, os.WriteFile(filepath.Join(u.linuxDir(), name), b, 0o644))
	}
}

// load makes the disk of the files.
func (u *sysupdate) load() {
	u.t.Helper()
	b, err := os.ReadFile(u.image())
	require.NoError(u.t, err)
	require.EqualValues(u.t, u.disk.Size(), len(b))
	u.disk = faultio.NewDisk(u.disk.Size())
	_, err = u.disk.WriteAt(b, 0)
	require.NoError(u.t, err)

	esp := u.esp()
	var now []string
	files, err := os.ReadDir(u.linuxDir())
	require.NoError(u.t, err)
	for _, f := range files {
		now = append(now, f.Name())
	}
	before := u.ukis()
	for _, name := range before {
		if !slices.Contains(now, name) {
			require.NoError(u.t, esp.Remove(path.Join("EFI/Linux", name)))
		}
	}
	for _, name := range now {
		if slices.Contains(before, name) {
			continue // it never changes a UKI
		}
		b, err := os.ReadFile(filepath.Join(u.linuxDir(), name))
		require.NoError(u.t, err)
		require.NoError(u.t, esp.WriteFile(path.Join("EFI/Linux", name), source(b)))
	}
}

// ukis are the names of the files in the loader's directory.
func (s *system) ukis() (names []string) {
	s.t.Helper()
	files, err := fs.ReadDir(s.esp(), "EFI/Linux")
	require.NoError(s.t, err)
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// installed says which versions sysupdate finds on the disk, newest first. Each must be whole.
func (u *sysupdate) installed(running string) (versions []string) {
	u.t.Helper()
	var all struct{ All []string }
	require.NoError(u.t, json.Unmarshal([]byte(u.run(running, "list", "--offline", "--json=short")), &all))
	for _, version := range all.All {
		var set struct{ Newest, Installed, Partial, Pending, Incomplete, Obsolete, Protected bool }
		require.NoError(u.t, json.Unmarshal([]byte(u.run(running, "list", version, "--offline", "--json=short")), &set))
		require.True(u.t, set.Installed, version)
		require.Equal(u.t, version == all.All[0], set.Newest, version)
		require.Equal(u.t, version == running, set.Protected, version)
		require.False(u.t, set.Partial || set.Pending || set.Incomplete || set.Obsolete, "%s: %+v", version, set)
	}
	return all.All
}

// requireInstalled says that osmith and sysupdate find these sets on the disk, newest first, and nothing else in the slots.
func (u *sysupdate) requireInstalled(running string, versions ...string) {
	u.t.Helper()
	require.Equal(u.t, versions, u.installed(running))
	state, err := upgrade.Inspect(u.disk, u.machine)
	require.NoError(u.t, err)
	var found, booted []string
	for _, slot := range state.Slots {
		if slot.State != partition.SlotEmpty {
			require.Equal(u.t, partition.SlotInstalled, slot.State, slot.Name())
			found = append(found, slot.Version)
		}
	}
	require.ElementsMatch(u.t, versions, found)
	for _, e := range state.Entries {
		require.NotNil(u.t, e.Slot, e.Path)
		require.Equal(u.t, e.RootHash, e.Slot.RootHash, e.Path)
		require.Equal(u.t, "EFI/Linux/acme_"+e.Slot.Version+".efi", plain(e.Path))
		booted = append(booted, e.Slot.Version)
	}
	require.Equal(u.t, versions, booted)
	require.Equal(u.t, versions[0], state.Next.Slot.Version)
}

// Who has installed a version does not matter to who installs the next one: osmith and systemd-sysupdate take turns on one disk, and after each
// upgrade both find the two newest sets whole, in the same places.
func TestSysupdateTakesTurns(t *testing.T) {
	s := newSystem(t, "262")
	u := newSysupdate(s)
	u.requireInstalled("1", "1")
	for i, version := range []string{"2", "3", "4", "5"} {
		running := fmt.Sprint(i + 1)
		set := s.build(version)
		if i%2 == 0 {
			u.publish(set)
			u.run(running, "update")
			require.Contains(t, s.ukis(), "acme_"+version+"+3-0.efi")
		} else {
			p := s.plan(set, upgrade.PlanOptions{})
			require.NoError(t, p.Apply(t.Context(), nil))
		}
		u.requireInstalled(running, version, running)

		b := s.boot()
		require.Equal(t, version, b.Version)
		u.requireInstalled(version, version, running) // the loader has counted
		require.NoError(t, s.commit(b))
		require.Contains(t, s.ukis(), "acme_"+version+".efi")
		u.requireInstalled(version, version, running)
	}
}
