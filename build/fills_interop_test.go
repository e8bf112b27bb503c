package build_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
)

// extract writes a partition to a file.
func extract(t *testing.T, disk *partition.Table, i int, src interface {
	ReadAt([]byte, int64) (int, error)
}) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), fmt.Sprintf("p%d", i))
	require.NoError(t, os.WriteFile(name, contentOf(t, disk.Section(src, i)), 0o644))
	return name
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(testtools.Require(t, name), args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, args, out)
	return string(out)
}

// What a layout is filled with is what the programs that usually make it take for theirs:
// fsck.erofs, blkid, fsck.fat, veritysetup, cryptsetup.
func TestFileSystemsOfOthers(t *testing.T) {
	d, err := build.Disk(t.Context(), nil, fillOptions(t))
	require.NoError(t, err)
	disk := written(t, d)
	part := func(i int) string { return extract(t, d.Table, i, disk) }

	root := part(1)
	out := filepath.Join(t.TempDir(), "root")
	output(t, "fsck.erofs", "--extract="+out, root)
	b, err := os.ReadFile(filepath.Join(out, "usr/bin/tool"))
	require.NoError(t, err)
	require.Equal(t, host["usr/bin/tool"].Data, b)
	var nid int // of the inode: dump.erofs shows no setuid bit
	dump := output(t, "dump.erofs", "--path=/usr/bin/tool", root)
	_, err = fmt.Sscanf(dump[strings.Index(dump, "NID: "):], "NID: %d", &nid)
	require.NoError(t, err)
	raw, err := os.ReadFile(root)
	require.NoError(t, err)
	meta := int(binary.LittleEndian.Uint32(raw[1024+40:])) * 4096
	require.EqualValues(t, 0o104755, binary.LittleEndian.Uint16(raw[meta+nid*32+4:]))
	link, err := os.Readlink(filepath.Join(out, "bin"))
	require.NoError(t, err)
	require.Equal(t, "usr/bin", link)
	id := partition.FileSystemID(partition.SeedPartitionID(seedOfDisks, partition.RootX8664, 0)).String()
	require.Contains(t, output(t, "blkid", "-p", "-o", "export", root), "UUID="+id)
	output(t, "veritysetup", "verify", root, part(2), fmt.Sprintf("%x", d.RootHashes["root"]))

	swap := output(t, "blkid", "-p", "-o", "export", part(4))
	require.Contains(t, swap, "TYPE=swap")
	require.Contains(t, swap, "UUID="+partition.FileSystemID(d.Table.Partitions[4].ID).String())
	require.Contains(t, swap, "LABEL="+d.Table.Partitions[4].Name)
	output(t, "fsck.fat", "-n", part(0))

	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("secret"), 0o600))
	output(t, "cryptsetup", "open", "--test-passphrase", "--key-file", key, part(5))
	dump = output(t, "cryptsetup", "luksDump", part(5))
	require.Contains(t, dump, partition.LUKSID(d.Table.Partitions[5].ID).String())
	require.Contains(t, dump, "luks-"+d.Table.Partitions[5].Name)
}

// The swap area is that of mkswap.
func TestSwapArea(t *testing.T) {
	o := fillOptions(t)
	d, err := build.Disk(t.Context(), nil, o)
	require.NoError(t, err)
	p := d.Table.Partitions[4]
	theirs := filepath.Join(t.TempDir(), "swap")
	_, size := d.Table.Extent(4)
	require.NoError(t, os.WriteFile(theirs, make([]byte, size), 0o600))
	output(t, "mkswap", "--uuid", partition.FileSystemID(p.ID).String(), "--label", p.Name, theirs)
	want, err := os.ReadFile(theirs)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, contentOf(t, d.Table.Section(written(t, d), 4))))
}

// Identifiers, places and sizes of a disk of definition files are those that systemd-repart 262
// gives it, but for the size of what it compresses or makes otherwise.
func TestDiskRepart(t *testing.T) {
	forky := testtools.Forky(t)
	dir := t.TempDir()
	text := definitions()
	delete(text, "20-root") // mkfs.erofs is not in the tree, and makes another file system
	delete(text, "21-verity")
	delete(text, "22-sig")
	text["20-root"] = "Type=root\nCopyBlocks=/raw\nVerity=data\nVerityMatchKey=root\n"
	text["21-verity"] = "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n"
	for name, content := range host {
		if content.Mode&os.ModeSymlink == 0 {
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, "host", name)), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "host", name), content.Data, 0o644))
		}
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "repart.d"), 0o755))
	for name, one := range text {
		// Without device-mapper it makes no volumes.
		if name != "40-home" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "repart.d", name+".conf"), []byte("[Partition]\n"+strings.ReplaceAll(one, "CopyBlocks=", "CopyBlocks="+filepath.Join(dir, "host"))), 0o644))
		}
	}
	delete(text, "40-home")
	image := filepath.Join(dir, "disk.raw")
	forky.Run(t, dir, "env", "SYSTEMD_LOG_TARGET=console", "systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no", "--seed="+seedOfDisks.String(), "--copy-source="+filepath.Join(dir, "host"), "--definitions="+filepath.Join(dir, "repart.d"), image)
	theirs, err := os.ReadFile(image)
	require.NoError(t, err)
	want, err := partition.Read(bytes.NewReader(theirs), partition.ReadOptions{})
	require.NoError(t, err)

	o := fillOptions(t)
	o.Layout, o.Volumes = repart(t, text), nil
	d, err := build.Disk(t.Context(), nil, o)
	require.NoError(t, err)
	places := func(t *partition.Table) (list []string) {
		for i, p := range t.Partitions {
			off, size := t.Extent(i)
			list = append(list, fmt.Sprintf("%s %s %s %d+%d %#x", p.Name, p.Type, p.ID, off, size, p.Attributes))
		}
		return list
	}
	require.Equal(t, places(want), places(d.Table))
	require.Equal(t, want.DiskID, d.Table.DiskID)
	require.EqualValues(t, len(theirs), d.Size)
	disk := written(t, d)
	for i, p := range want.Partitions {
		if p.Type == partition.ESP || p.Type == partition.Swap {
			// made by others: the file system is not the same, and the swap area has another label
			continue
		}
		require.True(t, bytes.Equal(contentOf(t, want.Section(bytes.NewReader(theirs), i)), contentOf(t, d.Table.Section(disk, i))), p.Name)
	}
}

// What cpio unpacks of an initrd is what was packed.
func TestInitrdUnpacked(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "initrd")
	f, err := os.Create(name)
	require.NoError(t, err)
	require.NoError(t, build.WriteInitrd(t.Context(), f, host, osmith.TreeOptions{Time: time.Unix(1_700_000_000, 0)}))
	require.NoError(t, f.Close())
	bin := testtools.Require(t, "cpio")
	list, err := exec.Command("sh", "-c", bin+" -tv --quiet <"+name).CombinedOutput()
	require.NoError(t, err, string(list))
	require.Contains(t, string(list), "usr/bin/link -> tool")
	require.Regexp(t, `-rwsr-xr-x +1 root +root +20000 .* usr/bin/tool`, string(list))
	out, err := exec.Command("sh", "-c", "cd "+dir+" && "+bin+" -i -d --quiet <"+name).CombinedOutput()
	require.NoError(t, err, string(out))
	for path, want := range host {
		if want.Mode&os.ModeSymlink != 0 {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		require.NoError(t, err)
		require.Equal(t, want.Data, b)
	}
	require.False(t, strings.Contains(string(list), "TRAILER"))
}

// e2fsck finds nothing to mend in the ext4 file systems of a disk, which fill their partitions.
func TestDiskExt4Checked(t *testing.T) {
	d := ext4Disk(t)
	for part, name := range ext4Parts(t, d) {
		require.NotContains(t, output(t, "e2fsck", "-fn", name), "no\n", part)
	}
	parts := ext4Parts(t, d)
	_, home := d.Table.Extent(4)
	for part, want := range map[string]int64{"var": 3 << 30, "home": home - partition.LUKSOverhead} {
		require.Regexp(t, fmt.Sprintf(`Block count: +%d\n`, want/4096), output(t, "dumpe2fs", "-h", parts[part]), part)
	}
	i := slices.IndexFunc(d.Table.Partitions, func(p partition.Partition) bool { return p.Type == partition.Var })
	require.Contains(t, output(t, "blkid", "-p", "-o", "export", parts["var"]), "LABEL=a-label-that-is-\nUUID="+partition.FileSystemID(d.Table.Partitions[i].ID).String())
}
