package ext4_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition/ext4"
)

// fsck requires that e2fsck finds nothing to mend.
func fsck(t *testing.T, name string) {
	t.Helper()
	out, err := exec.Command(testtools.Require(t, "e2fsck"), "-fn", name).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "no\n", "a question that -n answered")
}

func debugfs(t *testing.T, name, request string) string {
	t.Helper()
	cmd := exec.Command(testtools.Require(t, "debugfs"), "-R", request, name)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// sparse is a tree with one file of zeros and a few bytes.
type sparse struct {
	fstest.MapFS
	size int64
}

type sparseFile struct {
	fs.File
	left int64
}

type sparseInfo struct {
	fs.FileInfo
	size int64
}

func (i sparseInfo) Size() int64 { return i.size }

type sparseEntry struct {
	fs.DirEntry
	size int64
}

func (e sparseEntry) Info() (fs.FileInfo, error) {
	i, err := e.DirEntry.Info()
	return sparseInfo{i, e.size}, err
}

func (s sparse) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := s.MapFS.ReadDir(name)
	for i, e := range list {
		if e.Name() == "large" {
			list[i] = sparseEntry{e, s.size}
		}
	}
	return list, err
}

func (s sparse) Open(name string) (fs.File, error) {
	f, err := s.MapFS.Open(name)
	if name == "large" && err == nil {
		f = &sparseFile{f, s.size}
	}
	return f, err
}

func (f *sparseFile) Read(b []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), f.left)
	clear(b[:n])
	b[0] = byte(f.left >> 20)
	f.left -= n
	return int(n), nil
}

// What is made is clean, at sizes where something begins: a journal, a second group, a copy of the
// superblock, a second flexible group, a second block of descriptors, a last group that is too
// small.
func TestFsck(t *testing.T) {
	for _, size := range []int64{0, 1 << 20, 8 << 20, 128 << 20, 128<<20 + 4096, 128<<20 + 9<<20, 600 << 20, 2<<30 + 1<<20, 9<<30 + 12345} {
		for _, o := range []ext4.Options{{}, {NoJournal: true, UUID: id, Label: "sixteen bytes ok"}, {BytesPerInode: 4096}, {BytesPerInode: 1 << 20, UUID: id}} {
			o.Size = size
			name, _ := image(t, fstest.MapFS{strings.Repeat("f", 255): {Data: content(10000)}, "d/e/f": {Data: content(1)}}, o)
			fsck(t, name)
			require.NoError(t, os.Remove(name))
		}
	}
	for _, tree := range []fs.FS{kinds(), crowded(), sparse{fstest.MapFS{"large": {}}, 700 << 20}} {
		for _, o := range []ext4.Options{{}, {Size: 2 << 30, UUID: id}} {
			name, _ := image(t, tree, o)
			fsck(t, name)
		}
	}
}

// A file with so many extents that there are two levels of blocks of them.
func TestLargestFile(t *testing.T) {
	if os.Getenv("OSMITH_LONG") == "" {
		t.Skip("reads 200 GiB of zeros: OSMITH_LONG=1 runs it")
	}
	size := int64(200 << 30)
	name, _ := image(t, sparse{fstest.MapFS{"large": {Mode: 0o644}}, size}, ext4.Options{Size: size + 8<<30})
	fsck(t, name)
	require.Contains(t, debugfs(t, name, "dump_extents -n /large"), " 1/ 2   5/  5 ")
}

// A file with more extents than an inode has room for.
func TestLargeFile(t *testing.T) {
	size := int64(700 << 20)
	name, _ := image(t, sparse{fstest.MapFS{"large": {Mode: 0o644}}, size}, ext4.Options{Size: size + 2<<30})
	fsck(t, name)
	out := filepath.Join(t.TempDir(), "large")
	debugfs(t, name, "dump /large "+out)
	got, err := os.Open(out)
	require.NoError(t, err)
	defer got.Close()
	want := &sparseFile{nil, size}
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < size; off += 1 << 20 {
		_, err := io.ReadFull(got, a)
		require.NoError(t, err)
		_, err = want.Read(b)
		require.NoError(t, err)
		require.True(t, bytes.Equal(a, b), off)
	}
}

// debugfs finds the files as they are in the tree: contents, owners, modes, times, devices.
func TestDebugfs(t *testing.T) {
	tree := kinds()
	name, _ := image(t, tree, ext4.Options{TreeOptions: osmith.TreeOptions{Time: modified}, Size: 64 << 20, UUID: id, Label: "kinds"})
	dir := t.TempDir()
	debugfs(t, name, "rdump / "+dir)
	for p, f := range tree {
		switch f.Mode.Type() {
		case 0:
			got, err := os.ReadFile(filepath.Join(dir, p))
			require.NoError(t, err, p)
			require.True(t, bytes.Equal(f.Data, got), p)
		case fs.ModeSymlink:
			got, err := os.Readlink(filepath.Join(dir, p))
			require.NoError(t, err, p)
			require.Equal(t, string(f.Data), got)
		}
	}
	su := debugfs(t, name, "stat /usr/bin/su")
	require.Contains(t, su, "Mode:  04755")
	require.Regexp(t, `mtime: 0x6553f100:0+ -- Tue Nov 14 22:13:20 2023`, su)
	require.Regexp(t, `User: 70000   Group:     5 `, debugfs(t, name, "stat /usr/bin/wall"))
	require.Contains(t, debugfs(t, name, "stat /tmp"), "Mode:  01777")
	require.Contains(t, debugfs(t, name, "stat /dev/console"), "Device major/minor number: 05:01")
	require.Contains(t, debugfs(t, name, "stat /dev/vdb"), "Device major/minor number: 254:70000")
	require.Contains(t, debugfs(t, name, "stat /dev/pipe"), "Type: FIFO")
	require.Contains(t, debugfs(t, name, "stat /dev/socket"), "Type: socket")
	blkid, err := exec.Command(testtools.Require(t, "blkid"), "-p", "-o", "export", name).CombinedOutput()
	require.NoError(t, err, string(blkid))
	require.Contains(t, string(blkid), "LABEL=kinds\n")
	require.Contains(t, string(blkid), "UUID="+id.String()+"\n")
	require.Contains(t, string(blkid), "TYPE=ext4\n")
}

// Names are found by the index as the reader computes it, not only by going through all.
func TestIndex(t *testing.T) {
	name, _ := image(t, crowded(), ext4.Options{UUID: id})
	for _, dir := range []string{"some", "more", "many", "brim"} {
		require.Regexp(t, `Flags: 0x(81000|80000)`, debugfs(t, name, "stat /"+dir))
	}
	require.Contains(t, debugfs(t, name, "htree_dump /many"), "Indirect levels: 1")
	require.Contains(t, debugfs(t, name, "htree_dump /more"), "Indirect levels: 0")
}

var figures = regexp.MustCompile(`(?m)^(Inode count|Block count|Reserved GDT blocks|Inodes per group|Flex block group size|Inode size|Group descriptor size|Total journal blocks|Default directory hash|Default mount options|Checksum type|Filesystem features|Max transaction length):\s*(.*)$`)

// The figures are those of mkfs.ext4 as systemd-repart calls it, and so are the features, but for
// two that a newer mkfs.ext4 adds and older kernels refuse.
func TestFiguresOfMkfs(t *testing.T) {
	newer := []string{"orphan_file", "metadata_csum_seed"}
	show := func(name string) map[string]string {
		out, err := exec.Command(testtools.Require(t, "dumpe2fs"), "-h", name).CombinedOutput()
		require.NoError(t, err, string(out))
		m := map[string]string{}
		for _, line := range figures.FindAllStringSubmatch(string(out), -1) {
			m[line[1]] = strings.TrimSpace(line[2])
		}
		features := slices.DeleteFunc(strings.Fields(m["Filesystem features"]), func(f string) bool { return slices.Contains(newer, f) })
		slices.Sort(features)
		m["Filesystem features"] = strings.Join(features, " ")
		return m
	}
	for _, size := range []int64{16 << 20, 100 << 20, 512 << 20, 1 << 30, 3 << 30, 20 << 30, 100 << 30, 1 << 40} {
		ours, _ := image(t, fstest.MapFS{}, ext4.Options{Size: size, UUID: id})
		theirs := filepath.Join(t.TempDir(), "theirs")
		require.NoError(t, os.WriteFile(theirs, nil, 0o600))
		require.NoError(t, os.Truncate(theirs, size))
		out, err := exec.Command(testtools.Require(t, "mkfs.ext4"), "-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-T", "default", "-U", id.String(), "-E", "nodiscard,lazy_itable_init=1", theirs).CombinedOutput()
		require.NoError(t, err, string(out))
		want, got := show(theirs), show(ours)
		require.Len(t, got, 13)
		require.Equal(t, want, got, size>>20)
		require.NoError(t, os.Remove(theirs))
		require.NoError(t, os.Remove(ours))
	}
}

// The file system grows: within the blocks that are kept for descriptors, and beyond.
func TestResize(t *testing.T) {
	for _, to := range []string{"700M", "40G"} {
		name, _ := image(t, kinds(), ext4.Options{Size: 64 << 20, UUID: id})
		require.NoError(t, os.Truncate(name, 41<<30))
		out, err := exec.Command(testtools.Require(t, "resize2fs"), name, to).CombinedOutput()
		require.NoError(t, err, string(out))
		fsck(t, name)
		dir := t.TempDir()
		debugfs(t, name, "dump /sizes/1048577 "+filepath.Join(dir, "f"))
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(content(1<<20+1), got))
	}
}
