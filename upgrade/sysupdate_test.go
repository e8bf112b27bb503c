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
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// What the vendor of Acme OS would put into /usr/lib/sysupdate.d. The UKI is last: it is what boots
// the rest. ReadOnly=yes would say the same as PartitionFlags=, but systemd 262 does nothing for
// it: when it sets the attributes, the partition has the type of a pending one, which it does not
// know.
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
PartitionFlags=0x1000000000000000
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
PartitionFlags=0x1000000000000000
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
Mode=0644
TriesLeft=3
TriesDone=0
InstancesMax=2
`,
}

// sysupdateMachine is systemd-sysupdate on the disk of a system. It wants files: of the disk,
// beside the files of the ESP, which a machine has mounted.
type sysupdateMachine struct {
	*system
	tree testtools.Root
	root string
}

func newSysupdate(s *system) *sysupdateMachine {
	u := &sysupdateMachine{system: s, tree: testtools.Forky(s.t), root: s.t.TempDir()}
	for _, dir := range []string{"usr/lib/sysupdate.d", "releases", "efi/EFI/Linux", "efi/loader"} {
		require.NoError(s.t, os.MkdirAll(filepath.Join(u.root, dir), 0o755))
	}
	for name, text := range sysupdateDefinitions {
		require.NoError(s.t, os.WriteFile(filepath.Join(u.root, "usr/lib/sysupdate.d", name), []byte(text), 0o644))
	}
	return u
}

// publish makes a version available, under names that say the IDs of its partitions.
func (u *sysupdateMachine) publish(set *acmeos.Set) {
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
func (u *sysupdateMachine) run(running string, args ...string) string {
	u.t.Helper()
	u.store(running)
	out := u.tree.Output(u.t, u.root, "env", u.command(args)...)
	u.load()
	return out
}

// fail is run of what ends with an error, whose text it returns.
func (u *sysupdateMachine) fail(running string, args ...string) string {
	u.t.Helper()
	u.store(running)
	_, err := u.tree.Try(u.t, u.root, "env", u.command(args)...)
	require.Error(u.t, err)
	u.load()
	return err.Error()
}

// command has what env needs: the ESP is a directory here, and what is wrong belongs into the
// output.
func (u *sysupdateMachine) command(args []string) []string {
	return append([]string{"SYSTEMD_RELAX_ESP_CHECKS=1", "SYSTEMD_LOG_TARGET=console", "systemd-sysupdate", "--root=" + u.root}, args...)
}

func (u *sysupdateMachine) image() string    { return filepath.Join(u.root, "disk.img") }
func (u *sysupdateMachine) linuxDir() string { return filepath.Join(u.root, "efi/EFI/Linux") }

// store makes files of the disk.
func (u *sysupdateMachine) store(running string) {
	u.t.Helper()
	require.NoError(u.t, os.WriteFile(filepath.Join(u.root, "usr/lib/os-release"), acmeos.OSRelease(running), 0o644))
	require.NoError(u.t, u.disk.Save(u.image()))
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
func (u *sysupdateMachine) load() {
	u.t.Helper()
	disk, err := faultio.Load(u.image())
	require.NoError(u.t, err)
	require.Equal(u.t, u.disk.Size(), disk.Size())
	u.disk = disk

	esp := u.esp()
	var now []string
	files, err := os.ReadDir(u.linuxDir())
	require.NoError(u.t, err)
	for _, f := range files {
		if f.IsDir() { // of a UKI
			now = append(now, u.loadBeside(esp, f.Name())...)
			continue
		}
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

// loadBeside makes the directory of a UKI, and returns the paths of the files in it.
func (u *sysupdateMachine) loadBeside(esp *fat.FS, dir string) (names []string) {
	u.t.Helper()
	require.NoError(u.t, esp.MkdirAll(path.Join("EFI/Linux", dir)))
	files, err := os.ReadDir(filepath.Join(u.linuxDir(), dir))
	require.NoError(u.t, err)
	for _, f := range files {
		names = append(names, path.Join(dir, f.Name()))
	}
	return names
}

// ukis are the names of the files in the loader's directory.
func (s *system) ukis() (names []string) {
	s.t.Helper()
	files, err := fs.ReadDir(s.esp(), "EFI/Linux")
	require.NoError(s.t, err)
	for _, f := range files {
		if !f.IsDir() {
			names = append(names, f.Name())
		}
	}
	return names
}

// found is what sysupdate says of one version.
type found struct{ Newest, Installed, Partial, Pending, Incomplete, Obsolete, Protected bool }

// find asks for one version on the disk.
func (u *sysupdateMachine) find(running, version string) (f found) {
	u.t.Helper()
	require.NoError(u.t, json.Unmarshal([]byte(u.run(running, "list", version, "--offline", "--json=short")), &f))
	return f
}

// versions asks for all versions on the disk, newest first.
func (u *sysupdateMachine) versions(running string) []string {
	u.t.Helper()
	var list struct{ All []string }
	require.NoError(u.t, json.Unmarshal([]byte(u.run(running, "list", "--offline", "--json=short")), &list))
	return list.All
}

// requireInstalled says that osmith and sysupdate find these sets on the disk, newest first, and
// nothing else in the slots.
func (u *sysupdateMachine) requireInstalled(running string, versions ...string) {
	u.t.Helper()
	require.Equal(u.t, versions, u.versions(running))
	for i, version := range versions {
		require.Equal(u.t, found{Installed: true, Newest: i == 0, Protected: version == running}, u.find(running, version), version)
	}
	state, err := upgrade.Inspect(u.disk, u.machine)
	require.NoError(u.t, err)
	var inSlots, booted []string
	for _, slot := range state.Slots {
		if slot.State != partition.SlotEmpty {
			require.Equal(u.t, partition.SlotInstalled, slot.State, slot.Name())
			inSlots = append(inSlots, slot.Version)
		}
	}
	require.ElementsMatch(u.t, versions, inSlots)
	for _, e := range state.Entries {
		require.NotNil(u.t, e.Slot, e.Path)
		require.Equal(u.t, e.RootHash, e.Slot.RootHash, e.Path)
		require.Equal(u.t, "EFI/Linux/acme_"+e.Slot.Version+".efi", plain(e.Path))
		booted = append(booted, e.Slot.Version)
	}
	require.Equal(u.t, versions, booted)
	require.Equal(u.t, versions[0], state.Next.Slot.Version)
}

// slot is the one that is not of a version.
func (u *sysupdateMachine) slot(other string) *upgrade.Slot {
	u.t.Helper()
	state, err := upgrade.Inspect(u.disk, u.machine)
	require.NoError(u.t, err)
	i := slices.IndexFunc(state.Slots, func(slot *upgrade.Slot) bool { return slot.Version != other })
	return state.Slots[i]
}

// requireReadOnly says that the partitions of a set have what its definitions want.
func (u *sysupdateMachine) requireReadOnly(set *acmeos.Set) {
	u.t.Helper()
	table, err := partition.Read(u.disk, partition.ReadOptions{})
	require.NoError(u.t, err)
	data, tree, err := partition.VerityIDs(set.RootHash)
	require.NoError(u.t, err)
	for id, label := range map[osmith.GUID]string{data: "acme_" + set.Version, tree: "acme_" + set.Version + "_verity"} {
		p := table.Partitions[table.Find(id)]
		require.Equal(u.t, label, p.Name)
		require.Equal(u.t, partition.AttrReadOnly, p.Attributes, label)
	}
}

// Who has installed a version does not matter to who installs the next one: osmith and
// systemd-sysupdate take turns on one disk, and after each upgrade both find the two newest sets
// whole, in the same places.
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
			u.requireReadOnly(set)
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

// After a power cut in an upgrade by osmith, sysupdate sees how far it came: it installs the next
// version, and this one, too, once it is told to give up the slot that is not whole.
func TestSysupdateAfterInterruptedOsmith(t *testing.T) {
	s := newSystem(t, "262")
	two, three := s.build("2"), s.build("3")
	disk, p := s.record("2")
	seen := map[found]bool{}
	steps := len(disk.Writes())
	for _, cut := range []int{steps / 8, steps / 3, steps / 2, steps * 2 / 3, steps - 2, steps - 1} {
		for _, set := range []*acmeos.Set{two, three} {
			u := newSysupdate(s.on(disk.Prefix(cut)))
			u.publish(set)
			if slices.Contains(u.versions("1"), "2") {
				f := u.find("1", "2")
				seen[f] = true
				if f.Partial && set == two {
					require.Contains(t, u.fail("1", "update"), "Vacuum it to try installing again")
					u.run("1", "vacuum")
				}
			}
			u.run("1", "update")
			u.requireInstalled("1", set.Version, "1")
			require.Equal(t, set.Version, u.boot().Version)
		}
	}
	require.Equal(t, map[found]bool{
		{Installed: true, Newest: true, Partial: true}: true,
		// the slot is ready, the UKI is not there
		{Installed: true, Newest: true, Incomplete: true}: true,
	}, seen, "%s", p)
}

// The other way round: osmith takes the slot that sysupdate has not finished, or has finished and
// not yet put to use.
func TestOsmithAfterInterruptedSysupdate(t *testing.T) {
	for state, begin := range map[partition.SlotState]func(u *sysupdateMachine, set *acmeos.Set){
		partition.SlotPartial: func(u *sysupdateMachine, set *acmeos.Set) {
			u.publish(set)
			root, err := filepath.Glob(filepath.Join(u.root, "releases", "*.root.raw"))
			require.NoError(u.t, err)
			// more than fits: it finds out while it writes
			require.NoError(u.t, os.Truncate(root[0], 2<<20))
			u.fail("1", "update")
		},
		partition.SlotPending: func(u *sysupdateMachine, set *acmeos.Set) {
			u.publish(set)
			u.run("1", "acquire")
			require.Contains(u.t, u.ukis(), ".sysupdate.pending.acme_2+3-0.efi")
		},
	} {
		for _, version := range []string{"2", "3"} {
			t.Run(string(state)+", then "+version, func(t *testing.T) {
				u := newSysupdate(newSystem(t, "262"))
				begin(u, u.build("2"))
				slot := u.slot("1")
				require.Equal(t, state, slot.State)
				require.Equal(t, "2", slot.Version)

				p := u.plan(u.build(version), upgrade.PlanOptions{})
				require.Equal(t, slot.Index, p.Target.Index)
				require.NoError(t, p.Apply(t.Context(), nil))
				require.Equal(t, version, u.boot().Version)
				u.run("1", "vacuum") // a UKI that it has staged is its own to remove
				u.requireInstalled("1", version, "1")
			})
		}
	}
}
