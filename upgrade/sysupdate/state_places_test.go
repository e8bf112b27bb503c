package sysupdate_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

const (
	treeTransfer = "[Transfer]\nProtectVersion=%A\n[Source]\nType=regular-file\nPath=/src\nMatchPattern=acme_@v.verity\n[Target]\nType=partition\nPath=auto\nMatchPartitionType=root-verity\nMatchPattern=acme_@v_verity\n"
	rootTransfer = "[Transfer]\nMinVersion=1.5\n[Source]\nType=regular-file\nPath=/src\nMatchPattern=acme_@v.root\n[Target]\nType=partition\nPath=auto\nMatchPartitionType=root\nMatchPattern=acme_@v\n"
	ukiTransfer  = "[Source]\nType=regular-file\nPath=/src\nMatchPattern=acme_@v.efi\n[Target]\nType=regular-file\nPath=/EFI/Linux\nPathRelativeTo=boot\nMatchPattern=acme_@v+@l-@d.efi acme_@v.efi\n"
)

func readDefinitions(t testing.TB, of map[string]string) *sysupdate.Definitions {
	t.Helper()
	in := map[string]string{}
	for name, text := range of {
		in["usr/lib/sysupdate.d/"+name] = text
	}
	d, err := sysupdate.ReadDefinitions(files(in), sysupdate.DefinitionOptions{Specifiers: specifiers})
	require.NoError(t, err)
	return d
}

// espWith has UKIs.
func espWith(names ...string) fstest.MapFS {
	esp := fstest.MapFS{}
	for _, name := range names {
		esp["EFI/Linux/"+name] = &fstest.MapFile{Data: []byte("x")}
	}
	return esp
}

func TestReadState(t *testing.T) {
	d := readDefinitions(t, map[string]string{"10-tree.transfer": treeTransfer, "20-root.transfer": rootTransfer, "30-uki.transfer": ukiTransfer})
	disk := diskWith(t,
		part{slotType(2, 0), "acme_1"}, part{slotType(2, 1), "acme_1_verity"}, // whole
		// written in part, and whole but not yet to be used
		part{slotType(0, 0), "acme_2"}, part{slotType(1, 1), "acme_2_verity"},
		part{slotType(2, 0), "_empty"}, part{slotType(0, 1), "_empty"}, part{partition.Var, "acme_9"}, part{slotType(2, 0), "foreign"})
	esp := espWith("acme_1.efi", "acme_3+3-0.efi", ".sysupdate.pending.acme_4+3-0.efi", ".sysupdate.partial.acme_5.efi", ".#acme_6.efi", "acme_7", "acme_8.efi/x", "sub/acme_9.efi", ".sysupdate.partial.other")
	esp["EFI/Linux/acme_link.efi"] = &fstest.MapFile{Data: []byte("acme_1.efi"), Mode: fs.ModeSymlink | 0o777}
	s, err := sysupdate.ReadState(d, sysupdate.Places{Disk: disk, ESP: esp})
	require.NoError(t, err)
	type version struct {
		name                                           string
		wholeness                                      sysupdate.Wholeness
		instances, missing                             int
		partial, pending, obsolete, protected, useable bool
	}
	var got []version
	for _, v := range s.Versions {
		require.False(t, v.Ambiguous)
		got = append(got, version{v.Version, v.Wholeness, len(v.Instances), len(v.Missing), v.Partial, v.Pending, v.Obsolete, v.Protected, v.Usable()})
	}
	const incomplete, complete = sysupdate.WholenessIncomplete, sysupdate.WholenessComplete
	require.Equal(t, []version{
		{"5", incomplete, 1, 2, true, false, false, false, false},
		{"4", incomplete, 1, 2, false, true, false, false, false},
		{"3", incomplete, 1, 2, false, false, false, false, false},
		{"2", incomplete, 2, 1, true, true, false, false, false},
		{"1", complete, 3, 0, false, false, true, true, true},
	}, got)
	require.Equal(t, "5", s.Newest().Version)
	require.Equal(t, s.Versions[4], s.Version("1"))
	require.Nil(t, s.Version("9"))
	require.Nil(t, (&sysupdate.State{}).Newest())
	require.Equal(t, 3, s.Targets[0].Slots)
	require.Equal(t, 4, s.Targets[1].Slots)
	require.Equal(t, []int{5}, s.Targets[0].Free)
	require.Equal(t, []int{4}, s.Targets[1].Free)
	require.ElementsMatch(t, []string{".sysupdate.partial.acme_5.efi", ".#acme_6.efi", ".sysupdate.partial.other"}, s.Targets[2].Leftovers)
	first := s.Version("3").Instances[0]
	require.Equal(t, "acme_3+3-0.efi", first.Path)
	require.Equal(t, -1, first.Partition)
	require.EqualValues(t, 3, *first.Fields.TriesLeft)
	require.Equal(t, sysupdate.InstancePartial, s.Version("2").Instances[1].State)
	require.Equal(t, 2, s.Version("2").Instances[1].Partition)
}

// What is not known is never complete.
func TestReadStateUnknown(t *testing.T) {
	d := readDefinitions(t, map[string]string{"10-tree.transfer": treeTransfer, "20-root.transfer": rootTransfer, "30-uki.transfer": ukiTransfer})
	disk := diskWith(t, part{slotType(2, 0), "acme_1"}, part{slotType(2, 1), "acme_1_verity"})
	esp := espWith("acme_1.efi")
	read := func(d *sysupdate.Definitions, p sysupdate.Places) *sysupdate.State {
		t.Helper()
		s, err := sysupdate.ReadState(d, p)
		require.NoError(t, err)
		return s
	}
	require.True(t, read(d, sysupdate.Places{Disk: disk, ESP: esp}).Versions[0].Usable())
	for name, p := range map[string]sysupdate.Places{
		"no disk":      {ESP: esp, XBOOTLDR: espWith("acme_1.efi")},
		"boot unknown": {ESP: esp},
	} {
		s := read(d, p)
		unknown := 0
		for _, target := range s.Targets {
			if target.Err != nil {
				require.ErrorIs(t, target.Err, sysupdate.ErrNotKnown)
				require.Empty(t, target.Instances)
				unknown++
			}
		}
		require.NotZero(t, unknown, name)
		for _, v := range s.Versions {
			require.Empty(t, v.Wholeness, name)
			require.False(t, v.Usable())
		}
	}
	// Without an ESP there is no UKI, and that is known.
	s := read(d, sysupdate.Places{Disk: disk})
	require.Equal(t, sysupdate.WholenessIncomplete, s.Versions[0].Wholeness)

	// A target on another disk.
	other := readDefinitions(t, map[string]string{"20-root.transfer": rootTransfer + "Path=/dev/sdb\n"})
	require.ErrorIs(t, read(other, sysupdate.Places{Disk: disk}).Targets[0].Err, sysupdate.ErrNotKnown)
	require.NoError(t, read(other, sysupdate.Places{Disk: disk, DiskPaths: []string{"/dev/sdb"}}).Targets[0].Err)
	require.Len(t, read(other, sysupdate.Places{Disk: disk, DiskPaths: []string{"/dev/sdb"}}).Versions, 1)

	// A directory that is a file.
	bad := fstest.MapFS{"EFI/Linux": {Data: []byte("x")}}
	s = read(d, sysupdate.Places{Disk: disk, ESP: bad})
	require.ErrorContains(t, s.Targets[2].Err, "EFI/Linux is not a directory")
	require.Empty(t, s.Versions[0].Wholeness)

	_, err := sysupdate.ReadState(d, sysupdate.Places{Disk: diskWithoutTable{}})
	require.ErrorContains(t, err, "sysupdate: ")
	for _, mount := range []string{"efi", "/", "/a/.."} {
		_, err = sysupdate.ReadState(d, sysupdate.Places{Disk: disk, XBOOTLDRMount: mount})
		require.ErrorContains(t, err, "sysupdate: mount point")
	}
}

type diskWithoutTable struct{}

func (diskWithoutTable) Size() int64                           { return 1 << 20 }
func (diskWithoutTable) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }

// Several instances of one version, a transfer that is switched off, and paths of the root file
// system that are those of a boot partition.
func TestReadStatePlaces(t *testing.T) {
	off := "[Transfer]\nFeatures=off\n" + ukiTransfer
	d := readDefinitions(t, map[string]string{"30-uki.transfer": ukiTransfer, "40-off.transfer": off})
	disk := diskWith(t, part{slotType(2, 0), "x"})
	s, err := sysupdate.ReadState(d, sysupdate.Places{Disk: disk, ESP: espWith("acme_1.efi", "acme_1+3-0.efi", "acme_01.efi", "acme_2.efi"), XBOOTLDRMount: "/boot"})
	require.NoError(t, err)
	require.Len(t, s.Versions, 2)
	require.True(t, s.Versions[1].Ambiguous)
	require.Len(t, s.Versions[1].Instances, 3)
	require.False(t, s.Versions[0].Ambiguous)
	require.True(t, s.Versions[0].Usable(), "what is switched off does not count")
	require.Len(t, s.Targets[1].Instances, 4, "but is looked at")

	// $BOOT is the extended boot loader partition where there is one.
	s, err = sysupdate.ReadState(d, sysupdate.Places{Disk: disk, ESP: espWith("acme_1.efi"), XBOOTLDR: espWith("acme_3.efi")})
	require.NoError(t, err)
	require.Equal(t, "3", s.Newest().Version)
	require.Len(t, s.Versions, 1)

	absolute := readDefinitions(t, map[string]string{"30-uki.transfer": definition("", "", "Path=/efi/EFI/Linux\nMatchPattern=acme_@v.efi\n"), "40-x.transfer": definition("", "", "Path=/efix\n"), "50-boot.transfer": definition("", "", "PathRelativeTo=xbootldr\nPath=/\n")})
	s, err = sysupdate.ReadState(absolute, sysupdate.Places{Root: fstest.MapFS{"efi/EFI/Linux/acme_9.efi": {}, "efix/f_1": {}}, ESP: espWith("acme_1.efi"), ESPMount: "/efi", XBOOTLDR: fstest.MapFS{"f_1": {}}})
	require.NoError(t, err)
	require.Len(t, s.Versions, 1)
	require.Len(t, s.Versions[0].Instances, 3)
	require.True(t, s.Versions[0].Usable())

	// A link in place of the directory has nothing in it.
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "real"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "real/f_1"), nil, 0o644))
	if err := os.Symlink("real", filepath.Join(dir, "x")); err == nil { // not everyone may make one
		s, err = sysupdate.ReadState(readDefinitions(t, map[string]string{"10-a.transfer": definition("", "", "")}), sysupdate.Places{Root: os.DirFS(dir)})
		require.NoError(t, err)
		require.NoError(t, s.Targets[0].Err)
		require.Empty(t, s.Versions)
	}
}
